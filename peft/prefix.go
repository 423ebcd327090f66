package peft

import (
	"fmt"
	"slices"
	"strconv"

	"peftsearch/data/checkpoint"
)

// MethodPrefix is prefix tuning.
const MethodPrefix Method = "prefix"

// Prefix prepends Length trained keys and values to the attention of one layer (Li & Liang 2021,
// "Prefix-Tuning"; without an MLP, P-tuning v2 of Liu et al. 2022). It is stored flat; training may reparameterise it
// by an MLP without changing the stored count. Positions of the real tokens are not shifted, as in the adapters library.
type Prefix struct {
	Length int `json:"length"` // key/value pairs, 1 to MaxSize
}

func (Prefix) Method() Method                       { return MethodPrefix }
func (p Prefix) Size() int                          { return p.Length }
func (Prefix) Part() Part                           { return PartAttention }
func (p Prefix) String() string                     { return fmt.Sprintf("prefix %d", p.Length) }
func (p Prefix) validate(g Geometry, _ Stack) error { return validateSize("prefix length", p.Length) }
func (p Prefix) canonical() Module                  { return p }
func (Prefix) version() int                         { return 1 }

// Tensors are keys and values [p, D], D ordered by head.
func (p Prefix) Tensors(g Geometry) []Tensor {
	return []Tensor{{"keys", []int{p.Length, g.Hidden}, false}, {"values", []int{p.Length, g.Hidden}, false}}
}

// peftHolds wants one length in every layer, and no RoBERTa: with a prefix, PEFT's forward pass gives RoBERTa's head the
// cache instead of the hidden states.
func (p Prefix) peftHolds(plan Plan, g Geometry) bool {
	return families[g.Architecture].peftPrefix && !slices.ContainsFunc(plan.Layers, func(l Layer) bool {
		other, _ := Find[Prefix](l)
		return other != p
	})
}

func (p Prefix) peftConfig(_ Trained, c *peftConfig) {
	c.PEFTType, c.NumVirtualTokens = "PREFIX_TUNING", p.Length
}

// peftTensors has the prefix as prompt_embeddings [p, layers·2·D], keys before values. The names of
// the head lack "model.": prompt learning does not wrap the model.
func (p Prefix) peftTensors(t Trained, into map[string]checkpoint.Tensor) {
	pairs := prefixPairs(t, t.Plan)
	into["prompt_embeddings"] = checkpoint.NewTensor(interleave(pairs, p.Length, t.Info.Geometry.Hidden),
		p.Length, len(pairs)*t.Info.Geometry.Hidden)
	for name, tensor := range t.sequenceHead() {
		into["base_model."+name] = tensor
	}
}

// prefixPairs are the keys and values of the plan's layers with a prefix, of one length.
func prefixPairs(t Trained, p Plan) (pairs [][]float32) {
	for i, layer := range p.Layers {
		if layer.Module(MethodPrefix) != nil {
			pairs = append(pairs, t.tensor(i, MethodPrefix, "keys").Float32(), t.tensor(i, MethodPrefix, "values").Float32())
		}
	}
	return pairs
}

func (p Prefix) adaptersPart() (kept Module, lost string) { return p, "" }

func (p Prefix) adaptersKind() string { return strconv.Itoa(p.Length) }

func (p Prefix) adaptersConfig(_ Geometry, plan Plan) any {
	return prefixConfig{"prefix_tuning", true, p.Length, leaveOut(plan, MethodPrefix)}
}

// adaptersTensors is [p, L', 2, D], flattened: tokens, layers that have the prefix, keys before values.
func (p Prefix) adaptersTensors(t Trained, name string, plan Plan, into map[string]checkpoint.Tensor) {
	values := interleave(prefixPairs(t, plan), p.Length, t.Info.Geometry.Hidden)
	into[t.family().backbone+".prefix_tuning.prefix_tunings."+name+"."+t.family().prefix+".control_trans"] = checkpoint.NewTensor(values, len(values))
}

// interleave turns matrices [rows, columns] into one [rows, len(matrices)·columns].
func interleave(matrices [][]float32, rows, columns int) []float32 {
	var values []float32
	for row := range rows {
		for _, m := range matrices {
			values = append(values, m[row*columns:(row+1)*columns]...)
		}
	}
	return values
}
