package peft

import (
	"fmt"
	"slices"

	"peftsearch/data/checkpoint"
)

// mergeable is a module of a method whose modules can be folded into the weights of their layer.
type mergeable interface {
	// mergeable is false for a module that depends on its input in another way, or follows such a one in its layer l.
	mergeable(l Layer) bool
	// merge lists what it does to weights, by their names in the checkpoint.
	merge(t Trained, layer int) map[string]func(weight []float32)
}

// stored is a module whose tensors are the backbone's own, in other values.
type stored interface {
	// CheckpointName is the name in the checkpoint of what a tensor of the module replaces.
	CheckpointName(g Geometry, layer int, tensor string) string
}

// merges is the module if it can be folded in its layer, nil otherwise.
func merges(m Module, l Layer) mergeable {
	if module, ok := m.(mergeable); ok && module.mergeable(l) {
		return module
	}
	return nil
}

// openBackbone opens the model that was trained, and no other.
func (t Trained) openBackbone() (c *checkpoint.Checkpoint, err error) {
	if c, err = checkpoint.Open(t.Info.Model); err != nil {
		return nil, err
	}
	fingerprint, err := c.Fingerprint()
	if err == nil && fingerprint != t.Info.ModelFingerprint {
		err = fmt.Errorf("%s is not the model that was trained (its fingerprint is %.12s, not %.12s): name the original "+
			"with --model", t.Info.Model, fingerprint, t.Info.ModelFingerprint)
	}
	if g := GeometryOf(c); err == nil && g != t.Info.Geometry {
		err = fmt.Errorf("the plan was trained for %+v, %s is %+v", t.Info.Geometry, t.Info.Model, g)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// fold is the backbone's tensors in float32, by canonical name, with the modules folded into them that fold names,
// and what is left of the plan. Tensors that nothing changes may lie in the file of the checkpoint.
func (t Trained) fold(c *checkpoint.Checkpoint, fold func(m Module, l Layer) mergeable) (rest Trained,
	backbone map[string]checkpoint.Tensor, err error) {
	rest, updates := t, map[string][]func(weight []float32){}
	rest.Plan = Plan{Input: t.Plan.Input, Layers: make([]Layer, len(t.Plan.Layers))}
	for i, layer := range t.Plan.Layers {
		for _, module := range layer.inOrder() {
			m := fold(module, layer)
			if m == nil {
				rest.Plan.Layers[i] = append(rest.Plan.Layers[i], module)
				continue
			}
			for name, update := range m.merge(t, i) {
				updates[name] = append(updates[name], update)
			}
		}
	}
	rest.Modules = map[string]checkpoint.Tensor{}
	for name := range rest.Plan.TensorShapes(t.Info.Geometry) {
		rest.Modules[name] = t.Modules[name]
	}
	backbone, shapes := map[string]checkpoint.Tensor{}, map[string][]int{}
	for _, name := range c.Backbone() {
		tensor, err := c.Tensor(name)
		if err != nil {
			return rest, nil, err
		}
		backbone[name], shapes[name] = tensor, tensor.Shape
	}
	if t.Backbone != nil {
		if err := checkTensors("backbone", t.Backbone, shapes); err != nil {
			return rest, nil, fmt.Errorf("the trained weights do not fit %s: %w", c.Dir, err)
		}
		for name, tensor := range t.Backbone {
			backbone[name] = tensor
		}
	}
	for name, tensor := range backbone {
		if tensor.DType == checkpoint.Float32 && updates[name] == nil {
			continue
		}
		values := tensor.Float32()
		for _, update := range updates[name] {
			update(values)
		}
		backbone[name] = checkpoint.NewTensor(values, tensor.Shape...)
	}
	return rest, backbone, nil
}

// inOrder has the modules in the order in which they act on a weight: those that replace values come first.
func (l Layer) inOrder() Layer {
	sorted := l.sorted()
	slices.SortStableFunc(sorted, func(a, b Module) int {
		_, first := a.(stored)
		_, second := b.(stored)
		switch {
		case first == second:
			return 0
		case first:
			return -1
		}
		return 1
	})
	return sorted
}
