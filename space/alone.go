package space

import (
	"slices"

	"peftsearch/evaluator"
	"peftsearch/peft"
)

// Methods lists the methods that the space has sizes of.
func (s *Space) Methods() (methods []peft.Method) {
	for _, d := range s.dimensions {
		if d.role == roleSize && !slices.Contains(methods, d.method) {
			methods = append(methods, d.method)
		}
	}
	return methods
}

// Alone is the point with one method in every layer, as far as it can be alone, at the middle one of its sizes that
// max_params allows; false if it allows none.
func (s *Space) Alone(m peft.Method) (Point, bool) {
	p := make(Point, len(s.dimensions))
	most := 0
	for i, d := range s.dimensions {
		switch {
		case d.role == roleBit:
			p[i] = 1
		case d.role == roleSize && d.method == m:
			most = max(most, len(d.Levels)-1)
		case d.role == roleLearningRate, d.role == roleSchedule:
			p[i] = (len(d.Levels) - 1) / 2
		}
	}
	for share := (most + 1) / 2; share >= 0; share-- {
		present := false
		for i, d := range s.dimensions {
			if d.role == roleSize && d.method == m {
				p[i] = min(share, len(d.Levels)-1)
				if d.modules[p[i]].gate {
					p[i]-- // the same size without
				}
				present = present || d.modules[p[i]].size > 0
			}
		}
		if present && s.Feasible(p) {
			return p, true
		}
	}
	return nil, false
}

// Reach is the lowest layer that a valid point's plan has a module in, the number of layers if it has none, and how
// many modules it has.
func (s *Space) Reach(p Point) (lowest, modules int) {
	input, layers := s.sizes(p)
	if lowest = s.geometry.Layers; len(input) > 0 {
		lowest, modules = 0, len(input)
	}
	for i, layer := range layers {
		if len(layer) > 0 {
			lowest, modules = min(lowest, i), modules+len(layer)
		}
	}
	return lowest, modules
}

// With is the same space for other settings of what it does not search.
func (s *Space) With(training evaluator.Training) *Space {
	other := *s
	other.training = training
	return &other
}
