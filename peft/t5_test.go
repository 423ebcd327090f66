package peft_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"peftsearch/data"
	"peftsearch/data/checkpoint"
	"peftsearch/peft"
)

const t5Dir = "../evaluator/model/testdata/" // scripts/golden/t5.py writes them

// t5Geometry is T5 with two layers in each stack, as wide as its attention.
var t5Geometry = peft.Geometry{Architecture: "t5", Layers: 4, Hidden: 32, FFN: 48, Heads: 4, DecoderLayers: 2}

func TestStacksOfT5(t *testing.T) {
	want := []peft.Stack{{Name: "encoder", Layers: 2}, {Name: "decoder", First: 2, Layers: 2, Causal: true, Cross: true}}
	if diff := cmp.Diff(want, t5Geometry.Stacks()); diff != "" {
		t.Error(diff)
	}
	for layer, name := range []string{"encoder", "encoder", "decoder", "decoder"} {
		if got := t5Geometry.Stack(layer).Name; got != name {
			t.Errorf("layer %d is in the %s", layer, got)
		}
	}
	c, err := checkpoint.Open(t5Dir + "t5-gated")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	g := peft.GeometryOf(c)
	if g.Layers != 3 || g.DecoderLayers != 2 || g.AttentionWidth() != 48 || !g.Gated || g.Validate() != nil {
		t.Errorf("the geometry is %+v, error %v", g, g.Validate())
	}
	if got := g.CheckpointName(2, peft.TargetFFNIn); got != "decoder.layer.1.intermediate.up" {
		t.Errorf("ffn_in is %s", got)
	}
}

// The libraries' LoRA of rank 4 on query and value has 3,072 weights in six attentions of width 32 (PEFT's own count).
func TestPresetsOfT5(t *testing.T) {
	for name, want := range map[string]int64{
		"lora-r8":   6 * 2 * 8 * 64,
		"prefix-30": 6 * 2 * 30 * 32,
		"head":      0,
	} {
		preset, err := peft.NewPreset(name, t5Geometry)
		if err != nil {
			t.Fatal(err)
		}
		if got := preset.Plan.Params(t5Geometry).Total(); got != want {
			t.Errorf("%s has %d parameters, want %d", name, got, want)
		}
	}
	_, err := peft.NewPreset("unipelt", t5Geometry)
	if err == nil || !strings.Contains(err.Error(), "a gate in a decoder") {
		t.Errorf("unipelt: error %v", err)
	}
}

func TestT5ForOtherLibraries(t *testing.T) {
	source, err := checkpoint.Open(t5Dir + "t5")
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	fingerprint, err := source.Fingerprint()
	if err != nil {
		t.Fatal(err)
	}
	trained := func(layers ...peft.Layer) peft.Trained {
		trained := peft.Trained{Plan: peft.Plan{Layers: layers}, Modules: map[string]checkpoint.Tensor{},
			Head: map[string]checkpoint.Tensor{}, Info: peft.Info{Version: peft.TrainedVersion, Model: t5Dir + "t5",
				ModelFingerprint: fingerprint, Geometry: peft.GeometryOf(source), Head: "dense",
				Labels: []string{"a", "b", "c"}, Task: data.Task{Kind: data.KindClassification}}}
		fill := func(into map[string]checkpoint.Tensor, shapes map[string][]int) {
			for name, shape := range shapes {
				values := make([]float32, checkpoint.Tensor{Shape: shape}.Elements())
				for i := range values {
					values[i] = 1 + float32(i)
				}
				into[name] = checkpoint.NewTensor(values, shape...)
			}
		}
		fill(trained.Modules, trained.Plan.TensorShapes(trained.Info.Geometry))
		fill(trained.Head, trained.Info.HeadShapes())
		return trained
	}
	export := func(format peft.Format, trained peft.Trained, file string) (map[string]checkpoint.Tensor, error) {
		dir := filepath.Join(t.TempDir(), "export")
		if _, err := peft.Export(format, trained, dir, peft.Options{}); err != nil {
			return nil, err
		}
		tensors, _, err := checkpoint.ReadSafetensors(filepath.Join(dir, file), nil)
		return tensors, err
	}
	lora := func(targets ...peft.Target) peft.Layer {
		return peft.Layer{peft.LoRA{Rank: 2, Alpha: 4, Targets: targets}}
	}
	shifted := func(cross bool) peft.Layer { return peft.Layer{peft.Prefix{Length: 3, Cross: cross, Shifted: true}} }

	t.Run("adapters has one LoRA for both attentions", func(t *testing.T) {
		tensors, err := export(peft.FormatAdapters, trained(lora("query"), nil, lora("cross_query"), nil),
			"adapter.safetensors")
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for name, tensor := range tensors {
			if strings.HasSuffix(name, "lora_B") {
				zero := !slices.ContainsFunc(tensor.Float32(), func(v float32) bool { return v != 0 })
				if zero != strings.Contains(name, "decoder.block.0.layer.0.SelfAttention") {
					t.Errorf("%s: zeros are %v", name, zero)
				}
				names = append(names, name)
			}
		}
		slices.Sort(names)
		want := []string{"transformer.decoder.block.0.layer.0.SelfAttention.q.loras.task.lora_B",
			"transformer.decoder.block.0.layer.1.EncDecAttention.q.loras.task.lora_B",
			"transformer.encoder.block.0.layer.0.SelfAttention.q.loras.task.lora_B"}
		if diff := cmp.Diff(want, names); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("prefixes have three places", func(t *testing.T) {
		tensors, err := export(peft.FormatAdapters, trained(shifted(false), shifted(false), shifted(true), shifted(true)),
			"adapter.safetensors")
		if err != nil {
			t.Fatal(err)
		}
		for _, place := range []string{"encoder", "self", "cross"} {
			name := "transformer.prefix_tuning.prefix_tunings.task." + place + "_prefix.control_trans"
			if got := tensors[name].Shape; !slices.Equal(got, []int{3 * 2 * 2 * 32}) {
				t.Errorf("%s has shape %v", name, got)
			}
		}
	})
	t.Run("merged keeps the names of the file", func(t *testing.T) {
		tensors, err := export(peft.FormatMerged, trained(lora("ffn_in"), nil, lora("cross_output"), nil),
			"model.safetensors")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"transformer.shared.weight", "classification_head.out_proj.weight",
			"transformer.encoder.block.0.layer.1.DenseReluDense.wi.weight"} {
			if _, ok := tensors[name]; !ok {
				t.Errorf("%s is missing", name)
			}
		}
	})
	for _, test := range []struct {
		name   string
		format peft.Format
		layers []peft.Layer
		want   string
	}{
		{"a prefix that is not shifted", peft.FormatAdapters, []peft.Layer{nil, nil, {peft.Prefix{Length: 3}},
			{peft.Prefix{Length: 3}}}, "cannot express prefix 3 (layers 2-3)"},
		{"a prefix in one layer", peft.FormatAdapters, []peft.Layer{nil, nil, nil, shifted(true)},
			"cannot express prefix 3 cross shifted (layers 3)"},
		{"an output", peft.FormatAdapters, []peft.Layer{nil, nil, nil, lora("attention_output", "cross_output", "query")},
			"cannot express lora r2 on attention_output and cross_output (layers 3)"},
		{"a prefix for PEFT", peft.FormatPEFT, []peft.Layer{nil, nil, shifted(true), shifted(true)}, "has none of them"},
		{"code", peft.FormatTransformers, []peft.Layer{lora("query"), nil, nil, nil}, "there is no code of T5"},
		{"a graph", peft.FormatONNX, []peft.Layer{lora("query"), nil, nil, nil}, "there is no code of T5"},
	} {
		_, err := export(test.format, trained(test.layers...), "")
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v, want one with %q", test.name, err, test.want)
		}
	}
}
