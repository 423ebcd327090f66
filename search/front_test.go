package search_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"peftsearch/search"
)

var reference = search.Reference{Chance: 0.5, MinParams: 100, MaxParams: 100_000}

func drawOutcomes(t *rapid.T) []search.Outcome {
	n := rapid.IntRange(0, 40).Draw(t, "n")
	outcomes := make([]search.Outcome, n)
	for i := range outcomes { // few distinct values, so that ties are common
		outcomes[i] = search.Outcome{Number: int64(i),
			Params: int64(math.Pow(10, float64(rapid.IntRange(1, 11).Draw(t, "p"))/2)),
			Score:  float64(rapid.IntRange(3, 10).Draw(t, "s")) / 10}
	}
	return outcomes
}

func dominates(a, b search.Outcome) bool {
	if a.Params > b.Params || a.Score < b.Score {
		return false
	}
	return a.Params < b.Params || a.Score > b.Score || a.Number < b.Number
}

func TestFrontIsWhatNothingDominates(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		outcomes := drawOutcomes(t)
		var want []search.Outcome
		for _, o := range outcomes {
			if !slices.ContainsFunc(outcomes, func(other search.Outcome) bool { return other != o && dominates(other, o) }) {
				want = append(want, o)
			}
		}
		slices.SortFunc(want, func(a, b search.Outcome) int { return int(a.Params - b.Params) })
		if got := search.Front(outcomes); !slices.Equal(got, want) {
			t.Fatalf("front %v, brute force %v", got, want)
		}
	})
}

// The dominated share counted on a fine grid of the rectangle, cell by cell.
func gridVolume(outcomes []search.Outcome, cells int) float64 {
	decades := math.Log10(float64(reference.MaxParams) / float64(reference.MinParams))
	var inside int
	for i := range cells {
		params := float64(reference.MinParams) * math.Pow(10, decades*(float64(i)+0.5)/float64(cells))
		for j := range cells {
			score := reference.Chance + (1-reference.Chance)*(float64(j)+0.5)/float64(cells)
			if slices.ContainsFunc(outcomes, func(o search.Outcome) bool {
				return float64(o.Params) <= params && o.Score >= score
			}) {
				inside++
			}
		}
	}
	return float64(inside) / float64(cells*cells)
}

func TestHypervolumeIsTheDominatedShare(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		outcomes := drawOutcomes(t)
		got, want := search.Hypervolume(outcomes, reference), gridVolume(outcomes, 120)
		if math.Abs(got-want) > 2.0/120 {
			t.Fatalf("hypervolume %g, counted on a grid %g", got, want)
		}
	})
}

func TestHypervolumeOfASinglePoint(t *testing.T) {
	// 1,000 of 100…100,000 is a third of the way; 0.75 is half of the way from chance to 1.
	got := search.Hypervolume([]search.Outcome{{Params: 1000, Score: 0.75}}, reference)
	if want := 0.5 * 2 / 3; math.Abs(got-want) > 1e-12 {
		t.Errorf("%g, want %g", got, want)
	}
	if got := search.Hypervolume([]search.Outcome{{Params: 0, Score: 1}}, reference); got != 1 {
		t.Errorf("a perfect score for nothing fills %g", got)
	}
}

func TestScalesWithoutMeaningAreRefused(t *testing.T) {
	change := func(f func(*search.Reference)) search.Reference {
		r := reference
		f(&r)
		return r
	}
	for words, r := range map[string]search.Reference{
		"a dev split of one class":      change(func(r *search.Reference) { r.Chance = 1 }),
		"chance level is NaN":           change(func(r *search.Reference) { r.Chance = math.NaN() }),
		"chance level is -Inf":          change(func(r *search.Reference) { r.Chance = math.Inf(-1) }),
		"sizes is 0 to 100000":          change(func(r *search.Reference) { r.MinParams = 0 }),
		"sizes is 100 to 99 parameters": change(func(r *search.Reference) { r.MaxParams = 99 }),
	} {
		if err := r.Check(); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%+v: %v, want %q", r, err, words)
		}
	}
	for _, r := range []search.Reference{reference, {Chance: -1, MinParams: 1, MaxParams: 1},
		{Chance: 0.999, MinParams: 1, MaxParams: math.MaxInt64}} {
		if err := r.Check(); err != nil {
			t.Errorf("%+v: %v", r, err)
		}
		if v := search.Hypervolume([]search.Outcome{{Params: 0, Score: 1}, {Params: math.MaxInt64, Score: -1e300}},
			r); v != 1 {
			t.Errorf("%+v: hypervolume %g", r, v)
		}
	}
}

func BenchmarkFront100k(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 2))
	outcomes := make([]search.Outcome, 100_000)
	for i := range outcomes {
		outcomes[i] = search.Outcome{Number: int64(i), Params: rng.Int64N(1e6), Score: rng.Float64()}
	}
	for b.Loop() {
		search.Hypervolume(outcomes, reference)
	}
}
