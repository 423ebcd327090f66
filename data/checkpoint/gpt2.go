package checkpoint

import (
	"fmt"
	"strings"
)

// gpt2Names are pairs of a part of a tensor's canonical name and what GPT-2's files call it. One matrix there has
// queries, keys and values.
var gpt2Names = []string{
	"embeddings.word_embeddings", "wte",
	"embeddings.position_embeddings", "wpe",
	"decoder.layer.", "h.",
	"decoder.LayerNorm", "ln_f",
	"attention.LayerNorm", "ln_1",
	"attention.self.query", "attn.c_attn",
	"attention.self.key", "attn.c_attn",
	"attention.self.value", "attn.c_attn",
	"attention.output.dense", "attn.c_proj",
	"intermediate.LayerNorm", "ln_2",
	"intermediate.dense", "mlp.c_fc",
	"output.dense", "mlp.c_proj",
}

// gpt2Arrangement: the matrices of layers are [in, out].
func gpt2Arrangement(canonical string) arrangement {
	for part, name := range []string{"query", "key", "value"} {
		if strings.Contains(canonical, ".attention.self."+name+".") {
			return arrangement{turned: true, part: part, parts: 3}
		}
	}
	return arrangement{turned: strings.HasSuffix(canonical, ".dense.weight"), parts: 1}
}

// gpt2Config reads and checks the config.json of GPT-2. reorder_and_upcast_attn changes rounding alone.
func gpt2Config(d *document, modelType string) Config {
	c := Config{
		ModelType: modelType, Vocab: d.size("vocab_size", 0, maxVocab), Hidden: d.size("n_embd", 0, maxWidth),
		Layers: d.size("n_layer", 0, maxLayers), Heads: d.size("n_head", 0, maxWidth),
		Positions:    d.size("n_positions", 0, maxWidth),
		LayerNormEps: d.epsilon("layer_norm_epsilon", 1e-5),
		Activation:   d.activation("activation_function", GELUTanh),
		Causal:       true,
		Unscaled:     !valueOf(d, "scale_attn_weights", "true or false", true),
		InverseLayer: d.flag("scale_attn_by_inverse_layer_idx"),
		Untied:       !valueOf(d, "tie_word_embeddings", "true or false", true),
	}
	c.Embedding, c.FFN = c.Hidden, 4*c.Hidden
	if inner := valueOf(d, "n_inner", "a whole number", 0); inner != 0 {
		c.FFN = d.size("n_inner", 0, maxWidth)
	}
	if d.flag("add_cross_attention") {
		d.refuse("add_cross_attention is set: decoders that read an encoder are not supported")
	}
	if pruned := valueOf(d, "pruned_heads", "an object", map[string][]int{}); len(pruned) > 0 {
		d.refuse("pruned_heads is not empty: layers with different heads are not supported")
	}
	if len(d.errs) == 0 && c.Hidden%c.Heads != 0 {
		d.refuse("n_embd %d is not a multiple of n_head %d", c.Hidden, c.Heads)
	}
	return c
}

// gpt2Tensors lists the tensors of GPT-2, in the order of computation.
func gpt2Tensors(c Config) []tensorShape {
	list := []tensorShape{{"embeddings.word_embeddings.weight", []int{c.Vocab, c.Hidden}},
		{"embeddings.position_embeddings.weight", []int{c.Positions, c.Hidden}}}
	dense := func(name string, out, in int) {
		list = append(list, tensorShape{name + ".weight", []int{out, in}}, tensorShape{name + ".bias", []int{out}})
	}
	norm := func(name string) {
		list = append(list, tensorShape{name + ".weight", []int{c.Hidden}}, tensorShape{name + ".bias", []int{c.Hidden}})
	}
	for i := range c.Layers {
		layer := fmt.Sprintf("decoder.layer.%d.", i)
		norm(layer + "attention.LayerNorm")
		dense(layer+"attention.self.query", c.Hidden, c.Hidden)
		dense(layer+"attention.self.key", c.Hidden, c.Hidden)
		dense(layer+"attention.self.value", c.Hidden, c.Hidden)
		dense(layer+"attention.output.dense", c.Hidden, c.Hidden)
		norm(layer + "intermediate.LayerNorm")
		dense(layer+"intermediate.dense", c.FFN, c.Hidden)
		dense(layer+"output.dense", c.Hidden, c.FFN)
	}
	norm("decoder.LayerNorm")
	return list
}
