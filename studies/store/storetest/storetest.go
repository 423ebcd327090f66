// Package storetest is the conformance suite of store.Store on any of its databases.
package storetest

import (
	"context"
	"errors"
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

// Run checks the contract of a Store. database makes a new database; what it returns opens that database, as often as
// it is called.
func Run(t *testing.T, database func(t *testing.T) (open func() *store.Store)) {
	for name, test := range map[string]func(*testing.T, func() *store.Store){
		"a study is created once":                    ensure,
		"a trial's life":                             life,
		"outcomes are stored once":                   idempotent,
		"a trial that was returned keeps what it is": released,
		"trials of processes that ended run again":   ended,
		"leases end by the database's clock":         late,
		"one process proposes at a time":             proposals,
		"a candidate is tried once":                  candidates,
		"changes are read once":                      changes,
		"running trials show how far they are":       progress,
		"fronts follow from all complete trials":     fronts,
		"full trainings are kept apart":              trainings,
		"many processes share a study":               crowd,
		"a snapshot is of one moment":                snapshot,
	} {
		t.Run(name, func(t *testing.T) { test(t, database(t)) })
	}
}

var ctx = context.Background()

// study stores a new study.
func study(t *testing.T, s *store.Store) *store.Record {
	t.Helper()
	r, created, err := s.Ensure(ctx, &store.Record{Name: "s", Path: "/s.yaml", Config: "study: s", Metric: "accuracy",
		Identity: store.Identity{"search.seed": "7"}, Geometry: peft.Geometry{Layers: 1, Hidden: 4},
		Reference: search.Reference{Chance: 0.5, MinParams: 1, MaxParams: 1000}, Seed: 7})
	if err != nil || !created {
		t.Fatalf("created %v, %v", created, err)
	}
	return r
}

// Proposal makes a candidate of its own for each size.
func Proposal(size int) store.Proposal {
	plan := peft.Plan{Layers: []peft.Layer{{Prefix: &peft.Prefix{Length: size}}}}
	return store.Proposal{Origin: "test", Reason: fmt.Sprint("size ", size), Point: space.Point{size},
		Candidate: evaluator.Candidate{Plan: plan}, Params: int64(size)}
}

// add makes a new trial run.
func add(t *testing.T, s *store.Store, r *store.Record, size int, me store.Owner) (store.Trial, store.Lease) {
	t.Helper()
	right, err := s.Propose(ctx, r, 1<<40, me)
	if err != nil {
		t.Fatal(err)
	}
	trial, err := s.Add(ctx, r, right, Proposal(size), me)
	if err != nil {
		t.Fatal(err)
	}
	return trial, right
}

// finished is a trial with an outcome.
func finished(trial store.Trial, state store.State, score float64) store.Trial {
	trial.State = state
	trial.Result = evaluator.Result{Score: score, BestStep: 2, Steps: 3, Dev: map[string]float64{"accuracy": score}, WallS: 1.5, PeakB: 4, Head: 5}
	trial.Curve = []store.CurvePoint{{Step: 1, Steps: 3, Loss: 0.5, Score: score / 2}, {Step: 3, Steps: 3, Loss: 0.25, Score: score}}
	if state == store.Pruned {
		trial.Result.Stopped, trial.Forecast = "a reason", search.Forecast{Score: score + 0.1, SD: 0.01}
	}
	return trial
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func is(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("the error is %v, want: %v", err, want)
	}
}

// elsewhere is a process of another machine, another one of this machine that has ended.
var (
	elsewhere = store.Owner{Host: "elsewhere", Boot: "another boot", Namespace: "pid:[1]", Process: "1 1"}
	gone      = func() store.Owner {
		o := store.ThisProcess()
		o.Process = "4194304 1" // the kernel gives no such id
		return o
	}()
)

var times = cmpopts.IgnoreFields(store.Trial{}, "Created", "Started", "Finished")

func ensure(t *testing.T, open func() *store.Store) {
	s := open()
	want := &store.Record{Name: "new", Path: "/a.yaml", Config: "a", Metric: "mcc", Identity: store.Identity{"k": "v"}, Seed: 1<<64 - 1,
		Geometry: peft.Geometry{Layers: 2, Hidden: 8}, Reference: search.Reference{Chance: 0.25, MinParams: 2, MaxParams: 9},
		WarmStart: &store.WarmStart{Study: "old", Trials: []store.WarmTrial{{Point: space.Point{1, 2}, Params: 3, Score: 0.5, SD: 0.1}}}}
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
	want := store.Trial{Number: 0, State: store.Running, Origin: p.Origin, Reason: p.Reason, Point: p.Point, Candidate: p.Candidate, Params: 3,
		Seed: store.TrialSeed(7, 0), Attempts: 1}
	if diff := cmp.Diff(want, trial, times); diff != "" {
		t.Errorf("started:\n%s", diff)
	}
	want = finished(trial, store.Pruned, 0.75)
	must(t, s.Finish(ctx, r, lease, want))
	got, err := open().Trial(ctx, r, 0)
	must(t, err)
	if diff := cmp.Diff(want, got, times); diff != "" {
		t.Errorf("finished:\n%s", diff)
	}
	if got.Created.IsZero() || got.Started.Before(got.Created) || got.Finished.Before(got.Started) || !trial.Started.Equal(got.Started) {
		t.Errorf("created %v, started %v, finished %v", got.Created, got.Started, got.Finished)
	}
	trial, lease = add(t, s, r, 4, me)
	failure := &evaluator.Failure{Kind: evaluator.FailureDiverged, Message: "NaN\nand more"}
	must(t, s.Fail(ctx, lease, failure))
	if got, err = s.Trial(ctx, r, trial.Number); err != nil || got.State != store.Failed || !cmp.Equal(got.Failure, failure) || got.Number != 1 {
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
	if some, err := s.Range(ctx, r, 1, 2); err != nil || len(some) != 1 || some[0].Number != 1 {
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
	fronts, err := s.Fronts(ctx, r)
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
	if err != nil || again.Number != first.Number || again.Seed != first.Seed || again.Attempts != 2 || again.Crashes != 0 {
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

func changes(t *testing.T, open func() *store.Store) {
	s, viewer, me := open(), open(), store.ThisProcess()
	r := study(t, s)
	known := map[int64]store.Entry{}
	version := int64(0)
	read := func(want ...int64) {
		t.Helper()
		entries, now, err := viewer.Changes(ctx, r, version, true)
		must(t, err)
		var numbers []int64
		for _, e := range entries {
			numbers = append(numbers, e.Number)
			known[e.Number] = e
		}
		if !slices.Equal(numbers, want) {
			t.Errorf("after version %d trials %v changed, want %v", version, numbers, want)
		}
		version = now
	}
	read()
	first, one := add(t, s, r, 3, me)
	_, two := add(t, s, r, 4, me)
	read(0, 1)
	read()
	must(t, s.Beat(ctx, two, store.Progress{Step: 1, Steps: 2}, nil))
	read()
	must(t, s.Finish(ctx, r, one, finished(first, store.Pruned, 0.75)))
	read(0)
	must(t, s.Release(ctx, two, false))
	third, _, err := s.Enqueue(ctx, r, Proposal(5))
	must(t, err)
	read(1, third.Number)
	_, two, err = s.Pop(ctx, r, me)
	must(t, err)
	must(t, s.Fail(ctx, two, &evaluator.Failure{Kind: evaluator.FailureCrashed}))
	read(1)
	want := store.Entry{Number: 0, State: store.Pruned, Key: store.KeyOf(first.Candidate), Point: space.Point{3}, Params: 3, Score: 0.75,
		Forecast: search.Forecast{Score: 0.85, SD: 0.01}, Seconds: 1.5, Curve: finished(first, store.Pruned, 0.75).Curve}
	if diff := cmp.Diff(want, known[0], cmpopts.IgnoreFields(store.Entry{}, "Finished")); diff != "" {
		t.Error(diff)
	}
	if known[1].State != store.Failed || known[2].State != store.Waiting || known[0].Finished.IsZero() || !known[2].Finished.IsZero() {
		t.Errorf("%+v", known)
	}
	all, _, err := viewer.Changes(ctx, r, 0, false)
	must(t, err)
	for _, e := range all {
		now := known[e.Number]
		now.Curve = nil
		if diff := cmp.Diff(now, e); diff != "" {
			t.Errorf("read at once and read by changes:\n%s", diff)
		}
	}
}

func progress(t *testing.T, open func() *store.Store) {
	s, me := open(), store.ThisProcess()
	r := study(t, s)
	trial, lease := add(t, s, r, 3, me)
	curve := finished(trial, store.Complete, 0.5).Curve
	must(t, s.Beat(ctx, lease, store.Progress{Step: 1, Steps: 3, Loss: 0.5}, curve[:1]))
	must(t, s.Beat(ctx, lease, store.Progress{Step: 2, Steps: 3, Loss: 0.25}, nil))
	viewer := open()
	attempts, err := viewer.Attempts(ctx, r)
	if err != nil || len(attempts) != 1 {
		t.Fatalf("%+v, %v", attempts, err)
	}
	a := attempts[0]
	if a.Trial != 0 || a.Owner != me || a.Progress != (store.Progress{Step: 2, Steps: 3, Loss: 0.25}) || !a.Started.Equal(trial.Started) || a.Reported.Before(a.Started) {
		t.Errorf("%+v", a)
	}
	if got, err := viewer.Trial(ctx, r, 0); err != nil || !cmp.Equal(got.Curve, curve[:1]) {
		t.Errorf("curve %v, %v", got.Curve, err)
	}
	must(t, s.Finish(ctx, r, lease, finished(trial, store.Complete, 0.5)))
	if attempts, err := viewer.Attempts(ctx, r); err != nil || len(attempts) != 0 {
		t.Errorf("%+v, %v", attempts, err)
	}
}

func fronts(t *testing.T, open func() *store.Store) {
	s, me := open(), store.ThisProcess()
	r := study(t, s)
	if front, err := s.Front(ctx, r); err != nil || front.Members != nil {
		t.Errorf("%+v, %v", front, err)
	}
	var outcomes []search.Outcome
	for i, score := range []float64{0.6, 0.55, 0.7, 0.65, 0.7, 0.5, 0.8, 0.75} {
		trial, lease := add(t, s, r, []int{50, 20, 60, 30, 10, 5, 70, 40}[i], me)
		state := store.Complete
		if i == 4 {
			state = store.Pruned // plays no part
		} else {
			outcomes = append(outcomes, search.Outcome{Number: trial.Number, Params: trial.Params, Score: score})
		}
		must(t, s.Finish(ctx, r, lease, finished(trial, state, score)))
		front, err := s.Front(ctx, r)
		must(t, err)
		var want []int64
		for _, m := range search.Front(outcomes) {
			want = append(want, m.Number)
		}
		if !slices.Equal(front.Members, want) || front.Hypervolume != search.Hypervolume(outcomes, r.Reference) {
			t.Errorf("after trial %d: %+v, want %v", i, front, want)
		}
	}
	all, err := s.Fronts(ctx, r)
	if err != nil || len(all) != 7 || all[4].Trial != 5 {
		t.Errorf("%+v, %v", all, err)
	}
	_, early := add(t, s, r, 80, me)
	late, lease := add(t, s, r, 90, me)
	must(t, s.Finish(ctx, r, lease, finished(late, store.Complete, 0.9)))
	must(t, s.Fail(ctx, early, &evaluator.Failure{Kind: evaluator.FailureInternal}))
	ended, err := s.Outcomes(ctx, r)
	if err != nil || len(ended) != 10 {
		t.Fatalf("%+v, %v", ended, err)
	}
	if o := ended[4]; o.Number != 4 || o.Complete || o.Seconds != 1.5 || o.Params != 10 || o.Score != 0.7 {
		t.Errorf("the pruned trial is %+v", o)
	}
	if ended[8].Number != late.Number || !ended[8].Complete || ended[9].Number != early.Trial() || ended[9].Complete || ended[9].Seconds < 0 {
		t.Errorf("the last to end are %+v", ended[8:])
	}
}

func trainings(t *testing.T, open func() *store.Store) {
	s := open()
	r := study(t, s)
	training := store.Training{Candidate: Proposal(3).Candidate, Seed: 40, Result: evaluator.Result{Score: 0.5, Test: map[string]float64{"accuracy": 0.25}}}
	for range 2 {
		must(t, s.AddTraining(ctx, r, training))
	}
	other := training
	other.Seed = 41
	must(t, s.AddTraining(ctx, r, other))
	longer := training
	longer.Conditions = "20 epochs"
	must(t, s.AddTraining(ctx, r, longer))
	all, err := open().Trainings(ctx, r)
	must(t, err)
	if diff := cmp.Diff([]store.Training{training, other, longer}, all); diff != "" {
		t.Error(diff)
	}
	if tally, err := s.Tally(ctx, r); err != nil || tally.Total() != 0 {
		t.Errorf("they count as trials: %+v, %v", tally, err)
	}
}

// crowd runs a study as several processes do, each with two workers.
func crowd(t *testing.T, open func() *store.Store) {
	const trials, processes = 60, 4
	r := study(t, open())
	me := store.ThisProcess()
	work := func(s *store.Store) error {
		for {
			trial, lease, err := s.Pop(ctx, r, me)
			if errors.Is(err, store.ErrNothing) {
				var right store.Lease
				if right, err = s.Propose(ctx, r, trials, me); errors.Is(err, store.ErrProposed) {
					time.Sleep(time.Millisecond)
					continue
				}
				if errors.Is(err, store.ErrEnough) {
					return nil
				}
				if err == nil {
					lease = right
					trial, err = s.Add(ctx, r, right, Proposal(1000+int(right.Trial())), me)
				}
			}
			if err != nil {
				return err
			}
			if trial.Attempts == 1 && trial.Number%7 == 3 {
				err = s.Release(ctx, lease, false)
			} else {
				err = s.Finish(ctx, r, lease, finished(trial, store.Complete, 0.5+float64(trial.Number)/1000))
			}
			if err != nil {
				return err
			}
		}
	}
	var group sync.WaitGroup
	for range processes {
		s := open()
		for range 2 {
			group.Go(func() {
				if err := work(s); err != nil {
					t.Error(err)
				}
			})
		}
	}
	group.Wait()
	s := open()
	must(t, work(s)) // what was released last
	all, err := s.Trials(ctx, r)
	must(t, err)
	for i, trial := range all {
		if trial.Number != int64(i) || trial.State != store.Complete || trial.Params != int64(1000+i) {
			t.Errorf("trial %d at place %d is %s with %d parameters", trial.Number, i, trial.State, trial.Params)
		}
	}
	fronts, err := s.Fronts(ctx, r)
	if err != nil || len(fronts) != trials || len(all) != trials {
		t.Errorf("%d trials, %d fronts, %v", len(all), len(fronts), err)
	}
}

func snapshot(t *testing.T, open func() *store.Store) {
	s, viewer, me := open(), open(), store.ThisProcess()
	r := study(t, s)
	trial, lease := add(t, s, r, 1, me)
	must(t, viewer.Snapshot(ctx, func(at *store.Store) error {
		before, err := at.Tally(ctx, r)
		if err != nil || before.Running != 1 {
			t.Errorf("%+v, %v", before, err)
		}
		must(t, s.Finish(ctx, r, lease, finished(trial, store.Complete, 0.5))) // waits for no reader
		after, err := at.Tally(ctx, r)
		if err != nil || after != before {
			t.Errorf("%+v, then %+v, %v", before, after, err)
		}
		fronts, err := at.Fronts(ctx, r)
		if len(fronts) != 0 {
			t.Errorf("%d fronts of a moment without one", len(fronts))
		}
		return err
	}))
	if after, err := viewer.Tally(ctx, r); err != nil || after.Complete != 1 {
		t.Errorf("%+v, %v", after, err)
	}
}
