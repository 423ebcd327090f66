package studies

import (
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"peftsearch/search"
	"peftsearch/studies/store"
	"peftsearch/studies/store/storetest"
)

// A front that grows is that of all trials at once, whatever the order and the ties.
func TestAStaircaseIsTheFront(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var all []search.Outcome
		var front staircase
		for number := range int64(30) {
			o := search.Outcome{Number: number, Params: 1 + rng.Int64N(6), Score: float64(rng.IntN(6))}
			if rng.IntN(2) == 0 { // trials end in another order than they begin
				o.Number = 100 - number
			}
			all = append(all, o)
			changed := front.add(o)
			want := search.Front(all)
			if diff := cmp.Diff(want, []search.Outcome(front)); diff != "" {
				t.Fatalf("after %v (changed %v):\n%s", all, changed, diff)
			}
		}
	}
}

// What a history says after reading changes is what one says that reads everything at once, and what the trials say.
func TestAHistoryFollowsTheStudy(t *testing.T) {
	study, db := start(t, writeStudy(t, t.TempDir(), 12))
	ctx := t.Context()
	followed := NewHistory(db, study.record)
	seen := 0
	if _, err := run(t, study, RunOptions{Events: func(e Event) {
		if err := followed.Sync(ctx); err != nil {
			t.Error(err)
		}
		trials := trialsOf(t, study)
		front := FrontOf(trials, study.record.Reference)
		status := followed.Status(study.config.Budget, 1)
		if status.Hypervolume != front.Hypervolume || status.FrontSize != len(front.Members) ||
			status.Total() != len(trials) {
			t.Errorf("%+v, want a front of %d, hypervolume %g", status, len(front.Members), front.Hypervolume)
		}
		if e.Kind == EventFinished && e.Status.Complete != seen+1 {
			t.Errorf("%d complete when the next after %d ends", e.Status.Complete, seen)
		}
		seen = status.Complete
	}}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := study.Enqueue(ctx, "mam", "", preset(t, study, "mam")); err != nil {
		t.Fatal(err)
	}
	if err := followed.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	fresh := NewHistory(db, study.record)
	if err := fresh.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(fresh.Status(study.config.Budget, 1), followed.Status(study.config.Budget, 1)); diff != "" {
		t.Errorf("at once and by changes:\n%s", diff)
	}
	status := fresh.Status(study.config.Budget, 1)
	if status.Waiting != 1 || status.Complete != 12 || status.Trials != 13 {
		t.Errorf("%+v", status)
	}
	key := store.KeyOf(preset(t, study, "mam"))
	if number, found := followed.Find(key); !found || number != 12 {
		t.Errorf("the enqueued plan is trial %d, %v", number, found)
	}
	if _, found := followed.Find(store.KeyOf(storetest.Proposal(3).Candidate)); found {
		t.Error("a plan is found that nobody proposed")
	}
}
