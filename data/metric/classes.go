package metric

import (
	"maps"
	"math"
	"slices"
)

// count is how often a class was predicted, is true, and both at once.
type count struct{ hit, predicted, actual int }

func (c count) precision() float64 { return share(c.hit, c.predicted) }
func (c count) recall() float64    { return share(c.hit, c.actual) }
func (c count) f1() float64        { return share(2*c.hit, c.predicted+c.actual) }

// share is 0 where it is undefined.
func share(part, all int) float64 {
	if all == 0 {
		return 0
	}
	return float64(part) / float64(all)
}

// tally counts every class that was predicted or is true.
type tally map[float64]count

func (t tally) add(class float64, c count) {
	sum := t[class]
	t[class] = count{sum.hit + c.hit, sum.predicted + c.predicted, sum.actual + c.actual}
}

// sum is of all classes together.
func (t tally) sum() (sum count) {
	for _, c := range t {
		sum = count{sum.hit + c.hit, sum.predicted + c.predicted, sum.actual + c.actual}
	}
	return sum
}

// mean is unweighted, over the classes.
func (t tally) mean(of func(count) float64) float64 {
	if len(t) == 0 {
		return 0
	}
	sum := 0.0
	for _, class := range slices.Sorted(maps.Keys(t)) {
		sum += of(t[class])
	}
	return sum / float64(len(t))
}

// classes counts each class, and of sets each label.
func (a Answers) classes() tally {
	t := tally{}
	if a.Form == Sets {
		for i, actual := range a.Actual {
			for label, is := range actual {
				was := a.Predicted[i][label]
				t.add(float64(label), count{int(is * was), int(was), int(is)})
			}
		}
		return t
	}
	predicted, actual := a.flat()
	for i, class := range actual {
		if predicted[i] == class {
			t.add(class, count{1, 1, 1})
			continue
		}
		t.add(predicted[i], count{predicted: 1})
		t.add(class, count{actual: 1})
	}
	return t
}

func accuracy(a Answers) float64 {
	correct := 0
	if a.Form == Sets {
		for i, actual := range a.Actual {
			if slices.Equal(a.Predicted[i], actual) {
				correct++
			}
		}
		return share(correct, len(a.Actual))
	}
	predicted, actual := a.flat()
	for i := range actual {
		if predicted[i] == actual[i] {
			correct++
		}
	}
	return share(correct, len(actual))
}

// balancedAccuracy is the mean recall of the classes that there are.
func balancedAccuracy(a Answers) float64 {
	t := a.classes()
	maps.DeleteFunc(t, func(_ float64, c count) bool { return c.actual == 0 })
	return t.mean(count.recall)
}

// mcc is Gorodkin's multi-class form, as in scikit-learn.
func mcc(a Answers) float64 {
	t := a.classes()
	sum := t.sum()
	n := float64(sum.actual)
	cross, predicted, actual := n*float64(sum.hit), n*n, n*n
	for _, class := range slices.Sorted(maps.Keys(t)) {
		p, r := float64(t[class].predicted), float64(t[class].actual)
		cross -= p * r
		predicted -= p * p
		actual -= r * r
	}
	if predicted == 0 || actual == 0 {
		return 0
	}
	return cross / math.Sqrt(predicted*actual)
}
