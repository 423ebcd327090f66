package search

import (
	"math"
	"testing"

	"peftsearch/space"
)

// What trainings take is learned from trials, also from noisy ones, and a process whose improvement counts by the
// second proposes faster plans.
func TestDurationsAreLearned(t *testing.T) {
	v := mixedView(t, 60)
	truth := func(p space.Point) float64 {
		terms := (&durations{space: v.space}).terms(p)
		return 2 + 6*terms[1] + 2*terms[2]
	}
	for i, o := range v.finished {
		copied := *o
		copied.Seconds = truth(o.Point) * (1 + 0.1*v.rng.NormFloat64())
		v.finished[i] = &copied
	}
	d := newDurations(v.space, v.finished)
	for range 100 {
		p := v.sparse()
		if !v.space.Feasible(p) {
			continue
		}
		if got, want := d.of(p), truth(p); math.Abs(got-want) > 0.15*want {
			t.Errorf("%v takes %.2f s, expected are %.2f", p, want, got)
		}
	}
	if newDurations(v.space, v.finished[:3]) != nil || (*durations)(nil).of(v.sparse()) != 1 {
		t.Error("a few trials tell how long others take")
	}
}
