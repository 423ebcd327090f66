package storetest

import (
	"math"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"peftsearch/evaluator"
	"peftsearch/peft"
	"peftsearch/space"
	"peftsearch/studies/store"
)

// addJob makes a new job run.
func addJob(t *testing.T, s *store.Store, r *store.Record, j store.Job, me store.Owner) (store.Job, store.Lease) {
	t.Helper()
	right, err := s.Propose(ctx, r, 1<<40, me)
	must(t, err)
	added, lease, err := s.AddJob(ctx, r, right, j)
	must(t, err)
	if _, again, err := s.AddJob(ctx, r, right, j); err != nil || again != lease { // the answer was lost
		t.Errorf("the same job is added as %+v, then as %+v, %v", lease, again, err)
	}
	return added, lease
}

func calibration(method peft.Method) store.Job {
	return store.Job{Kind: store.JobCalibration, Trial: -1, Method: string(method), Candidate: Proposal(2).Candidate,
		Seed:  5,
		Share: 0.5}
}

func jobs(t *testing.T, open func() *store.Store) {
	s, me := open(), store.ThisProcess()
	r := study(t, s)
	_, _, err := s.PopJob(ctx, r, me)
	is(t, err, store.ErrNothing)
	first, lease := addJob(t, s, r, calibration(peft.Methods[0]), me)
	want := calibration(peft.Methods[0])
	want.State = store.Running
	if diff := cmp.Diff(want, first); diff != "" {
		t.Error(diff)
	}
	if n, err := s.Elsewhere(ctx, r, me); n != 0 || err != nil {
		t.Errorf("%d run elsewhere, %v", n, err)
	}
	if n, err := s.Elsewhere(ctx, r, elsewhere); n != 1 || err != nil {
		t.Errorf("of another process %d run elsewhere, %v", n, err)
	}
	must(t, s.Beat(ctx, lease, store.Progress{Step: 1, Steps: 2}, []store.CurvePoint{{Step: 1, Steps: 2, Score: 0.5}}))
	_, version, err := s.Changes(ctx, r, 0, true)
	must(t, err)

	// One that crashes runs again, of a process that ended too, and fails once.
	must(t, s.Release(ctx, lease, true))
	again, second, err := s.PopJob(ctx, r, gone)
	if err != nil || again.Number != 0 || again.Crashes != 1 {
		t.Fatalf("%+v, %v", again, err)
	}
	is(t, s.FinishJob(ctx, r, lease, first), store.ErrFenced)
	third, lease, err := s.PopJob(ctx, r, me)
	if err != nil || third.Number != 0 {
		t.Fatalf("%+v, %v", third, err)
	}
	is(t, s.Fail(ctx, second, &evaluator.Failure{}), store.ErrFenced)
	failure := &evaluator.Failure{Kind: evaluator.FailureDiverged, Message: "too fast"}
	must(t, s.Fail(ctx, lease, failure))
	must(t, s.Fail(ctx, lease, failure))

	other, lease := addJob(t, s, r, calibration(peft.Methods[1]), me)
	other.Result = evaluator.Result{Score: 0.75, BestStep: 1, Steps: 2}
	must(t, s.FinishJob(ctx, r, lease, other))
	must(t, s.FinishJob(ctx, r, lease, other))
	all, err := open().Jobs(ctx, r, version)
	must(t, err)
	want.State, want.Crashes, want.Failure = store.Failed, 1, failure
	other.State = store.Complete
	if diff := cmp.Diff([]store.Job{want, other}, all); diff != "" {
		t.Error(diff)
	}
	if tally, err := s.Tally(ctx, r); err != nil || tally.Total() != 0 {
		t.Errorf("jobs count as trials: %+v, %v", tally, err)
	}
}

// maps are jobs of many trainings, whose estimates the study knows from then on, and which are no trials.
func maps(t *testing.T, open func() *store.Store) {
	s, me := open(), store.ThisProcess()
	r := study(t, s)
	job := store.Job{Kind: store.JobMap, Trial: -1, Candidate: Proposal(2).Candidate, Seed: 5, Share: 7.25}
	job, first := addJob(t, s, r, job, me)
	must(t, s.Release(ctx, first, true))
	job, lease, err := s.PopJob(ctx, r, me)
	must(t, err)
	is(t, s.FinishMap(ctx, r, first, job, &store.WarmStart{}), store.ErrFenced)
	if stored, err := s.Study(ctx, r.Name); err != nil || cmp.Diff(r.WarmStart, stored.WarmStart) != "" {
		t.Errorf("who does not hold it changed it: %+v, %v", stored.WarmStart, err)
	}
	job.Result = evaluator.Result{Steps: 30, WallS: 2}
	want := &store.WarmStart{Trials: []store.WarmTrial{{Point: space.Point{1, 2}, Params: 3, Score: 0.75}}}
	must(t, s.FinishMap(ctx, r, lease, job, want))
	must(t, s.FinishMap(ctx, r, lease, job, want))
	job.State = store.Complete
	all, err := open().Jobs(ctx, r, 0)
	if diff := cmp.Diff([]store.Job{job}, all); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	stored, err := s.Study(ctx, r.Name)
	if diff := cmp.Diff(want, stored.WarmStart); err != nil || diff != "" || !stored.WarmStart.Estimates() {
		t.Errorf("%v %s", err, diff)
	}
	if tally, err := s.Tally(ctx, r); err != nil || tally.Total() != 0 {
		t.Errorf("estimates count as trials: %+v, %v", tally, err)
	}
}

func replicates(t *testing.T, open func() *store.Store) {
	s, me := open(), store.ThisProcess()
	r := study(t, s)
	for size, score := range map[int]float64{2: 0.7, 4: 0.75, 8: 0.9} {
		trial, lease := add(t, s, r, size, me)
		done := finished(trial, store.Complete, score)
		done.Result.Resampled = []float64{score, score + 0.02}
		must(t, s.Finish(ctx, r, lease, done))
	}
	trials, err := s.Trials(ctx, r)
	must(t, err)
	largest := slices.IndexFunc(trials, func(t store.Trial) bool { return t.Params == 8 })
	_, version, err := s.Changes(ctx, r, 0, true)
	must(t, err)
	for i, score := range []float64{0.6, 0.66} {
		job, lease := addJob(t, s, r, store.Job{Kind: store.JobReplicate, Trial: int64(largest),
			Candidate: trials[largest].Candidate, Seed: uint64(i), Share: 1}, me)
		job.Result = evaluator.Result{Score: score, BestStep: 1, Steps: 2, Dev: map[string]float64{"accuracy": score},
			Resampled: []float64{score, score + 0.05}}
		must(t, s.FinishJob(ctx, r, lease, job))
		must(t, s.FinishJob(ctx, r, lease, job)) // counts once
	}
	changed, _, err := s.Changes(ctx, r, version, true)
	if err != nil || len(changed) != 1 || changed[0].Number != int64(largest) {
		t.Fatalf("%+v, %v", changed, err)
	}
	const mean = 0.72
	spread := 0.18*0.18 + 0.12*0.12 + 0.06*0.06
	near := func(a, b float64) bool { return math.Abs(a-b) < 1e-12 }
	if e := changed[0]; !near(e.Score, mean) || e.Trainings != 3 || !near(e.Spread, spread) || e.First != 0.9 {
		t.Errorf("%+v", e)
	}
	got, err := s.Trial(ctx, r, int64(largest)) // its curve is that of the first training
	if err != nil || !near(got.Result.Score, mean) || !near(got.Result.Dev["accuracy"], mean) || got.Trainings != 3 {
		t.Errorf("%+v, %v", got, err)
	}
	resampled, err := s.Resampled(ctx, r, 0, 3)
	if at := resampled[int64(largest)]; err != nil || !near(at[0], mean) || !near(at[1], mean+0.04) {
		t.Errorf("%v, %v", at, err)
	}
	if last, all, err := s.LastRungs(ctx, r); last != 0 || all != 3 || err != nil { // all are best at step 2 of 3
		t.Errorf("%d of %d trials end with their best score, %v", last, all, err)
	}
	front, err := s.Front(ctx, r)
	must(t, err)
	if len(front.Members) != 2 || slices.Contains(front.Members, int64(largest)) {
		t.Errorf("the front is %v, with trial %d that fell below the one before", front.Members, largest)
	}
}
