package studies

import (
	"context"
	"errors"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"peftsearch/evaluator"
	"peftsearch/search"
	"peftsearch/studies/store"
)

// Somebody who looks after every event sees what one sees who looks at the end, and reads no trial twice.
func TestWatching(t *testing.T) {
	study, db := start(t, writeStudy(t, t.TempDir(), 30))
	seen := map[int64]store.Trial{}
	watcher, read := Watch(db, study.Record(), func(t store.Trial) { seen[t.Number] = t }), 0
	look := func() *Overview {
		o, err := watcher.Look(t.Context())
		if err != nil {
			t.Error(err)
			return &Overview{}
		}
		return o
	}
	before := look()
	if len(before.Trials) != 0 || before.Budget != 30 {
		t.Errorf("%+v", before)
	}
	_, err := study.Run(
		t.Context(),
		func(context.Context, Loading) (evaluator.Evaluator, error) { return study.Analytic(), nil },
		RunOptions{Events: func(e Event) {
			if e.Kind != EventStarted && e.Kind != EventFinished {
				return
			}
			if o := look(); o != before {
				read += len(o.Changed)
				before = o
			}
		}},
	)
	if err != nil {
		t.Fatal(err)
	}
	last := look()
	if again := look(); again != last || read > 60 {
		t.Errorf("nothing changed, but another overview was made; %d trials were read", read)
	}
	whole := map[int64]store.Trial{}
	fresh, err := Watch(db, study.Record(), func(t store.Trial) { whole[t.Number] = t }).Look(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(fresh, last, cmp.AllowUnexported(store.Record{}, Front{}),
		cmpopts.IgnoreFields(Overview{}, "Changed"), cmpopts.IgnoreUnexported(Overview{}), cmpopts.EquateNaNs()); diff != "" {
		t.Errorf("looking once and looking often differ:\n%s", diff)
	}
	growth := last.Growth(last.Record.Reference)
	stored, err := db.Fronts(t.Context(), study.Record(), 1, -1)
	if err != nil || len(growth) != 30 || len(stored) != 30 {
		t.Fatalf("%d points, %d fronts, %v", len(growth), len(stored), err)
	}
	for i, g := range growth {
		if g.Trial != stored[i].Trial || math.Abs(g.Hypervolume-stored[i].Hypervolume) > 1e-12 {
			t.Errorf("after %d trials: %+v, stored is %+v", i+1, g, stored[i])
		}
	}
	if diff := cmp.Diff(whole, seen, cmpopts.EquateNaNs()); diff != "" || len(whole) != 30 {
		t.Errorf("of %d trials, those that were seen once and those that were seen often differ:\n%s", len(whole), diff)
	}
	for _, trial := range seen {
		if me := store.ThisProcess(); trial.Host != me.Host || trial.Process != me.Process {
			t.Errorf("trial %d ran on %q in %q", trial.Number, trial.Host, trial.Process)
		}
	}

	effects, err := last.Effects()
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[[2]bool]int{}
	for _, e := range effects {
		kinds[[2]bool{e.Method != "", e.Layers != nil}]++
		if e.Plans == 0 || e.SD <= 0 {
			t.Errorf("%+v", e)
		}
	}
	if want := map[[2]bool]int{{true, false}: 4, {false, true}: 2, {true, true}: 8}; !cmp.Equal(kinds, want) {
		t.Errorf("effects of %v, want %v", kinds, want)
	}
	few := *last
	few.Trials = last.Trials[:10]
	if _, err := few.Effects(); !errors.Is(err, search.ErrFewTrials) {
		t.Errorf("of ten trials: %v", err)
	}
}
