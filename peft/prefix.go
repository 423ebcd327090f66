package peft

import (
	"errors"
	"fmt"
	"slices"

	"peftsearch/data/checkpoint"
	"peftsearch/data/onnx"
)

// MethodPrefix is prefix tuning.
const MethodPrefix Method = "prefix"

// Prefix prepends Length trained keys and values to the attention of one layer (Li & Liang 2021,
// "Prefix-Tuning"; without an MLP, P-tuning v2 of Liu et al. 2022). It is stored flat; training may reparameterise it
// by an MLP without changing the stored count. Positions of the real tokens are not shifted, as in the adapters
// library.
type Prefix struct {
	Length int `json:"length"` // key/value pairs, 1 to MaxSize
	// Gate multiplies keys and values by the mean of sigmoid(w·x + c) over a row's tokens, of the layer's inputs x
	// (Mao et al. 2022, "UniPELT").
	Gate bool `json:"gate,omitempty"`
}

func (Prefix) Method() Method      { return MethodPrefix }
func (p Prefix) Size() int         { return p.Length }
func (Prefix) Part() Part          { return PartAttention }
func (p Prefix) canonical() Module { return p }

func (p Prefix) String() string {
	if p.Gate {
		return fmt.Sprintf("prefix %d gated", p.Length)
	}
	return fmt.Sprintf("prefix %d", p.Length)
}

func (p Prefix) version() int {
	if p.Gate {
		return 2
	}
	return 1
}

func (p Prefix) validate(_ Geometry, s Stack) error {
	if err := validateSize("prefix length", p.Length); err != nil {
		return err
	}
	return validateGate(MethodPrefix, p.Gate, s)
}

// Tensors are keys and values [p, D], D ordered by head, and the gate.
func (p Prefix) Tensors(g Geometry) []Tensor {
	list := []Tensor{{"keys", []int{p.Length, g.Hidden}, false}, {"values", []int{p.Length, g.Hidden}, false}}
	if p.Gate {
		list = append(list, gateTensors(g, "")...)
	}
	return list
}

// peftHolds wants one length in every layer, and no RoBERTa: with a prefix, PEFT's forward pass gives RoBERTa's head
// the cache instead of the hidden states.
func (p Prefix) peftHolds(plan Plan, g Geometry) bool {
	return !p.Gate && len(plan.Input) == 0 && families[g.Architecture].peftPrefix &&
		!slices.ContainsFunc(plan.Layers, func(l Layer) bool {
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
	for name, tensor := range t.classHead() {
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

// adaptersPart leaves gated prefixes out: the library keeps their gates beside the adapter, and loads it without them.
func (p Prefix) adaptersPart() (kept Module, lost string) {
	if p.Gate {
		return nil, p.String()
	}
	return p, ""
}

func (p Prefix) adaptersKind() string { return fmt.Sprint(p.Length) }

func (p Prefix) adaptersConfig(_ Geometry, plan Plan) any {
	return prefixConfig{"prefix_tuning", true, p.Length, p.Gate, leaveOut(plan, MethodPrefix)}
}

// adaptersTensors is [p, L', 2, D], flattened: tokens, layers that have the prefix, keys before values.
func (p Prefix) adaptersTensors(t Trained, name string, plan Plan, into map[string]checkpoint.Tensor) {
	values := interleave(prefixPairs(t, plan), p.Length, t.Info.Geometry.Hidden)
	f := t.family()
	module := f.backbone + ".prefix_tuning.prefix_tunings." + name + "." + f.prefix
	into[module+".control_trans"] = checkpoint.NewTensor(values, len(values))
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

func (p Prefix) code() []string { return withGate(p.Gate, "prefix") }

func (Prefix) architectures() []string { return []string{"prefix_tuning"} }

func (Prefix) importAdapters(s settings, _ Geometry) (func(int) (Module, error), error) {
	length, encoder, gate := 30, true, false
	if err := s.takeAll(map[string]any{"prefix_length": &length, "encoder_prefix": &encoder,
		"use_gating": &gate}); err != nil {
		return nil, err
	}
	if !encoder {
		return nil, errors.New("encoder_prefix is false: the backbone is an encoder")
	}
	if length < 1 || length > maxImportedSize {
		return nil, fmt.Errorf("prefix_length %d: must be from 1 to %d", length, maxImportedSize)
	}
	if err := s.rest("bottleneck_size", "cross_prefix", "dropout", "flat", "init_weights_seed", "non_linearity",
		"shared_gating"); err != nil {
		return nil, err
	}
	return func(int) (Module, error) { return Prefix{Length: length, Gate: gate}, nil }, nil
}

func (Prefix) peftTypes() []string { return []string{"PREFIX_TUNING"} }

func (Prefix) importPEFT(s settings, p *Plan, g Geometry) error {
	length, hidden, layers := 0, g.Hidden, g.Layers
	if err := s.takeAll(map[string]any{"num_virtual_tokens": &length, "token_dim": &hidden,
		"num_layers": &layers}); err != nil {
		return err
	}
	if hidden != g.Hidden || layers != g.Layers {
		return fmt.Errorf("the prefix is for %d layers of width %d, the backbone has %d of width %d", layers, hidden,
			g.Layers, g.Hidden)
	}
	if length < 1 || length > maxImportedSize {
		return fmt.Errorf("num_virtual_tokens %d: must be from 1 to %d", length, maxImportedSize)
	}
	for i := range p.Layers {
		p.Layers[i] = append(p.Layers[i], Prefix{Length: length})
	}
	return s.rest(append(peftRecords, "encoder_hidden_size", "num_attention_heads", "num_transformer_submodules",
		"prefix_projection", "init_weights")...)
}

func (p Prefix) graph(l *layerGraph) {
	l.prefix = func(x onnx.Value) (keys, values onnx.Value, length int) {
		width := l.c.Hidden / l.c.Heads
		pair := func(name string, order ...int) onnx.Value {
			heads := l.Reshape(l.weight(MethodPrefix, name), 1, int64(p.Length), int64(l.c.Heads), int64(width))
			shared := l.Transpose(heads, order...)
			if p.Gate {
				gate := l.gate(MethodPrefix, "", x) // [n, 1]
				return l.Mul(shared, l.Node("Unsqueeze", nil, gate, l.Ints(-1, -2)))
			}
			return l.Node("Expand", nil, shared, l.Concat(0, l.Size(l.ids, 0), l.Ints(1, 1, 1)))
		}
		return pair("keys", 0, 2, 3, 1), pair("values", 0, 2, 1, 3), p.Length
	}
}
