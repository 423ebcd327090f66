package space

import (
	"fmt"
	"maps"
	"slices"

	"peftsearch/peft"
)

// A style is what modules of one size may differ in: whether those of a method have gates, and what function and scale
// bottlenecks have. It is the same in all layers; gates of each layer's own choice are levels of the sizes.

// module is what a level stands for at a point, in a layer of a stack.
func (s *Space) module(p Point, m sized, stack peft.Stack) peft.Module {
	style := s.style(p, m.method)
	style.Gate, style.Cross = style.Gate || m.gate, stack.Cross
	return m.method.Sized(m.size, style)
}

// style is what a point's modules of a method have.
func (s *Space) style(p Point, m peft.Method) peft.Style {
	style := s.config.style()
	for i := range s.dimensions {
		switch d := &s.dimensions[i]; d.role {
		case roleGate:
			style.Gate = style.Gate || d.method == m && p[i] == 1
		case roleNonLinearity:
			if f := s.config.NonLinearity[p[i]]; f != own {
				style.NonLinearity = f
			}
		case roleScale:
			scale := s.config.Scale[p[i]]
			style.LearnedScale, style.Factor = scale == learned, scale.factor()
		}
	}
	return style
}

// styleKey tells styles of the methods that a plan has apart: two have one key exactly if the modules are the same.
func (s *Space) styleKey(p Point, has map[peft.Method]bool) string {
	if len(s.variants) == 1 && len(s.config.NonLinearity) == 0 {
		return ""
	}
	key := ""
	for _, m := range peft.Methods {
		if has[m] {
			key += fmt.Sprintf("|%v", m.Sized(1, s.style(p, m)))
		}
	}
	return key
}

// findStyle sets a point's style to one that makes the plan's modules of their sizes, if there is one.
func (s *Space) findStyle(p Point, plan peft.Plan) {
	var places []int // of the dimensions
	for i, d := range s.dimensions {
		if d.role == roleGate || d.role == roleNonLinearity || d.role == roleScale {
			places = append(places, i)
		}
	}
	if len(places) == 0 {
		return
	}
	makes := func(m peft.Method) bool {
		same := func(l peft.Layer, stack peft.Stack) bool {
			module := l.Module(m)
			return module == nil || peft.Equal(module, s.module(p, sized{m, module.Size(), false}, stack)) ||
				s.config.gatesItself(m) && peft.Equal(module, s.module(p, sized{m, module.Size(), true}, stack))
		}
		for i, layer := range plan.Layers {
			if !same(layer, s.geometry.Stack(i)) {
				return false
			}
		}
		return same(plan.Input, peft.Stack{})
	}
	// Gates are found one by one, under each of the few functions and scales.
	var search func(places []int) bool
	search = func(places []int) bool {
		if len(places) == 0 {
			return !slices.ContainsFunc(peft.Methods, func(m peft.Method) bool { return !makes(m) })
		}
		last := len(places) - 1 // functions and scales come after the gates
		d := &s.dimensions[places[last]]
		for level := range d.Levels {
			p[places[last]] = level
			if d.role == roleGate && !makes(d.method) {
				continue
			}
			if search(places[:last]) {
				return true
			}
		}
		p[places[last]] = 0
		return false
	}
	search(places)
}

// variant is a choice of gates and a scale, and of whether methods are there whose modules share tensors, with what
// each level of a size costs under it: in the whole plan or, with bits, in each layer that is kept.
type variant struct {
	levels map[int]int // of the gates and the scale, and 0 of the sizes of methods that are not there; by dimension
	params [][]int64   // by dimension and level; nil of dimensions that are no size
	shared int64       // what modules share, once in a plan
	needs  [][]int     // sizes of which at least one is above its first level, for each method that is there
}

// cost is what a level adds to a plan; with bits, to each layer that is kept.
func (v *variant) cost(dimension, level int) int64 {
	if v.params[dimension] == nil {
		return 0
	}
	return v.params[dimension][level]
}

// holds reports whether levels, which are as the variant has them, have what it needs.
func (v *variant) holds(level func(dimension int) int) bool {
	for _, sizes := range v.needs {
		if !slices.ContainsFunc(sizes, func(i int) bool { return level(i) > 0 }) {
			return false
		}
	}
	return true
}

// sharing lists the sizes of each method whose modules share tensors and which a plan may be without, and counts what
// modules share of the other methods.
func (s *Space) sharing() (list [][]int, always int64) {
	for _, m := range peft.Methods {
		var sizes []int
		for i, d := range s.dimensions {
			if d.role == roleSize && d.method == m && m.Shared() != nil {
				sizes = append(sizes, i)
			}
		}
		switch {
		case sizes == nil:
		case s.dimensions[sizes[0]].Optional():
			list = append(list, sizes)
		default:
			always += peft.SharedCount(m).Total()
		}
	}
	return list, always
}

// variant is that of a valid point.
func (s *Space) variant(p Point) *variant {
	at := 0
	for i := range s.dimensions {
		if d := &s.dimensions[i]; d.role == roleGate || d.role == roleScale {
			at = at*len(d.Levels) + p[i]
		}
	}
	for _, sizes := range s.sharingSizes {
		at *= 2
		if slices.ContainsFunc(sizes, func(i int) bool { return p[i] > 0 }) {
			at++
		}
	}
	return &s.variants[at]
}

// newVariants lists the variants in the order in which variant counts them.
func (s *Space) newVariants() []variant {
	var always int64
	s.sharingSizes, always = s.sharing()
	all := []variant{{levels: map[int]int{}, shared: always}}
	split := func(into func(v variant) []variant) {
		var more []variant
		for _, v := range all {
			more = append(more, into(v)...)
		}
		all = more
	}
	for i, d := range s.dimensions {
		if d.role != roleGate && d.role != roleScale {
			continue
		}
		split(func(v variant) (list []variant) {
			for level := range d.Levels {
				next := v
				next.levels = maps.Clone(v.levels)
				next.levels[i] = level
				list = append(list, next)
			}
			return list
		})
	}
	for _, sizes := range s.sharingSizes {
		split(func(v variant) []variant {
			with, without := v, v
			with.shared += peft.SharedCount(s.dimensions[sizes[0]].method).Total()
			with.needs = append(slices.Clone(v.needs), sizes)
			without.levels = maps.Clone(v.levels)
			for _, i := range sizes {
				without.levels[i] = 0
			}
			return []variant{without, with}
		})
	}
	for n := range all {
		v := &all[n]
		p := make(Point, len(s.dimensions))
		for place, level := range v.levels {
			p[place] = level
		}
		v.params = make([][]int64, len(s.dimensions))
		for i, d := range s.dimensions {
			if d.role != roleSize {
				continue
			}
			for _, module := range d.modules {
				v.params[i] = append(v.params[i], s.paramsOf(p, d, module))
			}
		}
	}
	return all
}

// paramsOf counts the modules that a level stands for at a point: with bits, in one layer.
func (s *Space) paramsOf(p Point, d Dimension, module sized) int64 {
	if module.size == 0 {
		return 0
	}
	if d.layers == nil || s.config.Preset == PresetAutoPEFT {
		return peft.CountOf(s.module(p, module, peft.Stack{}), s.geometry).Total()
	}
	var count int64
	for _, layer := range d.layers {
		count += peft.CountOf(s.module(p, module, s.geometry.Stack(layer)), s.geometry).Total()
	}
	return count
}
