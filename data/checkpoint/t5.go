package checkpoint

import (
	"fmt"
	"strings"

	"peftsearch/data/quote"
)

// t5Names are pairs of a part of a tensor's canonical name and what T5's files call it, in a stack whose feed-forward
// part has a number among the parts of a layer. In a gated one wi_0 is the gate, and wi_1 what it multiplies.
func t5Names(stack string, ffn int) *strings.Replacer {
	part := fmt.Sprintf("layer.%d.", ffn)
	return strings.NewReplacer(
		"embeddings.word_embeddings", "shared",
		stack+".layer.", stack+".block.",
		stack+".LayerNorm", stack+".final_layer_norm",
		"crossattention.LayerNorm", "layer.1.layer_norm",
		"crossattention.self.query", "layer.1.EncDecAttention.q",
		"crossattention.self.key", "layer.1.EncDecAttention.k",
		"crossattention.self.value", "layer.1.EncDecAttention.v",
		"crossattention.output.dense", "layer.1.EncDecAttention.o",
		"attention.LayerNorm", "layer.0.layer_norm",
		"attention.self.query", "layer.0.SelfAttention.q",
		"attention.self.key", "layer.0.SelfAttention.k",
		"attention.self.value", "layer.0.SelfAttention.v",
		"attention.self.relative_attention_bias", "layer.0.SelfAttention.relative_attention_bias",
		"attention.output.dense", "layer.0.SelfAttention.o",
		"intermediate.LayerNorm", part+"layer_norm",
		"intermediate.gate", part+"DenseReluDense.wi_0",
		"intermediate.up", part+"DenseReluDense.wi_1",
		"intermediate.dense", part+"DenseReluDense.wi",
		"output.dense", part+"DenseReluDense.wo",
	)
}

var t5Encoder, t5Decoder = t5Names("encoder", 1), t5Names("decoder", 2)

// t5Name is what T5's files call a tensor.
func t5Name(canonical string) string {
	if strings.HasPrefix(canonical, "decoder.") {
		return t5Decoder.Replace(canonical)
	}
	return t5Encoder.Replace(canonical)
}

// t5Length is the longest input of T5, which has no table of positions: what it was trained with.
const t5Length = 512

// t5Config reads and checks the config.json of T5 (1.0, 1.1 and FLAN) and mT5. It has no say in how a language model's
// head is tied.
func t5Config(d *document, modelType string) Config {
	c := Config{
		ModelType: modelType, Vocab: d.size("vocab_size", 0, maxVocab), Hidden: d.size("d_model", 0, maxWidth),
		Heads: d.size("num_heads", 0, maxWidth), HeadWidth: d.size("d_kv", 0, maxWidth),
		FFN:          d.size("d_ff", 0, maxWidth),
		Positions:    d.size("n_positions", t5Length, maxWidth),
		LayerNormEps: d.epsilon("layer_norm_epsilon", 1e-6),
		Buckets:      d.size("relative_attention_num_buckets", 32, maxWidth),
		MaxDistance:  d.size("relative_attention_max_distance", 128, maxWidth),
		StartID: valueOf(d, "decoder_start_token_id", "a whole number",
			valueOf(d, "pad_token_id", "a whole number", 0)),
		Causal: true,
	}
	c.Embedding = c.Hidden
	encoder := d.size("num_layers", 0, maxLayers)
	c.DecoderLayers = encoder
	if valueOf(d, "num_decoder_layers", "a whole number", 0) != 0 {
		c.DecoderLayers = d.size("num_decoder_layers", 0, maxLayers)
	}
	c.Layers = encoder + c.DecoderLayers
	function := d.text("feed_forward_proj", "relu")
	name, gated := strings.CutPrefix(function, "gated-")
	if function == "gated-gelu" {
		name = string(GELUTanh) // so transformers' class has it
	}
	// What files say beside it goes before it there.
	c.Gated = valueOf(d, "is_gated_act", "true or false", gated)
	name = d.text("dense_act_fn", name)
	activation, known := activations[name]
	if c.Activation = activation; !known {
		d.refuse("feed_forward_proj %s, dense_act_fn %s is not supported: must be one of %s, with or without gated- "+
			"before it", quote.Text(function), quote.Text(name), list(activations))
	}
	if len(d.errs) > 0 {
		return c
	}
	// Half of an encoder's buckets are for each direction, and half of those for single distances.
	if c.Buckets%4 != 0 || c.MaxDistance <= c.Buckets/2 {
		d.refuse("relative_attention_num_buckets %d and relative_attention_max_distance %d: must be a multiple of 4, and "+
			"above half of it", c.Buckets, c.MaxDistance)
	}
	if c.StartID < 0 || c.StartID >= c.Vocab {
		d.refuse("decoder_start_token_id %d is not below vocab_size %d", c.StartID, c.Vocab)
	}
	return c
}

// t5Tensors lists the tensors of both stacks, in the order of computation.
func t5Tensors(c Config) []tensorShape {
	list := []tensorShape{{"embeddings.word_embeddings.weight", []int{c.Vocab, c.Hidden}}}
	matrix := func(name string, out, in int) {
		list = append(list, tensorShape{name + ".weight", []int{out, in}})
	}
	norm := func(name string) { list = append(list, tensorShape{name + ".LayerNorm.weight", []int{c.Hidden}}) }
	attention := func(name string) {
		norm(name)
		for _, part := range []string{"query", "key", "value"} {
			matrix(name+".self."+part, c.AttentionWidth(), c.Hidden)
		}
		matrix(name+".output.dense", c.Hidden, c.AttentionWidth())
	}
	stack := func(name string, layers int) {
		for i := range layers {
			layer := fmt.Sprintf("%s.layer.%d.", name, i)
			if i == 0 {
				matrix(layer+"attention.self.relative_attention_bias", c.Buckets, c.Heads)
			}
			attention(layer + "attention")
			if name == "decoder" {
				attention(layer + "crossattention")
			}
			norm(layer + "intermediate")
			if c.Gated {
				matrix(layer+"intermediate.gate", c.FFN, c.Hidden)
				matrix(layer+"intermediate.up", c.FFN, c.Hidden)
			} else {
				matrix(layer+"intermediate.dense", c.FFN, c.Hidden)
			}
			matrix(layer+"output.dense", c.Hidden, c.FFN)
		}
		norm(name)
	}
	stack("encoder", c.Layers-c.DecoderLayers)
	stack("decoder", c.DecoderLayers)
	return list
}
