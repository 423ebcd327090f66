package peft_test

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"peftsearch/data"
	"peftsearch/data/checkpoint"
	"peftsearch/peft"
)

var small = peft.Geometry{Architecture: "bert", Layers: 2, Hidden: 8, FFN: 16, Heads: 2, BackboneParams: 1000}

// trainedPlan has every method, and tensors that count up.
func trainedPlan() peft.Trained {
	t := peft.Trained{
		Plan: peft.Plan{Layers: []peft.Layer{{peft.Serial{Width: 3}, peft.Parallel{Width: 2}},
			{peft.Prefix{Length: 2}, peft.LoRA{Rank: 2, Alpha: 4, Targets: peft.Targets}}}},
		Info: peft.Info{Version: peft.TrainedVersion, Model: "models/small", Geometry: small, Head: "dense",
			Labels: []string{"no", "yes"}, Task: data.Task{Kind: data.KindClassification}, Training: json.RawMessage(`{}`),
			Seed: 7},
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
	t.Modules, t.Head = fill(t.Plan.TensorShapes(small)), fill(t.Info.HeadShapes())
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
		"no plan": {func(dir string) error { return os.Remove(filepath.Join(dir, "plan.json")) }, "plan.json"},
		"no head": {func(dir string) error { return os.Remove(filepath.Join(dir, "head.safetensors")) },
			"head.safetensors"},
		"truncated": {func(dir string) error { return os.Truncate(filepath.Join(dir, "modules.safetensors"), 900) },
			"truncated"},
		"huge header": {func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "modules.safetensors"), []byte("\xff\xff\xff\xff\xff\xff\xff\x7f{}"), 0o644)
		}, "header"},
		"another plan":    {func(dir string) error { return replace(dir, "plan.json", `"width": 3`, `"width": 4`) }, "shape"},
		"a missing layer": {func(dir string) error { return replace(dir, "plan.json", `"serial"`, `"prefix"`) }, "plan"},
		"newer version": {func(dir string) error { return replace(dir, "task.json", `"version": 1`, `"version": 99`) },
			"version 99"},
		"another head": {func(dir string) error { return replace(dir, "task.json", `"dense"`, `"linear"`) },
			`"head.dense.weight" belongs to nothing`},
		"an unknown head": {func(dir string) error { return replace(dir, "task.json", `"dense"`, `"moe"`) },
			`head "moe": must be linear or dense`},
		"no backbone": {func(dir string) error {
			return replace(dir, "task.json", `"training": {}`, `"training": {"backbone": true}`)
		}, "has no backbone.safetensors"},
		"a short backbone": {func(dir string) error {
			return checkpoint.WriteSafetensors(filepath.Join(dir, "backbone.safetensors"),
				map[string]checkpoint.Tensor{"x": checkpoint.NewTensor([]float32{1}, 1)}, nil)
		}, "have 1 values, the model's have 1000"},
		"something behind": {func(dir string) error { return replace(dir, "metrics.json", "{", "{}{") }, "is no JSON"},
		"a list": {func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "task.json"), []byte(`[]`), 0o644)
		}, "is array, not an object"},
		"a pipe": {func(dir string) error {
			path := filepath.Join(dir, "head.safetensors")
			return errors.Join(os.Remove(path), unix.Mkfifo(path, 0o600))
		}, "is a pipe"},
		"a pointer": {func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "modules.safetensors"),
				[]byte("version https://git-lfs.github.com/spec/v1\n"), 0o644)
		}, "git lfs pull"},
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

// Weights as large as the disk are refused by their shapes, before they are read into memory.
func TestHugeTrainedDirectoriesAreRefused(t *testing.T) {
	dir := t.TempDir()
	if err := peft.WriteTrained(dir, trainedPlan()); err != nil {
		t.Fatal(err)
	}
	const size = 64 << 30
	header := fmt.Sprintf(`{"head.weight":{"dtype":"F32","shape":[2,%d],"data_offsets":[0,%d]}}`, size/8, size)
	path := filepath.Join(dir, "head.safetensors")
	if err := os.WriteFile(path, append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header...),
		0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 8+int64(len(header))+size); err != nil { // sparse: it takes no room
		t.Skip(err)
	}
	if _, err := peft.ReadTrained(dir); err == nil || !strings.Contains(err.Error(),
		"head.weight has shape [2 8589934592], not [2 8]") {
		t.Errorf("the error is %v", err)
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

// FuzzReadTrained puts other documents into a trained directory.
func FuzzReadTrained(f *testing.F) {
	dir := f.TempDir()
	if err := peft.WriteTrained(dir, trainedPlan()); err != nil {
		f.Fatal(err)
	}
	whole := map[string][]byte{}
	for _, name := range []string{"plan.json", "task.json", "metrics.json", "head.safetensors", "modules.safetensors"} {
		content, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			f.Fatal(err)
		}
		whole[name] = content
	}
	f.Add(whole["plan.json"], whole["task.json"], whole["metrics.json"])
	f.Add([]byte(`{"version":1,"layers":[]}`), []byte(`{"version":1,"head":"linear"}`), []byte(`{}`))
	f.Fuzz(func(t *testing.T, plan, task, metrics []byte) {
		dir := t.TempDir()
		for name, content := range whole {
			switch name {
			case "plan.json":
				content = plan
			case "task.json":
				content = task
			case "metrics.json":
				content = metrics
			}
			if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		trained, err := peft.ReadTrained(dir)
		bounded(t, err)
		if err == nil && len(trained.Head["head.bias"].Float32()) != trained.Info.Outputs() {
			t.Errorf("the head has %v outputs", trained.Head["head.bias"].Shape)
		}
	})
}
