package peft

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"peftsearch/data/checkpoint"
	"peftsearch/data/files"
)

// importClassHead reads the head of transformers' class, which may have its first layer from the pretrained model.
func (t Trained) importClassHead(have map[string]checkpoint.Tensor) (Trained, error) {
	l := t.head().layers
	if l == nil {
		return t, fmt.Errorf("the libraries have no head for %s", t.Info.Task.Kind)
	}
	layers := l(t.family())
	find := func(name string) (checkpoint.Tensor, bool) {
		for _, prefix := range []string{"base_model.model.", "base_model.", ""} {
			if tensor, ok := have[prefix+name]; ok {
				return tensor, true
			}
		}
		return checkpoint.Tensor{}, false
	}
	for _, kind := range []string{"weight", "bias"} {
		tensor, ok := find(layers.logits + "." + kind)
		if !ok {
			return t, fmt.Errorf("its weights have no head: %s is missing", layers.logits)
		}
		t.Head["head."+kind] = tensor
	}
	t.Info.Head = headLinear
	if layers.dense == "" {
		return t, nil
	}
	for _, kind := range []string{"weight", "bias"} {
		tensor, ok := find(layers.dense + "." + kind)
		if !ok {
			var err error
			if tensor, err = t.pooler(layers.dense + "." + kind); err != nil {
				return t, err
			}
		}
		t.Head["head.dense."+kind] = tensor
	}
	return t.withoutLayer(layers.between)
}

// pooler is a tensor of the pretrained model's own first layer of a head.
func (t Trained) pooler(name string) (checkpoint.Tensor, error) {
	bare, ok := strings.CutPrefix(name, t.family().backbone+".")
	if !ok {
		return checkpoint.Tensor{}, fmt.Errorf("its weights have no %s", name)
	}
	c, err := checkpoint.Open(t.Info.Model)
	if err != nil {
		return checkpoint.Tensor{}, err
	}
	tensor, err := c.Tensor(bare)
	if err != nil {
		err = fmt.Errorf("its weights have no %s, and neither has the pretrained model, so that it was drawn at random: %w",
			name, err)
	} else {
		tensor = checkpoint.NewTensor(tensor.Float32(), tensor.Shape...) // a copy: the file is closed
	}
	return tensor, errors.Join(err, c.Close())
}

// withoutLayer turns back what classHead makes of a linear head.
func (t Trained) withoutLayer(f between) (Trained, error) {
	scale, shift := float32(linearScale), float32(0)
	if f != tanh {
		scale, shift = 1, linearShift
	}
	d := t.Info.Geometry.Hidden
	matrix, offset := t.Head["head.dense.weight"].Float32(), t.Head["head.dense.bias"].Float32()
	linear := len(matrix) == d*d && !slices.ContainsFunc(offset, func(v float32) bool { return v != shift })
	for i, v := range matrix {
		want := float32(0)
		if i/d == i%d {
			want = scale
		}
		linear = linear && v == want
	}
	if !linear {
		if f != tanh {
			return t, fmt.Errorf("its head has a %s between two layers, where a head has tanh or one layer alone", f)
		}
		t.Info.Head = headDense
		return t, nil
	}
	weight, bias := t.Head["head.weight"].Float32(), t.Head["head.bias"].Float32()
	for output := range bias {
		var sum float64
		for i := range d {
			sum += float64(weight[output*d+i])
			weight[output*d+i] *= scale
		}
		bias[output] = float32(float64(bias[output]) + sum*float64(shift))
	}
	t.Head = map[string]checkpoint.Tensor{"head.weight": checkpoint.NewTensor(weight, len(bias), d),
		"head.bias": checkpoint.NewTensor(bias, len(bias))}
	return t, nil
}

// importAdaptersHead reads a head of adapters.
func (t Trained) importAdaptersHead(dir string, have map[string]checkpoint.Tensor) (Trained, error) {
	path := filepath.Join(dir, "head_config.json")
	if !files.Exists(path) {
		path = filepath.Join(dir, t.adapterName(), "head_config.json") // of a setup
	}
	var file struct {
		Name   string     `json:"name"`
		Config headConfig `json:"config"`
	}
	if err := files.ReadJSON(path, files.Document, &file); err != nil {
		return t, fmt.Errorf("an adapter without its head: %w", err)
	}
	c := file.Config
	if want := t.head().adapters; want == "" || c.HeadType != want {
		return t, fmt.Errorf("its head is for %.40q, the task is %s", c.HeadType, t.Info.Task.Kind)
	}
	pooler := c.UsePooler != nil && *c.UsePooler
	var places map[string]string
	switch {
	case c.Layers == 1:
		t.Info.Head, places = headLinear, map[string]string{"head": "1"}
	case c.Layers == 2 && !pooler && c.ActivationFunction != nil && *c.ActivationFunction == string(tanh):
		t.Info.Head, places = headDense, map[string]string{"head.dense": "1", "head": "4"}
	default:
		return t, fmt.Errorf("its head has %d layers: a head has one, or two with tanh between them", c.Layers)
	}
	for ours, theirs := range places {
		for _, kind := range []string{"weight", "bias"} {
			tensor, ok := have["heads."+file.Name+"."+theirs+"."+kind]
			if !ok {
				return t, fmt.Errorf("its head has no layer %s", theirs)
			}
			t.Head[ours+"."+kind] = tensor
		}
	}
	if pooler && c.Layers == 1 {
		t.Info.Head = headDense
		for _, kind := range []string{"weight", "bias"} {
			tensor, err := t.pooler(t.family().backbone + ".pooler.dense." + kind)
			if err != nil {
				return t, err
			}
			t.Head["head.dense."+kind] = tensor
		}
	}
	if len(c.Label2ID) != len(t.Info.Labels) {
		return t, nil
	}
	labels := make([]string, len(c.Label2ID))
	for _, label := range slices.Sorted(maps.Keys(c.Label2ID)) {
		if id := c.Label2ID[label]; id >= 0 && id < len(labels) {
			labels[id] = label
		}
	}
	return t, t.relabel(labels, t.Info.Labels)
}
