package train

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"peftsearch/data"
	"peftsearch/data/checkpoint"
	"peftsearch/evaluator"
	"peftsearch/evaluator/model"
	"peftsearch/evaluator/torch"
	"peftsearch/peft"
)

// trainingVersion is raised with every change of what the same job computes, rounding apart.
const trainingVersion = 2

// Metadata keys of a checkpoint.
const (
	metadataJob       = "job"
	metadataPrecision = "precision"
	metadataProgress  = "progress"
	metadataOptimizer = "optimizer_step"
)

// Tensors of a checkpoint: vectors of all parameters.
const (
	tensorParameters = "parameters"
	tensorM          = "m" // moments of the optimiser
	tensorV          = "v"
	tensorBest       = "best" // parameters of the best rung, once there is one
)

// identity is a hash of all that a run's numbers depend on, but for the precision.
func (r *run) identity() string {
	job := r.job
	job.Output, job.Trial = "", 0
	description, err := json.Marshal(struct {
		Version     int
		Job         any
		Head        any
		Task        data.Task
		Fingerprint any
	}{trainingVersion, job, r.hello.Head, r.hello.Task, r.ready.Fingerprint})
	if err != nil {
		panic(err) // checked settings and strings
	}
	sum := sha256.Sum256(description)
	return hex.EncodeToString(sum[:])
}

// save writes a checkpoint if the job has an output directory.
func (r *run) save() error {
	if r.job.Output == "" {
		return nil
	}
	if err := os.MkdirAll(r.job.Output, 0o755); err != nil {
		return err
	}
	state, err := r.model.State()
	if err != nil {
		return err
	}
	p := r.progress
	p.Seconds = r.seconds()
	encoded, err := json.Marshal(p)
	if err != nil {
		return err
	}
	vector := func(values []float32) checkpoint.Tensor { return checkpoint.NewTensor(values, len(values)) }
	tensors := map[string]checkpoint.Tensor{tensorParameters: vector(state.Parameters),
		tensorM: vector(state.Optimizer.M), tensorV: vector(state.Optimizer.V)}
	if r.best != nil {
		tensors[tensorBest] = vector(r.best)
	}
	return checkpoint.WriteSafetensors(filepath.Join(r.job.Output, peft.CheckpointFile), tensors, map[string]string{
		metadataJob: r.identity(), metadataPrecision: r.ready.Precision, metadataProgress: string(encoded),
		metadataOptimizer: strconv.Itoa(state.Optimizer.Step)})
}

// restore continues from a checkpoint of the same job, if the output directory has one.
func (r *run) restore() error {
	path := filepath.Join(r.job.Output, peft.CheckpointFile)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	tensors, metadata, err := checkpoint.ReadSafetensors(path, nil)
	if err != nil {
		return damagedCheckpoint(path, err)
	}
	if metadata[metadataJob] != r.identity() {
		return fmt.Errorf("%s belongs to another plan, data set, model, setting or version: choose another directory, "+
			"or remove the file to start again", path)
	}
	was := metadata[metadataPrecision]
	if was != model.PrecisionFloat32 && was != model.PrecisionBFloat16 {
		return damagedCheckpoint(path, fmt.Errorf("it is of a training in %.40q", was))
	}
	if was != r.ready.Precision {
		return fmt.Errorf("%s was trained in %s, and this run computes in %s: set the precision to %s to go on, "+
			"or remove the file to start again", path, was, r.ready.Precision, was)
	}
	if err := r.resume(tensors, metadata); err != nil {
		return damagedCheckpoint(path, err)
	}
	return nil
}

func damagedCheckpoint(path string, err error) error {
	return fmt.Errorf("%s is damaged: %w; remove the file to start again, or choose another directory", path, err)
}

// resume sets the run to where a checkpoint of it stands.
func (r *run) resume(tensors map[string]checkpoint.Tensor, metadata map[string]string) error {
	var p progress
	if err := json.Unmarshal([]byte(metadata[metadataProgress]), &p); err != nil {
		return errors.New("its progress cannot be read")
	}
	step, err := strconv.Atoi(metadata[metadataOptimizer])
	if err != nil {
		return fmt.Errorf("the step of its optimiser is %.40q", metadata[metadataOptimizer])
	}
	if p.Step < 0 || p.Step > r.steps || step != p.Step {
		return fmt.Errorf("it stands at step %d of %d, and its optimiser at step %d", p.Step, r.steps, step)
	}
	if p.Scored < 0 || p.Scored > p.Step || p.BestStep < 0 || p.BestStep > p.Scored || p.Stale < 0 {
		return fmt.Errorf("the last rung is at step %d and the best at step %d, of %d", p.Scored, p.BestStep, p.Step)
	}
	want := []string{tensorParameters, tensorM, tensorV}
	if p.BestStep > 0 && r.keepsBest() {
		want = append(want, tensorBest)
	}
	vectors := map[string][]float32{}
	for _, name := range want {
		tensor, ok := tensors[name]
		if !ok || tensor.DType != checkpoint.Float32 || tensor.Elements() != r.model.Size() {
			return fmt.Errorf("tensor %q is not there as %d float32 values", name, r.model.Size())
		}
		vectors[name] = tensor.Float32()
		for _, v := range vectors[name] {
			if v-v != 0 {
				return fmt.Errorf("tensor %q has values that are not finite", name)
			}
		}
	}
	r.progress, r.best = p, vectors[tensorBest]
	return r.model.SetState(model.State{Parameters: vectors[tensorParameters],
		Optimizer: torch.AdamWState{Step: step, M: vectors[tensorM], V: vectors[tensorV]}})
}

const backbonePrefix = "backbone."

// write leaves the model's current weights in the output directory.
func (r *run) write() error {
	tensors, err := r.model.Tensors()
	if err != nil {
		return err
	}
	training, err := json.Marshal(r.job.Candidate.Training)
	if err != nil {
		return err
	}
	budget, err := json.Marshal(r.job.Budget)
	if err != nil {
		return err
	}
	t := peft.Trained{
		Plan: r.job.Candidate.Plan,
		Info: peft.Info{Version: peft.TrainedVersion, Model: r.hello.Model, ModelFingerprint: r.ready.Fingerprint.Model,
			Geometry: r.ready.Geometry, Head: string(r.head()), Task: r.hello.Task, Labels: r.dataset.Labels,
			Training: training, Precision: r.ready.Precision, Seed: r.job.Seed, DataFingerprint: r.ready.Fingerprint.Data,
			Budget: budget},
		Head: map[string]checkpoint.Tensor{}, Metrics: r.metrics(evaluator.Result{}, nil),
	}
	for name, tensor := range tensors {
		into := &t.Modules
		if strings.HasPrefix(name, "head.") {
			into = &t.Head
		} else if rest, ok := strings.CutPrefix(name, backbonePrefix); ok {
			into, name = &t.Backbone, rest
		}
		if *into == nil {
			*into = map[string]checkpoint.Tensor{}
		}
		(*into)[name] = tensor
	}
	if r.hello.Task.Kind.Numeric() {
		unstandardise(t.Head, float32(r.rows.mean), float32(r.rows.scale))
	}
	return peft.WriteTrained(r.job.Output, t)
}

// head is the form of the trained head.
func (r *run) head() evaluator.Head {
	if r.job.Candidate.Training.Pooler {
		return evaluator.HeadDense
	}
	return r.hello.Head
}

// complete adds the metrics of the test split and its predictions, if there are any, and removes the checkpoint.
func (r *run) complete(result evaluator.Result, predictions [][]float64) error {
	if result.Test != nil {
		if err := peft.WriteMetrics(r.job.Output, r.metrics(result, predictions)); err != nil {
			return err
		}
	}
	return remove(filepath.Join(r.job.Output, peft.CheckpointFile))
}

func (r *run) metrics(result evaluator.Result, predictions [][]float64) peft.Metrics {
	m := peft.Metrics{BestStep: r.BestStep, Dev: r.Dev, Test: result.Test, TestDropped: result.TestDropped,
		Intervals: map[string][2]float64{}}
	if ends, ok := interval(r.resample(r.dev, r.Predictions)); ok {
		m.Intervals["dev"] = ends
	}
	if result.Test != nil {
		if ends, ok := interval(r.resample(r.test, predictions)); ok {
			m.Intervals["test"] = ends
		}
	}
	return m
}

// begin sets the model to what a trained directory holds.
func (r *run) begin(dir string) error {
	t, err := peft.ReadTrained(dir)
	if err != nil {
		return err
	}
	plan, training := r.job.Candidate.Plan, r.job.Candidate.Training
	switch {
	case t.Info.ModelFingerprint != r.ready.Fingerprint.Model:
		return fmt.Errorf("%s was trained on another model than %s: their fingerprints differ", dir, r.hello.Model)
	case t.Plan.Key() != plan.Key() || t.Info.Head != string(r.head()) || t.Info.Task.Kind != r.hello.Task.Kind:
		return fmt.Errorf("%s has %s with a %s head for %s, the job %s with a %s head for %s", dir, t.Plan, t.Info.Head,
			t.Info.Task.Kind, plan, r.head(), r.hello.Task.Kind)
	case !slices.Equal(t.Info.Labels, r.dataset.Labels):
		return fmt.Errorf("%s has the labels %q, the data %q", dir, t.Info.Labels, r.dataset.Labels)
	case (t.Backbone != nil) != training.Backbone:
		return fmt.Errorf("%s has a backbone that was trained too, or lacks one: the job trains the other", dir)
	}
	if r.hello.Task.Kind.Numeric() {
		scale, mean := float32(r.rows.scale), float32(r.rows.mean)
		bias := t.Head["head.bias"].Float32()
		for i := range bias {
			bias[i] -= mean
		}
		t.Head["head.bias"] = checkpoint.NewTensor(bias, len(bias))
		unstandardise(t.Head, 0, 1/scale)
	}
	if err := r.model.SetTensors(joinTensors(t)); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	return nil
}

// unstandardise folds the labels' scale into the last layer, so that logits are in the labels' units.
func unstandardise(head map[string]checkpoint.Tensor, mean, scale float32) {
	for _, name := range []string{"head.weight", "head.bias"} {
		values := head[name].Float32()
		for i := range values {
			values[i] *= scale
			if name == "head.bias" {
				values[i] += mean
			}
		}
		head[name] = checkpoint.NewTensor(values, head[name].Shape...)
	}
}

// joinTensors gathers a trained directory's tensors under the model's names.
func joinTensors(t peft.Trained) map[string]checkpoint.Tensor {
	tensors := maps.Clone(t.Head)
	maps.Copy(tensors, t.Modules)
	for name, tensor := range t.Backbone {
		tensors[backbonePrefix+name] = tensor
	}
	return tensors
}
