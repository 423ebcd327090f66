package search

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// Outcome is a finished trial in the space of the two objectives.
type Outcome struct {
	Number int64   // of the trial
	Params int64   // trainable parameters, without the head; minimised
	Score  float64 // dev score; maximised
}

// Front returns the outcomes that no other dominates, by ascending parameters and so ascending score.
// Of equal outcomes it keeps the one with the lowest number. It takes O(n log n) and leaves its
// argument unchanged.
func Front(outcomes []Outcome) []Outcome {
	sorted := slices.Clone(outcomes)
	slices.SortFunc(sorted, func(a, b Outcome) int {
		return cmp.Or(cmp.Compare(a.Params, b.Params), cmp.Compare(b.Score, a.Score), cmp.Compare(a.Number, b.Number))
	})
	var front []Outcome
	for _, o := range sorted {
		if len(front) == 0 || o.Score > front[len(front)-1].Score {
			front = append(front, o)
		}
	}
	return front
}

// Reference fixes the scale of the hypervolume for the whole life of a study. What Check accepts makes every cost, gain
// and hypervolume a number.
type Reference struct {
	Chance    float64 `json:"chance"`     // score of the best constant prediction, finite and below 1
	MinParams int64   `json:"min_params"` // of the smallest plan with a module, at least 1
	MaxParams int64   `json:"max_params"` // of the largest plan, at least MinParams
}

// Check reports a scale on which no score is worth anything, or that is none.
func (r Reference) Check() error {
	switch {
	case r.Chance >= 1:
		return fmt.Errorf("the chance level is %g: the best constant prediction is perfect already, so no plan can "+
			"improve on it; "+
			"a dev split of one class has this, so give dev rows of at least two", r.Chance)
	case math.IsNaN(r.Chance) || math.IsInf(r.Chance, 0):
		return fmt.Errorf("the chance level is %g: the metric is not defined for the dev split, as for labels that are "+
			"all equal; "+
			"give dev rows of at least two classes or values", r.Chance)
	case r.MinParams < 1 || r.MaxParams < r.MinParams:
		return fmt.Errorf("the range of sizes is %d to %d parameters", r.MinParams, r.MaxParams)
	}
	return nil
}

// cost maps parameters to [0, 1] for MinParams to MaxParams, logarithmically. Plans below MinParams
// (head only) cost 0, plans above MaxParams more than 1.
func (r Reference) cost(params int64) float64 {
	if params <= r.MinParams {
		return 0
	}
	if r.MaxParams <= r.MinParams { // one size only: anything larger is out of range
		return 2
	}
	return math.Log(float64(params)/float64(r.MinParams)) / math.Log(float64(r.MaxParams)/float64(r.MinParams))
}

// gain maps a score to [0, 1] for Chance to 1, the best value of every metric.
func (r Reference) gain(score float64) float64 { return (score - r.Chance) / (1 - r.Chance) }

// Hypervolume is the share of the rectangle [MinParams, MaxParams] (on a logarithmic scale) × [Chance, 1]
// that the outcomes dominate: 0 for none, 1 for a perfect score at the smallest size. Outcomes at or
// below Chance, or above MaxParams, add nothing. It takes O(n log n).
func Hypervolume(outcomes []Outcome, ref Reference) float64 {
	var volume float64
	var best float64 // gain reached so far, going up in cost
	for _, o := range Front(outcomes) {
		cost, gain := ref.cost(o.Params), ref.gain(o.Score)
		if cost > 1 {
			break
		}
		if gain > best {
			volume += (gain - best) * (1 - cost)
			best = gain
		}
	}
	return volume
}
