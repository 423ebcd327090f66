package search

import (
	"slices"

	"gonum.org/v1/gonum/mat"

	"peftsearch/space"
)

// warmInitial is how many cost-stratified trials a search starts with that knows another study, and the
// least number for one that does not.
const warmInitial = 6

// source is what another study says about the points of this one: the posterior mean of a Gaussian process
// fitted to its standardised scores. Nil says nothing.
//
// gp models the scores as ρ·m(x) + δ(x), with m that mean, ρ standard normal and integrated out, and δ the
// process that it fits without another study (Kennedy and O'Hagan 2000, "Predicting the Output from a
// Complex Computer Code When Fast Approximations Are Available"). Where the scores are likelier without m,
// at that trial the other study is left out of account.
type source struct {
	features *features
	kernel   *kernel
	known    inputs // its trials, scaled
	weights  *mat.VecDense
	front    []space.Point
}

// newSource fits the trials of the other study; nil if nothing can be learned from them.
func newSource(s *space.Space, reference Reference, trials *lists) *source {
	v := &view{lists: trials, space: s, reference: reference, rng: newRand(0, 0)}
	modelled := v.modelled()
	_, scores, variances, err := standardise(modelled)
	if err != nil {
		return nil
	}
	out := &source{features: newFeatures(s, reference), weights: new(mat.VecDense)}
	points := make([]space.Point, len(modelled))
	outcomes := make([]Outcome, len(modelled))
	for i, o := range modelled {
		points[i], outcomes[i] = o.Point, Outcome{int64(i), o.Params, o.Score}
	}
	for _, member := range Front(outcomes) {
		out.front = append(out.front, points[member.Number])
	}
	encoded := out.features.encode(points)
	r := newRegression(out.features, encoded, scores, variances, nil)
	best, err := r.fit()
	if err != nil {
		return nil
	}
	out.kernel = r.kernel(best.theta)
	out.known = out.kernel.scaled(encoded)
	covariance := symmetric(out.kernel.between(out.known, out.known), out.kernel.noise+nugget, variances)
	if out.weights.SolveVec(covariance, r.y) != nil {
		return nil
	}
	return out
}

// frontPoints are the points of the other study's front.
func (s *source) frontPoints() []space.Point {
	if s == nil {
		return nil
	}
	return slices.Clone(s.front)
}

// means predicts the standardised scores of points on the other task, in O(n·D) for each; 0 for a nil source.
func (s *source) means(points []space.Point) []float64 {
	out := make([]float64, len(points))
	if s != nil {
		covariance := s.kernel.between(s.kernel.scaled(s.features.encode(points)), s.known)
		mat.NewVecDense(len(points), out).MulVec(covariance, s.weights)
	}
	return out
}
