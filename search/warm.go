package search

import (
	"math"
	"slices"

	"gonum.org/v1/gonum/mat"

	"peftsearch/space"
)

const (
	// leastInitial is the least number of cost-stratified trials that a search starts with.
	leastInitial = 6
	// A search that knows other studies tries the best that these know first, and then a few cost-stratified plans, which
	// show whether its task is another one.
	warmFirst   = 6
	warmInitial = 2
)

// source is what other studies say about the points of this one: the posterior mean of a Gaussian process
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
	front    []space.Point // of what it expects, the most valuable first
}

// pool makes the trials of several studies those of one: each study's scores are standardised, and of a plan that
// several have tried the mean counts.
func pool(s *space.Space, studies [][]Observation) ([]Observation, error) {
	var pooled []Observation
	at := map[string]int{}
	counts := []float64{}
	for _, trials := range studies {
		history, err := NewHistory(s, trials)
		if err != nil {
			return nil, err
		}
		finished := history.lists.finished
		scores, err := standardise(finished)
		if err != nil {
			continue // they tell nothing
		}
		for i, o := range finished {
			key := s.Key(o.Point)
			j, known := at[key]
			if !known {
				j, at[key] = len(pooled), len(pooled)
				pooled = append(pooled, Observation{Number: int64(j), Point: o.Point, Params: o.Params, State: Complete})
				counts = append(counts, 0)
			}
			counts[j]++
			pooled[j].Score += (scores.values[i] - pooled[j].Score) / counts[j]
			pooled[j].SD += (math.Sqrt(scores.variances[i]) - pooled[j].SD) / counts[j]
		}
	}
	return pooled, nil
}

// newSource fits pooled trials of other studies; nil if nothing can be learned from them.
func newSource(s *space.Space, reference Reference, trials *lists) *source {
	v := &view{lists: trials, space: s, reference: reference, rng: newRand(0, 0)}
	modelled := v.modelled()
	scores, err := standardise(modelled)
	if err != nil {
		return nil
	}
	out := &source{features: newFeatures(s, reference), weights: new(mat.VecDense)}
	points := make([]space.Point, len(modelled))
	for i, o := range modelled {
		points[i] = o.Point
	}
	encoded := out.features.encode(points)
	r := newRegression(out.features, encoded, scores, nil)
	best, err := r.fit()
	if err != nil {
		return nil
	}
	out.kernel = r.kernel(best.theta)
	out.known = out.kernel.scaled(encoded)
	covariance := scores.onto(out.kernel.between(out.known, out.known), out.kernel.noise, nugget)
	if out.weights.SolveVec(covariance, r.y.vector()) != nil {
		return nil
	}
	for range warmDraws {
		if p := v.sparse(); s.Feasible(p) {
			points = append(points, p)
		}
	}
	out.front = out.valuable(points)
	return out
}

// warmDraws is how many random plans are considered, beside those that were tried, for what is tried first.
const warmDraws = 2000

// valuable are those of the points that together make most of the hypervolume of what is expected of all, as far as
// warmFirst of them can: each is the one that adds most to those before it.
func (s *source) valuable(points []space.Point) []space.Point {
	means := s.means(points)
	least, most := slices.Min(means), slices.Max(means)
	if !(most > least) {
		return nil
	}
	scale := s.features.reference
	scale.Chance = 0
	outcomes := make([]Outcome, len(points))
	for i, p := range points {
		outcomes[i] = Outcome{int64(i), s.features.space.Params(p), (means[i] - least) / (most - least)}
	}
	candidates := Front(outcomes)
	var chosen []Outcome
	var out []space.Point
	for range warmFirst {
		best, volume := -1, Hypervolume(chosen, scale)
		for i, o := range candidates {
			if with := Hypervolume(append(slices.Clip(chosen), o), scale); with > volume {
				best, volume = i, with
			}
		}
		if best < 0 {
			break
		}
		chosen = append(chosen, candidates[best])
		out = append(out, points[candidates[best].Number])
	}
	return out
}

// transfer proposes what other studies expect most of, which is tried before anything else.
type transfer struct{ point space.Point }

func (t transfer) propose(*view) (Suggestion, error) {
	return Suggestion{t.point, "transfer", "among the best that is expected from other studies on this model"}, nil
}

// untried is the first of what a source would try first that was not, nil if there is none.
func (v *view) untried() space.Point {
	for _, p := range v.prior.frontPoints() {
		if v.free(p) {
			return p
		}
	}
	return nil
}

// frontPoints are the points of what is expected of the other studies' front.
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
