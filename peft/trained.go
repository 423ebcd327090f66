package peft

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"peftsearch/data"
	"peftsearch/data/checkpoint"
	"peftsearch/data/files"
	"peftsearch/data/quote"
)

// TrainedVersion is the version of the trained directory.
const TrainedVersion = 1

// Files of a trained directory.
const (
	planFile     = "plan.json"
	taskFile     = "task.json"
	metricsFile  = "metrics.json"
	modulesFile  = "modules.safetensors"
	headFile     = "head.safetensors"
	backboneFile = "backbone.safetensors"
)

// Trained is a plan with its trained tensors and everything needed to use them: what a trained
// directory holds.
//
// Modules are named layers.{i}.{method}.{tensor}, as in layers.0.serial.down.weight, or input.{method}.{tensor}, and
// what all layers have in common shared.{method}.{tensor}; [Module] lists the tensors. The head is head.weight [n,E]
// and head.bias [n], and for a dense head head.dense.weight [E,E] and head.dense.bias [E] too; E is D, or 2·D for a
// coreference, which has head.pool.weight [1,D] too. All are float32.
type Trained struct {
	Plan    Plan
	Info    Info
	Modules map[string]checkpoint.Tensor
	Head    map[string]checkpoint.Tensor
	// Backbone holds the backbone's own tensors, by their canonical names, after full fine-tuning.
	Backbone map[string]checkpoint.Tensor
	Metrics  Metrics
	Name     string // of its adapters in exports, of letters, digits and dashes; "" is AdapterName
}

// Info says what a trained plan belongs to.
type Info struct {
	Version          int             `json:"version"`
	Model            string          `json:"model"` // directory of the backbone
	ModelFingerprint string          `json:"model_fingerprint"`
	Geometry         Geometry        `json:"geometry"`
	Head             string          `json:"head"` // linear or dense
	Task             data.Task       `json:"task"`
	Labels           []string        `json:"labels"`   // class names by output; null for regression
	Training         json.RawMessage `json:"training"` // the settings, for the record
	// Precision is what it was trained and scored in, float32 or bfloat16; empty where it is not known.
	Precision string `json:"precision,omitempty"`
	Seed      uint64 `json:"seed"`
	// Base is the backbone's name on the Hub, where it is known.
	Base            string          `json:"base_model,omitempty"`
	DataFingerprint string          `json:"data_fingerprint,omitempty"`
	Budget          json.RawMessage `json:"budget,omitempty"` // for the record
	Origin          *Origin         `json:"origin,omitempty"` // nil where it is not known
}

// Origin is where a trained plan comes from.
type Origin struct {
	Program string `json:"program"` // version that trained it
	Study   string `json:"study,omitempty"`
	Trial   *int64 `json:"trial,omitempty"` // of the study; nil for a plan from elsewhere
}

// Metrics are the scores of the trained weights by metric.
type Metrics struct {
	BestStep int                `json:"best_step"`
	Dev      map[string]float64 `json:"dev"`
	Test     map[string]float64 `json:"test,omitempty"`
	// Intervals are those of 95 % of the task's metric, by split: what other rows would have given.
	Intervals map[string][2]float64 `json:"intervals,omitempty"`
	// TestDropped is the task's metric on the test split with the modules of the lowest 1, 2, … layers left out, after
	// trainings with AdapterDrop.
	TestDropped []float64 `json:"test_dropped,omitempty"`
}

// TensorShapes lists the tensors of a plan's modules by name.
func (p Plan) TensorShapes(g Geometry) map[string][]int {
	shapes := map[string][]int{}
	for _, at := range p.places() {
		for _, module := range at.Layer {
			for _, tensor := range module.Tensors(g) {
				shapes[at.name+string(module.Method())+"."+tensor.Name] = tensor.Shape
			}
			for _, tensor := range module.Method().Shared() {
				shapes[module.Method().SharedName(tensor.Name)] = tensor.Shape
			}
		}
	}
	return shapes
}

// Without is what was trained without the modules of the lowest so many layers, with the score that was measured so, if
// one was.
func (t Trained) Without(lowest int) Trained {
	if lowest == 0 {
		return t
	}
	t.Plan = t.Plan.Without(lowest)
	of := t.Metrics
	t.Metrics = Metrics{BestStep: of.BestStep}
	if lowest <= len(of.TestDropped) {
		t.Metrics.Test = map[string]float64{string(t.Info.Task.Metric): of.TestDropped[lowest-1]}
	}
	shapes := t.Plan.TensorShapes(t.Info.Geometry)
	t.Modules = maps.Clone(t.Modules)
	maps.DeleteFunc(t.Modules, func(name string, _ checkpoint.Tensor) bool { return shapes[name] == nil })
	return t
}

// Gates lists the gates of a plan by name, as in layers.0.serial.gate: those tensors without ".weight".
func (p Plan) Gates(g Geometry) (names []string) {
	for _, at := range p.places() {
		for _, module := range at.Layer.sorted() {
			for _, tensor := range module.Tensors(g) {
				if name, ok := strings.CutSuffix(tensor.Name, "gate.weight"); ok {
					names = append(names, at.name+string(module.Method())+"."+name+"gate")
				}
			}
		}
	}
	return names
}

// WriteTrained writes a trained directory, creating it if necessary. Each file is replaced whole;
// plan.json comes last, so that a directory with one is complete.
func WriteTrained(dir string, t Trained) error {
	if err := t.check(); err != nil {
		return fmt.Errorf("writing %s: %w", dir, err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	metadata := map[string]string{"format": "peftsearch"}
	if len(t.Modules) > 0 {
		if err := checkpoint.WriteSafetensors(filepath.Join(dir, modulesFile), t.Modules, metadata); err != nil {
			return err
		}
	}
	if err := checkpoint.WriteSafetensors(filepath.Join(dir, headFile), t.Head, metadata); err != nil {
		return err
	}
	if t.Backbone != nil {
		if err := checkpoint.WriteSafetensors(filepath.Join(dir, backboneFile), t.Backbone, metadata); err != nil {
			return err
		}
	}
	for _, file := range []struct {
		name  string
		value any
	}{{taskFile, t.Info}, {metricsFile, t.Metrics}, {planFile, t.Plan}} {
		if err := writeJSON(filepath.Join(dir, file.name), file.value); err != nil {
			return err
		}
	}
	return nil
}

// CheckpointFile is in a trained directory while training is not over: it holds where the training stands.
const CheckpointFile = "checkpoint.safetensors"

// Finished reports whether a directory holds a trained plan whose training is over.
func Finished(dir string) bool {
	return files.Exists(filepath.Join(dir, planFile)) && !files.Exists(filepath.Join(dir, CheckpointFile))
}

// WriteOrigin says in a trained directory where it comes from.
func WriteOrigin(dir string, origin Origin) error {
	path := filepath.Join(dir, taskFile)
	var info Info
	if err := files.ReadJSON(path, files.Document, &info); err != nil {
		return err
	}
	info.Origin = &origin
	return writeJSON(path, info)
}

// WriteMetrics replaces the metrics of a trained directory.
func WriteMetrics(dir string, metrics Metrics) error {
	return writeJSON(filepath.Join(dir, metricsFile), metrics)
}

// ReadTrained reads a trained directory and refuses one whose files do not agree with each other: the
// tensors must be exactly those of the plan, finite and of the right shapes.
func ReadTrained(dir string) (Trained, error) {
	var t Trained
	if !files.Exists(filepath.Join(dir, planFile)) {
		return t, fmt.Errorf("%s is not a directory that training wrote: it has no %s", dir, planFile)
	}
	for _, file := range []struct {
		name  string
		value any
	}{{planFile, &t.Plan}, {taskFile, &t.Info}, {metricsFile, &t.Metrics}} {
		if err := files.ReadJSON(filepath.Join(dir, file.name), files.Document, file.value); err != nil {
			return t, err
		}
	}
	if t.Info.Version != TrainedVersion {
		return t, fmt.Errorf("%s: version %d, this program reads version %d",
			filepath.Join(dir, taskFile), t.Info.Version, TrainedVersion)
	}
	if err := t.Info.checkHead(); err != nil {
		return t, fmt.Errorf("%s: %w", filepath.Join(dir, taskFile), err)
	}
	if err := t.Plan.Validate(t.Info.Geometry); err != nil {
		return t, fmt.Errorf("%s: %w", filepath.Join(dir, planFile), quote.Error(err))
	}
	var err error
	if !t.Plan.Empty() {
		if t.Modules, _, err = checkpoint.ReadSafetensors(filepath.Join(dir, modulesFile), t.checkModules); err != nil {
			return t, err
		}
	}
	if t.Head, _, err = checkpoint.ReadSafetensors(filepath.Join(dir, headFile), t.checkHead); err != nil {
		return t, err
	}
	if path := filepath.Join(dir, backboneFile); files.Exists(path) {
		if t.Backbone, _, err = checkpoint.ReadSafetensors(path, t.checkBackbone); err != nil {
			return t, err
		}
	} else if t.Info.trainedBackbone() {
		return t, fmt.Errorf("%s has no %s, although the backbone was trained too", dir, backboneFile)
	}
	return t, nil
}

// trainedBackbone reports whether the settings say that the backbone was trained too.
func (i Info) trainedBackbone() bool {
	var training struct {
		Backbone bool `json:"backbone"`
	}
	return json.Unmarshal(i.Training, &training) == nil && training.Backbone
}

// dropout is the probability that the settings say.
func (i Info) dropout() float64 {
	var training struct {
		Dropout float64 `json:"dropout"`
	}
	if json.Unmarshal(i.Training, &training) != nil {
		return 0
	}
	return training.Dropout
}

// check compares the tensors with the plan.
func (t Trained) check() error {
	var backbone error
	if t.Backbone != nil || t.Info.trainedBackbone() {
		backbone = t.checkBackbone(t.Backbone)
	}
	return errors.Join(t.checkModules(t.Modules), t.checkHead(t.Head), backbone)
}

func (t Trained) checkModules(have map[string]checkpoint.Tensor) error {
	return checkTensors("module", have, t.Plan.TensorShapes(t.Info.Geometry))
}

func (t Trained) checkHead(have map[string]checkpoint.Tensor) error {
	return checkTensors("head", have, t.Info.HeadShapes())
}

// checkBackbone counts the values: names and shapes are those of the model, which the directory does not hold.
func (t Trained) checkBackbone(have map[string]checkpoint.Tensor) error {
	var values int64
	for _, tensor := range have {
		values += int64(tensor.Elements())
	}
	if values != t.Info.Geometry.BackboneParams {
		return fmt.Errorf("the backbone's tensors have %d values, the model's have %d: tensors are missing or too many",
			values, t.Info.Geometry.BackboneParams)
	}
	for _, name := range slices.Sorted(maps.Keys(have)) {
		if i := have[name].NotFinite(); i >= 0 {
			return fmt.Errorf("element %d of backbone tensor %s is not a finite number", i, quote.Text(name))
		}
	}
	return nil
}

// checkTensors reports tensors that are missing, too many, of a wrong shape or not finite.
func checkTensors(what string, have map[string]checkpoint.Tensor, want map[string][]int) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(want)) {
		tensor, ok := have[name]
		switch {
		case !ok:
			errs = append(errs, fmt.Errorf("%s tensor %s is missing", what, name))
		case !slices.Equal(tensor.Shape, want[name]):
			errs = append(errs, fmt.Errorf("%s tensor %s has shape %v, not %v", what, name, tensor.Shape, want[name]))
		case tensor.NotFinite() >= 0:
			errs = append(errs, fmt.Errorf("%s tensor %s has values that are not finite", what, name))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(have)) {
		if want[name] == nil {
			errs = append(errs, fmt.Errorf("%s tensor %s belongs to nothing in the plan", what, quote.Text(name)))
		}
	}
	const shown = 5
	if len(errs) > shown {
		errs = append(errs[:shown], fmt.Errorf("and %d more", len(errs)-shown))
	}
	return errors.Join(errs...)
}

func writeJSON(path string, value any) error {
	content, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return files.Write(path, append(content, '\n'))
}
