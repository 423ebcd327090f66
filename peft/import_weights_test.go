package peft_test

import (
	"path/filepath"
	"strings"
	"testing"

	"peftsearch/peft"
)

// What an export holds comes back as it was.
func TestWeightsComeBack(t *testing.T) {
	c := openModel(t, "bert-tiny")
	lora := peft.LoRA{Rank: 2, Alpha: 3, Targets: []peft.Target{peft.TargetKey, peft.TargetFFNIn}}
	everything := peft.Layer{peft.Serial{Width: 2}, peft.Parallel{Width: 3}, peft.Prefix{Length: 2}, lora}
	for name, test := range map[string]struct {
		layer   peft.Layer
		head    string
		formats []peft.Format
	}{
		"everything": {everything, "linear", []peft.Format{peft.FormatAdapters, peft.FormatTransformers}},
		"dense head": {everything, "dense", []peft.Format{peft.FormatAdapters, peft.FormatTransformers}},
		"lora": {peft.Layer{lora}, "linear", []peft.Format{peft.FormatAdapters, peft.FormatPEFT,
			peft.FormatTransformers}},
		"lora, dense head": {peft.Layer{lora}, "dense", []peft.Format{peft.FormatPEFT}},
		"prefix": {peft.Layer{peft.Prefix{Length: 3}}, "dense",
			[]peft.Format{peft.FormatPEFT, peft.FormatAdapters}},
		"dora": {peft.Layer{peft.DoRA{Rank: 2, Alpha: 2, Targets: []peft.Target{peft.TargetKey}}}, "linear",
			[]peft.Format{peft.FormatPEFT}},
		"ia3": {peft.Layer{peft.IA3{Targets: peft.IA3Targets}}, "linear", []peft.Format{peft.FormatPEFT}},
		"compacter": {peft.Layer{peft.Compacter{Bottleneck: peft.Bottleneck{Width: 4, LearnedScale: true, Gate: true}},
			peft.Prefix{Length: 2}}, "linear", []peft.Format{peft.FormatAdapters, peft.FormatTransformers}},
		"compacter++": {peft.Layer{peft.Compacter{Bottleneck: peft.Bottleneck{Width: 8}, FFNOnly: true}}, "dense",
			[]peft.Format{peft.FormatAdapters, peft.FormatTransformers}},
		"bitfit": {peft.Layer{peft.BitFit{Norms: true}, peft.Houlsby{Width: 3, NonLinearity: peft.GELU}}, "dense",
			[]peft.Format{peft.FormatTransformers}},
	} {
		source := trainedFor(t, c, test.layer)
		source.Info.Head = test.head
		source.Head = fill(source.Info.HeadShapes())
		for _, format := range test.formats {
			dir := filepath.Join(t.TempDir(), "export")
			if _, err := peft.Export(format, source, dir, peft.Options{}); err != nil {
				t.Fatal(name, err)
			}
			info := source.Info
			info.Labels = []string{"yes", "no"} // in another order
			got, err := peft.ImportWeights(dir, info)
			if err != nil {
				t.Errorf("%s from %s: %v", name, format, err)
				continue
			}
			if got.Plan.Key() != source.Plan.Key() || got.Info.Head != test.head || got.Backbone != nil {
				t.Errorf("%s from %s: %s with a %s head", name, format, got.Plan, got.Info.Head)
			}
			for tensor, want := range source.Modules {
				closeTo(t, got.Modules[tensor], want.Float32())
			}
			d := source.Head["head.weight"].Shape[1]
			weight := source.Head["head.weight"].Float32()
			if format == peft.FormatPEFT { // has no labels: the order is the task's
				closeTo(t, got.Head["head.weight"], weight)
			} else {
				closeTo(t, got.Head["head.weight"], append(weight[d:], weight[:d]...))
			}
		}
	}
}

// What was merged, or trained together with the backbone, is a backbone of its own.
func TestMergedWeightsAreABackbone(t *testing.T) {
	c := openModel(t, "bert-tiny")
	source := trainedFor(t, c, peft.Layer{peft.Serial{Width: 2},
		peft.LoRA{Rank: 1, Alpha: 2, Targets: []peft.Target{peft.TargetKey}}})
	dir := filepath.Join(t.TempDir(), "export")
	if _, err := peft.Export(peft.FormatTransformers, source, dir, peft.Options{Merge: true}); err != nil {
		t.Fatal(err)
	}
	got, err := peft.ImportWeights(dir, source.Info)
	if err != nil {
		t.Fatal(err)
	}
	if got.Plan.String() != "serial 2 L0-1" || got.Backbone == nil {
		t.Errorf("%s, %d tensors of the backbone", got.Plan, len(got.Backbone))
	}
}

// A whole model of transformers' class comes back as one that was trained whole, with its head in our form.
func TestMergedModelsComeBack(t *testing.T) {
	c := openModel(t, "bert-tiny")
	for _, head := range []string{"linear", "dense"} {
		source := trainedFor(t, c, peft.Layer{peft.LoRA{Rank: 1, Alpha: 2, Targets: []peft.Target{peft.TargetKey}}})
		source.Info.Head = head
		source.Head = fill(source.Info.HeadShapes())
		dir := filepath.Join(t.TempDir(), "export")
		if _, err := peft.Export(peft.FormatMerged, source, dir, peft.Options{}); err != nil {
			t.Fatal(err)
		}
		got, err := peft.ImportWeights(dir, source.Info)
		if err != nil {
			t.Fatal(head, err)
		}
		if !got.Plan.Empty() || got.Info.Head != head || len(got.Backbone) != len(c.Backbone()) {
			t.Errorf("%s: %s with a %s head, %d tensors of the backbone", head, got.Plan, got.Info.Head, len(got.Backbone))
		}
		for name, want := range source.Head {
			closeTo(t, got.Head[name], want.Float32())
		}
		compareTensors(t, exportedTensors(t, dir), exported(t, peft.FormatMerged, got, peft.Options{}))
		source.Info.Geometry.Layers++
		if _, err := peft.ImportWeights(dir, source.Info); err == nil || !strings.Contains(err.Error(), "another model") {
			t.Errorf("another model: %v", err)
		}
	}
}

func TestWeightsThatAreNotWhatTheyShouldBeAreRefused(t *testing.T) {
	c := openModel(t, "bert-tiny")
	source := trainedFor(t, c, peft.Layer{peft.Serial{Width: 2}})
	dir := filepath.Join(t.TempDir(), "export")
	if _, err := peft.Export(peft.FormatAdapters, source, dir, peft.Options{}); err != nil {
		t.Fatal(err)
	}
	info := source.Info
	info.Labels = []string{"no", "maybe"}
	if _, err := peft.ImportWeights(dir, info); err == nil || !strings.Contains(err.Error(), "labels") {
		t.Errorf("other labels: %v", err)
	}
	info = source.Info
	info.Task.Kind = "multiple_choice"
	if _, err := peft.ImportWeights(dir, info); err == nil || !strings.Contains(err.Error(), "head is for") {
		t.Errorf("another task: %v", err)
	}
	vera := trainedFor(t, c, peft.Layer{peft.VeRA{Rank: 4, Targets: []peft.Target{peft.TargetKey}}})
	if _, err := peft.ImportWeights(t.TempDir(), vera.Info); err == nil {
		t.Error("an empty directory was read")
	}
}

// A prompt is at the input of a self-contained model, and comes back.
func TestPromptsComeBack(t *testing.T) {
	c := openModel(t, "bert-tiny")
	source := trainedFor(t, c, peft.Layer{peft.Serial{Width: 2}})
	source.Plan.Input = peft.Layer{peft.Prompt{Length: 3, AfterFirst: true}}
	source.Modules = fill(source.Plan.TensorShapes(source.Info.Geometry))
	dir := filepath.Join(t.TempDir(), "export")
	if _, err := peft.Export(peft.FormatTransformers, source, dir, peft.Options{}); err != nil {
		t.Fatal(err)
	}
	got, err := peft.ImportWeights(dir, source.Info)
	if err != nil {
		t.Fatal(err)
	}
	if got.Plan.Key() != source.Plan.Key() {
		t.Errorf("plan %s", got.Plan)
	}
	closeTo(t, got.Modules["input.prompt.tokens"], source.Modules["input.prompt.tokens"].Float32())
	exported(t, peft.FormatONNX, source, peft.Options{})
}

// Every method of the table has a form in a self-contained model and in a graph, so that both hold every plan.
func TestEveryMethodIsInEveryModelOfItsOwn(t *testing.T) {
	c := openModel(t, "bert-tiny")
	for _, m := range peft.Methods {
		module := m.Sized(4, peft.Style{Scale: 1, Targets: []peft.Target{peft.TargetKey}})
		source := trainedFor(t, c, peft.Layer{module})
		if m.Input() {
			source = trainedFor(t, c, nil)
			source.Plan.Input = peft.Layer{module}
			source.Modules = fill(source.Plan.TensorShapes(source.Info.Geometry))
		}
		for _, format := range []peft.Format{peft.FormatTransformers, peft.FormatONNX} {
			exported(t, format, source, peft.Options{})
		}
	}
}
