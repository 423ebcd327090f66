package checkpoint

import (
	"fmt"
	"strings"

	"peftsearch/data/quote"
)

// encoder is what tells a type of BERT's family from the others in config.json: keys, "" for one that it lacks.
type encoder struct {
	hidden, layers, heads, ffn, activation string
	embedding                              string   // of the embeddings' width, if that is not hidden
	types                                  string   // without them there are none
	epsilon                                string   // without it, it is defaultEpsilon
	pad                                    int      // pad_token_id where config.json has none
	afterPad                               bool     // positions are counted from pad_token_id+1
	names                                  []string // pairs of a part of a tensor's name and what its files call it
}

func (e encoder) modelType() modelType {
	m := modelType{config: e.config, tensors: encoderTensors, anchor: "embeddings.word_embeddings.weight",
		afterPad: e.afterPad}
	if e.names != nil {
		m.names = strings.NewReplacer(e.names...).Replace
	}
	return m
}

// Where a file leaves keys out, the defaults of transformers' classes hold.
const (
	defaultEpsilon   = 1e-12
	defaultTypes     = 2
	defaultEmbedding = 128
)

// bertEncoder is BERT, which the others differ from.
var bertEncoder = encoder{
	hidden: "hidden_size", layers: "num_hidden_layers", heads: "num_attention_heads", ffn: "intermediate_size",
	activation: "hidden_act", types: "type_vocab_size", epsilon: "layer_norm_eps",
}

func robertaEncoder() encoder {
	e := bertEncoder
	e.pad, e.afterPad = 1, true
	return e
}

func electraEncoder() encoder {
	e := bertEncoder
	e.embedding = "embedding_size"
	return e
}

var distilBERTEncoder = encoder{hidden: "dim", layers: "n_layers", heads: "n_heads", ffn: "hidden_dim",
	activation: "activation", names: []string{
		"encoder.layer.", "transformer.layer.",
		"attention.self.query", "attention.q_lin",
		"attention.self.key", "attention.k_lin",
		"attention.self.value", "attention.v_lin",
		"attention.output.dense", "attention.out_lin",
		"attention.output.LayerNorm", "sa_layer_norm",
		"intermediate.dense", "ffn.lin1",
		"output.dense", "ffn.lin2",
		"output.LayerNorm", "output_layer_norm",
	}}

// config reads and checks what config.json says.
func (e encoder) config(d *document, modelType string) Config {
	c := Config{
		ModelType: modelType, Vocab: d.size("vocab_size", 0, maxVocab), Hidden: d.size(e.hidden, 0, maxWidth),
		Layers: d.size(e.layers, 0, maxLayers), Heads: d.size(e.heads, 0, maxWidth), FFN: d.size(e.ffn, 0, maxWidth),
		Positions:    d.size("max_position_embeddings", 0, maxWidth),
		LayerNormEps: defaultEpsilon,
		PadID:        valueOf(d, "pad_token_id", "a whole number", e.pad),
		Activation:   d.activation(e.activation, GELU),
	}
	c.Embedding = c.Hidden
	if e.embedding != "" {
		c.Embedding = d.size(e.embedding, defaultEmbedding, maxWidth)
	}
	if e.types != "" {
		c.Types = d.size(e.types, defaultTypes, maxWidth)
	}
	if e.epsilon != "" {
		c.LayerNormEps = d.epsilon(e.epsilon, defaultEpsilon)
	}
	if kind := d.text("position_embedding_type", "absolute"); kind != "absolute" {
		d.refuse("position_embedding_type %s is not supported: only absolute is", quote.Text(kind))
	}
	if d.flag("is_decoder") {
		d.refuse("is_decoder is set: only encoders are supported")
	}
	if pruned := valueOf(d, "pruned_heads", "an object", map[string][]int{}); len(pruned) > 0 {
		d.refuse("pruned_heads is not empty: layers with different heads are not supported")
	}
	if len(d.errs) > 0 {
		return c
	}
	if c.Hidden%c.Heads != 0 {
		d.refuse("%s %d is not a multiple of %s %d", e.hidden, c.Hidden, e.heads, c.Heads)
	}
	if c.PadID < 0 || c.PadID >= c.Vocab {
		d.refuse("pad_token_id %d is not below vocab_size %d", c.PadID, c.Vocab)
	}
	return c
}

// encoderTensors lists the tensors of the embeddings and the encoder, in the order of computation.
func encoderTensors(c Config) []tensorShape {
	var list []tensorShape
	dense := func(name string, out, in int) {
		list = append(list, tensorShape{name + ".weight", []int{out, in}}, tensorShape{name + ".bias", []int{out}})
	}
	norm := func(name string, width int) {
		list = append(list, tensorShape{name + ".weight", []int{width}}, tensorShape{name + ".bias", []int{width}})
	}
	list = append(list, tensorShape{"embeddings.word_embeddings.weight", []int{c.Vocab, c.Embedding}},
		tensorShape{"embeddings.position_embeddings.weight", []int{c.Positions, c.Embedding}})
	if c.Types > 0 {
		list = append(list, tensorShape{"embeddings.token_type_embeddings.weight", []int{c.Types, c.Embedding}})
	}
	norm("embeddings.LayerNorm", c.Embedding)
	if c.Embedding != c.Hidden {
		dense("embeddings_project", c.Hidden, c.Embedding)
	}
	for i := range c.Layers {
		layer := fmt.Sprintf("encoder.layer.%d.", i)
		dense(layer+"attention.self.query", c.Hidden, c.Hidden)
		dense(layer+"attention.self.key", c.Hidden, c.Hidden)
		dense(layer+"attention.self.value", c.Hidden, c.Hidden)
		dense(layer+"attention.output.dense", c.Hidden, c.Hidden)
		norm(layer+"attention.output.LayerNorm", c.Hidden)
		dense(layer+"intermediate.dense", c.FFN, c.Hidden)
		dense(layer+"output.dense", c.Hidden, c.FFN)
		norm(layer+"output.LayerNorm", c.Hidden)
	}
	return list
}
