package checkpoint

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const t5Dirs = "../../evaluator/model/testdata" // scripts/golden/t5.py writes them

func TestOpenT5(t *testing.T) {
	for name, want := range map[string]Config{
		"t5": {ModelType: T5, Vocab: 40, Embedding: 32, Hidden: 32, Layers: 4, Heads: 4, HeadWidth: 8, FFN: 48,
			Positions: 512, LayerNormEps: 1e-6, Activation: ReLU, Causal: true, DecoderLayers: 2, Buckets: 32,
			MaxDistance: 128},
		"t5-gated": {ModelType: T5, Vocab: 40, Embedding: 32, Hidden: 32, Layers: 3, Heads: 4, HeadWidth: 12, FFN: 48,
			Positions: 512, LayerNormEps: 1e-6, Activation: GELUTanh, Causal: true, DecoderLayers: 2, Gated: true, Buckets: 8,
			MaxDistance: 6},
	} {
		c, err := Open(filepath.Join(t5Dirs, name))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if diff := cmp.Diff(want, c.Config); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestNamesOfT5(t *testing.T) {
	for canonical, want := range map[string]string{
		"embeddings.word_embeddings":           "shared",
		"encoder.layer.3.attention.self.query": "encoder.block.3.layer.0.SelfAttention.q",
		"encoder.layer.0.attention.self.relative_attention_bias": "encoder.block.0.layer.0." +
			"SelfAttention.relative_attention_bias",
		"encoder.layer.3.attention.LayerNorm":          "encoder.block.3.layer.0.layer_norm",
		"encoder.layer.3.intermediate.LayerNorm":       "encoder.block.3.layer.1.layer_norm",
		"encoder.layer.3.intermediate.dense":           "encoder.block.3.layer.1.DenseReluDense.wi",
		"encoder.LayerNorm":                            "encoder.final_layer_norm",
		"decoder.layer.10.attention.output.dense":      "decoder.block.10.layer.0.SelfAttention.o",
		"decoder.layer.10.crossattention.self.value":   "decoder.block.10.layer.1.EncDecAttention.v",
		"decoder.layer.10.crossattention.output.dense": "decoder.block.10.layer.1.EncDecAttention.o",
		"decoder.layer.10.crossattention.LayerNorm":    "decoder.block.10.layer.1.layer_norm",
		"decoder.layer.10.intermediate.gate":           "decoder.block.10.layer.2.DenseReluDense.wi_0",
		"decoder.layer.10.intermediate.up":             "decoder.block.10.layer.2.DenseReluDense.wi_1",
		"decoder.layer.10.output.dense":                "decoder.block.10.layer.2.DenseReluDense.wo",
		"decoder.LayerNorm":                            "decoder.final_layer_norm",
	} {
		for _, modelType := range []string{T5, MT5} {
			if got := NameInFile(modelType, canonical+".weight"); got != want+".weight" {
				t.Errorf("%s of %s is %s, want %s", canonical, modelType, got, want)
			}
		}
	}
}

// Keys that change what is computed are honoured, or refused with the reason.
func TestConfigOfT5(t *testing.T) {
	content, err := os.ReadFile(filepath.Join(t5Dirs, "t5", "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	read := func(changes map[string]any) (Config, error) {
		values := map[string]any{}
		if err := json.Unmarshal(content, &values); err != nil {
			t.Fatal(err)
		}
		maps.Copy(values, changes)
		for key, value := range values {
			if value == "absent" {
				delete(values, key)
			}
		}
		dir := t.TempDir()
		changed, err := json.Marshal(values)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "config.json"), changed, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
		return ReadConfig(dir)
	}
	for _, test := range []struct {
		changes map[string]any
		want    func(Config) bool
	}{
		{map[string]any{"num_decoder_layers": nil}, func(c Config) bool { return c.Layers == 4 && c.DecoderLayers == 2 }},
		{map[string]any{"num_decoder_layers": 5}, func(c Config) bool { return c.Layers == 7 && c.DecoderLayers == 5 }},
		{map[string]any{"relative_attention_max_distance": "absent"}, func(c Config) bool { return c.MaxDistance == 128 }},
		{map[string]any{"n_positions": 64}, func(c Config) bool { return c.MaxLength() == 64 }},
		{map[string]any{"decoder_start_token_id": "absent", "pad_token_id": 3},
			func(c Config) bool { return c.StartID == 3 }},
		{map[string]any{"feed_forward_proj": "gated-gelu", "dense_act_fn": "absent", "is_gated_act": "absent"},
			func(c Config) bool { return c.Gated && c.Activation == GELUTanh }},
		{map[string]any{"feed_forward_proj": "gated-relu", "dense_act_fn": "absent", "is_gated_act": "absent"},
			func(c Config) bool { return c.Gated && c.Activation == ReLU }},
		{map[string]any{"feed_forward_proj": "absent", "dense_act_fn": "gelu"},
			func(c Config) bool { return !c.Gated && c.Activation == GELU }},
	} {
		if c, err := read(test.changes); err != nil || !test.want(c) {
			t.Errorf("%v: %+v, error %v", test.changes, c, err)
		}
	}
	for _, test := range []struct {
		changes map[string]any
		want    string
	}{
		{map[string]any{"d_kv": "absent"}, "d_kv is missing"},
		{map[string]any{"num_decoder_layers": -1}, "num_decoder_layers is -1"},
		{map[string]any{"dense_act_fn": "tanh"}, `dense_act_fn "tanh" is not supported`},
		{map[string]any{"relative_attention_num_buckets": 6}, "must be a multiple of 4"},
		{map[string]any{"relative_attention_max_distance": 16}, "above half of it"},
		{map[string]any{"decoder_start_token_id": 40}, "decoder_start_token_id 40 is not below"},
	} {
		if _, err := read(test.changes); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%v: error %v, want one with %q", test.changes, err, test.want)
		}
	}
}
