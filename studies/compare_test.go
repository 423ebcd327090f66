package studies

import (
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"peftsearch/peft"
	"peftsearch/search"
	"peftsearch/studies/store"
)

// ended is a complete trial.
func ended(number, params int64, score, seconds float64) store.Outcome {
	return store.Outcome{Outcome: search.Outcome{Number: number, Params: params, Score: score}, Complete: true,
		Seconds: seconds}
}

func TestCompareAtEqualEffort(t *testing.T) {
	a := &store.Record{Metric: "accuracy", Geometry: peft.Geometry{Layers: 2},
		Reference: search.Reference{Chance: 0.5, MinParams: 10, MaxParams: 1000}}
	b := &store.Record{Metric: "accuracy", Geometry: peft.Geometry{Layers: 2},
		Reference: search.Reference{Chance: 0, MinParams: 1, MaxParams: 100}}
	trials := [2][]store.Outcome{
		{ // in the order in which they ended
			ended(1, 1000, 0.5, 4), ended(0, 1, 1, 4), ended(2, 1, 1, 4), {Seconds: 3},
		},
		{ended(0, 10, 0.5, 1), ended(1, 31, 0.2, 1), ended(2, 1, 0.5, 1), ended(3, 1, 0.6, 1), ended(4, 1, 0.7, 1),
			ended(5, 1, 0.8, 1)},
	}
	common := search.Reference{Chance: 0, MinParams: 1, MaxParams: 1000}
	want := Comparison{
		Common: true, References: [2]search.Reference{common, common}, Trials: [2]int{4, 6}, Seconds: [2]float64{15, 6},
		// A score of s at the smallest size dominates s; at 10 of 1 to 1000 parameters 2/3 of it.
		ByTrials: []Checkpoint{
			{Trials: [2]int{1, 1}, Hypervolumes: [2]float64{0, 0.5 * 2 / 3}},
			{Trials: [2]int{2, 2}, Hypervolumes: [2]float64{1, 0.5 * 2 / 3}},
			{Trials: [2]int{3, 3}, Hypervolumes: [2]float64{1, 0.5}},
			{Trials: [2]int{4, 4}, Hypervolumes: [2]float64{1, 0.6}},
		},
		BySeconds: []Checkpoint{
			{Seconds: 1.5, Trials: [2]int{0, 1}, Hypervolumes: [2]float64{0, 0.5 * 2 / 3}},
			{Seconds: 3, Trials: [2]int{0, 3}, Hypervolumes: [2]float64{0, 0.5}},
			{Seconds: 4.5, Trials: [2]int{1, 4}, Hypervolumes: [2]float64{0, 0.6}},
			{Seconds: 6, Trials: [2]int{1, 6}, Hypervolumes: [2]float64{0, 0.8}},
		},
	}
	if diff := cmp.Diff(want, Compare([2]*store.Record{a, b}, trials), cmpopts.EquateApprox(1e-12, 0)); diff != "" {
		t.Error(diff)
	}

	other := *b
	other.Metric = "mcc"
	if c := Compare([2]*store.Record{a, &other}, trials); c.Common ||
		c.References != [2]search.Reference{a.Reference, b.Reference} {
		t.Errorf("another metric: %+v", c)
	}
	other = *b
	other.Geometry.Hidden = 8
	if Compare([2]*store.Record{a, &other}, trials).Common {
		t.Error("another geometry has the same scale")
	}
}

func TestCompareWithLittleToCompare(t *testing.T) {
	r := &store.Record{Reference: search.Reference{MinParams: 1, MaxParams: 10}}
	two := []store.Outcome{ended(0, 1, 0.5, 0), ended(1, 1, 0.6, 0)}
	c := Compare([2]*store.Record{r, r}, [2][]store.Outcome{two, two})
	if len(c.ByTrials) != 2 || c.ByTrials[1].Hypervolumes != [2]float64{0.6, 0.6} || c.BySeconds != nil {
		t.Errorf("two trials without times: %+v", c)
	}
	if c := Compare([2]*store.Record{r, r}, [2][]store.Outcome{two, nil}); c.ByTrials != nil {
		t.Errorf("nothing against two: %+v", c)
	}
}

func BenchmarkCompare(b *testing.B) {
	r := &store.Record{Reference: search.Reference{MinParams: 1, MaxParams: 100_000}}
	rng := rand.New(rand.NewPCG(1, 2))
	trials := make([]store.Outcome, 100_000)
	for i := range trials {
		trials[i] = ended(int64(i), 1+rng.Int64N(100_000), rng.Float64(), 1)
	}
	for b.Loop() {
		Compare([2]*store.Record{r, r}, [2][]store.Outcome{trials, trials})
	}
}
