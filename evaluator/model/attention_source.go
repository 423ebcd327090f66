package model

import (
	"math"

	"peftsearch/evaluator/torch"
	"peftsearch/peft"
)

// source is an encoder's output, which a decoder reads.
type source struct {
	states *torch.Tensor // [tokens, D], and fill
	batch  Batch         // that the encoder read
	from   padding       // of its keys and values, in the groups of the decoder's rows
	masks  map[maskKind][]*torch.Tensor
}

// readSource keeps the encoder's output.
func (p *pass) readSource(states *torch.Tensor) { p.source = &source{states: states, batch: p.batch} }

// begin goes on to the stack that reads the source, and a batch of as many rows.
func (p *pass) begin(stack peft.Stack, batch Batch) {
	if p.Err() != nil {
		return
	}
	p.stack, p.batch, p.relative = stack, batch, nil
	p.count()
	p.layOut()
	s, g := p.source, p.groups
	s.from, s.masks = p.padFlat(g.rows, All.starts(s.batch), s.states.Size(0)), map[maskKind][]*torch.Tensor{}
	lengths := make([][]int, len(g.rows))
	for i, group := range g.rows {
		for _, row := range group {
			lengths[i] = append(lengths[i], s.batch.Lengths[row])
		}
	}
	for _, prefix := range p.cross[stack.First:][:stack.Layers] {
		if kind := prefix.mask(); s.masks[kind] == nil {
			s.masks[kind] = p.mask(lengths, nil, nil, s.from, kind)
		}
	}
}

// addRelative adds the biases of distances, a table [buckets, H], to the masks of a stack's self-attention, which are
// added to its scores. A prefix is at no distance, and its columns stay as they are, unless distances count it.
func (p *pass) addRelative(table *torch.Tensor) {
	if p.Err() != nil {
		return
	}
	g, heads := p.groups, p.net.config.Heads
	p.relative = p.Cat(0, table, p.Zeros(table.DType(), 1, heads)) // the last row is a prefix's
	none := int32(table.Size(0))
	for kind, masks := range g.masks {
		for i, width := range g.from.keyWidths(kind.prefix) {
			n, queries := len(g.lengths[i]), g.from.widths[i]
			rows := [][2]int{{0, queries}} // of queries, from one to another: the same for all, or each row's last one
			if p.stack.Causal && !kind.causal {
				rows, queries = nil, 1
				for _, length := range g.lengths[i] {
					rows = append(rows, [2]int{length - 1, length})
				}
			}
			var index []int32
			for _, row := range rows {
				for query := row[0]; query < row[1]; query++ {
					for column := range width {
						bucket := none
						switch {
						case kind.shifted:
							bucket = p.bucket(column - query)
						case column >= kind.prefix:
							bucket = p.bucket(column - kind.prefix - query)
						}
						index = append(index, bucket)
					}
				}
			}
			bias := p.Embedding(p.relative, torch.From(p.Scope, index, len(rows), queries, width))
			bias = p.Permute(bias, 0, 3, 1, 2)                               // [n or 1, H, queries, width]
			mask := p.Reshape(masks[i], n, heads, -1, width)                 // [n, H, 1 or queries, width]
			masks[i] = p.Reshape(p.Add(mask, bias), n*heads, queries, width) // as the others
		}
	}
}

// bucket is that of a distance: single ones below half of a direction's buckets, then ranges that grow by a factor up
// to the largest distance. An encoder has half of the buckets for each direction. Logarithms are in float32, as in
// transformers.
func (p *pass) bucket(distance int) int32 {
	buckets, first, ahead := p.net.config.Buckets, 0, -distance
	if !p.stack.Causal {
		buckets /= 2
		if distance > 0 {
			first, ahead = buckets, distance
		}
	}
	ahead = max(0, ahead)
	single := buckets / 2
	if ahead < single {
		return int32(first + ahead)
	}
	ratio := float32(math.Log(float64(float32(ahead)/float32(single)))) /
		float32(math.Log(float64(p.net.config.MaxDistance)/float64(single)))
	return int32(first + min(buckets-1, single+int(ratio*float32(buckets-single))))
}
