package peft

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"

	"peftsearch/data/checkpoint"
	"peftsearch/data/files"
	"peftsearch/data/quote"
	"peftsearch/data/tokenizer"
)

// The export as a plain Hugging Face model with a head.

// mergeable is a module that only changes weights of its layer.
type mergeable interface {
	// mergeable is false for a module that depends on its input in another way.
	mergeable() bool
	// merge lists what it does to weights, by their names in the checkpoint.
	merge(t Trained, layer int) map[string]func(weight []float32)
}

func mergedPart(p Plan, _ Geometry) (kept Plan, lost []string) {
	return split(p, func(m Module) (Module, string) {
		if module, ok := m.(mergeable); ok && module.mergeable() {
			return m, ""
		}
		return nil, m.String()
	})
}

func exportMerged(t Trained) (*export, error) {
	if t.configOnly() {
		return nil, errors.New("there are no trained weights to merge: train the plan first")
	}
	source, err := t.openModel()
	if err != nil {
		return nil, err
	}
	defer source.Close()
	tensors, err := t.mergedTensors(source)
	if err != nil {
		return nil, err
	}
	config, err := t.mergedConfig(filepath.Join(t.Info.Model, "config.json"))
	if err != nil {
		return nil, err
	}
	e := &export{
		documents: map[string]any{"config.json": config},
		tensors:   map[string]map[string]checkpoint.Tensor{"model.safetensors": tensors},
		copies:    map[string]string{},
		loading: python(append([]string{"from transformers import " + t.head().autoClass() + ", AutoTokenizer", "",
			`directory = "."  # this directory`, "tokenizer = AutoTokenizer.from_pretrained(directory)",
			"model = " + t.head().autoClass() + ".from_pretrained(directory).eval()"}, t.example()...)...),
	}
	for _, name := range tokenizer.FileNames {
		path := filepath.Join(t.Info.Model, name)
		if _, err := os.Stat(path); err == nil {
			e.copies[name] = path
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	if t.linearHead() {
		e.notes = append(e.notes, linearHeadNote)
	}
	return e, nil
}

// openModel opens the backbone that the plan was trained on; the caller closes it.
func (t Trained) openModel() (*checkpoint.Checkpoint, error) {
	source, err := checkpoint.Open(t.Info.Model)
	if err != nil {
		return nil, err
	}
	fingerprint, err := source.Fingerprint()
	switch {
	case err != nil:
	case fingerprint != t.Info.ModelFingerprint:
		err = fmt.Errorf("%s is not the model that was trained (its fingerprint is %.12s, not %.12s): put the "+
			"original back", t.Info.Model, fingerprint, t.Info.ModelFingerprint)
	case GeometryOf(source) != t.Info.Geometry:
		err = fmt.Errorf("the plan was trained for %+v, %s is %+v", t.Info.Geometry, t.Info.Model, GeometryOf(source))
	}
	if err != nil {
		return nil, errors.Join(err, source.Close())
	}
	return source, nil
}

// mergedTensors has the backbone with LoRA folded in, and the head, in float32.
func (t Trained) mergedTensors(c *checkpoint.Checkpoint) (map[string]checkpoint.Tensor, error) {
	updates := map[string]func(weight []float32){}
	for i, layer := range t.Plan.Layers {
		for _, module := range layer {
			maps.Copy(updates, module.(mergeable).merge(t, i))
		}
	}
	backbone, shapes := map[string]checkpoint.Tensor{}, map[string][]int{}
	for _, name := range c.Backbone() {
		tensor, err := c.Tensor(name)
		if err != nil {
			return nil, err
		}
		backbone[name], shapes[name] = tensor, tensor.Shape
	}
	if t.Backbone != nil {
		if err := checkTensors("backbone", t.Backbone, shapes); err != nil {
			return nil, fmt.Errorf("the trained weights do not fit %s: %w", c.Dir, err)
		}
		backbone = t.Backbone
	}
	changed := map[string]checkpoint.Tensor{}
	for name, tensor := range backbone {
		values := tensor.Float32() // a copy: the checkpoint is unmapped before the export is written
		if update := updates[name]; update != nil {
			update(values)
		}
		changed[name] = checkpoint.NewTensor(values, tensor.Shape...)
	}
	tensors := t.classHead()
	for name, tensor := range checkpoint.InFile(c.Config.ModelType, changed) {
		tensors[t.family().backbone+"."+name] = tensor
	}
	if t.headShifts() {
		name := t.family().backbone + "." + t.family().finalNorm + ".bias"
		shifted, err := t.shiftedNorm(tensors[name])
		if err != nil {
			return nil, err
		}
		tensors[name] = shifted
	}
	return tensors, nil
}

// mergedConfig is the backbone's config.json with the head's keys.
func (t Trained) mergedConfig(path string) (map[string]any, error) {
	content, err := files.Read(path, files.Document)
	if err != nil {
		return nil, err
	}
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.UseNumber() // keeps numbers as they are written
	var config map[string]any
	if err := decoder.Decode(&config); err != nil {
		return nil, fmt.Errorf("%s: %w", path, quote.Error(err))
	}
	delete(config, "torch_dtype") // the older name of dtype
	delete(config, "_name_or_path")
	config["dtype"] = "float32"
	config["architectures"] = []string{t.family().class(t.head())}
	if t.Info.Outputs() > 1 || t.Info.Task.Kind.Numeric() {
		config["id2label"], config["label2id"] = t.Info.labelMaps()
	}
	if problem := t.head().problem; problem != "" {
		config["problem_type"] = problem
	}
	return config, nil
}
