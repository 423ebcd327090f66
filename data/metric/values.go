package metric

import (
	"cmp"
	"math"
	"slices"

	"gonum.org/v1/gonum/stat"
)

func mean(values []float64) float64 { return stat.Mean(values, nil) }

func pearson(x, y []float64) float64 {
	if slices.Min(x) == slices.Max(x) || slices.Min(y) == slices.Max(y) {
		return 0
	}
	return min(1, max(-1, stat.Correlation(x, y, nil)))
}

func spearman(a Answers) float64 {
	predicted, actual := a.flat()
	return pearson(ranks(predicted), ranks(actual))
}

// ranks are from 1; equal values share the mean of their ranks.
func ranks(values []float64) []float64 {
	order := make([]int, len(values))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(values[a], values[b]) })
	out := make([]float64, len(values))
	for i := 0; i < len(order); {
		j := i + 1
		for j < len(order) && values[order[j]] == values[order[i]] {
			j++
		}
		for _, k := range order[i:j] {
			out[k] = float64(i+j+1) / 2
		}
		i = j
	}
	return out
}

func negRMSE(a Answers) float64 {
	predicted, actual := a.flat()
	sum := 0.0
	for i := range actual {
		sum += (predicted[i] - actual[i]) * (predicted[i] - actual[i])
	}
	return -math.Sqrt(sum / float64(len(actual)))
}

// negRAE is 0 where all values are the same.
func negRAE(a Answers) float64 {
	predicted, actual := a.flat()
	center, errors, deviations := mean(actual), 0.0, 0.0
	for i := range actual {
		errors += math.Abs(predicted[i] - actual[i])
		deviations += math.Abs(center - actual[i])
	}
	if deviations == 0 {
		return 0
	}
	return -errors / deviations
}
