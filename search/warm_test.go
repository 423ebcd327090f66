package search_test

import (
	"math"
	"testing"

	"peftsearch/search"
	"peftsearch/space"
)

// A search that knows others tries what they promise most: plans of several sizes, at least as good for their size as
// the best that the others have tried, none twice, whatever sampler goes on.
func TestWhatOthersPromiseIsTriedFirst(t *testing.T) {
	s := newSpace(t, space.Config{}, tiny)
	prior := extend(t, s, options(s, "random", 7), nil, 40)
	other := make([]search.Observation, len(prior))
	for i, o := range prior { // the same plans on another scale
		other[i] = o
		other[i].Score = 0.2 + 0.01*o.Score
	}
	opts := options(s, "gp", 1)
	opts.Prior = [][]search.Observation{prior, other}
	o, err := search.NewOptimizer(s, opts)
	if err != nil {
		t.Fatal(err)
	}
	history := newHistory(t, s, nil)
	var first []search.Outcome
	for number := int64(0); ; number++ {
		suggestion, err := o.Ask(history, number)
		if err != nil {
			t.Fatal(err)
		}
		if suggestion.Sampler != "transfer" {
			break
		}
		tried := search.Observation{Number: number, Point: suggestion.Point, Params: s.Params(suggestion.Point),
			State: search.Complete,
			Score: surface(s, suggestion.Point)}
		set(t, history, tried)
		first = append(first, search.Outcome{Number: number, Params: tried.Params, Score: tried.Score})
	}
	if len(first) < 4 || len(first) > 6 {
		t.Fatalf("%d plans are tried first", len(first))
	}
	got, best := search.Hypervolume(first, opts.Reference), search.Hypervolume(outcomes(prior), opts.Reference)
	if got < 0.9*best {
		t.Errorf("their hypervolume is %g, that of all of the prior's %d plans %g", got, len(prior), best)
	}
	cold := search.Hypervolume(outcomes(extend(t, s, options(s, "gp", 1), nil, len(first))), opts.Reference)
	if got < cold+0.02 {
		t.Errorf("their hypervolume is %g, without the prior it would be %g", got, cold)
	}
}

// Studies whose scores tell nothing are left out, and points of another space are refused.
func TestPriorsThatTellNothing(t *testing.T) {
	s := newSpace(t, space.Config{}, tiny)
	opts := options(s, "gp", 1)
	flat := extend(t, s, options(s, "random", 7), nil, 5)
	for i := range flat {
		flat[i].Score = 0.5
	}
	opts.Prior = [][]search.Observation{nil, flat}
	o, err := search.NewOptimizer(s, opts)
	if err != nil {
		t.Fatal(err)
	}
	if suggestion, err := o.Ask(newHistory(t, s, nil), 0); err != nil || suggestion.Sampler != "initial" {
		t.Errorf("%+v, %v", suggestion, err)
	}
	flat[0].Score = math.NaN()
	if _, err := search.NewOptimizer(s, opts); err == nil {
		t.Error("a prior with a score that is no number is accepted")
	}
}
