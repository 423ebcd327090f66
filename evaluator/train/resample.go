package train

import (
	"math"
	"slices"

	"peftsearch/evaluator"
)

// resample scores predictions for a split on evaluator.Resamples draws of as many rows with replacement. Every
// training on the same rows has the same draws.
func (r *run) resample(sp *split, predictions [][]float64) []float64 {
	examples := sp.examples
	if len(predictions) != len(examples) { // the best rung is in a checkpoint of an older version
		return nil
	}
	rng := newRand(0, "dev rows", 0)
	score := r.dataset.Rescored(predictions, examples)
	drawn, out := make([]int, len(examples)), make([]float64, evaluator.Resamples)
	for i := range out {
		for j := range drawn {
			drawn[j] = rng.IntN(len(examples))
		}
		out[i] = math.Round(1e6*score(drawn)) / 1e6
	}
	return out
}

// interval is where 95 % of the scores on draws lie; ok is false for none.
func interval(resampled []float64) (ends [2]float64, ok bool) {
	if len(resampled) == 0 {
		return ends, false
	}
	sorted, out := slices.Sorted(slices.Values(resampled)), len(resampled)/40
	return [2]float64{sorted[out], sorted[len(sorted)-1-out]}, true
}
