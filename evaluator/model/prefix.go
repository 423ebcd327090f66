package model

import (
	"fmt"

	"peftsearch/evaluator/torch"
	"peftsearch/peft"
)

// prefixPair is the prefix of one attention in a pass: keys and values [p, A], head-major; nil for none. A is the width
// of attention.
type prefixPair struct {
	keys, values *torch.Tensor
	shifted      bool // distances of tokens count its keys
}

// mask is what masks depend on of it.
func (p prefixPair) mask() maskKind { return maskKind{prefix: p.length(), shifted: p.shifted} }

func (p prefixPair) length() int { return p.keys.Size(0) }

// prefix is a layer's prefix: its own parameters, or nil ones where an MLP generates them.
type prefix struct {
	length  int
	shifted bool
	pairs   []prefixParameters // of the self-attention, and of that to an encoder's output if it has one
	column  int                // of the first one's keys in what an MLP generates; the others follow
	gate    *gate              // nil for none
}

type prefixParameters struct{ keys, values *parameter } // [p, A]

func init() { methods[peft.MethodPrefix] = declarePrefix }

// declarePrefix initialises with N(0, 1), as the adapters library does for flat prefixes.
func declarePrefix(d *declaration, m peft.Module) error {
	module := m.(peft.Prefix)
	d.prefix = &prefix{length: module.Length, shifted: module.Shifted}
	for _, place := range prefixPlaces(module.Cross) {
		var pair prefixParameters
		if d.training.PrefixMLP == 0 {
			pair.keys = d.add(place+"keys", normal(1), decay, module.Length, d.geometry.AttentionWidth())
			pair.values = d.add(place+"values", normal(1), decay, module.Length, d.geometry.AttentionWidth())
		}
		d.prefix.pairs = append(d.prefix.pairs, pair)
	}
	if module.Gate {
		d.prefix.gate = d.addGate("", d.geometry.Hidden)
	}
	return nil
}

// prefixPlaces begin the names of a layer's prefixes.
func prefixPlaces(cross bool) []string {
	if cross {
		return []string{"", "cross_"}
	}
	return []string{""}
}

// gatedMemory has a prefix for each row, times the row's gate.
func (p *pass) gatedMemory(layer int, keys, values *torch.Tensor) memory {
	if p.Err() != nil {
		return memory{}
	}
	pair := p.prefixes[layer]
	length, rows, positions := pair.length(), len(p.batch.Lengths), keys.Size(0)
	var index []int64 // of each key: behind the tokens stand the prefixes of all rows
	starts, at := []int64{0}, 0
	for row, tokens := range p.batch.Lengths {
		for j := range length {
			index = append(index, int64(positions+row*length+j))
		}
		for range tokens {
			index, at = append(index, int64(at)), at+1
		}
		starts = append(starts, int64(len(index)))
	}
	order := torch.From(p.Scope, index, len(index))
	join := func(own, prefix *torch.Tensor) *torch.Tensor {
		gated := p.Mul(p.Reshape(prefix, 1, length, -1), p.Reshape(p.gated[layer], rows, 1, 1)) // [n, p, D]
		return p.Select(p.Cat(0, own, p.Reshape(gated, rows*length, -1)), order)
	}
	return memory{keys: join(keys, pair.keys), values: join(values, pair.values), starts: starts, scale: p.scale()}
}

// prefixMLP generates the prefixes of all layers that have one, as W₂·tanh(W₁·E + c₁) + c₂ (Li & Liang
// 2021, with the one MLP of the adapters library). Layers with shorter prefixes take the first rows.
type prefixMLP struct {
	embedding          *parameter // E [longest p, D]
	inWeight, inBias   *parameter // W₁ [m, D], c₁ [m]
	outWeight, outBias *parameter // W₂ [2·prefixes·A, m], keys before values in each of them; c₂
}

// declarePrefixMLP initialises E with N(0, 1) and the rest as torch.nn.Linear: U(±1/√in).
func declarePrefixMLP(ps *parameters, list []modules, width, hidden, attention int) *prefixMLP {
	columns, longest, last := 0, 0, 0
	for i, m := range list {
		if m.prefix != nil {
			m.prefix.column, last = columns, i
			columns += 2 * len(m.prefix.pairs) * attention
			longest = max(longest, m.prefix.length)
		}
	}
	if columns == 0 {
		return nil
	}
	declare := func(name string, init initializer, traits trait, shape ...int) *parameter {
		p := ps.declare("prefix_mlp."+name, init, traits|unstored, shape...)
		p.layer = last
		return p
	}
	return &prefixMLP{
		embedding: declare("embedding", normal(1), decay, longest, hidden),
		inWeight:  declare("in.weight", uniformFanIn, decay, width, hidden),
		inBias:    declare("in.bias", uniform(hidden), 0, width),
		outWeight: declare("out.weight", uniformFanIn, decay, columns, width),
		outBias:   declare("out.bias", uniform(width), 0, columns),
	}
}

// prefixes are those of every layer: of its self-attention, and of that to an encoder's output.
func (net *network) prefixes(s *torch.Scope) (self, cross []prefixPair) {
	self, cross = make([]prefixPair, len(net.modules)), make([]prefixPair, len(net.modules))
	var generated *torch.Tensor // [longest p, 2·prefixes·A]
	if mlp := net.prefixMLP; mlp != nil {
		inner := s.Tanh(s.Linear(mlp.embedding.leaf, mlp.inWeight.leaf, mlp.inBias.leaf))
		generated = s.Linear(inner, mlp.outWeight.leaf, mlp.outBias.leaf)
	}
	for i, m := range net.modules {
		if m.prefix == nil {
			continue
		}
		for j, pair := range m.prefix.pairs {
			into := &[]([]prefixPair){self, cross}[j][i]
			if generated == nil {
				*into = prefixPair{pair.keys.leaf, pair.values.leaf, m.prefix.shifted}
				continue
			}
			rows, width := s.Narrow(generated, 0, 0, m.prefix.length), net.config.AttentionWidth()
			at := m.prefix.column + 2*j*width
			*into = prefixPair{s.Narrow(rows, 1, at, width), s.Narrow(rows, 1, at+width, width), m.prefix.shifted}
		}
	}
	return self, cross
}

// prefixTensors names the prefixes of a model as they are stored.
func (net *network) prefixTensors(s *torch.Scope) map[string]*torch.Tensor {
	tensors := map[string]*torch.Tensor{}
	self, cross := net.prefixes(s)
	for j, pairs := range [][]prefixPair{self, cross} {
		for i, pair := range pairs {
			if pair.keys != nil {
				name := fmt.Sprintf("layers.%d.prefix.%s", i, prefixPlaces(true)[j])
				tensors[name+"keys"], tensors[name+"values"] = pair.keys, pair.values
			}
		}
	}
	return tensors
}
