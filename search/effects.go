package search

import (
	"errors"
	"math"
	"slices"

	"gonum.org/v1/gonum/mat"

	"peftsearch/space"
)

// Effect is what choices of a plan do to its score, by the process that gp fits to a history.
type Effect struct {
	Plans int     // that it is the mean over; 0 if no plan made the choices
	Mean  float64 // what the score loses without them, in its own unit
	SD    float64 // of Mean: how much of it the trials leave open
}

const (
	effectTrials = 20 // below them the process knows next to nothing
	effectPlans  = 64 // the best that an effect is the mean over
)

// ErrFewTrials says that there are too few trials to tell what mattered.
var ErrFewTrials = errors.New("too few trials to tell what mattered")

// Effects tells what each group of dimensions does: by how much the scores of the best plans that have any of
// them above its first level, at which a module is absent, change when all of them go to that level. Plans become
// smaller by that, which counts. Such a mean of differences of a Gaussian process is normal; its standard deviation
// takes the fitted kernel for known, so it is too small after few trials. The error wraps ErrFewTrials. It takes O(n³)
// for n trials, of which at most gpTrials are modelled.
func Effects(s *space.Space, reference Reference, trials []Observation, groups [][]int) ([]Effect, error) {
	h, err := NewHistory(s, trials)
	if err != nil {
		return nil, err
	}
	v := &view{lists: h.lists, space: s, reference: reference, rng: newRand(0, 0)}
	if len(v.finished) < effectTrials {
		return nil, ErrFewTrials
	}
	modelled := v.modelled()
	scores, err := standardise(modelled)
	if err != nil {
		return nil, errors.Join(ErrFewTrials, err)
	}
	points := make([]space.Point, len(modelled))
	for i, o := range modelled {
		points[i] = o.Point
	}
	f := newFeatures(s, reference)
	encoded := f.encode(points)
	r := newRegression(f, encoded, scores, nil)
	best, err := r.fit()
	if err != nil {
		return nil, errors.Join(ErrFewTrials, err)
	}
	p := &posterior{features: f, kernel: r.kernel(best.theta)}
	p.known = p.kernel.scaled(encoded)
	covariance := scores.onto(p.kernel.between(p.known, p.known), p.kernel.noise, nugget)
	if !p.cholesky.Factorize(covariance) || p.cholesky.SolveVecTo(&p.weights, r.y.vector()) != nil {
		return nil, errors.Join(ErrFewTrials, errors.New("the covariance of the trials is not positive definite"))
	}
	ranked := slices.Concat(v.ranks()...)
	effects := make([]Effect, len(groups))
	for i, group := range groups {
		with, without := contrast(ranked, group)
		if effects[i].Plans = len(with); len(with) > 0 {
			mean, sd := p.difference(with, without)
			effects[i].Mean, effects[i].SD = mean*scores.scale.sd, sd*scores.scale.sd
		}
	}
	return effects, nil
}

// contrast lists the best plans that have one of the dimensions above its first level, and what they are without.
func contrast(ranked []*Observation, group []int) (with, without []space.Point) {
	for _, o := range ranked {
		if len(with) == effectPlans {
			break
		}
		if !slices.ContainsFunc(group, func(d int) bool { return o.Point[d] > 0 }) {
			continue
		}
		changed := slices.Clone(o.Point)
		for _, d := range group {
			changed[d] = 0
		}
		with, without = append(with, o.Point), append(without, changed)
	}
	return with, without
}

// posterior is a process that knows scores; all are standardised.
type posterior struct {
	features *features
	kernel   *kernel
	known    inputs // scaled
	cholesky mat.Cholesky
	weights  mat.VecDense // covariance⁻¹ · scores
}

// difference is the mean over pairs of points of f(with) − f(without): its expectation and its standard deviation.
func (p *posterior) difference(with, without []space.Point) (mean, sd float64) {
	n := len(with)
	at := p.kernel.scaled(p.features.encode(slices.Concat(with, without)))
	share := mat.NewVecDense(2*n, nil)
	for i := range n {
		share.SetVec(i, 1/float64(n))
		share.SetVec(n+i, -1/float64(n))
	}
	var own, toKnown, solved mat.VecDense
	own.MulVec(p.kernel.between(at, at), share)
	toKnown.MulVec(p.kernel.between(p.known, at), share)
	variance := mat.Dot(share, &own)
	if p.cholesky.SolveVecTo(&solved, &toKnown) == nil {
		variance -= mat.Dot(&toKnown, &solved)
	}
	return mat.Dot(&toKnown, &p.weights), math.Sqrt(max(variance, 0))
}
