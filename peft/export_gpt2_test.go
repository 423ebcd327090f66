package peft_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"peftsearch/data"
	"peftsearch/data/checkpoint"
	"peftsearch/peft"
)

const gpt2Dir = "../evaluator/model/testdata/gpt2" // 2 layers, 32 wide

// trainedGPT2 is a plan for the small GPT-2 with random tensors.
func trainedGPT2(t *testing.T, layers ...peft.Layer) (*checkpoint.Checkpoint, peft.Trained) {
	t.Helper()
	source, err := checkpoint.Open(gpt2Dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { source.Close() })
	fingerprint, err := source.Fingerprint()
	if err != nil {
		t.Fatal(err)
	}
	trained := peft.Trained{Plan: peft.Plan{Layers: layers}, Modules: map[string]checkpoint.Tensor{},
		Head: map[string]checkpoint.Tensor{}, Info: peft.Info{Version: peft.TrainedVersion, Model: gpt2Dir,
			ModelFingerprint: fingerprint, Geometry: peft.GeometryOf(source), Head: "linear", Labels: []string{"a", "b", "c"},
			Task: data.Task{Kind: data.KindClassification}}}
	random := rand.New(rand.NewPCG(4, 0))
	fill := func(into map[string]checkpoint.Tensor, shapes map[string][]int) {
		for name, shape := range shapes {
			values := make([]float32, checkpoint.Tensor{Shape: shape}.Elements())
			for i := range values {
				values[i] = float32(random.NormFloat64())
			}
			into[name] = checkpoint.NewTensor(values, shape...)
		}
	}
	fill(trained.Modules, trained.Plan.TensorShapes(trained.Info.Geometry))
	fill(trained.Head, trained.Info.HeadShapes())
	return source, trained
}

// product is the matrix a·b.
func product(a, b checkpoint.Tensor) (values []float32, shape []int) {
	n, inner, m, left, right := a.Shape[0], a.Shape[1], b.Shape[1], a.Float32(), b.Float32()
	values = make([]float32, n*m)
	for i := range n {
		for j := range m {
			for k := range inner {
				values[i*m+j] += left[i*inner+k] * right[k*m+j]
			}
		}
	}
	return values, []int{n, m}
}

func near(t *testing.T, what string, got, want []float32) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d values, want %d", what, len(got), len(want))
	}
	for i := range got {
		if d := math.Abs(float64(got[i] - want[i])); d > 1e-3 {
			t.Fatalf("%s: element %d is %g, want %g", what, i, got[i], want[i])
		}
	}
}

// PEFT has one LoRA for query, key and value: each has its own rows of it, and a key without one gets none. The head's
// bias, which the class lacks, is in the last LayerNorm.
func TestGPT2ForPEFT(t *testing.T) {
	lora := peft.LoRA{Rank: 2, Alpha: 6, Targets: []peft.Target{peft.TargetQuery, peft.TargetValue, peft.TargetFFNOut}}
	source, trained := trainedGPT2(t, peft.Layer{}, peft.Layer{lora})
	dir := filepath.Join(t.TempDir(), "export")
	if lost, err := peft.Export(peft.FormatPEFT, trained, dir, peft.Options{}); err != nil || lost != nil {
		t.Fatal(lost, err)
	}
	tensors := exportedTensors(t, dir)
	const attention = "base_model.model.transformer.h.1.attn.c_attn.lora_"
	got, _ := product(tensors[attention+"B.weight"], tensors[attention+"A.weight"])
	var want []float32
	for _, target := range []string{"query", "key", "value"} {
		if target == "key" {
			want = append(want, make([]float32, 32*32)...)
			continue
		}
		part, _ := product(trained.Modules["layers.1.lora."+target+".b"], trained.Modules["layers.1.lora."+target+".a"])
		want = append(want, part...)
	}
	near(t, "B·A of c_attn", got, want)
	near(t, "A of mlp.c_proj", tensors["base_model.model.transformer.h.1.mlp.c_proj.lora_A.weight"].Float32(),
		trained.Modules["layers.1.lora.ffn_out.a"].Float32())
	config := readDocument(t, filepath.Join(dir, "adapter_config.json")).(map[string]any)
	for key, want := range map[string]any{
		"fan_in_fan_out": true, "modules_to_save": []any{"score", "ln_f"},
		"rank_pattern":  map[string]any{"h.1.attn.c_attn": 4.0, "h.1.mlp.c_proj": 2.0},
		"alpha_pattern": map[string]any{"h.1.attn.c_attn": 12.0, "h.1.mlp.c_proj": 6.0},
	} {
		if diff := cmp.Diff(want, config[key]); diff != "" {
			t.Errorf("%s (-want +got)\n%s", key, diff)
		}
	}
	checkShift(t, source, trained, tensors["base_model.model.score.weight"],
		tensors["base_model.model.transformer.ln_f.bias"])
	if _, ok := tensors["base_model.model.score.bias"]; ok {
		t.Error("the class has no such bias")
	}
}

// checkShift compares W·(b+v) with W·b + c.
func checkShift(t *testing.T, source *checkpoint.Checkpoint, trained peft.Trained, weight, shifted checkpoint.Tensor) {
	t.Helper()
	bias, err := source.Tensor("decoder.LayerNorm.bias")
	if err != nil {
		t.Fatal(err)
	}
	column := func(v checkpoint.Tensor) checkpoint.Tensor { return checkpoint.NewTensor(v.Float32(), 32, 1) }
	got, _ := product(weight, column(shifted))
	want, _ := product(trained.Head["head.weight"], column(bias))
	for i, c := range trained.Head["head.bias"].Float32() {
		want[i] += c
	}
	near(t, "the head's bias", got, want)
}

// A merged model has the file's names and forms, and is read back with the updates in it.
func TestGPT2Merged(t *testing.T) {
	targets := []peft.Target{peft.TargetKey, peft.TargetAttentionOutput, peft.TargetFFNIn}
	source, trained := trainedGPT2(t, peft.Layer{peft.LoRA{Rank: 3, Alpha: 3, Targets: targets}}, peft.Layer{})
	dir := filepath.Join(t.TempDir(), "export")
	if lost, err := peft.Export(peft.FormatMerged, trained, dir, peft.Options{}); err != nil || lost != nil {
		t.Fatal(lost, err)
	}
	merged, err := checkpoint.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer merged.Close()
	for _, name := range source.Backbone() {
		before, err := source.Tensor(name)
		if err != nil {
			t.Fatal(err)
		}
		after, err := merged.Tensor(name)
		if err != nil {
			t.Fatal(err)
		}
		want := before.Float32()
		for _, target := range targets {
			if name == trained.Info.Geometry.CheckpointName(0, target)+".weight" {
				update, _ := product(trained.Modules[fmt.Sprintf("layers.0.lora.%s.b", target)],
					trained.Modules[fmt.Sprintf("layers.0.lora.%s.a", target)])
				for i, v := range update {
					want[i] += v
				}
			}
		}
		if name != "decoder.LayerNorm.bias" {
			near(t, name, after.Float32(), want)
			continue
		}
		checkShift(t, source, trained, exportedTensors(t, dir)["score.weight"], after)
	}
	if _, ok := exportedTensors(t, dir)["transformer.h.0.attn.c_attn.weight"]; !ok {
		t.Error("no tensor has its name in transformers' files")
	}
}

// What the libraries cannot have for a decoder is refused or named as lost.
func TestGPT2CannotBeExported(t *testing.T) {
	low := func(m peft.Method, targets ...peft.Target) peft.Layer {
		return peft.Layer{m.Sized(2, peft.Style{Scale: 1, Targets: targets})}
	}
	choice := func(trained *peft.Trained) {
		trained.Info.Task.Kind, trained.Info.Labels = data.KindMultipleChoice, nil
		trained.Head = nil
	}
	for name, test := range map[string]struct {
		format peft.Format
		layers []peft.Layer
		change func(*peft.Trained)
		want   string
	}{
		"dora of query alone": {peft.FormatPEFT, []peft.Layer{low(peft.MethodDoRA, peft.TargetQuery), {}}, nil,
			"none of them"},
		"vera of value": {peft.FormatPEFT, []peft.Layer{low(peft.MethodVeRA, peft.TargetValue), {}}, nil,
			"none of them"},
		"a stack with c_attn": {peft.FormatAdapters, []peft.Layer{low(peft.MethodLoRA, peft.TargetQuery),
			low(peft.MethodLoRA, peft.TargetValue)}, nil, "cannot stack"},
		"multiple choice": {peft.FormatAdapters, []peft.Layer{{}, {}}, choice, "GPT-2 for multiple_choice"},
	} {
		_, trained := trainedGPT2(t, test.layers...)
		if test.change != nil {
			test.change(&trained)
		}
		_, err := peft.Export(test.format, trained, filepath.Join(t.TempDir(), "export"), peft.Options{})
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}

// The code of a decoder is its own, and what an export holds comes back as it was.
func TestGPT2ForTransformers(t *testing.T) {
	lora := peft.LoRA{Rank: 2, Alpha: 6, Targets: []peft.Target{peft.TargetQuery, peft.TargetFFNIn}}
	_, trained := trainedGPT2(t, peft.Layer{lora, peft.Prefix{Length: 2}}, peft.Layer{peft.Serial{Width: 3}})
	dir := filepath.Join(t.TempDir(), "export")
	if lost, err := peft.Export(peft.FormatTransformers, trained, dir, peft.Options{}); err != nil || lost != nil {
		t.Fatal(lost, err)
	}
	code, err := os.ReadFile(filepath.Join(dir, "modeling_hybrid.py"))
	if err != nil {
		t.Fatal(err)
	}
	for words, want := range map[string]bool{"class LoRA(": true, "class Serial(": true, "class Parallel(": false,
		"self.final_norm": true, "token_type_embeddings": false, "{{": false} {
		if got := strings.Contains(string(code), words); got != want {
			t.Errorf("the code contains %q: %v", words, got)
		}
	}
	config := readDocument(t, filepath.Join(dir, "config.json")).(map[string]any)
	for key, want := range map[string]any{"model_type": "peftsearch-decoder", "scale_attn_weights": true,
		"max_position_embeddings": 16.0} {
		if config[key] != want {
			t.Errorf("%s is %v, want %v", key, config[key], want)
		}
	}
	if settings := readDocument(t, filepath.Join(dir, "tokenizer_config.json")).(map[string]any); settings["pad_token"] !=
		"<|endoftext|>" {
		t.Errorf("the padding is %v", settings["pad_token"])
	}
	got, err := peft.ImportWeights(dir, trained.Info)
	if err != nil {
		t.Fatal(err)
	}
	if got.Plan.Key() != trained.Plan.Key() || got.Backbone != nil {
		t.Errorf("%s came back as %s", trained.Plan, got.Plan)
	}
	for name, tensor := range trained.Modules {
		near(t, name, got.Modules[name].Float32(), tensor.Float32())
	}
}
