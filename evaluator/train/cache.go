package train

import (
	"slices"

	"peftsearch/evaluator/model"
	"peftsearch/evaluator/torch"
)

// hiddenCache keeps what the frozen layers below a plan's lowest module compute: it is the same in every
// epoch of every trial. It belongs to one session, so model and data never change under it.
//
// Whether a job uses it depends on the job and the memory limit alone, and its contents do not depend
// on the order of jobs, so that it never changes a score.
type hiddenCache struct {
	backbone *model.Backbone
	limit    int64           // bytes
	entries  []*hiddenStates // least recently used first
}

// hiddenStates holds the hidden states of a split before one block: for each token, or for the first
// token of each row after the last block.
type hiddenStates struct {
	split     *split
	layer     int
	width     int
	firstOnly bool
	bfloat16  bool
	offsets   []int // of each row, in tokens
	values    []float32
}

func newHiddenCache(b *model.Backbone, limit int64) *hiddenCache {
	return &hiddenCache{backbone: b, limit: limit}
}

// size is the memory in bytes of a split's hidden states before a block.
func (c *hiddenCache) size(sp *split, layer int) int64 {
	tokens := 0
	for _, length := range sp.lengths {
		tokens += length
	}
	if layer == c.backbone.Geometry().Layers {
		tokens = len(sp.lengths)
	}
	return int64(tokens) * int64(c.backbone.Geometry().Hidden) * 4
}

// fits reports whether the splits of a job can be cached together.
func (c *hiddenCache) fits(layer int, splits ...*split) bool {
	var total int64
	for _, sp := range splits {
		total += c.size(sp, layer)
	}
	return total <= c.limit
}

// get returns the hidden states of a split before a block, computing them if necessary; nil if stop
// ended it. makeBatch pads rows of the split.
func (c *hiddenCache) get(sp *split, layer int, makeBatch func([]int) model.Batch, stop func() bool) (*hiddenStates, error) {
	for i, entry := range c.entries {
		if entry.split == sp && entry.layer == layer {
			c.entries = append(slices.Delete(c.entries, i, i+1), entry)
			return entry, nil
		}
	}
	c.evict(c.limit - c.size(sp, layer))
	entry, err := c.compute(sp, layer, makeBatch, stop)
	if entry != nil {
		c.entries = append(c.entries, entry)
	}
	return entry, err
}

// evict drops entries until at most limit bytes are used.
func (c *hiddenCache) evict(limit int64) {
	var used int64
	for _, entry := range c.entries {
		used += int64(len(entry.values)) * 4
	}
	for len(c.entries) > 0 && used > limit {
		used -= int64(len(c.entries[0].values)) * 4
		c.entries = slices.Delete(c.entries, 0, 1)
	}
}

func (c *hiddenCache) compute(sp *split, layer int, makeBatch func([]int) model.Batch, stop func() bool) (*hiddenStates, error) {
	geometry := c.backbone.Geometry()
	h := &hiddenStates{split: sp, layer: layer, width: geometry.Hidden, firstOnly: layer == geometry.Layers,
		bfloat16: c.backbone.Precision() == model.PrecisionBFloat16, offsets: make([]int, len(sp.lengths))}
	tokens := 0
	for i, length := range sp.lengths {
		h.offsets[i] = tokens
		if h.firstOnly {
			length = 1
		}
		tokens += length
	}
	h.values = make([]float32, tokens*h.width)
	for _, examples := range evalBatches(sp.lengths) {
		if stop() {
			return nil, nil
		}
		batch := makeBatch(examples)
		scope := c.backbone.Scope()
		values := scope.Float32s(c.backbone.Hidden(scope, batch, layer))
		err := scope.Err()
		scope.Free()
		if err != nil {
			return nil, err
		}
		stride := batch.Len
		if h.firstOnly {
			stride = 1
		}
		for i, example := range examples {
			copy(h.row(example), values[i*stride*h.width:])
		}
	}
	return h, nil
}

// row is the values of one row, without padding.
func (h *hiddenStates) row(example int) []float32 {
	end := len(h.values)
	if example+1 < len(h.offsets) {
		end = h.offsets[example+1] * h.width
	}
	return h.values[h.offsets[example]*h.width : end]
}

// batch pads rows to one length: [n·length, D], or [n, D] for first tokens.
func (h *hiddenStates) batch(s *torch.Scope, examples []int, length int) *torch.Tensor {
	if h.firstOnly {
		length = 1
	}
	values := make([]float32, len(examples)*length*h.width)
	for i, example := range examples {
		copy(values[i*length*h.width:], h.row(example))
	}
	t := torch.From(s, values, len(examples)*length, h.width)
	if h.bfloat16 {
		t = s.To(t, torch.BFloat16)
	}
	return t
}
