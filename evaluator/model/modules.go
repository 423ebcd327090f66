package model

import (
	"fmt"

	"peftsearch/data/checkpoint"
	"peftsearch/evaluator"
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

// declaration declares the modules of one layer, or those at the input.
type declaration struct {
	*parameters
	*modules
	network    *network
	geometry   peft.Geometry
	checkpoint *checkpoint.Checkpoint
	training   evaluator.Training
	shared     map[string]*parameter
	text       []int32 // that a prompt begins as
	layer      int     // or everywhere, at the input
	name       string  // of the module's tensors, without the dot at their end
}

// add declares a tensor of the module.
func (d *declaration) add(tensor string, init initializer, traits trait, shape ...int) *parameter {
	p := d.declare(d.name+"."+tensor, init, traits, shape...)
	p.layer = d.layer
	return p
}

// addShared declares a tensor that all layers with the method share, once.
func (d *declaration) addShared(m peft.Method, tensor peft.Tensor, init initializer) *parameter {
	name := m.SharedName(tensor.Name)
	p, ok := d.shared[name]
	if !ok {
		p = d.declare(name, init, decay, tensor.Shape...)
		set(&d.shared, name, p)
	}
	p.layer = d.layer // layers come in ascending order
	return p
}

// weight reads a tensor of the backbone.
func (d *declaration) weight(name string) ([]float32, error) {
	t, err := d.checkpoint.Tensor(name)
	return t.Float32(), err
}

// methods declares a module of each method in the modules of a layer, or in the network. The file of a method enters
// it.
var methods = map[peft.Method]func(d *declaration, m peft.Module) error{}

// declare adds the modules of a plan to the network, and their tensors to ps.
func (net *network) declare(ps *parameters, b *Backbone, spec Spec) error {
	net.modules = make([]modules, len(spec.Plan.Layers))
	d := declaration{parameters: ps, network: net, geometry: b.geometry, checkpoint: b.checkpoint, training: spec.Training,
		text: spec.PromptText, layer: everywhere}
	add := func(at peft.Layer, name string) error {
		for _, m := range peft.Methods {
			if module := at.Module(m); module != nil {
				d.name = name + string(m)
				if err := methods[m](&d, module); err != nil {
					return err
				}
			}
		}
		return nil
	}
	if err := add(spec.Plan.Input, "input."); err != nil {
		return err
	}
	for i, layer := range spec.Plan.Layers {
		d.layer, d.modules = i, &net.modules[i]
		if err := add(layer, fmt.Sprintf("layers.%d.", i)); err != nil {
			return err
		}
	}
	if width := spec.Training.PrefixMLP; width > 0 {
		net.prefixMLP = declarePrefixMLP(ps, net.modules, width, b.geometry.Hidden,
			b.geometry.AttentionWidth())
	}
	return nil
}

// without is the network with the lowest so many layers bare.
func (net *network) without(lowest int) *network {
	if lowest == 0 {
		return net
	}
	bare := *net
	bare.modules = append(make([]modules, lowest), net.modules[lowest:]...)
	for i := range lowest {
		if net.modules[i].weights != nil {
			bare.family = bare.bound()
			break
		}
	}
	return &bare
}
