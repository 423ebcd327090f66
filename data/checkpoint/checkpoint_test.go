package checkpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"peftsearch/data/quote"
)

var tinyRoBERTa = Config{
	ModelType: RoBERTa, Vocab: 700, Embedding: 8, Hidden: 8, Layers: 1, Heads: 2, FFN: 16, Positions: 66, Types: 1,
	LayerNormEps: 1e-12,
	PadID:        1, Activation: GELU,
}

// model is the directory of a checkpoint that make fetches.
func model(t *testing.T, name string) string {
	t.Helper()
	dir := filepath.Join("..", "..", "models", name)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		t.Skipf("%s is absent: make models/%s fetches it", dir, name)
	}
	return dir
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// tensorsOf gives every backbone tensor its own values, under a prefix.
func tensorsOf(c Config, prefix string) map[string]Tensor {
	tensors := map[string]Tensor{}
	for i, t := range c.backbone() {
		values := make([]float32, Tensor{Shape: t.shape}.Elements())
		for j := range values {
			values[j] = float32(i) + float32(j)/1024
		}
		tensors[prefix+t.name] = NewTensor(values, t.shape...)
	}
	return tensors
}

// tinyCheckpoint writes a RoBERTa checkpoint of one layer.
func tinyCheckpoint(t *testing.T, change func(map[string]Tensor)) string {
	t.Helper()
	dir := t.TempDir()
	config, err := os.ReadFile(filepath.Join("testdata", "tiny", "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "config.json"), string(config))
	tensors := tensorsOf(tinyRoBERTa, "roberta.")
	tensors["lm_head.bias"] = NewTensor([]float32{1}, 1)
	if change != nil {
		change(tensors)
	}
	if err := WriteSafetensors(filepath.Join(dir, "model.safetensors"), tensors, nil); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestOpen(t *testing.T) {
	c, err := Open(tinyCheckpoint(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if diff := cmp.Diff(tinyRoBERTa, c.Config); diff != "" {
		t.Errorf("config (-want +got)\n%s", diff)
	}
	if c.Config.PositionOffset() != 2 || c.Config.MaxLength() != 64 {
		t.Errorf("offset %d, length %d", c.Config.PositionOffset(), c.Config.MaxLength())
	}
	var elements int64
	for name, want := range tensorsOf(tinyRoBERTa, "") {
		got, err := c.Tensor(name)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got)\n%s", name, diff)
		}
		elements += int64(got.Elements())
		if !slices.Contains(c.Backbone(), name) {
			t.Errorf("%s is not listed", name)
		}
	}
	if c.BackboneParams() != elements {
		t.Errorf("%d parameters, want %d", c.BackboneParams(), elements)
	}
	if _, err := c.Tensor("lm_head.bias"); err != nil {
		t.Errorf("tensors outside the backbone keep their names: %v", err)
	}
	if _, err := c.Tensor("pooler.dense.weight"); err == nil {
		t.Error("an absent tensor was found")
	}
}

func TestOpenRealCheckpoints(t *testing.T) {
	for _, test := range []struct {
		name   string
		params int64
	}{
		// embeddings (30522+512+2)·D + 2·D, a layer 12·D² + 13·D for an FFN of 4·D
		{"all-MiniLM-L6-v2", 31036*384 + 2*384 + 6*(12*384*384+13*384)},
		{"bert-tiny", 31036*128 + 2*128 + 2*(12*128*128+13*128)}, // has LayerNorm.gamma, and bert. before it
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := Open(model(t, test.name))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if c.BackboneParams() != test.params {
				t.Errorf("%d parameters, want %d", c.BackboneParams(), test.params)
			}
			if _, err := c.Tensor("encoder.layer.1.output.LayerNorm.weight"); err != nil {
				t.Error(err)
			}
		})
	}
}

// A backbone is found under the prefix of any model that it is part of.
func TestOpenFindsThePrefix(t *testing.T) {
	for _, prefix := range []string{"", "roberta.", "bert.", "module.roberta.", "module.", "model.encoder.",
		"0.auto_model."} {
		dir := tinyCheckpoint(t, func(m map[string]Tensor) {
			clear(m)
			for name, tensor := range tensorsOf(tinyRoBERTa, prefix) {
				m[name] = tensor
			}
			m["module.classifier.weight"] = NewTensor([]float32{1}, 1)
		})
		c, err := Open(dir)
		if err != nil {
			t.Errorf("%q: %v", prefix, err)
			continue
		}
		for name, want := range tensorsOf(tinyRoBERTa, "") {
			if got, err := c.Tensor(name); err != nil || !cmp.Equal(want, got) {
				t.Errorf("%q: tensor %s: %v", prefix, name, err)
			}
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestOpenShardedCheckpoint(t *testing.T) {
	dir := tinyCheckpoint(t, nil)
	whole, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	shards, index := [2]map[string]Tensor{{}, {}}, map[string]string{}
	files := [2]string{"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"}
	for i, name := range whole.Backbone() {
		shards[i%2][name], err = whole.Tensor(name)
		if err != nil {
			t.Fatal(err)
		}
		index[name] = files[i%2]
	}
	for i, file := range files {
		if err := WriteSafetensors(filepath.Join(dir, file), shards[i], nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := whole.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "model.safetensors")); err != nil {
		t.Fatal(err)
	}
	writeIndex := func() {
		content, err := json.Marshal(map[string]any{"weight_map": index})
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, "model.safetensors.index.json"), string(content))
	}
	writeIndex()
	c, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"../elsewhere.safetensors", "/etc/passwd", "", ".", "..", "a/b", "a\x00b"} {
		index["x"] = name
		writeIndex()
		if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "same directory") {
			t.Errorf("%q: error %v", name, err)
		}
	}
	index["x"] = "absent.safetensors"
	writeIndex()
	if _, err := Open(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v", err)
	}
	for i := range maxShards {
		index[fmt.Sprint(i)] = fmt.Sprint(i)
	}
	writeIndex()
	if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "must be from 1 to 4096") {
		t.Errorf("error %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	remove := func(name string) func(map[string]Tensor) { return func(m map[string]Tensor) { delete(m, name) } }
	const query = "roberta.encoder.layer.0.attention.self.query.weight"
	for _, test := range []struct {
		name     string
		change   func(map[string]Tensor)
		old, new string // in config.json
		want     string
	}{
		{name: "architecture", old: `"model_type": "roberta"`, new: `"model_type": "bart"`,
			want: `"bart" is not supported: use a checkpoint of type bert, camembert, distilbert, electra, gpt2, mt5, ` +
				`roberta, t5 or xlm-roberta`},
		{name: "activation", old: `"hidden_act": "gelu"`, new: `"hidden_act": "quick_gelu"`,
			want: `hidden_act "quick_gelu" is not supported: must be one of gelu, gelu_fast,`},
		{name: "pruned heads", old: `"pruned_heads": {}`, new: `"pruned_heads": {"0": [1]}`,
			want: "pruned_heads is not empty"},
		{name: "another spelling", old: `"model_type": "roberta"`, new: `"model_type": "distilbert"`, want: "dim is missing"},
		{name: "positions", old: `"absolute"`, new: `"relative_key"`, want: "relative_key"},
		{name: "decoder", old: `"is_decoder": false`, new: `"is_decoder": true`, want: "is_decoder"},
		{name: "missing size", old: `"hidden_size"`, new: `"size"`, want: "hidden_size is missing"},
		{name: "heads", old: `"num_attention_heads": 2`, new: `"num_attention_heads": 3`, want: "multiple"},
		{name: "no heads", old: `"num_attention_heads": 2`, new: `"num_attention_heads": 0`,
			want: "num_attention_heads is 0: must be from 1 to"},
		{name: "no width", old: `"hidden_size": 8`, new: `"hidden_size": 0`, want: "hidden_size is 0"},
		{name: "many layers", old: `"num_hidden_layers": 1`, new: `"num_hidden_layers": 1000000000`,
			want: "num_hidden_layers is 1000000000: must be from 1 to 1024"},
		{name: "huge width", old: `"hidden_size": 8`, new: `"hidden_size": 1e400`,
			want: "hidden_size is number 1e400, not a whole number"},
		{name: "negative width", old: `"hidden_size": 8`, new: `"hidden_size": -8`, want: "hidden_size is -8"},
		{name: "epsilon", old: `"layer_norm_eps": 1e-12`, new: `"layer_norm_eps": 0`,
			want: "layer_norm_eps 0: must be above 0"},
		{name: "no model type", old: `"model_type": "roberta"`, new: `"architectures": ["RobertaModel"]`,
			want: `has no model_type (its architectures are ["RobertaModel"]): if it is one of bert, camembert, ` +
				`distilbert, electra, gpt2, mt5, roberta, t5 or xlm-roberta, add that name as "model_type"`},
		{name: "long model type", old: `"model_type": "roberta"`, new: `"model_type": "` + strings.Repeat("x", 1<<20) + `"`,
			want: `xxx… (1048576 bytes)" is not supported`},
		{name: "a type", old: `"hidden_act": "gelu"`, new: `"hidden_act": ["gelu"]`, want: "hidden_act is array, not a text"},
		{name: "not finite", change: func(m map[string]Tensor) {
			m[query] = Tensor{BFloat16, []int{8, 8}, append(make([]byte, 126), 0x80, 0xff)}
		}, want: `element 63 of tensor "encoder.layer.0.attention.self.query.weight" is not a finite number`},
		{name: "another model", change: func(m map[string]Tensor) {
			for name := range m {
				if strings.HasSuffix(name, "embeddings.weight") {
					delete(m, name)
				}
			}
			m["xembeddings.word_embeddings.weight"] = NewTensor([]float32{1}, 1)
		}, want: `no tensor is called embeddings.word_embeddings.weight, with or without a prefix: is it a roberta model? It has "lm_head.bias", "roberta.embeddings.LayerNorm.bias"`},
		{name: "two backbones",
			change: func(m map[string]Tensor) { m["query.bert.embeddings.word_embeddings.weight"] = m[query] },
			want:   `holds 2 backbones, with the prefixes "query.bert.", "roberta."`},
		{name: "padding", old: `"pad_token_id": 1`, new: `"pad_token_id": 700`, want: "pad_token_id"},
		{name: "no JSON", old: `{`, new: `[`, want: "config.json"},
		{name: "missing tensor", change: remove(query), want: "no tensor"},
		{name: "other shape", change: func(m map[string]Tensor) { m[query] = NewTensor(make([]float32, 64), 64) },
			want: "shape [64], config.json says [8 8]"},
		{name: "fewer layers", old: `"num_hidden_layers": 1`, new: `"num_hidden_layers": 2`,
			want: "16 of the backbone's tensors"},
		{name: "two spellings",
			change: func(m map[string]Tensor) { m["encoder.layer.0.attention.self.query.weight"] = m[query] },
			want:   "the same weight"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := tinyCheckpoint(t, test.change)
			path := filepath.Join(dir, "config.json")
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(content), test.old) {
				t.Fatalf("%s is not in config.json", test.old)
			}
			write(t, path, strings.Replace(string(content), test.old, test.new, 1))
			if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), test.want) ||
				len(err.Error()) > quote.MessageLimit {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}

	t.Run("no directory", func(t *testing.T) {
		if _, err := Open(t.TempDir()); err == nil || !strings.Contains(err.Error(), "no config.json") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("pickled weights", func(t *testing.T) {
		dir := tinyCheckpoint(t, nil)
		if err := os.Rename(filepath.Join(dir, "model.safetensors"), filepath.Join(dir, "pytorch_model.bin")); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "convert it with") {
			t.Errorf("error %v", err)
		}
	})
}

func TestFingerprint(t *testing.T) {
	fingerprint := func(change func(map[string]Tensor), file, extra string) string {
		dir := tinyCheckpoint(t, change)
		if file != "" {
			write(t, filepath.Join(dir, file), extra)
		}
		c, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		sum, err := c.Fingerprint()
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
	base := fingerprint(nil, "", "")
	if base != fingerprint(nil, "README.md", "a model") {
		t.Error("the fingerprint depends on the directory or on other files")
	}
	for name, other := range map[string]string{
		"weights":   fingerprint(func(m map[string]Tensor) { m["lm_head.bias"] = NewTensor([]float32{2}, 1) }, "", ""),
		"tokenizer": fingerprint(nil, "tokenizer_config.json", "{}"),
	} {
		if other == base {
			t.Errorf("changed %s have the same fingerprint", name)
		}
	}
}
