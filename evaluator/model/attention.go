package model

import (
	"cmp"
	"math"
	"slices"

	"peftsearch/evaluator/torch"
)

const (
	// maxGroups bounds the groups of a batch: more have less padding and more, smaller products.
	maxGroups = 4
	// groupRows is the least number of rows of a group, but for the last.
	groupRows = 8
	// widthUnit is what padded widths are multiples of, so that their shapes recur.
	widthUnit = 8
)

// memory is what an attention reads: keys and values of the tokens [tokens, D], after a prefix.
type memory struct {
	keys, values *torch.Tensor
	prefix       prefixPair
	starts       []int64 // where each row's keys begin, and the last one's end; nil for those of the tokens
	source       *source // that the keys are of, in place of the tokens; nil for the tokens
	scale        float64 // of the scores
}

// attention is softmax(scale·q·kᵀ)·v of every head, from the wanted tokens of each row to all its tokens and
// the prefix: [wanted, D] from queries [wanted, D]. In a decoder rows is All or Last, and tokens see no later ones.
func (p *pass) attention(queries *torch.Tensor, m memory, rows Rows) *torch.Tensor {
	switch {
	case p.onDevice != nil:
		return p.onDevice.attention(p, queries, m, rows)
	case p.groups != nil:
		return p.padded(queries, m, rows)
	}
	starts := torch.Rows{Queries: All.starts(p.batch), Keys: All.starts(p.batch), Causal: p.stack.Causal}
	if rows != All {
		starts.Queries = rows.starts(p.batch)
	}
	if m.starts != nil {
		starts.Keys = m.starts
	}
	return p.Attention(queries, m.keys, m.values, m.prefix.keys, m.prefix.values, starts,
		p.net.config.Heads, m.scale)
}

// groups is the rows of a batch in groups of alike length, which are padded for an attention of batched
// products: on CPUs, with dropout and where heads have no kernel for flat tokens.
type groups struct {
	rows    [][]int // of each group
	lengths [][]int // keys of each group's rows, falling
	tokens  [][]int // of the same rows
	from    padding // of keys and values
	all, to padding // of the queries of all tokens, and of the wanted ones
	masks   map[maskKind][]*torch.Tensor
}

// maskKind is what masks depend on beside the rows.
type maskKind struct {
	prefix  int
	shifted bool // distances count it
	causal  bool // every token is a query, which does not see later ones
}

// padding is how flat tokens become padded rows.
type padding struct {
	index  torch.Groups
	widths []int // of the padded rows
	tokens int   // flat
}

// group deals the rows into groups and makes what all layers share.
func (p *pass) group() *groups {
	order, keys := make([]int, len(p.batch.Lengths)), make([]int, len(p.batch.Lengths))
	for i, length := range p.batch.Lengths {
		order[i], keys[i] = i, p.known(i)+length
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(keys[b], keys[a]) })
	size := max(groupRows, (len(order)+maxGroups-1)/maxGroups)
	var rows [][]int
	width := 0
	for chunk := range slices.Chunk(order, size) {
		if longest := roundWidth(keys[chunk[0]]); longest == width {
			rows[len(rows)-1] = append(rows[len(rows)-1], chunk...)
		} else {
			rows, width = append(rows, slices.Clone(chunk)), longest
		}
	}
	g := &groups{rows: rows, masks: map[maskKind][]*torch.Tensor{}}
	for _, group := range rows {
		lengths, tokens := make([]int, len(group)), make([]int, len(group))
		for i, row := range group {
			lengths[i], tokens[i] = keys[row], p.batch.Lengths[row]
		}
		g.lengths, g.tokens = append(g.lengths, lengths), append(g.tokens, tokens)
	}
	g.all = p.pad(rows, All, p.tokens+p.fill)
	g.from, g.to = g.all, g.all
	if p.growth != nil {
		g.from = p.padFlat(rows, p.growth.starts, int(p.growth.starts[len(keys)]))
	}
	if p.wanted != nil {
		g.to = p.pad(rows, p.rows, p.wanted.Size(0))
	}
	for _, prefix := range p.prefixes[p.stack.First:][:p.stack.Layers] {
		for _, causal := range []bool{false, true} {
			kind := prefix.mask()
			if kind.causal = causal; g.masks[kind] == nil && (!kind.causal || p.stack.Causal) {
				g.masks[kind] = p.mask(g.lengths, g.tokens, g.all.widths, g.from, kind)
			}
		}
	}
	return g
}

func roundWidth(tokens int) int { return (tokens + widthUnit - 1) / widthUnit * widthUnit }

// pad lays out the tokens that are read of the rows of each group.
func (p *pass) pad(groups [][]int, read Rows, tokens int) padding {
	return p.padFlat(groups, read.starts(p.batch), tokens)
}

// padFlat lays out the rows of each group, which begin and end at starts among flat positions.
func (p *pass) padFlat(groups [][]int, starts []int64, positions int) padding {
	to := padding{tokens: positions}
	for _, group := range groups {
		width := 0
		for _, row := range group {
			width = max(width, int(starts[row+1]-starts[row]))
		}
		if width > 1 {
			width = roundWidth(width)
		}
		var index []int64
		for _, row := range group {
			for j := range int64(width) {
				at := int64(positions) // padding
				if starts[row]+j < starts[row+1] {
					at = starts[row] + j
				}
				index = append(index, at)
			}
		}
		to.index = append(to.index, torch.From(p.Scope, index, len(group), width))
		to.widths = append(to.widths, width)
	}
	return to
}

// keyWidths is how wide padded keys and values are with a prefix.
func (from padding) keyWidths(prefix int) []int {
	widths := make([]int, len(from.widths))
	for i, width := range from.widths {
		widths[i] = roundWidth(prefix + width)
	}
	return widths
}

// mask is, for each group, 0 for a prefix and the tokens that a query sees and -∞ for others and padding:
// [n·H, 1, width], or [n·H, tokens, width]. The rows have so many keys in each group; with
// a causal mask the queries are of their last so many tokens, padded to widths.
func (p *pass) mask(lengths, tokens [][]int, widths []int, from padding, kind maskKind) []*torch.Tensor {
	heads := p.net.config.Heads
	var masks []*torch.Tensor
	for i, width := range from.keyWidths(kind.prefix) {
		n, queries := len(lengths[i]), 1
		if kind.causal {
			queries = widths[i]
		}
		values := make([]float32, n*queries*width)
		for row, length := range lengths[i] {
			for query := range queries {
				seen := length
				if kind.causal {
					seen = min(length, length-tokens[i][row]+query+1)
				}
				hidden := values[(row*queries+query)*width:][kind.prefix+seen : width]
				for j := range hidden {
					hidden[j] = float32(math.Inf(-1))
				}
			}
		}
		mask := p.To(torch.From(p.Scope, values, n, 1, queries, width), p.net.dtype)
		masks = append(masks, p.Reshape(p.Expand(mask, n, heads, queries, width), n*heads, queries, width))
	}
	return masks
}

// padded is attention by batched products of padded rows.
func (p *pass) padded(queries *torch.Tensor, m memory, rows Rows) *torch.Tensor {
	g, heads := p.groups, p.net.config.Heads
	to := g.all
	if rows != All {
		to = g.to
	}
	kind, from, keys, masks := m.prefix.mask(), g.from, g.from, g.masks
	switch {
	case m.source != nil:
		from, keys, masks = m.source.from, m.source.from, m.source.masks
	case m.starts != nil && p.growth == nil: // the prefix is among the keys
		keys = p.padFlat(g.rows, m.starts, m.keys.Size(0))
		kind.prefix = int(m.starts[1]) - p.batch.Lengths[0]
	}
	kind.causal = m.source == nil && p.stack.Causal && rows == All
	widths, mask := from.keyWidths(kind.prefix), masks[kind]
	q := p.PadHeads(queries, nil, to.index, heads, to.widths)             // [n·H, width, d] of each group
	k := p.PadHeads(m.keys, m.prefix.keys, keys.index, heads, widths)     // [n·H, p+width, d]
	v := p.PadHeads(m.values, m.prefix.values, keys.index, heads, widths) // [n·H, p+width, d]
	if p.Err() != nil {
		return nil
	}
	for i := range q {
		scores := p.ScaledBatchMatmul(mask[i], q[i], p.Transpose(k[i], 1, 2), m.scale) // [n·H, width, p+width]
		q[i] = p.BatchMatmul(p.drop(p.Softmax(scores)), v[i])
	}
	return p.UnpadHeads(q, to.index, to.tokens, heads)
}
