package search

import (
	"fmt"
	"math"
	"math/rand"
	"sync"

	"github.com/c-bata/goptuna"
	"github.com/c-bata/goptuna/tpe"

	"peftsearch/space"
)

// univariateSampler is goptuna's own tree-structured Parzen estimator (Bergstra et al. 2011, "Algorithms for
// Hyper-Parameter Optimization"): one objective, the score, and each dimension on its own. With
// max_params it answers "the best score with at most so many parameters"; it does not look for smaller
// plans. A draw that is taken or too large is changed coordinate by coordinate until it is free. With n
// trials and D dimensions it takes O(n·D), in which goptuna's constant is large.
type univariateSampler struct{}

// globalRand guards the global source of math/rand, from which goptuna's estimator draws in part. It is
// seeded for every ask (docs/adr/0008-goptunas-tpe.md).
var globalRand sync.Mutex

func (univariateSampler) propose(v *view) (Suggestion, error) {
	suggestion := Suggestion{Sampler: "tpe-univariate", Reason: reasonChosen}
	var err error
	if len(v.finished) == 0 {
		suggestion.Point, err = v.stratified(v.candidates)
		return suggestion, err
	}
	drawn, err := v.univariate()
	if err != nil {
		return suggestion, err
	}
	if suggestion.Point = v.repair(drawn); suggestion.Point == nil {
		suggestion.Point, err = v.anyFree()
	}
	return suggestion, err
}

// univariate draws one point, free or not.
func (v *view) univariate() (space.Point, error) {
	globalRand.Lock()
	defer globalRand.Unlock()
	rand.Seed(v.rng.Int64())
	estimator := tpe.NewSampler(tpe.SamplerOptionSeed(v.rng.Int64()), tpe.SamplerOptionNumberOfStartupTrials(1))
	p := make(space.Point, len(v.space.Dimensions()))
	for i, d := range v.space.Dimensions() {
		value, err := estimator.Sample(v.study, goptuna.FrozenTrial{}, d.Name, distribution(d))
		if err != nil {
			return nil, fmt.Errorf("dimension %s: %w", d.Name, err)
		}
		p[i] = int(math.Round(value))
	}
	return p, nil
}

// repair changes random coordinates, and while the plan is too large lowers them, until the point is free.
// It is nil if that does not succeed.
func (v *view) repair(p space.Point) space.Point {
	const steps = 1000
	for range steps {
		if v.free(p) {
			return p
		}
		params := v.space.Params(p)
		if q := v.neighbour(p); v.space.Feasible(p) || params == 0 || v.space.Params(q) < params {
			p = q
		}
	}
	return nil
}
