package model

import (
	"math"

	"peftsearch/evaluator/torch"
)

// onDevice is the rows of a batch padded to one length, for the attention of a GPU, where a launch costs more than
// padding.
type onDevice struct {
	queries, back map[Rows]*torch.Tensor // of the tokens that are read: [n, m], [read]
	keys, masks   map[int]*torch.Tensor  // by the length of the prefix: [n, k], [n, p+k]
}

// padRows makes what all layers share.
func (p *pass) padRows() *onDevice {
	d := &onDevice{map[Rows]*torch.Tensor{}, map[Rows]*torch.Tensor{}, map[int]*torch.Tensor{}, map[int]*torch.Tensor{}}
	for _, read := range []Rows{All, p.rows} {
		counts, starts := read.Counts(p.batch), read.starts(p.batch)
		width := longest(counts)
		var queries, back []int64
		for i, count := range counts {
			queries = append(queries, padTo(width, starts[i], count)...)
			for j := range count {
				back = append(back, int64(i*width+j))
			}
		}
		d.queries[read], d.back[read] = torch.From(p.Scope, queries, len(counts), width), torch.From(p.Scope, back, len(back))
	}
	starts, n := All.starts(p.batch), len(p.batch.Lengths)
	for _, pair := range p.prefixes {
		prefix := pair.length()
		if d.keys[prefix] != nil {
			continue
		}
		width := roundWidth(prefix+longest(p.batch.Lengths)) - prefix
		var keys []int64
		mask := make([]float32, n*(prefix+width))
		for i, length := range p.batch.Lengths {
			keys = append(keys, padTo(width, starts[i], length)...)
			for j := length; j < width; j++ {
				mask[i*(prefix+width)+prefix+j] = float32(math.Inf(-1))
			}
		}
		d.keys[prefix] = torch.From(p.Scope, keys, n, width)
		d.masks[prefix] = p.To(torch.From(p.Scope, mask, n, prefix+width), p.net.dtype)
	}
	return d
}

func longest(lengths []int) int {
	most := 0
	for _, length := range lengths {
		most = max(most, length)
	}
	return most
}

// padTo is count indices from start on and then, for padding, the first token's.
func padTo(width int, start int64, count int) []int64 {
	index := make([]int64, width)
	for i := range count {
		index[i] = start + int64(i)
	}
	return index
}

// attention is that of a pass, from its queries of the rows to m.
func (d *onDevice) attention(p *pass, queries *torch.Tensor, m memory, rows Rows, scale float64) *torch.Tensor {
	prefix, probability, seed := m.prefix.length(), 0.0, uint64(0)
	if p.dropout != nil {
		probability, seed = p.dropout.probability, p.dropout.rng.Uint64()
	}
	keys := d.keys[prefix]
	if m.starts != nil { // the prefix is among the keys
		prefix = int(m.starts[1]) - p.batch.Lengths[0]
		width := d.masks[prefix].Size(1)
		var index []int64
		for i, length := range p.batch.Lengths {
			index = append(index, padTo(width, m.starts[i], prefix+length)...)
		}
		keys = torch.From(p.Scope, index, len(p.batch.Lengths), width)
	}
	padding := torch.Padding{Queries: d.queries[rows], Back: d.back[rows], Keys: keys, Mask: d.masks[prefix]}
	return p.PaddedAttention(queries, m.keys, m.values, m.prefix.keys, m.prefix.values, padding,
		p.net.config.Heads, scale, probability, seed)
}
