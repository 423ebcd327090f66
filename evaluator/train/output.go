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
	"strconv"
	"strings"

	"peftsearch/data"
	"peftsearch/data/checkpoint"
	"peftsearch/evaluator/model"
	"peftsearch/evaluator/torch"
	"peftsearch/peft"
)

// checkpointFile holds a run that is not finished; its metadata say where the run stands.
const checkpointFile = "checkpoint.safetensors"

// Metadata keys of a checkpoint.
const (
	metadataJob       = "job"
	metadataProgress  = "progress"
	metadataOptimizer = "optimizer_step"
)

// identity is a hash of all that a run's numbers depend on.
func (r *run) identity() string {
	job := r.job
	job.Output, job.Trial = "", 0
	description, err := json.Marshal(struct {
		Job         any
		Head        any
		Task        data.Task
		Fingerprint any
	}{job, r.hello.Head, r.hello.Task, r.ready.Fingerprint})
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
	tensors := map[string]checkpoint.Tensor{"parameters": vector(state.Parameters), "m": vector(state.Optimizer.M), "v": vector(state.Optimizer.V)}
	if r.best != nil {
		tensors["best"] = vector(r.best)
	}
	return checkpoint.WriteSafetensors(filepath.Join(r.job.Output, checkpointFile), tensors, map[string]string{
		metadataJob: r.identity(), metadataProgress: string(encoded), metadataOptimizer: strconv.Itoa(state.Optimizer.Step)})
}

// restore continues from a checkpoint of the same job, if the output directory has one.
func (r *run) restore() error {
	path := filepath.Join(r.job.Output, checkpointFile)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	tensors, metadata, err := checkpoint.ReadSafetensors(path, nil)
	if err != nil {
		return fmt.Errorf("%w; remove the file to start again", err)
	}
	if metadata[metadataJob] != r.identity() {
		return fmt.Errorf("%s belongs to another plan, data set, model or setting: choose another directory, or remove the file to start again", path)
	}
	if err := json.Unmarshal([]byte(metadata[metadataProgress]), &r.progress); err != nil {
		return fmt.Errorf("%s: %w; remove the file to start again", path, err)
	}
	step, err := strconv.Atoi(metadata[metadataOptimizer])
	if err != nil {
		return fmt.Errorf("%s: %w; remove the file to start again", path, err)
	}
	if best, ok := tensors["best"]; ok {
		r.best = best.Float32()
	}
	if err := r.model.SetState(model.State{Parameters: tensors["parameters"].Float32(),
		Optimizer: torch.AdamWState{Step: step, M: tensors["m"].Float32(), V: tensors["v"].Float32()}}); err != nil {
		return fmt.Errorf("%s: %w; remove the file to start again", path, err)
	}
	return nil
}

const backbonePrefix = "backbone."

// write leaves the model's current weights in the output directory and removes the checkpoint.
func (r *run) write(test map[string]float64) error {
	tensors, err := r.model.Tensors()
	if err != nil {
		return err
	}
	training, err := json.Marshal(r.job.Candidate.Training)
	if err != nil {
		return err
	}
	t := peft.Trained{
		Plan: r.job.Candidate.Plan,
		Info: peft.Info{Version: peft.TrainedVersion, Model: r.hello.Model, ModelFingerprint: r.ready.Fingerprint.Model,
			Geometry: r.ready.Geometry, Head: string(r.hello.Head), Task: r.hello.Task, Labels: r.dataset.Labels,
			Training: training, Seed: r.job.Seed},
		Head: map[string]checkpoint.Tensor{}, Metrics: peft.Metrics{BestStep: r.BestStep, Dev: r.Dev, Test: test},
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
	if len(r.dataset.Labels) == 0 {
		unstandardise(t.Head, float32(r.mean), float32(r.scale))
	}
	if err := peft.WriteTrained(r.job.Output, t); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(r.job.Output, checkpointFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
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
