package model

import (
	"cmp"
	"encoding/json"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"peftsearch/data"
	"peftsearch/data/checkpoint"
	"peftsearch/evaluator"
	"peftsearch/evaluator/torch"
	"peftsearch/peft"
)

// golden is testdata/golden.json; scripts/golden/model.py writes it.
type golden struct {
	Sentences struct {
		IDs     []int32
		Lengths []int
	}
	Cases []goldenCase
}

type goldenCase struct {
	Name        string
	Checkpoint  string
	Plan        peft.Plan
	Head        evaluator.Head
	Outputs     int
	PrefixMLP   int `json:"prefix_mlp"`
	Backbone    bool
	Prompt      evaluator.PromptTraining
	Bare        []int // layers in each step
	Seed        uint64
	IDs, Types  []int32
	Lengths     []int
	Labels      []float64
	Logits      []float32
	Losses      []float64
	GradNorm    float64 `json:"grad_norm"`
	Rates       []float64
	WeightDecay float64 `json:"weight_decay"`
	MaxGradNorm float64 `json:"max_grad_norm"`
}

func readGolden(t *testing.T) golden {
	t.Helper()
	var g golden
	readJSON(t, "golden.json", &g)
	return g
}

// readJSON decodes a file of testdata.
func readJSON(t *testing.T, name string, into any) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(content, into); err != nil {
		t.Fatal(err)
	}
}

func readTensors(t *testing.T, name string) map[string]checkpoint.Tensor {
	t.Helper()
	tensors, _, err := checkpoint.ReadSafetensors(filepath.Join("testdata", name+".safetensors"), nil)
	if err != nil {
		t.Fatal(err)
	}
	return tensors
}

var onCPU = evaluator.Settings{Device: "cpu", Precision: PrecisionFloat32, Threads: 1}

// loadBackbone loads a checkpoint of testdata, or of the repository's models/, for one test. PEFTSEARCH_TEST_DEVICE
// names another device for it, such as cuda.
func loadBackbone(t testing.TB, name string, settings evaluator.Settings) *Backbone {
	t.Helper()
	settings.Device = cmp.Or(os.Getenv("PEFTSEARCH_TEST_DEVICE"), settings.Device)
	dir := filepath.Join("testdata", name)
	if strings.HasPrefix(name, "models/") {
		dir = filepath.Join("..", "..", name)
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			t.Skipf("%s is missing: `make %s` fetches it", name, name)
		}
	}
	return openBackbone(t, dir, settings)
}

// openBackbone loads the checkpoint of a directory for one test.
func openBackbone(t testing.TB, dir string, settings evaluator.Settings) *Backbone {
	t.Helper()
	checkpoint, err := checkpoint.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Load(checkpoint, settings)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		b.Close()
		if err := checkpoint.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// newModel makes a model that lives as long as the test; the head is linear unless spec says otherwise.
// newModel makes a model: without a task, a regression for one output and else a classification.
func newModel(t testing.TB, b *Backbone, spec Spec) *Model {
	t.Helper()
	spec.Head = cmp.Or(spec.Head, evaluator.HeadLinear)
	if spec.Task == "" {
		spec.Task = data.KindClassification
		if spec.Outputs == 1 {
			spec.Task = data.KindRegression
		}
	}
	m, err := New(b, spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

// newScope makes a scope that lives as long as the test.
func newScope(t testing.TB, b *Backbone) *torch.Scope {
	t.Helper()
	s := b.Scope()
	t.Cleanup(s.Free)
	return s
}

// unpad is a batch of rows that are padded to one length, as the reference libraries take them.
func unpad(ids, types []int32, lengths []int) Batch {
	batch := Batch{Lengths: lengths}
	width := len(ids) / len(lengths)
	for i, length := range lengths {
		batch.IDs = append(batch.IDs, ids[i*width:][:length]...)
		if types != nil {
			batch.TypeIDs = append(batch.TypeIDs, types[i*width:][:length]...)
		}
	}
	return batch
}

// loss is the mean of the head's losses.
func loss(m *Model, s *torch.Scope, batch Batch, labels []float64, step int) *torch.Tensor {
	sum, terms := m.Loss(s, batch, labels, step)
	return s.Scale(sum, 1/float64(terms))
}

// gradient is that of the mean of the head's losses.
func gradient(m *Model, s *torch.Scope, batch Batch, labels []float64, step int) *torch.Tensor {
	sum, terms := m.Loss(s, batch, labels, step)
	return s.Scale(m.Gradient(s, sum), 1/float64(terms))
}

// compare reports elements that differ by more than tolerance.
func compare(t *testing.T, what string, got, want []float32, tolerance float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d values, want %d", what, len(got), len(want))
	}
	worst, at := 0.0, 0
	for i := range want {
		if d := math.Abs(float64(got[i]) - float64(want[i])); !(d <= worst) {
			worst, at = d, i
		}
	}
	if !(worst <= tolerance) {
		t.Errorf("%s: element %d is %g, want %g; tolerance %g", what, at, got[at], want[at], tolerance)
	}
}

func TestHiddenStatesOfSentences(t *testing.T) {
	g, want := readGolden(t), readTensors(t, "sentences")["hidden"].Float32()
	b := loadBackbone(t, "models/all-MiniLM-L6-v2", onCPU)
	s := newScope(t, b)
	got := s.Float32s(lastHidden(b, s, unpad(g.Sentences.IDs, nil, g.Sentences.Lengths)))
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	compare(t, "hidden states", got, want, 1e-4)
}

// lastHidden is the last hidden state of every token.
func lastHidden(b *Backbone, s *torch.Scope, batch Batch) *torch.Tensor {
	return b.Hidden(s, batch, Frontier{Step: b.network.family.steps(), Rows: All})
}

// TestPrompts compares prompts, P-tuning's encoders and bare layers with the libraries; scripts/golden/prompts.py
// writes what they compute.
func TestPrompts(t *testing.T) {
	var g golden
	readJSON(t, "prompts.json", &g)
	testGolden(t, g.Cases)
}

func TestGolden(t *testing.T) { testGolden(t, readGolden(t).Cases) }

func testGolden(t *testing.T, cases []goldenCase) {
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			b := loadBackbone(t, c.Checkpoint, onCPU)
			methods := evaluator.MethodTraining{Prompt: c.Prompt}
			if len(c.Bare) > 0 {
				methods.AdapterDrop = slices.Max(c.Bare)
			}
			m := newModel(t, b, Spec{Plan: c.Plan, Head: c.Head, Outputs: c.Outputs, Seed: c.Seed,
				Training: evaluator.Training{WeightDecay: c.WeightDecay, MaxGradNorm: c.MaxGradNorm, PrefixMLP: c.PrefixMLP,
					Backbone: c.Backbone, Methods: methods}})
			for step, want := range c.Bare {
				if got := m.Bare(step); got != want {
					t.Fatalf("%d layers are bare in step %d, want %d", got, step, want)
				}
			}
			file := readTensors(t, c.Name)
			s := newScope(t, b)
			values := make([]float32, m.parameters.size)
			for _, p := range m.parameters.list {
				value, ok := file["value."+p.name]
				if !ok && c.Backbone {
					original, err := b.checkpoint.Tensor(strings.TrimPrefix(p.name, "backbone."))
					if err != nil {
						t.Fatal(err)
					}
					value = original
				} else if !ok {
					t.Fatalf("the golden file has no %s", p.name)
				}
				copy(values[p.offset:], value.Float32())
			}
			m.parameters.set(s, values)
			setFrozen(m, s, file)
			batch := unpad(c.IDs, c.Types, c.Lengths)
			compare(t, "logits", s.Float32s(m.LogitsOf(s, batch, Pass{Bare: m.Bare(0)})), c.Logits, 1e-4)

			tensors, err := m.Tensors()
			if err != nil {
				t.Fatal(err)
			}
			for name, want := range file {
				if name, ok := strings.CutPrefix(name, "flat."); ok {
					compare(t, "flat "+name, tensors[name].Float32(), want.Float32(), 1e-5)
				}
			}

			grad := s.Float32s(gradient(m, s, batch, c.Labels, 0))
			if err := s.Err(); err != nil {
				t.Fatal(err)
			}
			for _, p := range m.parameters.list {
				want := file["grad."+p.name].Float32()
				largest := 0.0
				for _, v := range want {
					largest = max(largest, math.Abs(float64(v)))
				}
				// A key bias shifts all scores of a row alike: its gradient is rounding noise.
				compare(t, "gradient of "+p.name, grad[p.offset:][:p.size()], want, 1e-3*largest+1e-6)
			}

			for step, rate := range c.Rates {
				if got := s.Item(loss(m, s, batch, c.Labels, step)); math.Abs(got-c.Losses[step]) > 1e-4 {
					t.Errorf("loss of step %d is %g, want %g", step, got, c.Losses[step])
				}
				norm := m.Update(s, gradient(m, s, batch, c.Labels, step), rate)
				if step == 0 && math.Abs(norm-c.GradNorm) > 1e-3*c.GradNorm {
					t.Errorf("gradient norm %g, want %g", norm, c.GradNorm)
				}
			}
			after, err := m.Tensors()
			if err != nil {
				t.Fatal(err)
			}
			for name, want := range file {
				if name, ok := strings.CutPrefix(name, "after."); ok && !strings.HasSuffix(name, "key.bias") {
					compare(t, name+" after training", after[name].Float32(), want.Float32(), 1e-5)
				}
			}
			if err := s.Err(); err != nil {
				t.Error(err)
			}
		})
	}
}
