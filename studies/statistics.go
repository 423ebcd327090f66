package studies

import (
	"cmp"
	"math"
	"slices"

	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/gonum/stat/distuv"

	"peftsearch/data/metric"
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

// Interval is the 95 % interval of Student's t for the mean of scores in a metric, as far as scores in it can be: that
// leaves out no mean that there could be. ok is false for fewer than two scores.
func (s Sample) Interval(m metric.Name) (low, high float64, ok bool) {
	if s.N < 2 {
		return 0, 0, false
	}
	t := distuv.StudentsT{Mu: 0, Sigma: 1, Nu: float64(s.N - 1)}.Quantile(1 - Significance/2)
	half := t * s.SD / math.Sqrt(float64(s.N))
	least, greatest := m.Range()
	return max(s.Mean-half, least), min(s.Mean+half, greatest), true
}

// caution is how far the degrees of freedom of a difference go from the least that they can be to Welch's estimate,
// which is from the same few scores and too high where one plan is much noisier than the others. At 1 the comparison
// calls some plan worse in up to 7 % of simulated confirmations of equal plans, at a third in 5 %
// (docs/explain/confirm.md).
const caution = 1.0 / 3

// difference is the p-value that two of so many samples have the same mean, whichever two they are, and whatever their
// variances (Games and Howell 1976, "Pairwise Multiple Comparison Procedures With Unequal N's and/or Variances", with
// more cautious degrees of freedom). It is NaN if a sample has fewer than two scores, or if neither has any spread:
// equal scores on a few seeds do not show that there is no noise.
func difference(a, b Sample, samples int) float64 {
	if a.N < 2 || b.N < 2 {
		return math.NaN()
	}
	va, vb := a.SD*a.SD/float64(a.N), b.SD*b.SD/float64(b.N)
	if va+vb == 0 {
		return math.NaN()
	}
	welch := (va + vb) * (va + vb) / (va*va/float64(a.N-1) + vb*vb/float64(b.N-1))
	least := float64(min(a.N, b.N) - 1)
	return rangeSurvival(math.Abs(a.Mean-b.Mean)/math.Sqrt((va+vb)/2), samples, least+caution*(welch-least))
}

// Ranked is a confirmation compared with the best one.
type Ranked struct {
	*Confirmation
	Behind float64 // difference of the means, at least 0; 0 for the best itself
	// PValue is that of the difference from the best. It allows for every pair of the plans, since the best is chosen by
	// the scores that it is compared by: if all plans are equal, some plan has one below Significance in as many
	// confirmations at most. NaN for the best itself, and where nothing can be said: a sample with fewer than two scores,
	// or two without spread.
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
	samples := 0
	for _, r := range ranked {
		if r.Test.N >= 2 {
			samples++
		}
	}
	for i := 1; i < len(ranked); i++ {
		r := &ranked[i]
		r.Behind, r.PValue = ranked[0].Test.Mean-r.Test.Mean, difference(ranked[0].Test, r.Test, samples)
	}
	return ranked
}
