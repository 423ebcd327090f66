package peft_test

import (
	"bytes"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"testing"

	"peftsearch/data"
	"peftsearch/data/checkpoint"
	"peftsearch/peft"
)

// openModel opens one of the models that make fetches.
func openModel(t *testing.T, name string) *checkpoint.Checkpoint {
	t.Helper()
	dir := filepath.Join("..", "models", name)
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("make models/%s fetches it", name)
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		t.Fatal(err)
	}
	c, err := checkpoint.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// trainedFor has the layer's modules in every layer of a model, with small tensors.
func trainedFor(t *testing.T, c *checkpoint.Checkpoint, layer peft.Layer) peft.Trained {
	t.Helper()
	fingerprint, err := c.Fingerprint()
	if err != nil {
		t.Fatal(err)
	}
	source := peft.Trained{Info: peft.Info{Version: peft.TrainedVersion, Model: c.Dir, ModelFingerprint: fingerprint,
		Geometry: peft.GeometryOf(c), Head: "linear", Labels: []string{"no", "yes"},
		Task: data.Task{Kind: data.KindClassification, MaxLength: 60}}}
	for range source.Info.Geometry.Layers {
		source.Plan.Layers = append(source.Plan.Layers, layer)
	}
	source.Modules, source.Head = fill(source.Plan.TensorShapes(source.Info.Geometry)), fill(source.Info.HeadShapes())
	return source
}

// fill has small values.
func fill(shapes map[string][]int) map[string]checkpoint.Tensor {
	tensors := map[string]checkpoint.Tensor{}
	for name, shape := range shapes {
		values := make([]float32, checkpoint.Tensor{Shape: shape}.Elements())
		for i := range values {
			values[i] = float32(i%7)/8 - 0.25
		}
		tensors[name] = checkpoint.NewTensor(values, shape...)
	}
	return tensors
}

// exported has the tensors of an export.
func exported(t *testing.T, format peft.Format, source peft.Trained,
	options peft.Options) map[string]checkpoint.Tensor {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "export")
	if lost, err := peft.Export(format, source, dir, options); err != nil || lost != nil {
		t.Fatal(lost, err)
	}
	return exportedTensors(t, dir)
}

func closeTo(t *testing.T, got checkpoint.Tensor, want []float32) {
	t.Helper()
	values := got.Float32()
	if len(values) != len(want) {
		t.Fatalf("%d values, want %d", len(values), len(want))
	}
	for i, v := range values {
		if math.Abs(float64(v-want[i])) > 1e-5 {
			t.Fatalf("element %d is %g, want %g", i, v, want[i])
		}
	}
}

// A matrix that LoRA changes and IA3 multiplies is folded in that order, after biases that BitFit replaces.
func TestModulesAreFoldedInOrder(t *testing.T) {
	c := openModel(t, "bert-tiny")
	source := trainedFor(t, c, peft.Layer{
		peft.LoRA{Rank: 1, Alpha: 2, Targets: []peft.Target{peft.TargetKey}},
		peft.IA3{Targets: []peft.Target{peft.TargetKey}}, peft.BitFit{}})
	merged := exported(t, peft.FormatMerged, source, peft.Options{})
	before, err := c.Tensor("encoder.layer.0.attention.self.key.weight")
	if err != nil {
		t.Fatal(err)
	}
	a, b := source.Modules["layers.0.lora.key.a"].Float32(), source.Modules["layers.0.lora.key.b"].Float32()
	scale := source.Modules["layers.0.ia3.key"].Float32()
	want := before.Float32()
	for row := range b {
		for column := range a {
			at := row*len(a) + column
			want[at] = (want[at] + 2*b[row]*a[column]) * scale[row]
		}
	}
	closeTo(t, merged["bert.encoder.layer.0.attention.self.key.weight"], want)
	bias := source.Modules["layers.0.bitfit.key.bias"].Float32()
	for i := range bias {
		bias[i] *= scale[i]
	}
	closeTo(t, merged["bert.encoder.layer.0.attention.self.key.bias"], bias)
}

// What merging leaves is the other modules, and the folded ones are in no file twice.
func TestMergeKeepsTheRest(t *testing.T) {
	c := openModel(t, "bert-tiny")
	source := trainedFor(t, c, peft.Layer{peft.Serial{Width: 2},
		peft.LoRA{Rank: 1, Alpha: 2, Targets: []peft.Target{peft.TargetKey}}})
	apart := exported(t, peft.FormatTransformers, source, peft.Options{})
	merged := exported(t, peft.FormatTransformers, source, peft.Options{Merge: true})
	if _, ok := merged["layers.0.lora.key.a"]; ok || len(apart) != len(merged)+2*source.Info.Geometry.Layers {
		t.Errorf("%d tensors, and %d with the LoRA merged", len(apart), len(merged))
	}
	closeTo(t, merged["layers.0.serial.down.weight"], apart["layers.0.serial.down.weight"].Float32())
	want := exported(t, peft.FormatMerged, onlyLoRA(source), peft.Options{})
	closeTo(t, merged["layers.0.key.weight"], want["bert.encoder.layer.0.attention.self.key.weight"].Float32())
}

func onlyLoRA(t peft.Trained) peft.Trained {
	modules := map[string]checkpoint.Tensor{}
	var plan peft.Plan
	for _, layer := range t.Plan.Layers {
		lora, _ := peft.Find[peft.LoRA](layer)
		plan.Layers = append(plan.Layers, peft.Layer{lora})
	}
	t.Plan = plan
	for name := range plan.TensorShapes(t.Info.Geometry) {
		modules[name] = t.Modules[name]
	}
	t.Modules = modules
	return t
}

// An export is to be published: it says nothing of the machine that it was made on, not even what the model's own
// files say of another.
func TestExportsNameNoPlaceOfTheMachine(t *testing.T) {
	original := openModel(t, "bert-tiny")
	place := filepath.Join(t.TempDir(), "secret-place")
	model := filepath.Join(place, "bert-tiny")
	if err := os.CopyFS(model, os.DirFS(original.Dir)); err != nil {
		t.Fatal(err)
	}
	for name, old := range map[string]string{"tokenizer_config.json": `"backend"`,
		"config.json": `"add_cross_attention"`} {
		path := filepath.Join(model, name)
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		says := []byte(`"name_or_path": "` + model + `", "_name_or_path": "` + model + `", "special_tokens_map_file": "` +
			model + `/special", ` + old)
		if err := os.WriteFile(path, bytes.Replace(content, []byte(old), says, 1), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c, err := checkpoint.Open(model)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, format := range peft.Formats {
		source := trainedFor(t, c, peft.Layer{peft.LoRA{Rank: 1, Alpha: 2, Targets: []peft.Target{peft.TargetKey}}})
		source.Info.Task.Train = filepath.Join(place, "train.tsv")
		dir := filepath.Join(t.TempDir(), "export")
		if _, err := peft.Export(format, source, dir, peft.Options{}); err != nil {
			t.Fatal(err)
		}
		err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			content, err := os.ReadFile(path)
			if bytes.Contains(content, []byte("secret-place")) {
				t.Errorf("%s: %s has a path of the machine", format, filepath.Base(path))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
