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
	// Cross adds as many to a decoder's attention to the encoder's output.
	Cross bool `json:"cross,omitempty"`
	// Shifted counts the distances of T5 from the prefix's first key on, and those of the prefix too, as the adapters
	// library does: tokens are so many places farther behind what reads them. Otherwise a prefix is at no distance.
	Shifted bool `json:"shifted,omitempty"`
}

func (Prefix) Method() Method      { return MethodPrefix }
func (p Prefix) Size() int         { return p.Length }
func (Prefix) Part() Part          { return PartAttention }
func (p Prefix) canonical() Module { return p }

func (p Prefix) String() string {
	text := fmt.Sprintf("prefix %d", p.Length)
	if p.Gate {
		text += " gated"
	}
	if p.Cross {
		text += " cross"
	}
	if p.Shifted {
		text += " shifted"
	}
	return text
}

func (p Prefix) version() int {
	if p.Gate || p.Cross || p.Shifted {
		return 2
	}
	return 1
}

func (p Prefix) validate(g Geometry, s Stack) error {
	if err := validateSize("prefix length", p.Length); err != nil {
		return err
	}
	if p.Shifted && len(g.Stacks()) == 1 {
		return fmt.Errorf("%s: a %s knows no distances of tokens", p, g.Architecture)
	}
	if p.Shifted && p.Gate {
		return fmt.Errorf("%s: a prefix is gated or shifted, not both", p)
	}
	if p.Cross && !s.Cross {
		return fmt.Errorf("%s: the layers of this %s do not read an encoder", p, s.Name)
	}
	return validateGate(MethodPrefix, p.Gate, s)
}

// Tensors are keys and values [p, width of attention], ordered by head, and the gate.
func (p Prefix) Tensors(g Geometry) []Tensor {
	shape := []int{p.Length, g.AttentionWidth()}
	list := []Tensor{{"keys", shape, false}, {"values", shape, false}}
	if p.Cross {
		list = append(list, Tensor{"cross_keys", shape, false}, Tensor{"cross_values", shape, false})
	}
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
	pairs := prefixPairs(t, t.Plan.Layers, 0, "")
	into["prompt_embeddings"] = checkpoint.NewTensor(interleave(pairs, p.Length, t.Info.Geometry.Hidden),
		p.Length, len(pairs)*t.Info.Geometry.Hidden)
	for name, tensor := range t.classHead() {
		into["base_model."+name] = tensor
	}
}

// prefixPairs are the keys and values of the layers from first on that have a prefix, of one length; place begins their
// names.
func prefixPairs(t Trained, layers []Layer, first int, place string) (pairs [][]float32) {
	for i, layer := range layers {
		if prefix, ok := Find[Prefix](layer); ok && (place == "" || prefix.Cross) {
			pairs = append(pairs, t.tensor(first+i, MethodPrefix, place+"keys").Float32(),
				t.tensor(first+i, MethodPrefix, place+"values").Float32())
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

// adaptersHoldsPrefix reports whether the library computes a plan's prefixes in a stack as they are meant: where
// distances of tokens have biases, those of the lowest layer are for all, and prefixes of other layers must have its
// length.
func adaptersHoldsPrefix(p Plan, g Geometry, layer int) bool {
	stacks, stack := g.Stacks(), g.Stack(layer)
	own, _ := Find[Prefix](p.Layers[layer])
	return len(stacks) == 1 || own.Shifted && !slices.ContainsFunc(p.Layers[stack.First:][:stack.Layers],
		func(l Layer) bool {
			other, _ := Find[Prefix](l)
			return other != own
		})
}

func (p Prefix) adaptersConfig(g Geometry, plan Plan) any {
	c := prefixConfig{Architecture: "prefix_tuning", Flat: true, PrefixLength: p.Length, UseGating: p.Gate,
		LeaveOut: leaveOut(plan, MethodPrefix)}
	if len(g.Stacks()) > 1 {
		cross := slices.ContainsFunc(plan.Layers, func(l Layer) bool {
			prefix, _ := Find[Prefix](l)
			return prefix.Cross
		})
		c.CrossPrefix = &cross
	}
	return c
}

// adaptersTensors are [p, L', 2, A], flattened: tokens, layers that have the prefix, keys before values.
func (p Prefix) adaptersTensors(t Trained, name string, plan Plan, into map[string]checkpoint.Tensor) {
	g, f := t.Info.Geometry, t.family()
	add := func(place string, pairs [][]float32) {
		if values := interleave(pairs, p.Length, g.AttentionWidth()); len(values) > 0 {
			module := f.backbone + ".prefix_tuning.prefix_tunings." + name + "." + place
			into[module+".control_trans"] = checkpoint.NewTensor(values, len(values))
		}
	}
	stacks := g.Stacks()
	if len(stacks) == 1 {
		add(f.prefix, prefixPairs(t, plan.Layers, 0, ""))
		return
	}
	encoder, decoder := plan.Layers[:stacks[0].Layers], plan.Layers[stacks[1].First:]
	add("encoder_prefix", prefixPairs(t, encoder, 0, ""))
	add("self_prefix", prefixPairs(t, decoder, stacks[1].First, ""))
	add("cross_prefix", prefixPairs(t, decoder, stacks[1].First, "cross_"))
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
