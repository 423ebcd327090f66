package peft

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"peftsearch/data/checkpoint"
	"peftsearch/data/files"
	"peftsearch/data/quote"
)

// ImportWeights reads what was trained elsewhere: a directory of Hugging Face PEFT or of adapters with its weights, or
// one that this program trained or exported for them or for transformers, or a whole model of transformers' class for
// the task, as merged is. info says what it is for: the model, by Model, ModelFingerprint and Geometry, the task and
// its labels. The plan is what Import reads, none of a whole model; what cannot be read as it is meant is an error.
func ImportWeights(dir string, info Info) (Trained, error) {
	info.Version, info.Training = TrainedVersion, json.RawMessage("{}")
	info.Precision = "float32" // as the libraries compute
	t := Trained{Info: info, Modules: map[string]checkpoint.Tensor{}, Head: map[string]checkpoint.Tensor{}}
	read := t.importLibrary
	switch {
	case files.Exists(filepath.Join(dir, headFile)):
		read = t.importTrained
	case files.Exists(filepath.Join(dir, modelingFile)):
		read = t.importTransformers
	case files.Exists(filepath.Join(dir, "config.json")) && !files.Exists(filepath.Join(dir, "adapter_config.json")):
		read = t.importMerged
	}
	t, err := read(dir)
	t.Name = "" // of exports, which are named anew
	if err == nil {
		err = t.check()
	}
	if err != nil {
		return Trained{}, fmt.Errorf("%s: %w", dir, quote.Error(err))
	}
	return t, nil
}

// importTrained reads a trained directory, for the same model elsewhere.
func (t Trained) importTrained(dir string) (Trained, error) {
	read, err := ReadTrained(dir)
	if err != nil {
		return t, err
	}
	if read.Info.ModelFingerprint != t.Info.ModelFingerprint {
		return t, fmt.Errorf("it was trained on another model than %s: their fingerprints differ", t.Info.Model)
	}
	if err := read.relabel(read.Info.Labels, t.Info.Labels); err != nil {
		return t, err
	}
	was := read.Info
	read.Info = t.Info
	read.Info.Training, read.Info.Head, read.Info.Precision = was.Training, was.Head, was.Precision
	read.Metrics = Metrics{} // of other rows
	return read, nil
}

// relabel puts the outputs, which the labels from name, into the order of the labels to. Labels without names stay.
func (t Trained) relabel(from, to []string) error {
	if slices.Equal(from, to) || from == nil || to == nil {
		return nil
	}
	if !slices.Equal(slices.Sorted(slices.Values(from)), slices.Sorted(slices.Values(to))) {
		return fmt.Errorf("its labels are %s, those of the task are %s", quote.List(from), quote.List(to))
	}
	weight, bias := t.Head["head.weight"], t.Head["head.bias"]
	old, oldBias, width := weight.Float32(), bias.Float32(), weight.Shape[1]
	rows, biases := make([]float32, 0, len(old)), make([]float32, 0, len(oldBias))
	for _, label := range to {
		at := slices.Index(from, label)
		rows, biases = append(rows, old[at*width:(at+1)*width]...), append(biases, oldBias[at])
	}
	t.Head["head.weight"] = checkpoint.NewTensor(rows, weight.Shape...)
	t.Head["head.bias"] = checkpoint.NewTensor(biases, bias.Shape...)
	return nil
}

// importTransformers reads an export for transformers. Where the backbone is no longer the pretrained model's, because
// modules were merged into it or it was trained too, it is kept.
func (t Trained) importTransformers(dir string) (Trained, error) {
	var config struct {
		Plan   *Plan             `json:"plan"`
		Head   string            `json:"head"`
		Labels map[string]string `json:"id2label"`
	}
	if err := files.ReadJSON(filepath.Join(dir, "config.json"), files.Document, &config); err != nil {
		return t, err
	}
	if config.Plan == nil {
		return t, errors.New("config.json has no plan")
	}
	tensors, _, err := checkpoint.ReadSafetensors(filepath.Join(dir, "model.safetensors"), nil)
	if err != nil {
		return t, err
	}
	t.Plan, t.Info.Head = *config.Plan, config.Head
	if err := errors.Join(t.Info.checkHead(), t.Plan.Validate(t.Info.Geometry)); err != nil {
		return t, err
	}
	take := func(name, as string, into map[string]checkpoint.Tensor) error {
		tensor, ok := tensors[name]
		if !ok {
			return fmt.Errorf("model.safetensors has no tensor %s", name)
		}
		into[as] = tensor
		return nil
	}
	var errs []error
	backbone := map[string]checkpoint.Tensor{}
	c, err := checkpoint.Open(t.Info.Model)
	if err != nil {
		return t, err
	}
	defer c.Close()
	changed := false
	trains := t.storedTensors()
	for _, name := range c.Backbone() {
		own, err := c.Tensor(name)
		errs = append(errs, err, take(codeNames.Replace(name), name, backbone))
		_, module := trains[name]
		changed = changed || !module && !slices.Equal(own.Float32(), backbone[name].Float32())
	}
	for name := range t.Plan.TensorShapes(t.Info.Geometry) {
		if !slices.Contains(slices.Collect(maps.Values(trains)), name) {
			errs = append(errs, take(name, name, t.Modules))
		}
	}
	for name, module := range trains {
		t.Modules[module] = backbone[name]
	}
	for name := range t.Info.HeadShapes() {
		errs = append(errs, take(name, name, t.Head))
	}
	if err := errors.Join(errs...); err != nil {
		return t, err
	}
	if changed {
		t.Backbone, t.Info.Training = backbone, json.RawMessage(`{"backbone":true}`)
	}
	return t, t.relabel(labelsOf(config.Labels), t.Info.Labels)
}

// labelsOf are labels in the order of their outputs.
func labelsOf(byOutput map[string]string) (labels []string) {
	for i := range len(byOutput) {
		labels = append(labels, byOutput[fmt.Sprint(i)])
	}
	return labels
}

// storedTensors are the module tensors that are the backbone's own in other values, by the backbone's names.
func (t Trained) storedTensors() map[string]string {
	names := map[string]string{}
	for _, at := range t.Plan.places() {
		for _, module := range at.Layer {
			m, ok := module.(stored)
			if !ok {
				continue
			}
			for _, tensor := range module.Tensors(t.Info.Geometry) {
				names[m.CheckpointName(t.Info.Geometry, at.layer, tensor.Name)] = at.name + string(module.Method()) + "." +
					tensor.Name
			}
		}
	}
	return names
}

// importMerged reads a model of transformers' class for the task, ours or anybody's: all of it was trained.
func (t Trained) importMerged(dir string) (Trained, error) {
	c, err := checkpoint.Open(dir)
	if err != nil {
		return t, err
	}
	defer c.Close()
	if different := t.Info.Geometry.Differences(GeometryOf(c)); len(different) > 0 {
		return t, fmt.Errorf("it is another model than %s: %s", t.Info.Model, strings.Join(different, ", "))
	}
	t.Plan, t.Backbone = Plan{Layers: make([]Layer, t.Info.Geometry.Layers)}, map[string]checkpoint.Tensor{}
	for _, name := range c.Backbone() {
		tensor, err := c.Tensor(name)
		if err != nil {
			return t, err
		}
		t.Backbone[name] = checkpoint.NewTensor(tensor.Float32(), tensor.Shape...) // a copy: the file is closed
	}
	t.Info.Training = json.RawMessage(`{"backbone":true}`)
	have, _, err := checkpoint.ReadSafetensors(filepath.Join(dir, "model.safetensors"), nil)
	if err != nil {
		return t, err
	}
	if l := t.head().layers; l != nil && t.headShifts() { // the class has no bias there
		have[l(t.family()).logits+".bias"] = checkpoint.NewTensor(make([]float32, t.Info.Outputs()), t.Info.Outputs())
	}
	if t, err = t.importClassHead(have); err != nil {
		return t, err
	}
	var config struct {
		Labels map[string]string `json:"id2label"`
	}
	if err := files.ReadJSON(filepath.Join(dir, "config.json"), files.Document, &config); err != nil {
		return t, err
	}
	return t, t.relabel(labelsOf(config.Labels), t.Info.Labels)
}

// importLibrary reads a directory of PEFT or adapters.
func (t Trained) importLibrary(dir string) (Trained, error) {
	plan, err := Import(dir, t.Info.Geometry)
	if err != nil {
		return t, err
	}
	t.Plan = plan
	have, name, err := readAdapters(dir)
	if err != nil {
		return t, err
	}
	t.Name = name
	format := FormatAdapters
	if name == "" {
		format = FormatPEFT
	}
	if norm := t.family().finalNorm; format == FormatPEFT && norm != "" {
		return t, fmt.Errorf("PEFT's weights for %s have the head's bias in %s, and are not imported", t.family().name, norm)
	}
	if t.Modules, err = t.readBackwards(format, have); err != nil {
		return t, err
	}
	if format == FormatPEFT {
		return t.importClassHead(have)
	}
	return t.importAdaptersHead(dir, have)
}

// readAdapters has the tensors of all files of a directory, and the name of its adapter or setup; it is "" for one of
// PEFT.
func readAdapters(dir string) (have map[string]checkpoint.Tensor, name string, err error) {
	have = map[string]checkpoint.Tensor{}
	paths, err := filepath.Glob(filepath.Join(quoteGlob(dir), "*.safetensors"))
	if err == nil {
		var more []string
		more, err = filepath.Glob(filepath.Join(quoteGlob(dir), "*", "*.safetensors"))
		paths = append(paths, more...)
	}
	if err != nil {
		return nil, "", err
	}
	if len(paths) == 0 {
		return nil, "", errors.New("it has no weights in safetensors files: save it again with use_safetensors=True")
	}
	for _, path := range paths {
		tensors, _, err := checkpoint.ReadSafetensors(path, nil)
		if err != nil {
			return nil, "", err
		}
		maps.Copy(have, tensors)
	}
	var config struct {
		PEFT string `json:"peft_type"`
		Name string `json:"name"`
		Head string `json:"head_setup"`
	}
	for _, file := range []string{"adapter_config.json", "adapter_setup.json", "head_config.json"} {
		if path := filepath.Join(dir, file); files.Exists(path) {
			err := files.ReadJSON(path, files.Document, &config)
			return have, cmp.Or(config.Name, config.Head), err
		}
	}
	return nil, "", errors.New("it has no adapter_config.json")
}

func quoteGlob(dir string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(dir)
}

// readBackwards finds the modules' values among the tensors of a format. The format's own export of numbered values
// says where each of them lies; what it writes besides must be there as it is.
func (t Trained) readBackwards(format Format,
	have map[string]checkpoint.Tensor) (map[string]checkpoint.Tensor, error) {
	shapes := t.Plan.TensorShapes(t.Info.Geometry)
	probe := t
	probe.Info.Head = headLinear
	probe.Head = zeroTensors(probe.Info.HeadShapes())
	write := func(number func(at int) float32) (map[string]checkpoint.Tensor, error) {
		probe.Modules = map[string]checkpoint.Tensor{}
		at := 0
		for _, name := range slices.Sorted(maps.Keys(shapes)) {
			values := make([]float32, checkpoint.Tensor{Shape: shapes[name]}.Elements())
			for i := range values {
				values[i], at = number(at), at+1
			}
			probe.Modules[name] = checkpoint.NewTensor(values, shapes[name]...)
		}
		e, err := exporters[format].build(probe, Options{})
		if err != nil {
			return nil, err
		}
		all := map[string]checkpoint.Tensor{}
		for _, tensors := range e.tensors {
			maps.Copy(all, tensors)
		}
		return all, nil
	}
	const digit = 1 << 20 // numbers of two digits, because a float32 holds integers up to 2^24
	low, err := write(func(at int) float32 { return float32(at%digit + 1) })
	if err != nil {
		return nil, fmt.Errorf("its weights cannot be read: %w", err)
	}
	high, err := write(func(at int) float32 { return float32(at/digit + 1) })
	if err != nil {
		return nil, err
	}
	zero, err := write(func(int) float32 { return 0 })
	if err != nil {
		return nil, err
	}
	heads := probe.headNames(format)
	total := 0
	for _, shape := range shapes {
		total += checkpoint.Tensor{Shape: shape}.Elements()
	}
	values, seen := make([]float32, total), make([]bool, total)
	for name, tensor := range low {
		if heads[name] {
			continue
		}
		theirs, ok := have[name]
		switch {
		case !ok && strings.HasSuffix(name, "position_embeddings.weight"):
			return nil, errors.New("it has a prefix without the table of positions: PEFT trained it with later positions " +
				"than a plan's prefix has")
		case !ok:
			return nil, fmt.Errorf("its weights have no tensor %s", name)
		case !slices.Equal(theirs.Shape, tensor.Shape):
			return nil, fmt.Errorf("its tensor %s has shape %v, not %v", name, theirs.Shape, tensor.Shape)
		}
		digits, more, none, real := tensor.Float32(), high[name].Float32(), zero[name].Float32(), theirs.Float32()
		for i, v := range real {
			if digits[i] == none[i] {
				if v != none[i] {
					return nil, fmt.Errorf("its tensor %s has values that a plan does not: they are fixed there", name)
				}
				continue
			}
			at := int(digits[i]) - 1 + digit*(int(more[i])-1)
			if at < 0 || at >= total || float32(int(digits[i])) != digits[i] {
				return nil, fmt.Errorf("its tensor %s is a plan's in another scale: that cannot be read backwards", name)
			}
			if seen[at] && values[at] != v {
				return nil, fmt.Errorf("its tensor %s differs from another one, and a plan has one for both", name)
			}
			values[at], seen[at] = v, true
		}
	}
	modules, at := map[string]checkpoint.Tensor{}, 0
	for _, name := range slices.Sorted(maps.Keys(shapes)) {
		n := checkpoint.Tensor{Shape: shapes[name]}.Elements()
		if slices.Contains(seen[at:at+n], false) {
			return nil, fmt.Errorf("its weights have nothing for %s", name)
		}
		modules[name], at = checkpoint.NewTensor(values[at:at+n], shapes[name]...), at+n
	}
	return modules, nil
}

func zeroTensors(shapes map[string][]int) map[string]checkpoint.Tensor {
	tensors := map[string]checkpoint.Tensor{}
	for name, shape := range shapes {
		tensors[name] = checkpoint.NewTensor(make([]float32, checkpoint.Tensor{Shape: shape}.Elements()), shape...)
	}
	return tensors
}

// headNames are the names of the head's tensors in an export.
func (t Trained) headNames(format Format) map[string]bool {
	names := map[string]bool{}
	if format == FormatAdapters {
		for _, name := range []string{"1.weight", "1.bias", "4.weight", "4.bias"} {
			names["heads."+t.adapterName()+"."+name] = true
		}
		return names
	}
	for name := range t.classHead() {
		names["base_model.model."+name], names["base_model."+name] = true, true
	}
	return names
}
