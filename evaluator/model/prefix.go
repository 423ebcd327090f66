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
}

// declarePrefix initialises with N(0, 1), as the adapters library does for flat prefixes.
func declarePrefix(ps *parameters, name string, p peft.Prefix, hidden int) *prefix {
	return &prefix{
		length: p.Length,
		keys:   ps.declare(name+".keys", normal(1), decay, p.Length, hidden),
		values: ps.declare(name+".values", normal(1), decay, p.Length, hidden),
	}
}

// prefixMLP generates the prefixes of all layers that have one, as W₂·tanh(W₁·E + c₁) + c₂ (Li & Liang
// 2021, with the one MLP of the adapters library). Layers with shorter prefixes take the first rows.
type prefixMLP struct {
	embedding          *parameter // E [longest p, D]
	inWeight, inBias   *parameter // W₁ [m, D], c₁ [m]
	outWeight, outBias *parameter // W₂ [2·layers·D, m], keys before values in each layer; c₂
}

// declarePrefixMLP initialises E with N(0, 1) and the rest as torch.nn.Linear: U(±1/√in).
func declarePrefixMLP(ps *parameters, plan peft.Plan, width, hidden int) *prefixMLP {
	layers, longest := 0, 0
	for _, layer := range plan.Layers {
		if prefix, ok := peft.Find[peft.Prefix](layer); ok {
			layers++
			longest = max(longest, prefix.Length)
		}
	}
	return &prefixMLP{
		embedding: ps.declare("prefix_mlp.embedding", normal(1), decay, longest, hidden),
		inWeight:  ps.declare("prefix_mlp.in.weight", uniformFanIn, decay, width, hidden),
		inBias:    ps.declare("prefix_mlp.in.bias", uniform(hidden), 0, width),
		outWeight: ps.declare("prefix_mlp.out.weight", uniformFanIn, decay, 2*layers*hidden, width),
		outBias:   ps.declare("prefix_mlp.out.bias", uniform(width), 0, 2*layers*hidden),
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
	column := 0
	for i, m := range net.modules {
		switch {
		case m.prefix == nil:
		case generated == nil:
			pairs[i] = prefixPair{m.prefix.keys.leaf, m.prefix.values.leaf}
		default:
			rows, width := s.Narrow(generated, 0, 0, m.prefix.length), net.config.Hidden
			pairs[i] = prefixPair{s.Narrow(rows, 1, column, width), s.Narrow(rows, 1, column+width, width)}
			column += 2 * width
		}
	}
	return pairs
}

func prefixNames(layer int) (keys, values string) {
	return fmt.Sprintf("layers.%d.prefix.keys", layer), fmt.Sprintf("layers.%d.prefix.values", layer)
}
