package checkpoint

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"peftsearch/data/quote"
	"peftsearch/data/tokenizer"
)

// The supported architectures, as config.json's model_type names them.
const (
	BERT       = "bert"
	RoBERTa    = "roberta"
	XLMRoBERTa = "xlm-roberta"
	CamemBERT  = "camembert" // SloBERTa too
	DistilBERT = "distilbert"
	ELECTRA    = "electra"
	GPT2       = "gpt2"
	T5         = "t5" // 1.1 and FLAN too
	MT5        = "mt5"
)

// Activation is the function of a feed-forward part.
type Activation string

// The activations, by one of their names in config.json.
const (
	GELU     Activation = "gelu"     // in its error function form
	GELUTanh Activation = "gelu_new" // in its tanh form
	ReLU     Activation = "relu"
	SiLU     Activation = "silu"
)

// activations are the names that config.json may have for them.
var activations = map[string]Activation{
	"gelu": GELU, "gelu_python": GELU, "gelu_new": GELUTanh, "gelu_pytorch_tanh": GELUTanh, "gelu_fast": GELUTanh,
	"relu": ReLU, "silu": SiLU, "swish": SiLU,
}

// Bounds of config.json's sizes, far above what is trained.
const (
	maxVocab  = 1 << 24
	maxWidth  = 1 << 20
	maxLayers = 1 << 10
)

// Config is the part of config.json that determines the backbone.
type Config struct {
	ModelType    string
	Vocab        int     // rows of the word embedding
	Embedding    int     // width of the embeddings; where it is not Hidden, a matrix leads from one to the other
	Hidden       int     // width of the residual stream
	Layers       int     // transformer blocks
	Heads        int     // attention heads
	HeadWidth    int     // of one; 0 where all of them together are as wide as Hidden
	FFN          int     // width of the feed-forward part
	Positions    int     // rows of the position embedding, or the longest input where there is none
	Types        int     // rows of the token type embedding; 0 for none
	LayerNormEps float64 // above 0
	PadID        int     // id of the padding token, where positions depend on it
	Activation   Activation
	Causal       bool // in the last stack tokens see only those before them
	Unscaled     bool // attention scores are not divided by the root of a head's width
	InverseLayer bool // they are divided by the number of their layer, from 1
	Untied       bool // what is written has a matrix of its own, [WordsOut], and not the word embeddings

	// Of those with an encoder and a decoder.
	DecoderLayers int  // how many of the layers are the decoder's, which reads the encoder's output
	Gated         bool // the feed-forward part multiplies its inner states by gates
	Buckets       int  // of distances between tokens, for the bias of attention scores
	MaxDistance   int  // from which on they are in one bucket
	StartID       int  // id of the token that the decoder's input begins with
}

// AttentionWidth is the width of queries, keys and values of all heads together.
func (c Config) AttentionWidth() int {
	if c.HeadWidth == 0 {
		return c.Hidden
	}
	return c.Heads * c.HeadWidth
}

// WordsOut is the name of the matrix [vocabulary, D] of an untied checkpoint, which models without the head for writing
// lack.
const WordsOut = "lm_head.weight"

// modelType says how the files of one architecture are read.
type modelType struct {
	config  func(d *document, modelType string) Config // checked
	tensors func(Config) []tensorShape                 // of the backbone, in the order of computation
	anchor  string                                     // in its files, a tensor that every backbone has, and nothing else
	// names leads from canonical names of tensors to those in its files; nil where they are the same.
	names func(canonical string) string
	// arrange says how files hold a tensor; nil where all are as they are.
	arrange  func(canonical string) arrangement
	afterPad bool // positions are counted from pad_token_id+1
}

var modelTypes = map[string]modelType{
	BERT:       bertEncoder.modelType(),
	RoBERTa:    robertaEncoder().modelType(),
	XLMRoBERTa: robertaEncoder().modelType(),
	CamemBERT:  robertaEncoder().modelType(),
	DistilBERT: distilBERTEncoder.modelType(),
	ELECTRA:    electraEncoder().modelType(),
	GPT2: {config: gpt2Config, tensors: gpt2Tensors, anchor: "wte.weight",
		names: strings.NewReplacer(gpt2Names...).Replace, arrange: gpt2Arrangement},
	T5:  {config: t5Config, tensors: t5Tensors, anchor: "shared.weight", names: t5Name},
	MT5: {config: t5Config, tensors: t5Tensors, anchor: "shared.weight", names: t5Name},
}

// NameInFile is what transformers' bare model of an architecture calls a tensor, or a module, of a canonical
// name.
func NameInFile(modelType, canonical string) string {
	if names := modelTypes[modelType].names; names != nil {
		return names(canonical)
	}
	return canonical
}

// PositionsAfterPad reports whether positions are counted from PadID+1, and only those of tokens that are no
// padding.
func (c Config) PositionsAfterPad() bool { return modelTypes[c.ModelType].afterPad }

// PositionOffset is the position of the first token.
func (c Config) PositionOffset() int {
	if c.PositionsAfterPad() {
		return c.PadID + 1
	}
	return 0
}

// MaxLength is the longest input in tokens, special tokens included.
func (c Config) MaxLength() int { return c.Positions - c.PositionOffset() }

// ReadConfig reads the config.json of a model directory. Keys that change what the model computes are
// honoured or refused.
func ReadConfig(dir string) (Config, error) {
	d, err := readDocument(filepath.Join(dir, "config.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return Config{}, fmt.Errorf("%s is not a Hugging Face model directory: it has no config.json", dir)
	} else if err != nil {
		return Config{}, err
	}
	name, classes := d.text("model_type", ""), valueOf(d, "architectures", "a list", []string(nil))
	kind, known := modelTypes[name]
	switch {
	case len(d.errs) > 0:
		return Config{}, errors.Join(d.errs...)
	case name == "":
		return Config{}, fmt.Errorf(`%s has no model_type (its architectures are [%s]): if it is one of %s, `+
			`add that name as "model_type"`, d.path, quote.List(classes), list(modelTypes))
	case !known:
		return Config{}, fmt.Errorf("%s: model_type %s is not supported: use a checkpoint of type %s",
			d.path, quote.Text(name), list(modelTypes))
	}
	c := kind.config(d, name)
	if len(d.errs) == 0 && c.MaxLength() < tokenizer.MinLength {
		d.refuse("%d positions leave no room for text", c.Positions)
	}
	return c, errors.Join(d.errs...)
}

// list is the keys of a table: "a, b or c".
func list[V any](table map[string]V) string {
	names := slices.Sorted(maps.Keys(table))
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " or " + names[last]
}

// tensorShape is the canonical name and the shape of a backbone tensor.
type tensorShape struct {
	name  string
	shape []int
}

// backbone lists the tensors of the backbone, in the order of computation.
func (c Config) backbone() []tensorShape { return modelTypes[c.ModelType].tensors(c) }
