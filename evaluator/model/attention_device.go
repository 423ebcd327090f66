package model

import (
	"math"
	"slices"

	"peftsearch/evaluator/torch"
)

// onDevice is the rows of a batch padded to one length, for the attention of a GPU, where a launch costs more than
// padding.
type onDevice struct {
	queries map[Rows]torch.Padding // of the tokens that are read
	keys    map[int]torch.Padding  // by the length of the prefix
	masks   map[int]*torch.Tensor  // likewise: [n, p+k]
}

// padRows makes what all layers share.
func (p *pass) padRows() *onDevice {
	d := &onDevice{map[Rows]torch.Padding{}, map[int]torch.Padding{}, map[int]*torch.Tensor{}}
	for _, read := range []Rows{All, p.rows} {
		counts := read.Counts(p.batch)
		d.queries[read] = p.padTo(slices.Max(counts), counts)
	}
	for _, pair := range p.prefixes {
		prefix := pair.length()
		if d.masks[prefix] != nil {
			continue
		}
		width := roundWidth(prefix + slices.Max(p.batch.Lengths))
		mask := make([]float32, len(p.batch.Lengths)*width)
		for i, length := range p.batch.Lengths {
			padding := mask[i*width+prefix+length : (i+1)*width]
			for j := range padding {
				padding[j] = float32(math.Inf(-1))
			}
		}
		d.keys[prefix] = p.padTo(width-prefix, p.batch.Lengths)
		d.masks[prefix] = p.To(torch.From(p.Scope, mask, len(p.batch.Lengths), width), p.net.dtype)
	}
	return d
}

// padTo pads rows of so many tokens to a width.
func (p *pass) padTo(width int, counts []int) torch.Padding {
	index := make([]int64, len(counts)*width)
	var back []int64
	for i, count := range counts {
		for j := range count {
			at := i*width + j
			index[at] = int64(len(back))
			back = append(back, int64(at))
		}
	}
	return torch.Padding{Index: torch.From(p.Scope, index, len(counts), width), Back: torch.From(p.Scope, back, len(back))}
}

// attention is that of a pass, from its queries of the rows to m.
func (d *onDevice) attention(p *pass, queries *torch.Tensor, m memory, rows Rows) *torch.Tensor {
	prefix, probability, seed := m.prefix.length(), 0.0, uint64(0)
	if p.dropout != nil {
		probability, seed = p.dropout.probability, p.dropout.rng.Uint64()
	}
	keys := d.keys[prefix]
	if m.starts != nil { // the prefix is among the keys
		prefix = int(m.starts[1]) - p.batch.Lengths[0]
		counts := make([]int, len(p.batch.Lengths))
		for i, length := range p.batch.Lengths {
			counts[i] = prefix + length
		}
		keys = p.padTo(d.masks[prefix].Size(1), counts)
	}
	return p.PaddedAttention(queries, m.keys, m.values, m.prefix.keys, m.prefix.values, d.queries[rows], keys,
		d.masks[prefix], p.net.config.Heads, m.scale, probability, seed)
}
