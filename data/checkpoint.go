package data

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"peftsearch/data/tokenizer"
)

// The supported architectures, as config.json's model_type names them.
const (
	ModelBERT    = "bert"
	ModelRoBERTa = "roberta"
)

// ModelConfig is the part of config.json that determines the backbone.
type ModelConfig struct {
	ModelType    string
	Vocab        int     // rows of the word embedding
	Hidden       int     // width of the residual stream, a multiple of Heads
	Layers       int     // transformer blocks
	Heads        int     // attention heads
	FFN          int     // width of the feed-forward part
	Positions    int     // rows of the position embedding
	Types        int     // rows of the token type embedding
	LayerNormEps float64 // above 0
	PadID        int     // id of the padding token
}

// PositionOffset is the position of the first token: RoBERTa counts from PadID+1.
func (c ModelConfig) PositionOffset() int {
	if c.ModelType == ModelRoBERTa {
		return c.PadID + 1
	}
	return 0
}

// MaxLength is the longest input in tokens, special tokens included.
func (c ModelConfig) MaxLength() int { return c.Positions - c.PositionOffset() }

func readModelConfig(dir string) (ModelConfig, error) {
	path := filepath.Join(dir, "config.json")
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return ModelConfig{}, fmt.Errorf("%s is not a Hugging Face model directory: it has no config.json", dir)
	}
	if err != nil {
		return ModelConfig{}, err
	}
	var raw struct {
		ModelType    string  `json:"model_type"`
		Vocab        int     `json:"vocab_size"`
		Hidden       int     `json:"hidden_size"`
		Layers       int     `json:"num_hidden_layers"`
		Heads        int     `json:"num_attention_heads"`
		FFN          int     `json:"intermediate_size"`
		Positions    int     `json:"max_position_embeddings"`
		Types        int     `json:"type_vocab_size"`
		LayerNormEps float64 `json:"layer_norm_eps"`
		PadID        *int    `json:"pad_token_id"`
		HiddenAct    string  `json:"hidden_act"`
		PositionType string  `json:"position_embedding_type"`
		IsDecoder    bool    `json:"is_decoder"`
	}
	// Keys that a file may leave out have the defaults of BertConfig and RobertaConfig.
	raw.Types, raw.LayerNormEps, raw.HiddenAct, raw.PositionType = 2, 1e-12, "gelu", "absolute"
	if err := json.Unmarshal(content, &raw); err != nil {
		return ModelConfig{}, fmt.Errorf("%s: %w", path, err)
	}
	if raw.ModelType != ModelBERT && raw.ModelType != ModelRoBERTa {
		return ModelConfig{}, fmt.Errorf("%s: model_type %q is not supported: use a checkpoint of type %s or %s", path, raw.ModelType, ModelBERT, ModelRoBERTa)
	}
	pad := 0
	if raw.ModelType == ModelRoBERTa {
		pad = 1
	}
	if raw.PadID != nil {
		pad = *raw.PadID
	}
	c := ModelConfig{
		ModelType: raw.ModelType, Vocab: raw.Vocab, Hidden: raw.Hidden, Layers: raw.Layers, Heads: raw.Heads, FFN: raw.FFN,
		Positions: raw.Positions, Types: raw.Types, LayerNormEps: raw.LayerNormEps, PadID: pad,
	}
	var errs []error
	refuse := func(format string, args ...any) { errs = append(errs, fmt.Errorf(path+": "+format, args...)) }
	for _, field := range []struct {
		key        string
		value, max int
	}{
		{"vocab_size", c.Vocab, 1 << 24}, {"hidden_size", c.Hidden, 1 << 20}, {"num_hidden_layers", c.Layers, 1 << 10},
		{"num_attention_heads", c.Heads, 1 << 20}, {"intermediate_size", c.FFN, 1 << 20},
		{"max_position_embeddings", c.Positions, 1 << 20}, {"type_vocab_size", c.Types, 1 << 20},
	} {
		if field.value < 1 || field.value > field.max {
			refuse("%s is missing or out of range (%d)", field.key, field.value)
		}
	}
	if len(errs) > 0 {
		return ModelConfig{}, errors.Join(errs...)
	}
	if c.Hidden%c.Heads != 0 {
		refuse("hidden_size %d is not a multiple of num_attention_heads %d", c.Hidden, c.Heads)
	}
	if !(c.LayerNormEps > 0 && c.LayerNormEps < 1) {
		refuse("layer_norm_eps %g: must be above 0 and below 1", c.LayerNormEps)
	}
	if c.PadID < 0 || c.PadID >= c.Vocab {
		refuse("pad_token_id %d is not below vocab_size %d", c.PadID, c.Vocab)
	} else if c.MaxLength() < tokenizer.MinLength {
		refuse("max_position_embeddings %d leaves no room for text", c.Positions)
	}
	if raw.HiddenAct != "gelu" {
		refuse("hidden_act %q is not supported: only gelu is", raw.HiddenAct)
	}
	if raw.PositionType != "absolute" {
		refuse("position_embedding_type %q is not supported: only absolute is", raw.PositionType)
	}
	if raw.IsDecoder {
		refuse("is_decoder is set: only encoders are supported")
	}
	return c, errors.Join(errs...)
}

// tensorShape is the canonical name and the shape of a backbone tensor.
type tensorShape struct {
	name  string
	shape []int
}

// backbone lists the tensors of the embeddings and the encoder, in the order of computation.
func (c ModelConfig) backbone() []tensorShape {
	list := []tensorShape{
		{"embeddings.word_embeddings.weight", []int{c.Vocab, c.Hidden}},
		{"embeddings.position_embeddings.weight", []int{c.Positions, c.Hidden}},
		{"embeddings.token_type_embeddings.weight", []int{c.Types, c.Hidden}},
		{"embeddings.LayerNorm.weight", []int{c.Hidden}},
		{"embeddings.LayerNorm.bias", []int{c.Hidden}},
	}
	for i := range c.Layers {
		layer := fmt.Sprintf("encoder.layer.%d.", i)
		dense := func(name string, out, in int) {
			list = append(list, tensorShape{layer + name + ".weight", []int{out, in}}, tensorShape{layer + name + ".bias", []int{out}})
		}
		norm := func(name string) {
			list = append(list, tensorShape{layer + name + ".weight", []int{c.Hidden}}, tensorShape{layer + name + ".bias", []int{c.Hidden}})
		}
		dense("attention.self.query", c.Hidden, c.Hidden)
		dense("attention.self.key", c.Hidden, c.Hidden)
		dense("attention.self.value", c.Hidden, c.Hidden)
		dense("attention.output.dense", c.Hidden, c.Hidden)
		norm("attention.output.LayerNorm")
		dense("intermediate.dense", c.FFN, c.Hidden)
		dense("output.dense", c.Hidden, c.FFN)
		norm("output.LayerNorm")
	}
	return list
}

// Checkpoint is an open Hugging Face model directory. Its tensors have canonical names: those of
// transformers' BertModel and RobertaModel ("embeddings.word_embeddings.weight",
// "encoder.layer.0.attention.self.query.weight"), without the prefix of a model with a head and with
// LayerNorm's parameters called weight and bias.
type Checkpoint struct {
	Dir    string
	Config ModelConfig

	weights []*safetensorsFile
	places  map[string]place
}

// place says where a tensor lies.
type place struct {
	file *safetensorsFile
	name string // in the file
}

// OpenCheckpoint opens a model directory and checks that the configuration is supported and that
// every tensor of the backbone is there in its shape. The weights are mapped, not read: the files must
// not change until Close.
func OpenCheckpoint(dir string) (*Checkpoint, error) {
	config, err := readModelConfig(dir)
	if err != nil {
		return nil, err
	}
	paths, err := weightFiles(dir)
	if err != nil {
		return nil, err
	}
	c := &Checkpoint{Dir: dir, Config: config, places: map[string]place{}}
	if err := c.open(paths); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func (c *Checkpoint) open(paths []string) error {
	for _, path := range paths {
		f, err := openSafetensors(path)
		if err != nil {
			return err
		}
		c.weights = append(c.weights, f)
		for name := range f.infos {
			canonical := canonicalName(name)
			if other, twice := c.places[canonical]; twice {
				return fmt.Errorf("%s: tensors %q and %q are the same weight", path, min(name, other.name), max(name, other.name))
			}
			c.places[canonical] = place{f, name}
		}
	}
	var errs []error
	for _, want := range c.Config.backbone() {
		t, err := c.Tensor(want.name)
		if err != nil {
			errs = append(errs, err)
		} else if !slices.Equal(t.Shape, want.shape) {
			errs = append(errs, fmt.Errorf("tensor %q has shape %v, config.json says %v", want.name, t.Shape, want.shape))
		}
	}
	if n := len(errs); n > 0 {
		return fmt.Errorf("%s: %d of the backbone's tensors do not fit config.json, the first is: %w", c.Dir, n, errs[0])
	}
	return nil
}

// canonicalName removes what differs between checkpoints of the same model.
func canonicalName(name string) string {
	for _, prefix := range []string{"bert.", "roberta."} {
		name = strings.TrimPrefix(name, prefix)
	}
	if base, ok := strings.CutSuffix(name, "LayerNorm.gamma"); ok {
		return base + "LayerNorm.weight"
	}
	if base, ok := strings.CutSuffix(name, "LayerNorm.beta"); ok {
		return base + "LayerNorm.bias"
	}
	return name
}

// weightFiles finds model.safetensors or the shards that its index names.
func weightFiles(dir string) ([]string, error) {
	single := filepath.Join(dir, "model.safetensors")
	if exists(single) {
		return []string{single}, nil
	}
	index := single + ".index.json"
	if !exists(index) {
		if exists(filepath.Join(dir, "pytorch_model.bin")) {
			return nil, fmt.Errorf("%s has its weights in pytorch_model.bin, which can run code when it is read: convert it with "+
				"python -c 'import sys; from transformers import AutoModel; d = sys.argv[1]; AutoModel.from_pretrained(d).save_pretrained(d)' %s", dir, dir)
		}
		return nil, fmt.Errorf("%s has no model.safetensors: download the checkpoint's weights in safetensors format", dir)
	}
	content, err := os.ReadFile(index)
	if err != nil {
		return nil, err
	}
	var raw struct {
		Files map[string]string `json:"weight_map"`
	}
	if err := json.Unmarshal(content, &raw); err != nil {
		return nil, fmt.Errorf("%s: %w", index, err)
	}
	names := slices.Compact(slices.Sorted(maps.Values(raw.Files)))
	if len(names) == 0 {
		return nil, fmt.Errorf("%s: weight_map is missing or empty", index)
	}
	for i, name := range names {
		if name != filepath.Base(name) || name == ".." {
			return nil, fmt.Errorf("%s: %q is not the name of a file in the same directory", index, name)
		}
		names[i] = filepath.Join(dir, name)
	}
	return names, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// Backbone lists the canonical names of the embeddings' and the encoder's tensors in the order of
// computation. The pooler and heads are not among them.
func (c *Checkpoint) Backbone() []string {
	var names []string
	for _, t := range c.Config.backbone() {
		names = append(names, t.name)
	}
	return names
}

// BackboneParams is the number of elements of the backbone's tensors.
func (c *Checkpoint) BackboneParams() int64 {
	var n int64
	for _, t := range c.Config.backbone() {
		n += int64(Tensor{Shape: t.shape}.Elements())
	}
	return n
}

// Has reports whether the checkpoint has a tensor of that canonical name.
func (c *Checkpoint) Has(name string) bool {
	_, ok := c.places[name]
	return ok
}

// Tensor returns a tensor by its canonical name. Its data lies in the mapped file: it is read-only and
// valid until Close.
func (c *Checkpoint) Tensor(name string) (Tensor, error) {
	p, ok := c.places[name]
	if !ok {
		return Tensor{}, fmt.Errorf("%s has no tensor %q", c.Dir, name)
	}
	return p.file.tensor(p.name)
}

// Fingerprint is a SHA-256, in hexadecimal, of the configuration, the weights and the files that decide
// the tokenizer's ids: everything of the directory that a score depends on. It reads all of them.
func (c *Checkpoint) Fingerprint() (string, error) {
	paths := []string{filepath.Join(c.Dir, "config.json")}
	for _, f := range c.weights {
		paths = append(paths, f.path)
	}
	names, err := tokenizer.Files(c.Dir)
	if err != nil {
		return "", err
	}
	for _, name := range names {
		paths = append(paths, filepath.Join(c.Dir, name))
	}
	total, buffer := sha256.New(), make([]byte, 1<<20)
	for _, path := range paths {
		file, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		digest := sha256.New()
		_, err = io.CopyBuffer(digest, struct{ io.Reader }{file}, buffer)
		if err := cmp.Or(err, file.Close()); err != nil {
			return "", fmt.Errorf("reading %s: %w", path, err)
		}
		fmt.Fprintf(total, "%s\n%x\n", filepath.Base(path), digest.Sum(nil))
	}
	return hex.EncodeToString(total.Sum(nil)), nil
}

// Close unmaps the weights. It may be called more than once.
func (c *Checkpoint) Close() error {
	var errs []error
	for _, f := range c.weights {
		errs = append(errs, f.Close())
	}
	c.weights, c.places = nil, nil
	return errors.Join(errs...)
}
