package search

import (
	"math"

	"gonum.org/v1/gonum/mat"

	"peftsearch/space"
)

// durations tell what trainings take: a linear function of how many layers are trained through, from the lowest one
// with a module up, and of how many modules there are. Nil knows nothing, and takes all trainings for equally long.
type durations struct {
	space   *space.Space
	weights [durationTerms]float64
	least   float64 // no training is taken for shorter
}

const (
	durationTerms = 3
	leastDuration = 0.25 // of the mean
)

// newDurations fits what finished trials took, by a ridge regression towards their mean. It is nil where they do not
// say.
func newDurations(s *space.Space, trials []*Observation) *durations {
	d := &durations{space: s}
	var rows [][durationTerms]float64
	var seconds []float64
	mean := 0.0
	for _, o := range trials {
		if o.Seconds > 0 && o.State == Complete {
			rows, seconds, mean = append(rows, d.terms(o.Point)), append(seconds, o.Seconds), mean+o.Seconds
		}
	}
	if len(rows) < 2*durationTerms {
		return nil
	}
	mean /= float64(len(rows))
	gram, target := mat.NewSymDense(durationTerms, nil), mat.NewVecDense(durationTerms, nil)
	for i := range durationTerms {
		gram.SetSym(i, i, 1)
		for j := i; j < durationTerms; j++ {
			for _, row := range rows {
				gram.SetSym(i, j, gram.At(i, j)+row[i]*row[j])
			}
		}
		for n, row := range rows {
			target.SetVec(i, target.AtVec(i)+row[i]*(seconds[n]-mean))
		}
	}
	var cholesky mat.Cholesky
	var weights mat.VecDense
	if !cholesky.Factorize(gram) || cholesky.SolveVecTo(&weights, target) != nil {
		return nil
	}
	copy(d.weights[:], weights.RawVector().Data)
	d.weights[0] += mean
	d.least = leastDuration * mean
	return d
}

// terms are what durations depend on, each within [0, 1].
func (d *durations) terms(p space.Point) [durationTerms]float64 {
	layers := d.space.Geometry().Layers
	lowest, modules := d.space.Reach(p)
	return [durationTerms]float64{1, float64(layers-lowest) / float64(layers),
		float64(modules) / float64(layers*len(d.space.Methods()))}
}

// of is what a training at a point takes, in seconds; 1 for nil.
func (d *durations) of(p space.Point) float64 {
	if d == nil {
		return 1
	}
	seconds := 0.0
	for i, term := range d.terms(p) {
		seconds += d.weights[i] * term
	}
	if math.IsNaN(seconds) {
		return d.least
	}
	return max(seconds, d.least)
}
