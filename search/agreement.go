package search

import (
	"fmt"
	"math"

	"peftsearch/data/metric"
	"peftsearch/space"
)

// leastCompared is the number of trials from which on a rank correlation says something.
const leastCompared = 5

// Agreement is how far what was known before a study's first trial agrees with its trials.
type Agreement struct {
	Trials int // complete ones at points of the space
	// Rank is Spearman's correlation between what was expected of them and their scores, GivenSize the partial one given
	// their sizes: large plans are expected to be better, and are, whatever else is known.
	Rank, GivenSize float64
	// Used reports whether the scores are likelier with what was expected than without it; without, gp leaves it out.
	Used bool
}

// NewAgreement compares what a prior, as in [Options], tells with the trials of a study. The error says that nothing
// can be compared yet; or it wraps ErrDamagedHistory.
func NewAgreement(s *space.Space, reference Reference, prior [][]Observation, trials []Observation) (Agreement, error) {
	pooled, err := pool(s, prior)
	if err != nil {
		return Agreement{}, err
	}
	others, err := NewHistory(s, pooled)
	if err != nil {
		return Agreement{}, err
	}
	history, err := NewHistory(s, trials)
	if err != nil {
		return Agreement{}, err
	}
	known := newSource(s, reference, others.lists)
	var points []space.Point
	var scores, sizes []float64
	for _, o := range history.lists.finished {
		if o.State == Complete {
			points, scores, sizes = append(points, o.Point), append(scores, o.Score), append(sizes, reference.cost(o.Params))
		}
	}
	if known == nil || len(points) < leastCompared {
		return Agreement{}, fmt.Errorf("%d complete trials, it needs %d", len(points), leastCompared)
	}
	expected := known.means(points)
	a := Agreement{Trials: len(points), Rank: rankCorrelation(expected, scores)}
	bySize, ofSize := rankCorrelation(expected, sizes), rankCorrelation(scores, sizes)
	if rest := (1 - bySize*bySize) * (1 - ofSize*ofSize); rest > 1e-9 {
		a.GivenSize = min(max((a.Rank-bySize*ofSize)/math.Sqrt(rest), -1), 1)
	}
	v := &view{lists: history.lists, space: s, reference: reference, rng: newRand(0, 0), history: history, prior: known}
	if _, err := v.sampleFronts(); err != nil {
		return Agreement{}, err
	}
	a.Used = v.prior != nil
	return a, nil
}

// rankCorrelation is Spearman's, 0 where one of them does not vary.
func rankCorrelation(one, other []float64) float64 {
	rows := func(values []float64) (out [][]float64) {
		for _, v := range values {
			out = append(out, []float64{v})
		}
		return out
	}
	return metric.Score(metric.Spearman, metric.Answers{Form: metric.Values, Predicted: rows(one), Actual: rows(other)})
}
