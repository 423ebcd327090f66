package search

import (
	"cmp"
	"math"
	"slices"

	"gonum.org/v1/gonum/stat"
)

// RowSD is the standard deviation that the choice of the dev rows gives a score, from its resampled scores; NaN where
// it is not known.
func RowSD(resampled []float64) float64 {
	if len(resampled) < 2 {
		return math.NaN()
	}
	return stat.StdDev(resampled, nil)
}

// PairedRowSD is the standard deviation that the choice of the dev rows gives the difference of two scores on the same
// rows: less than that of one score, as far as the two are wrong in the same rows. NaN where it is not known.
func PairedRowSD(a, b []float64) float64 {
	if len(a) != len(b) {
		return math.NaN()
	}
	differences := make([]float64, len(a))
	for i := range a {
		differences[i] = a[i] - b[i]
	}
	return RowSD(differences)
}

// rowVariances are the variances of scores by the dev rows, without the part that trials have in common, which changes
// no comparison: half of that of the difference from the trials with the next scores. 0 where it is not known.
func rowVariances(trials []*Observation) []float64 {
	var order []int
	for i, o := range trials {
		if len(o.Resampled) > 1 {
			order = append(order, i)
		}
	}
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(trials[a].Score, trials[b].Score), cmp.Compare(trials[a].Number, trials[b].Number))
	})
	variances, pairs := make([]float64, len(trials)), make([]float64, len(trials))
	for n := 1; n < len(order); n++ {
		i, j := order[n-1], order[n]
		if sd := PairedRowSD(trials[i].Resampled, trials[j].Resampled); !math.IsNaN(sd) {
			for _, k := range []int{i, j} {
				variances[k], pairs[k] = variances[k]+sd*sd/2, pairs[k]+1
			}
		}
	}
	for i, n := range pairs {
		if n > 0 {
			variances[i] /= n
		}
	}
	return variances
}
