package model

import (
	"fmt"

	"peftsearch/data/checkpoint"
	"peftsearch/peft"
)

// modules is the trained modules of one layer, by the hooks that they answer; nil for absent ones.
type modules struct {
	lora      map[peft.Target]*lowRank   // adapted: what torch.Project adds
	products  map[peft.Target]product    // project: what takes the place of a matrix
	scales    map[peft.Target]*parameter // project: vectors on inputs or outputs
	attention []adapter                  // adapt, after the attention
	ffn       []adapter                  // adapt, after the feed-forward part
	prefix    *prefix                    // keysValues
	weights   map[string]*parameter      // of the backbone, by their names in the checkpoint
	// wide is set if something after the attention reads all tokens of a row, whichever the head wants.
	wide  bool
	gates int // how many there are
}

// declaration declares the modules of one layer.
type declaration struct {
	*parameters
	*modules
	geometry   peft.Geometry
	checkpoint *checkpoint.Checkpoint
	layer      int
	name       string // of the module's tensors, without the dot at their end
	mlp        bool   // an MLP generates the prefixes
}

// add declares a tensor of the module.
func (d *declaration) add(tensor string, init initializer, traits trait, shape ...int) *parameter {
	return d.declare(d.name+"."+tensor, init, traits, shape...)
}

// weight reads a tensor of the backbone.
func (d *declaration) weight(name string) ([]float32, error) {
	t, err := d.checkpoint.Tensor(name)
	return t.Float32(), err
}

// methods declares a module of each method in the modules of a layer. The file of a method enters it.
var methods = map[peft.Method]func(d *declaration, m peft.Module) error{}

// declareModules adds the tensors of a plan. With mlpWidth, an MLP of that width generates the
// prefixes.
func declareModules(ps *parameters, plan peft.Plan, g peft.Geometry, c *checkpoint.Checkpoint,
	mlpWidth int) ([]modules, *prefixMLP, error) {
	list := make([]modules, len(plan.Layers))
	hasPrefix := false
	for i, layer := range plan.Layers {
		for _, m := range peft.Methods {
			module := layer.Module(m)
			if module == nil {
				continue
			}
			d := &declaration{parameters: ps, modules: &list[i], geometry: g, checkpoint: c, layer: i,
				name: fmt.Sprintf("layers.%d.%s", i, m), mlp: mlpWidth > 0}
			if err := methods[m](d, module); err != nil {
				return nil, nil, err
			}
		}
		hasPrefix = hasPrefix || list[i].prefix != nil
	}
	if !hasPrefix || mlpWidth == 0 {
		return list, nil, nil
	}
	return list, declarePrefixMLP(ps, plan, mlpWidth, g.Hidden), nil
}
