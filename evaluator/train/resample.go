package train

import (
	"math"

	"peftsearch/data/metric"
	"peftsearch/evaluator"
)

// resample scores predictions on evaluator.Resamples draws of as many dev rows with replacement. Every training on
// the same rows has the same draws.
func (r *run) resample(predictions []float64) []float64 {
	labels := r.dev.labels
	if len(predictions) != len(labels) { // the best rung is in a checkpoint of an older version
		return nil
	}
	rng := newRand(0, "dev rows", 0)
	drawn, known := make([]float64, len(labels)), make([]float64, len(labels))
	out := make([]float64, evaluator.Resamples)
	for i := range out {
		for j := range labels {
			row := rng.IntN(len(labels))
			drawn[j], known[j] = predictions[row], labels[row]
		}
		out[i] = math.Round(1e6*metric.Score(r.hello.Task.Metric, drawn, known)) / 1e6
	}
	return out
}
