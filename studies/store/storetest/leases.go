package storetest

import (
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"peftsearch/evaluator"
	"peftsearch/peft"
	"peftsearch/search"
	"peftsearch/space"
	"peftsearch/studies/store"
)

func ensure(t *testing.T, open func() *store.Store) {
	s := open()
	want := &store.Record{Name: "new", Path: "/a.yaml", Config: "a", Metric: "mcc",
		Identity: store.Identity{"k": "v"}, Seed: 1<<64 - 1,
		Geometry: peft.Geometry{Layers: 2, Hidden: 8, FFN: 8}, Reference: search.Reference{Chance: 0.25, MinParams: 2,
			MaxParams: 9},
		WarmStart: &store.WarmStart{Study: "old", Trials: []store.WarmTrial{{Point: space.Point{1, 2}, Params: 3,
			Score: 0.5, SD: 0.1}}}}
	var group sync.WaitGroup
	made := make([]bool, 8)
	for i := range made {
		mine := open()
		group.Go(func() {
			other := *want
			other.Path = fmt.Sprintf("/%d.yaml", i)
			r, created, err := mine.Ensure(ctx, &other)
			if err != nil {
				t.Error(err)
				return
			}
			if made[i] = created; created != (r.Path == other.Path) {
				t.Errorf("created %v, and the stored file is %s", created, r.Path)
			}
		})
	}
	group.Wait()
	if first := slices.Index(made, true); first < 0 || slices.Contains(made[first+1:], true) {
		t.Errorf("created %v", made)
	}
	r, err := s.Study(ctx, "new")
	must(t, err)
	must(t, s.Used(ctx, r, "/b.yaml", "b"))
	want.Path, want.Config, want.First = "/b.yaml", "b", "a"
	for _, value := range []string{"first", "second"} {
		if settled, err := s.Settle(ctx, r, "settled", value); err != nil || settled != "first" {
			t.Errorf("settled %q, %v", settled, err)
		}
	}
	want.Identity["settled"] = "first"
	if r, err = s.Study(ctx, "new"); err != nil {
		t.Fatal(err)
	}
	ignore := cmp.Options{cmpopts.IgnoreUnexported(store.Record{}), cmpopts.IgnoreFields(store.Record{}, "Created")}
	if diff := cmp.Diff(want, r, ignore); diff != "" {
		t.Error(diff)
	}
	if age := time.Since(r.Created); age < -time.Hour || age > time.Hour {
		t.Errorf("created %v ago", age)
	}
	if all, err := s.Studies(ctx); err != nil || len(all) != 1 {
		t.Errorf("%d studies, %v", len(all), err)
	}
	_, err = s.Study(ctx, "none")
	is(t, err, store.ErrNoStudy)
}

func life(t *testing.T, open func() *store.Store) {
	s, me := open(), store.ThisProcess()
	r := study(t, s)
	_, _, err := s.Pop(ctx, r, me)
	is(t, err, store.ErrNothing)
	trial, lease := add(t, s, r, 3, me)
	p := Proposal(3)
	want := store.Trial{Number: 0, State: store.Running, Origin: p.Origin, Reason: p.Reason, Point: p.Point,
		Candidate: p.Candidate, Params: 3,
		Seed: store.TrialSeed(7, 0), Attempts: 1, Host: me.Host, Process: me.Process}
	if diff := cmp.Diff(want, trial, times); diff != "" {
		t.Errorf("started:\n%s", diff)
	}
	want = finished(trial, store.Pruned, 0.75)
	resampled := map[int64][]float64{0: {0.7, 0.8125}}
	want.Result.Resampled = resampled[0]
	must(t, s.Finish(ctx, r, lease, want))
	want.Result.Resampled = nil // lists of trials are without
	if got, err := s.Resampled(ctx, r, 0, 1); err != nil || !cmp.Equal(got, resampled) {
		t.Errorf("resampled: %v, %v", got, err)
	}
	if got, err := s.Resampled(ctx, r, 1, 2); err != nil || len(got) != 0 {
		t.Errorf("resampled of others: %v, %v", got, err)
	}
	got, err := open().Trial(ctx, r, 0)
	must(t, err)
	if diff := cmp.Diff(want, got, times); diff != "" {
		t.Errorf("finished:\n%s", diff)
	}
	if got.Created.IsZero() || got.Started.Before(got.Created) || got.Finished.Before(got.Started) ||
		!trial.Started.Equal(got.Started) {
		t.Errorf("created %v, started %v, finished %v", got.Created, got.Started, got.Finished)
	}
	trial, lease = add(t, s, r, 4, me)
	failure := &evaluator.Failure{Kind: evaluator.FailureDiverged, Message: "NaN\nand more"}
	must(t, s.Fail(ctx, lease, failure))
	if got, err = s.Trial(ctx, r, trial.Number); err != nil || got.State != store.Failed ||
		!cmp.Equal(got.Failure, failure) || got.Number != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	_, err = s.Trial(ctx, r, 2)
	is(t, err, store.ErrNoTrial)
	_, err = s.Select(ctx, r, []int64{1, 2})
	is(t, err, store.ErrNoTrial)
	chosen, err := s.Select(ctx, r, []int64{1, 0})
	if err != nil || len(chosen) != 2 || chosen[0].Number != 1 || chosen[1].Number != 0 {
		t.Errorf("selected %+v, %v", chosen, err)
	}
	if all, err := s.Trials(ctx, r); err != nil || len(all) != 2 || !cmp.Equal(all[1], chosen[0]) {
		t.Errorf("all: %+v, %v", all, err)
	}
	if some, err := s.Range(ctx, r, 1, 2, false); err != nil || len(some) != 1 || some[0].Number != 1 {
		t.Errorf("from 1 to 2: %+v, %v", some, err)
	}
	if tally, err := s.Tally(ctx, r); err != nil || tally != (store.Tally{Pruned: 1, Failed: 1}) {
		t.Errorf("%+v, %v", tally, err)
	}
}

func idempotent(t *testing.T, open func() *store.Store) {
	s, me := open(), store.ThisProcess()
	r := study(t, s)
	trial, lease := add(t, s, r, 1, me)
	for range 2 { // as after an answer that was lost
		must(t, s.Finish(ctx, r, lease, finished(trial, store.Complete, 0.75)))
	}
	is(t, s.Fail(ctx, lease, &evaluator.Failure{Kind: evaluator.FailureInternal}), store.ErrFenced)
	is(t, s.Finish(ctx, r, lease, finished(trial, store.Pruned, 0.5)), store.ErrFenced)
	is(t, s.Release(ctx, lease, false), store.ErrFenced)
	is(t, s.Beat(ctx, lease, store.Progress{}, nil), store.ErrFenced)
	trial, lease = add(t, s, r, 2, me)
	for range 2 {
		must(t, s.Release(ctx, lease, true))
	}
	again, lease, err := s.Pop(ctx, r, me)
	if err != nil || again.Number != trial.Number || again.Crashes != 1 {
		t.Fatalf("%+v, %v", again, err)
	}
	for range 2 {
		must(t, s.Fail(ctx, lease, &evaluator.Failure{Kind: evaluator.FailureInternal}))
	}
	fronts, err := s.Fronts(ctx, r, 1, -1)
	if err != nil || len(fronts) != 1 {
		t.Errorf("%d fronts, %v", len(fronts), err)
	}
	if err := s.Finish(ctx, r, lease, finished(trial, store.Complete, math.Inf(1))); err == nil {
		t.Error("an infinite score is stored")
	}
}

func released(t *testing.T, open func() *store.Store) {
	s, me := open(), store.ThisProcess()
	r := study(t, s)
	first, one := add(t, s, r, 1, me)
	_, two := add(t, s, r, 2, me)
	must(t, s.Beat(ctx, one, store.Progress{Step: 1, Steps: 3}, finished(first, store.Complete, 0.5).Curve[:1]))
	must(t, s.Release(ctx, two, true))
	must(t, s.Release(ctx, one, false))
	is(t, s.Beat(ctx, one, store.Progress{}, nil), store.ErrFenced)
	again, lease, err := s.Pop(ctx, r, me)
	must(t, err)
	first.Attempts = 2
	if diff := cmp.Diff(first, again, times); diff != "" {
		t.Error(diff)
	}
	if got, err := s.Trial(ctx, r, 0); err != nil || got.Curve != nil {
		t.Errorf("it begins with the curve of the attempt before: %v, %v", got.Curve, err)
	}
	is(t, s.Finish(ctx, r, one, finished(first, store.Complete, 1)), store.ErrFenced)
	must(t, s.Finish(ctx, r, lease, finished(first, store.Complete, 0.5)))
	if next, _, err := s.Pop(ctx, r, me); err != nil || next.Number != 1 || next.Crashes != 1 {
		t.Errorf("%+v, %v", next, err)
	}
}

func ended(t *testing.T, open func() *store.Store) {
	s, me := open(), store.ThisProcess()
	r := study(t, s)
	first, old := add(t, s, r, 1, gone)
	_, _ = add(t, s, r, 2, me)
	_, _ = add(t, s, r, 3, elsewhere)
	again, lease, err := s.Pop(ctx, r, me)
	if err != nil || again.Number != first.Number || again.Seed != first.Seed || again.Attempts != 2 ||
		again.Crashes != 0 {
		t.Fatalf("%+v, %v", again, err)
	}
	is(t, s.Finish(ctx, r, old, finished(first, store.Complete, 1)), store.ErrFenced)
	is(t, s.Beat(ctx, old, store.Progress{}, nil), store.ErrFenced)
	must(t, s.Finish(ctx, r, lease, finished(first, store.Complete, 0.5)))
	_, _, err = s.Pop(ctx, r, me) // those of living processes, and of processes that cannot be seen
	is(t, err, store.ErrNothing)
}

func late(t *testing.T, open func() *store.Store) {
	s, me := open(), store.ThisProcess()
	r := study(t, s)
	theirs, lease := add(t, s, r, 1, elsewhere)
	_, _, err := s.Pop(ctx, r, me)
	is(t, err, store.ErrNothing)
	s.LeaseTime = -time.Second // over as soon as it is given
	must(t, s.Beat(ctx, lease, store.Progress{}, nil))
	again, _, err := s.Pop(ctx, r, me)
	if err != nil || again.Number != theirs.Number {
		t.Fatalf("%+v, %v", again, err)
	}
	is(t, s.Beat(ctx, lease, store.Progress{}, nil), store.ErrFenced)
	_, _, err = s.Pop(ctx, r, me) // its end says nothing of a process that can be seen to live
	is(t, err, store.ErrNothing)
	second, lease := add(t, s, r, 2, elsewhere)
	if _, err := s.Propose(ctx, r, 100, me); err != nil { // makes it wait
		t.Fatal(err)
	}
	is(t, s.Beat(ctx, lease, store.Progress{}, nil), store.ErrFenced)
	must(t, s.Finish(ctx, r, lease, finished(second, store.Complete, 0.75))) // nobody has started it again: it counts
	if got, err := s.Trial(ctx, r, second.Number); err != nil || got.State != store.Complete {
		t.Errorf("%+v, %v", got, err)
	}
}

func proposals(t *testing.T, open func() *store.Store) {
	s, other, me := open(), open(), store.ThisProcess()
	r := study(t, s)
	right, err := s.Propose(ctx, r, 2, me)
	if err != nil || right.Trial() != 0 {
		t.Fatalf("%+v, %v", right, err)
	}
	_, err = other.Propose(ctx, r, 2, elsewhere)
	is(t, err, store.ErrProposed)
	must(t, s.Beat(ctx, right, store.Progress{}, nil))
	// Everything else goes on meanwhile.
	waiting, added, err := other.Enqueue(ctx, r, Proposal(9))
	if err != nil || !added || waiting.State != store.Waiting || waiting.Number != 0 {
		t.Fatalf("%+v, %v", waiting, err)
	}
	trial, lease, err := other.Pop(ctx, r, elsewhere)
	must(t, err)
	must(t, other.Finish(ctx, r, lease, finished(trial, store.Complete, 0.75)))
	_, err = s.Add(ctx, r, right, Proposal(1), me)
	is(t, err, store.ErrMoved)
	_, err = s.Add(ctx, r, right, Proposal(1), me)
	is(t, err, store.ErrFenced)
	if right, err = s.Propose(ctx, r, 2, me); err != nil || right.Trial() != 1 {
		t.Fatalf("%+v, %v", right, err)
	}
	must(t, s.Abandon(ctx, right))
	if _, err = other.Propose(ctx, r, 2, gone); err != nil {
		t.Fatal(err)
	}
	right, err = s.Propose(ctx, r, 2, me) // that process has ended
	must(t, err)
	trial, err = s.Add(ctx, r, right, Proposal(1), me)
	if err != nil || trial.Number != 1 {
		t.Errorf("%+v, %v", trial, err)
	}
	_, err = s.Propose(ctx, r, 2, me)
	is(t, err, store.ErrEnough)
}

func candidates(t *testing.T, open func() *store.Store) {
	s, me := open(), store.ThisProcess()
	r := study(t, s)
	first, _, err := s.Enqueue(ctx, r, Proposal(1))
	must(t, err)
	again, added, err := s.Enqueue(ctx, r, Proposal(1))
	if err != nil || added || again.Number != first.Number {
		t.Errorf("added %v as %d, %v", added, again.Number, err)
	}
	right, err := s.Propose(ctx, r, 10, me)
	must(t, err)
	_, err = s.Add(ctx, r, right, Proposal(1), me)
	is(t, err, store.ErrKnown)
	if trial, _ := add(t, s, r, 2, me); trial.Number != 1 {
		t.Errorf("number %d", trial.Number)
	}
	other, created, err := s.Ensure(ctx, &store.Record{Name: "other"})
	if err != nil || !created {
		t.Fatal(err)
	}
	if _, added, err := s.Enqueue(ctx, other, Proposal(1)); err != nil || !added {
		t.Errorf("another study: added %v, %v", added, err)
	}
}
