package train

import (
	"math"

	"peftsearch/data"
	"peftsearch/evaluator"
)

// resample scores predictions on evaluator.Resamples draws of as many dev rows with replacement. Every training on
// the same rows has the same draws.
func (r *run) resample(predictions [][]float64) []float64 {
	examples := r.dev.examples
	if len(predictions) != len(examples) { // the best rung is in a checkpoint of an older version
		return nil
	}
	rng := newRand(0, "dev rows", 0)
	drawn, known := make([][]float64, len(examples)), make([]data.Example, len(examples))
	out := make([]float64, evaluator.Resamples)
	for i := range out {
		for j := range examples {
			row := rng.IntN(len(examples))
			drawn[j], known[j] = predictions[row], examples[row]
		}
		out[i] = math.Round(1e6*r.dataset.Score(drawn, known)) / 1e6
	}
	return out
}
