// Package metric scores predictions.
package metric

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/stat"
)

// Name names a score. Every metric is better when larger and at most 1.
type Name string

// The metrics, as scikit-learn and SciPy define them.
const (
	Accuracy Name = "accuracy"
	F1       Name = "f1"       // binary: of the label with index 1
	F1Macro  Name = "f1_macro" // unweighted mean over the labels
	MCC      Name = "mcc"      // Matthews correlation
	Pearson  Name = "pearson"
	Spearman Name = "spearman" // average ranks for ties
)

// Range is the least and the greatest value that a score in the metric can have.
func (n Name) Range() (low, high float64) {
	switch n {
	case MCC, Pearson, Spearman:
		return -1, 1
	}
	return 0, 1
}

// Score compares predictions with labels: class indices for the metrics of classification, values for
// those of regression. It equals scikit-learn's or SciPy's function; where that is undefined, as a
// correlation with a constant or anything of no rows is, the score is 0. A NaN among the predictions makes
// it NaN. Both slices must have the same length.
func Score(name Name, predictions, labels []float64) float64 {
	if len(predictions) != len(labels) {
		panic(fmt.Sprintf("metric: %d predictions for %d labels", len(predictions), len(labels)))
	}
	if len(labels) == 0 {
		return 0
	}
	if slices.ContainsFunc(predictions, math.IsNaN) {
		return math.NaN()
	}
	switch name {
	case Accuracy:
		return newConfusion(predictions, labels).accuracy()
	case F1:
		return newConfusion(predictions, labels).f1(1)
	case F1Macro:
		return newConfusion(predictions, labels).f1Macro()
	case MCC:
		return newConfusion(predictions, labels).mcc()
	case Pearson:
		return pearson(predictions, labels)
	case Spearman:
		return pearson(ranks(predictions), ranks(labels))
	default:
		panic(fmt.Sprintf("metric: unknown metric %q", name))
	}
}

// Chance is the best score of predictions that are all the same.
func Chance(name Name, labels []float64) float64 {
	count, most := map[float64]int{}, 0.0
	for _, label := range labels {
		if count[label]++; count[label] > count[most] {
			most = label
		}
	}
	best := 0.0
	for _, class := range []float64{most, 1} { // F1 is that of class 1, the others are best for the most frequent
		best = max(best, Score(name, slices.Repeat([]float64{class}, len(labels)), labels))
	}
	return best
}

// confusion counts, for every class that was predicted or is a label, what the metrics need.
type confusion struct {
	n, correct int
	classes    []float64 // ascending
	hit        map[float64]int
	predicted  map[float64]int
	actual     map[float64]int
}

func newConfusion(predictions, labels []float64) confusion {
	c := confusion{n: len(labels), hit: map[float64]int{}, predicted: map[float64]int{}, actual: map[float64]int{}}
	c.classes = slices.Compact(slices.Sorted(slices.Values(slices.Concat(predictions, labels))))
	for i, label := range labels {
		c.predicted[predictions[i]]++
		c.actual[label]++
		if predictions[i] == label {
			c.correct++
			c.hit[label]++
		}
	}
	return c
}

func (c confusion) accuracy() float64 { return float64(c.correct) / float64(c.n) }

func (c confusion) f1(class float64) float64 {
	total := c.predicted[class] + c.actual[class]
	if total == 0 {
		return 0
	}
	return 2 * float64(c.hit[class]) / float64(total)
}

func (c confusion) f1Macro() float64 {
	sum := 0.0
	for _, class := range c.classes {
		sum += c.f1(class)
	}
	return sum / float64(len(c.classes))
}

// mcc is Gorodkin's multi-class form, as in scikit-learn.
func (c confusion) mcc() float64 {
	n := float64(c.n)
	cross, predicted, actual := n*float64(c.correct), n*n, n*n
	for _, class := range c.classes {
		p, t := float64(c.predicted[class]), float64(c.actual[class])
		cross -= p * t
		predicted -= p * p
		actual -= t * t
	}
	if predicted == 0 || actual == 0 {
		return 0
	}
	return cross / math.Sqrt(predicted*actual)
}

func pearson(x, y []float64) float64 {
	if slices.Min(x) == slices.Max(x) || slices.Min(y) == slices.Max(y) {
		return 0
	}
	return min(1, max(-1, stat.Correlation(x, y, nil)))
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
