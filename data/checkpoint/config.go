package checkpoint

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"peftsearch/data/files"
	"peftsearch/data/quote"
	"peftsearch/data/tokenizer"
)

// The supported architectures, as config.json's model_type names them.
const (
	BERT    = "bert"
	RoBERTa = "roberta"
)

// Config is the part of config.json that determines the backbone.
type Config struct {
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
func (c Config) PositionOffset() int {
	if c.ModelType == RoBERTa {
		return c.PadID + 1
	}
	return 0
}

// MaxLength is the longest input in tokens, special tokens included.
func (c Config) MaxLength() int { return c.Positions - c.PositionOffset() }

// ReadConfig reads the config.json of a model directory.
func ReadConfig(dir string) (Config, error) {
	path := filepath.Join(dir, "config.json")
	var raw struct {
		ModelType    string   `json:"model_type"`
		Classes      []string `json:"architectures"`
		Vocab        int      `json:"vocab_size"`
		Hidden       int      `json:"hidden_size"`
		Layers       int      `json:"num_hidden_layers"`
		Heads        int      `json:"num_attention_heads"`
		FFN          int      `json:"intermediate_size"`
		Positions    int      `json:"max_position_embeddings"`
		Types        int      `json:"type_vocab_size"`
		LayerNormEps float64  `json:"layer_norm_eps"`
		PadID        *int     `json:"pad_token_id"`
		HiddenAct    string   `json:"hidden_act"`
		PositionType string   `json:"position_embedding_type"`
		IsDecoder    bool     `json:"is_decoder"`
	}
	// Keys that a file may leave out have the defaults of BertConfig and RobertaConfig.
	raw.Types, raw.LayerNormEps, raw.HiddenAct, raw.PositionType = 2, 1e-12, "gelu", "absolute"
	if err := files.ReadJSON(path, files.Document, &raw); errors.Is(err, fs.ErrNotExist) {
		return Config{}, fmt.Errorf("%s is not a Hugging Face model directory: it has no config.json", dir)
	} else if err != nil {
		return Config{}, err
	}
	if raw.ModelType == "" {
		return Config{}, fmt.Errorf(`%s has no model_type (its architectures are [%s]): `+
			`if it is one of %s and %s, add "model_type": "%s" or "%s"`,
			path, quote.List(raw.Classes), BERT, RoBERTa, BERT, RoBERTa)
	}
	if raw.ModelType != BERT && raw.ModelType != RoBERTa {
		return Config{}, fmt.Errorf("%s: model_type %s is not supported: use a checkpoint of type %s or %s",
			path, quote.Text(raw.ModelType), BERT, RoBERTa)
	}
	pad := 0
	if raw.ModelType == RoBERTa {
		pad = 1
	}
	if raw.PadID != nil {
		pad = *raw.PadID
	}
	c := Config{
		ModelType: raw.ModelType, Vocab: raw.Vocab, Hidden: raw.Hidden, Layers: raw.Layers, Heads: raw.Heads,
		FFN:       raw.FFN,
		Positions: raw.Positions, Types: raw.Types, LayerNormEps: raw.LayerNormEps, PadID: pad,
	}
	var errs []error
	refuse := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: %w", path, fmt.Errorf(format, args...)))
	}
	for _, field := range []struct {
		key        string
		value, max int
	}{
		{"vocab_size", c.Vocab, 1 << 24}, {"hidden_size", c.Hidden, 1 << 20}, {"num_hidden_layers", c.Layers, 1 << 10},
		{"num_attention_heads", c.Heads, 1 << 20}, {"intermediate_size", c.FFN, 1 << 20},
		{"max_position_embeddings", c.Positions, 1 << 20}, {"type_vocab_size", c.Types, 1 << 20},
	} {
		if field.value < 1 || field.value > field.max {
			refuse("%s is %d: must be from 1 to %d", field.key, field.value, field.max)
		}
	}
	if len(errs) > 0 {
		return Config{}, errors.Join(errs...)
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
		refuse("hidden_act %s is not supported: only gelu is", quote.Text(raw.HiddenAct))
	}
	if raw.PositionType != "absolute" {
		refuse("position_embedding_type %s is not supported: only absolute is", quote.Text(raw.PositionType))
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
func (c Config) backbone() []tensorShape {
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
			list = append(list, tensorShape{layer + name + ".weight",
				[]int{out, in}}, tensorShape{layer + name + ".bias", []int{out}})
		}
		norm := func(name string) {
			list = append(list, tensorShape{layer + name + ".weight",
				[]int{c.Hidden}}, tensorShape{layer + name + ".bias", []int{c.Hidden}})
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
