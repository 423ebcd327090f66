package peft_test

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"peftsearch/data/checkpoint"
	"peftsearch/peft"
)

var small = peft.Geometry{Architecture: "bert", Layers: 2, Hidden: 8, FFN: 16, Heads: 2, BackboneParams: 1000}

// trainedPlan has every method, and tensors that count up.
func trainedPlan() peft.Trained {
	t := peft.Trained{
		Plan: peft.Plan{Layers: []peft.Layer{{Serial: &peft.Adapter{Width: 3}, Parallel: &peft.Adapter{Width: 2}},
			{Prefix: &peft.Prefix{Length: 2}, LoRA: &peft.LoRA{Rank: 2, Alpha: 4, Targets: peft.Targets}}}},
		Info: peft.Info{Version: peft.TrainedVersion, Model: "models/small", Geometry: small, Head: "dense",
			Labels: []string{"no", "yes"}, Training: json.RawMessage(`{}`), Seed: 7},
		Metrics: peft.Metrics{BestStep: 3, Dev: map[string]float64{"accuracy": 0.75}},
	}
	next := float32(0)
	fill := func(shapes map[string][]int) map[string]checkpoint.Tensor {
		tensors := map[string]checkpoint.Tensor{}
		for name, shape := range shapes {
			values := make([]float32, checkpoint.Tensor{Shape: shape}.Elements())
			for i := range values {
				values[i], next = next, next+1
			}
			tensors[name] = checkpoint.NewTensor(values, shape...)
		}
		return tensors
	}
	t.Modules, t.Head = fill(t.Plan.TensorShapes(small)), fill(peft.HeadShapes("dense", small, 2))
	return t
}

func TestTrainedDirectoriesRoundTrip(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "winner")
	want := trainedPlan()
	if err := peft.WriteTrained(dir, want); err != nil {
		t.Fatal(err)
	}
	got, err := peft.ReadTrained(dir)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestDamagedTrainedDirectoriesAreRefused(t *testing.T) {
	for name, test := range map[string]struct {
		damage func(dir string) error
		words  string
	}{
		"no plan":   {func(dir string) error { return os.Remove(filepath.Join(dir, "plan.json")) }, "plan.json"},
		"no head":   {func(dir string) error { return os.Remove(filepath.Join(dir, "head.safetensors")) }, "head.safetensors"},
		"truncated": {func(dir string) error { return os.Truncate(filepath.Join(dir, "modules.safetensors"), 900) }, "truncated"},
		"huge header": {func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "modules.safetensors"), []byte("\xff\xff\xff\xff\xff\xff\xff\x7f{}"), 0o644)
		}, "header"},
		"another plan":    {func(dir string) error { return replace(dir, "plan.json", `"width": 3`, `"width": 4`) }, "shape"},
		"a missing layer": {func(dir string) error { return replace(dir, "plan.json", `"serial"`, `"prefix"`) }, "plan"},
		"newer version":   {func(dir string) error { return replace(dir, "task.json", `"version": 1`, `"version": 99`) }, "version 99"},
		"another head":    {func(dir string) error { return replace(dir, "task.json", `"dense"`, `"linear"`) }, "head.dense.weight belongs to nothing"},
	} {
		dir := t.TempDir()
		if err := peft.WriteTrained(dir, trainedPlan()); err != nil {
			t.Fatal(err)
		}
		if err := test.damage(dir); err != nil {
			t.Fatal(err)
		}
		if _, err := peft.ReadTrained(dir); err == nil || !strings.Contains(err.Error(), test.words) {
			t.Errorf("%s: the error is %v", name, err)
		}
	}
}

func replace(dir, file, old, new string) error {
	path := filepath.Join(dir, file)
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return os.WriteFile(path, []byte(strings.Replace(string(content), old, new, 1)), 0o644)
}

func TestValuesThatAreNotFiniteAreNotWritten(t *testing.T) {
	trained := trainedPlan()
	trained.Head["head.bias"] = checkpoint.NewTensor([]float32{0, float32(math.NaN())}, 2)
	if err := peft.WriteTrained(t.TempDir(), trained); err == nil || !strings.Contains(err.Error(), "head.bias") {
		t.Errorf("the error is %v", err)
	}
}
