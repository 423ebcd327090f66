package studies

import (
	"cmp"
	"math"
	"slices"

	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/gonum/stat/distuv"
)

// Significance is the level of the intervals and tests of confirmed scores: 95 % intervals, and
// differences that are called larger than noise if their p-value is below it.
const Significance = 0.05

// Sample is what independent scores say about their mean.
type Sample struct {
	N    int
	Mean float64
	SD   float64 // of the sample, with N−1; NaN for fewer than two scores
}

// NewSample summarises scores.
func NewSample(scores []float64) Sample {
	if len(scores) == 0 {
		return Sample{Mean: math.NaN(), SD: math.NaN()}
	}
	mean, variance := stat.MeanVariance(scores, nil)
	if len(scores) == 1 {
		variance = math.NaN()
	}
	return Sample{N: len(scores), Mean: mean, SD: math.Sqrt(variance)}
}

// Interval is the 95 % interval of Student's t for the mean; ok is false for fewer than two scores.
func (s Sample) Interval() (low, high float64, ok bool) {
	if s.N < 2 {
		return 0, 0, false
	}
	t := distuv.StudentsT{Mu: 0, Sigma: 1, Nu: float64(s.N - 1)}.Quantile(1 - Significance/2)
	half := t * s.SD / math.Sqrt(float64(s.N))
	return s.Mean - half, s.Mean + half, true
}

// welch is the two-sided p-value of Welch's t-test that two samples have the same mean, which assumes
// nothing about their variances. It is NaN if a sample has fewer than two scores, or if neither has any
// spread: equal scores on a few seeds do not show that there is no noise.
func welch(a, b Sample) float64 {
	if a.N < 2 || b.N < 2 {
		return math.NaN()
	}
	va, vb := a.SD*a.SD/float64(a.N), b.SD*b.SD/float64(b.N)
	if va+vb == 0 {
		return math.NaN()
	}
	t := math.Abs(a.Mean-b.Mean) / math.Sqrt(va+vb)
	nu := (va + vb) * (va + vb) / (va*va/float64(a.N-1) + vb*vb/float64(b.N-1))
	return 2 * distuv.StudentsT{Mu: 0, Sigma: 1, Nu: nu}.Survival(t)
}

// Ranked is a confirmation compared with the best one.
type Ranked struct {
	*Confirmation
	Behind float64 // difference of the means, at least 0; 0 for the best itself
	// PValue is that of Welch's t-test against the best, adjusted by Holm's method for the number of
	// comparisons; NaN for the best itself, and where the test says nothing: a sample with fewer than two
	// scores, or no spread.
	PValue float64
}

// LargerThanNoise reports whether the difference from the best is significant.
func (r Ranked) LargerThanNoise() bool { return r.PValue < Significance }

// Rank sorts confirmations by their mean test score, best first, and compares each with the best.
func Rank(confirmations []*Confirmation) []Ranked {
	ranked := make([]Ranked, len(confirmations))
	for i, c := range confirmations {
		ranked[i] = Ranked{Confirmation: c, PValue: math.NaN()}
	}
	slices.SortStableFunc(ranked, func(a, b Ranked) int { return cmp.Compare(b.Test.Mean, a.Test.Mean) })
	var tested []*Ranked
	for i := range ranked[min(1, len(ranked)):] {
		r := &ranked[i+1]
		r.Behind, r.PValue = ranked[0].Test.Mean-r.Test.Mean, welch(ranked[0].Test, r.Test)
		if !math.IsNaN(r.PValue) {
			tested = append(tested, r)
		}
	}
	slices.SortStableFunc(tested, func(a, b *Ranked) int { return cmp.Compare(a.PValue, b.PValue) })
	adjusted := 0.0
	for i, r := range tested { // Holm 1979, step down
		adjusted = max(adjusted, min(1, r.PValue*float64(len(tested)-i)))
		r.PValue = adjusted
	}
	return ranked
}
