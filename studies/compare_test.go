package studies

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"peftsearch/evaluator"
	"peftsearch/peft"
	"peftsearch/search"
	"peftsearch/studies/store"
)

// finishedTrial is a complete trial that was the end-th to finish.
func finishedTrial(number int64, end int64, params int64, score, wall float64) store.Trial {
	return store.Trial{Number: number, State: store.Complete, Params: params, Started: time.Unix(0, 0), Finished: time.Unix(end, 0),
		Result: evaluator.Result{Score: score, WallS: wall}}
}

func TestCompareAtEqualEffort(t *testing.T) {
	a := &store.Record{Metric: "accuracy", Geometry: peft.Geometry{Layers: 2}, Reference: search.Reference{Chance: 0.5, MinParams: 10, MaxParams: 1000}}
	b := &store.Record{Metric: "accuracy", Geometry: peft.Geometry{Layers: 2}, Reference: search.Reference{Chance: 0, MinParams: 1, MaxParams: 100}}
	failed := store.Trial{Number: 3, State: store.Failed, Started: time.Unix(30, 0), Finished: time.Unix(33, 0)}
	trials := [2][]store.Trial{
		{ // 4 seconds each, the failed one 3; trial 1 finished first
			finishedTrial(0, 20, 1, 1, 4), finishedTrial(1, 10, 1000, 0.5, 4), finishedTrial(2, 25, 1, 1, 4), failed,
			{Number: 4, State: store.Running}, {Number: 5, State: store.Waiting},
		},
		{finishedTrial(0, 1, 10, 0.5, 1), finishedTrial(1, 2, 31, 0.2, 1), finishedTrial(2, 3, 1, 0.5, 1),
			finishedTrial(3, 4, 1, 0.6, 1), finishedTrial(4, 5, 1, 0.7, 1), finishedTrial(5, 6, 1, 0.8, 1)},
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
	if c := Compare([2]*store.Record{a, &other}, trials); c.Common || c.References != [2]search.Reference{a.Reference, b.Reference} {
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
	two := []store.Trial{finishedTrial(0, 1, 1, 0.5, 0), finishedTrial(1, 2, 1, 0.6, 0)}
	c := Compare([2]*store.Record{r, r}, [2][]store.Trial{two, two})
	if len(c.ByTrials) != 2 || c.ByTrials[1].Hypervolumes != [2]float64{0.6, 0.6} || c.BySeconds != nil {
		t.Errorf("two trials without times: %+v", c)
	}
	if c := Compare([2]*store.Record{r, r}, [2][]store.Trial{two, nil}); c.ByTrials != nil {
		t.Errorf("nothing against two: %+v", c)
	}
}
