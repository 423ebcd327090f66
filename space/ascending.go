package space

import (
	"bytes"
	"cmp"
	"container/heap"
	"iter"
	"slices"
)

// Ascending goes through the feasible points by ascending parameters, from the smallest plan on. Points of the same
// candidate and of the same size come in an order that is always the same. The first n points take O(n·D + n log n)
// for D dimensions, whatever the size of the space.
//
// Without bits the parameters are a sum over the dimensions, and what modules share; with bits, the number of layers
// that are kept times such a sum. The sums come from a heap. With the dimensions ordered by what their second level
// costs more than the first, each choice of levels follows from one other that is not larger: the last dimension above
// its first level goes up, or the next dimension joins it, or takes its place.
func (s *Space) Ascending() iter.Seq[Point] {
	return func(feasible func(Point) bool) {
		yield := func(p Point) bool { return s.clash(p) >= 0 || feasible(p) }
		w := s.newWalk()
		for len(w.heap) > 0 {
			c := heap.Pop(&w.heap).(*choice)
			if s.config.MaxParams > 0 && c.params() > s.config.MaxParams {
				return
			}
			w.follow(c)
			if c.params() > 0 && c.holds(func(d int) int { return int(c.levels[d]) }) && !w.points(c, yield) {
				return
			}
		}
	}
}

// choice is a level of every dimension but the bits.
type choice struct {
	*variantWalk
	sum    int64  // of the levels' parameters
	kept   int64  // layers that are kept; 1 where there are no bits
	levels []byte // by dimension
	last   int    // index into order of the last dimension above its first level; -1 for none
}

func (c *choice) params() int64 { return c.kept*c.sum + c.shared }

// walk is one way through the space. It goes through the points of all variants at once.
type walk struct {
	space *Space
	bits  []int // dimensions that are bits
	heap  choices
}

// variantWalk is the part of a walk in one variant, whose dimensions stay as they are.
type variantWalk struct {
	*variant
	order []int // dimensions with a second level, by what it costs more than the first
}

func (s *Space) newWalk() *walk {
	w := &walk{space: s}
	for i, d := range s.dimensions {
		if d.role == roleBit {
			w.bits = append(w.bits, i)
		}
	}
	for n := range s.variants {
		v := &variantWalk{variant: &s.variants[n]}
		start := &choice{variantWalk: v, kept: 1, levels: make([]byte, len(s.dimensions)), last: -1}
		for i, d := range s.dimensions {
			level, fixed := v.variant.levels[i]
			switch {
			case fixed:
				start.levels[i] = byte(level)
			case d.role != roleBit && len(d.Levels) > 1:
				v.order = append(v.order, i)
			}
			start.sum += v.cost(i, 0)
		}
		slices.SortStableFunc(v.order, func(a, b int) int { return cmp.Compare(v.step(a, 0), v.step(b, 0)) })
		heap.Push(&w.heap, start)
	}
	return w
}

// step is what the next level of a dimension costs more.
func (v *variantWalk) step(dimension int, level byte) int64 {
	return v.cost(dimension, int(level)+1) - v.cost(dimension, int(level))
}

// follow adds the choices that follow from one.
func (w *walk) follow(c *choice) {
	add := func(last int, sum int64, change func(levels []byte)) {
		next := &choice{variantWalk: c.variantWalk, sum: sum, kept: c.kept, levels: bytes.Clone(c.levels), last: last}
		change(next.levels)
		heap.Push(&w.heap, next)
	}
	if c.last < 0 && c.kept < int64(len(w.bits)) {
		heap.Push(&w.heap, &choice{variantWalk: c.variantWalk, sum: c.sum, kept: c.kept + 1, levels: c.levels, last: -1})
	}
	if c.last >= 0 {
		d := c.order[c.last]
		if level := c.levels[d]; int(level)+1 < len(w.space.dimensions[d].Levels) {
			add(c.last, c.sum+c.step(d, level), func(levels []byte) { levels[d]++ })
		}
	}
	if c.last+1 == len(c.order) {
		return
	}
	d := c.order[c.last+1]
	joined := c.sum + c.step(d, 0)
	add(c.last+1, joined, func(levels []byte) { levels[d] = 1 })
	if c.last >= 0 && c.levels[c.order[c.last]] == 1 {
		before := c.order[c.last]
		add(c.last+1, joined-c.step(before, 0), func(levels []byte) { levels[before], levels[d] = 0, 1 })
	}
}

// points yields the points of a choice: one, or with bits one for each set of as many layers as are kept.
func (w *walk) points(c *choice, yield func(Point) bool) bool {
	p := make(Point, len(c.levels))
	for i, level := range c.levels {
		p[i] = int(level)
	}
	if len(w.bits) == 0 {
		return yield(p)
	}
	kept := make([]int, c.kept) // ascending
	for i := range kept {
		kept[i] = i
	}
	for {
		q := slices.Clone(p)
		for _, i := range kept {
			q[w.bits[i]] = 1
		}
		if !yield(q) {
			return false
		}
		last := len(kept) - 1 // that can go up
		for last >= 0 && kept[last] == len(w.bits)-len(kept)+last {
			last--
		}
		if last < 0 {
			return true
		}
		kept[last]++
		for i := last + 1; i < len(kept); i++ {
			kept[i] = kept[i-1] + 1
		}
	}
}

// choices is a heap by ascending parameters. The order of equal ones is that of their levels.
type choices []*choice

func (h choices) Len() int      { return len(h) }
func (h choices) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h choices) Less(i, j int) bool {
	a, b := h[i], h[j]
	return cmp.Or(cmp.Compare(a.params(), b.params()), cmp.Compare(a.kept, b.kept), bytes.Compare(a.levels, b.levels)) < 0
}
func (h *choices) Push(x any) { *h = append(*h, x.(*choice)) }
func (h *choices) Pop() any {
	last := len(*h) - 1
	c := (*h)[last]
	*h = (*h)[:last]
	return c
}
