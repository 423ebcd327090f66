package model

import (
	"peftsearch/evaluator/torch"
)

// gate is the mean over the tokens of a row of sigmoid(w·h + c) (Mao et al. 2022, "UniPELT"): of real tokens, where the
// libraries count their padding too.
type gate struct {
	name         string     // of its tensors, without ".weight"
	weight, bias *parameter // [1, in], [1]
}

// addGate initialises with N(0, 0.02) and 0, as the adapters library does; prefix begins the names of its tensors.
func (d *declaration) addGate(prefix string, in int) *gate {
	d.gates++
	return &gate{d.name + "." + prefix + "gate", d.add(prefix+"gate.weight", normal(0.02), decay, 1, in),
		d.add(prefix+"gate.bias", zeros, 0, 1)}
}

// rows is the gate's value of each row, [n, 1], from h [tokens, in] of all tokens.
func (g *gate) rows(p *pass, h *torch.Tensor) *torch.Tensor {
	open := p.Sigmoid(p.Linear(h, g.weight.leaf, g.bias.leaf)) // [tokens, 1]
	n := len(p.batch.Lengths)
	values := p.Reshape(p.Linear(p.Reshape(open, 1, -1), p.means, nil), n, 1)
	if p.gates != nil {
		p.gates[g.name] = p.Float32s(values)
	}
	return values
}

// rowMeans is a matrix whose product with the tokens is the mean of each row's: [n, tokens].
func (p *pass) rowMeans() *torch.Tensor {
	n, width := len(p.batch.Lengths), p.tokens+p.fill
	values, at := make([]float32, n*width), 0
	for i, length := range p.batch.Lengths {
		for range length {
			values[i*width+at] = 1 / float32(length)
			at++
		}
	}
	return p.To(torch.From(p.Scope, values, n, width), p.net.dtype)
}

// spread gives each position of x its row's value of values [n, 1]: [positions, 1].
func (p *pass) spread(values, x *torch.Tensor) *torch.Tensor {
	if p.Err() != nil {
		return nil
	}
	counts := All.Counts(p.batch)
	if p.wanted != nil && x.Size(0) == p.wanted.Size(0) && x.Size(0) != p.tokens+p.fill {
		counts = p.rows.Counts(p.batch)
	}
	index := make([]int64, 0, x.Size(0))
	for i, count := range counts {
		for range count {
			index = append(index, int64(i))
		}
	}
	for len(index) < x.Size(0) { // fill
		index = append(index, 0)
	}
	return p.Select(values, torch.From(p.Scope, index, len(index)))
}
