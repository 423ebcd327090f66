package model

import (
	"fmt"

	"peftsearch/evaluator/torch"
	"peftsearch/peft"
)

// prefixPair is the prefix of one layer in a pass: keys and values [p, D], head-major; nil for none.
type prefixPair struct{ keys, values *torch.Tensor }

func (p prefixPair) length() int { return p.keys.Size(0) }

// prefix is a layer's prefix: its own parameters, or nil ones where an MLP generates them.
type prefix struct {
	length       int
	keys, values *parameter // [p, D]
	column       int        // of its keys in what an MLP generates; its values follow
	gate         *gate      // nil for none
}

func init() { methods[peft.MethodPrefix] = declarePrefix }

// declarePrefix initialises with N(0, 1), as the adapters library does for flat prefixes.
func declarePrefix(d *declaration, m peft.Module) error {
	module := m.(peft.Prefix)
	d.prefix = &prefix{length: module.Length}
	if d.training.PrefixMLP == 0 {
		d.prefix.keys = d.add("keys", normal(1), decay, module.Length, d.geometry.Hidden)
		d.prefix.values = d.add("values", normal(1), decay, module.Length, d.geometry.Hidden)
	}
	if module.Gate {
		d.prefix.gate = d.addGate("", d.geometry.Hidden)
	}
	return nil
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
	return memory{keys: join(keys, pair.keys), values: join(values, pair.values), starts: starts}
}

// prefixMLP generates the prefixes of all layers that have one, as W₂·tanh(W₁·E + c₁) + c₂ (Li & Liang
// 2021, with the one MLP of the adapters library). Layers with shorter prefixes take the first rows.
type prefixMLP struct {
	embedding          *parameter // E [longest p, D]
	inWeight, inBias   *parameter // W₁ [m, D], c₁ [m]
	outWeight, outBias *parameter // W₂ [2·layers·D, m], keys before values in each layer; c₂
}

// declarePrefixMLP initialises E with N(0, 1) and the rest as torch.nn.Linear: U(±1/√in).
func declarePrefixMLP(ps *parameters, list []modules, width, hidden int) *prefixMLP {
	layers, longest, last := 0, 0, 0
	for i, m := range list {
		if m.prefix != nil {
			m.prefix.column = 2 * layers * hidden
			last, layers = i, layers+1
			longest = max(longest, m.prefix.length)
		}
	}
	if layers == 0 {
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
		outWeight: declare("out.weight", uniformFanIn, decay, 2*layers*hidden, width),
		outBias:   declare("out.bias", uniform(width), 0, 2*layers*hidden),
	}
}

// prefixes is the prefix of every layer.
func (net *network) prefixes(s *torch.Scope) []prefixPair {
	pairs := make([]prefixPair, len(net.modules))
	var generated *torch.Tensor // [longest p, 2·layers·D]
	if mlp := net.prefixMLP; mlp != nil {
		inner := s.Tanh(s.Linear(mlp.embedding.leaf, mlp.inWeight.leaf, mlp.inBias.leaf))
		generated = s.Linear(inner, mlp.outWeight.leaf, mlp.outBias.leaf)
	}
	for i, m := range net.modules {
		switch {
		case m.prefix == nil:
		case generated == nil:
			pairs[i] = prefixPair{m.prefix.keys.leaf, m.prefix.values.leaf}
		default:
			rows, width := s.Narrow(generated, 0, 0, m.prefix.length), net.config.Hidden
			at := m.prefix.column
			pairs[i] = prefixPair{s.Narrow(rows, 1, at, width), s.Narrow(rows, 1, at+width, width)}
		}
	}
	return pairs
}

func prefixNames(layer int) (keys, values string) {
	return fmt.Sprintf("layers.%d.prefix.keys", layer), fmt.Sprintf("layers.%d.prefix.values", layer)
}
