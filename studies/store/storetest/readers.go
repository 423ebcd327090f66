package storetest

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"peftsearch/evaluator"
	"peftsearch/search"
	"peftsearch/space"
	"peftsearch/studies/store"
)

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
	want := store.Entry{Number: 0, State: store.Pruned, Key: store.KeyOf(first.Candidate), Point: space.Point{3},
		Params: 3, Score: 0.75, Trainings: 1, First: 0.75,
		Forecast: search.Forecast{Score: 0.85, SD: 0.01}, Seconds: 1.5, Curve: finished(first, store.Pruned, 0.75).Curve}
	if diff := cmp.Diff(want, known[0], cmpopts.IgnoreFields(store.Entry{}, "Finished")); diff != "" {
		t.Error(diff)
	}
	if known[1].State != store.Failed || known[2].State != store.Waiting || known[0].Finished.IsZero() ||
		!known[2].Finished.IsZero() {
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
	for n, want := range map[int64][]store.Entry{2: all[1:], 100: all} {
		latest, err := viewer.Latest(ctx, r, n)
		must(t, err)
		if diff := cmp.Diff(want, latest); diff != "" {
			t.Errorf("the latest %d:\n%s", n, diff)
		}
	}
}

func progress(t *testing.T, open func() *store.Store) {
	s, me := open(), store.ThisProcess()
	r := study(t, s)
	trial, lease := add(t, s, r, 3, me)
	curve := finished(trial, store.Complete, 0.5).Curve
	must(t, s.Beat(ctx, lease, store.Progress{Step: 1, Steps: 3, Loss: 0.5}, curve[:1]))
	doing := evaluator.Doing{What: "computing hidden states", Done: 12, Of: 40, Left: 1.5}
	must(t, s.Beat(ctx, lease, store.Progress{Step: 2, Steps: 3, Loss: 0.25, Doing: doing}, nil))
	viewer := open()
	attempts, err := viewer.Attempts(ctx, r)
	if err != nil || len(attempts) != 1 {
		t.Fatalf("%+v, %v", attempts, err)
	}
	a := attempts[0]
	if a.Trial != 0 || a.Owner != me || a.Progress != (store.Progress{Step: 2, Steps: 3, Loss: 0.25, Doing: doing}) ||
		!a.Started.Equal(trial.Started) || a.Reported.Before(a.Started) {
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
	all, err := s.Fronts(ctx, r, 1, -1)
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
	if ended[8].Number != late.Number || !ended[8].Complete || ended[9].Number != early.Trial() ||
		ended[9].Complete || ended[9].Seconds < 0 {
		t.Errorf("the last to end are %+v", ended[8:])
	}
}

func trainings(t *testing.T, open func() *store.Store) {
	s := open()
	r := study(t, s)
	training := store.Training{Candidate: Proposal(3).Candidate, Seed: 40,
		Result: evaluator.Result{Score: 0.5, BestStep: 1, Steps: 1,
			Test: map[string]float64{"accuracy": 0.25}}}
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
	fronts, err := s.Fronts(ctx, r, 1, -1)
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
		fronts, err := at.Fronts(ctx, r, 1, -1)
		if len(fronts) != 0 {
			t.Errorf("%d fronts of a moment without one", len(fronts))
		}
		return err
	}))
	if after, err := viewer.Tally(ctx, r); err != nil || after.Complete != 1 {
		t.Errorf("%+v, %v", after, err)
	}
}
