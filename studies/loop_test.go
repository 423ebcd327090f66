package studies

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"peftsearch/evaluator"
	"peftsearch/search"
	"peftsearch/studies/store"
)

// elsewhere is a process of another machine.
var elsewhere = store.Owner{Host: "elsewhere", Boot: "another boot", Namespace: "pid:[1]", Process: "1 1"}

// runElsewhere makes the next trial of a study run on another machine.
func runElsewhere(t *testing.T, study *Study, db *store.Store) (store.Trial, store.Lease) {
	t.Helper()
	r := &runner{Study: study, pool: &pool{}, me: elsewhere, history: NewHistory(db, study.record)}
	r.history.space = study.inputs.Space
	return begin(t, r)
}

// begin makes the next trial of a study run in the process of a runner.
func begin(t *testing.T, r *runner) (store.Trial, store.Lease) {
	t.Helper()
	right, err := r.db.Propose(t.Context(), r.record, 1e6, r.me)
	if err != nil {
		t.Fatal(err)
	}
	proposal, _, err := r.proposal(t.Context(), right.Trial())
	if err != nil {
		t.Fatal(err)
	}
	trial, err := r.db.Add(t.Context(), r.record, right, *proposal, r.me)
	if err != nil {
		t.Fatal(err)
	}
	return trial, right
}

func complete(trial store.Trial) store.Trial {
	trial.State, trial.Result = store.Complete, evaluator.Result{Score: 0.75, BestStep: 1, Steps: 1, WallS: 1}
	return trial
}

// A search whose last trials run elsewhere waits for them, and neither says that it is done nor that it found nothing.
func TestASearchWaitsForTrialsElsewhere(t *testing.T) {
	for name, ends := range map[string]func(t *testing.T, db *store.Store, study *Study, trial store.Trial,
		lease store.Lease){
		"they end": func(t *testing.T, db *store.Store, study *Study, trial store.Trial, lease store.Lease) {
			if err := db.Finish(t.Context(), study.record, lease, complete(trial)); err != nil {
				t.Error(err)
			}
		},
		"they are given back": func(t *testing.T, db *store.Store, study *Study, trial store.Trial, lease store.Lease) {
			if err := db.Release(t.Context(), lease, false); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			study, db := start(t, writeStudy(t, t.TempDir(), 1)) // the only one
			trial, lease := runElsewhere(t, study, db)
			waited := 0
			status, err := run(t, study, RunOptions{Events: func(e Event) {
				if e.Kind == EventWaiting {
					if waited++; e.Elsewhere != 1 || e.Status.Running != 1 {
						t.Errorf("%+v", e)
					}
					ends(t, db, study, trial, lease)
				}
			}})
			if err != nil || waited != 1 || status.Complete != 1 || status.Running != 0 {
				t.Errorf("%+v, %v, waited %d times", status, err, waited)
			}
		})
	}
	t.Run("the run is drained", func(t *testing.T) {
		study, db := start(t, writeStudy(t, t.TempDir(), 2))
		runElsewhere(t, study, db)
		drain := make(chan struct{})
		status, err := run(t, study, RunOptions{Drain: drain, Events: func(e Event) {
			if e.Kind == EventWaiting {
				close(drain)
			}
		}})
		if err != nil || status.Complete != 1 || status.Running != 1 || status.Finished() == status.Trials {
			t.Errorf("%+v, %v", status, err)
		}
	})
}

// blocking blocks in trials until they are cancelled.
type blocking struct{ evaluator.Evaluator }

func (blocking) Evaluate(ctx context.Context, _ evaluator.Job,
	_ func(evaluator.Progress) evaluator.Verdict) (evaluator.Result, error) {
	<-ctx.Done()
	return evaluator.Result{}, ctx.Err()
}

// A trial that another process has taken over is cancelled, and what becomes of it here does not count.
func TestATrialThatIsTakenOverIsCancelled(t *testing.T) {
	study, db := start(t, writeStudy(t, t.TempDir(), 1))
	db.LeaseTime = time.Millisecond
	var kinds []EventKind
	status, err := study.Run(t.Context(), func(context.Context, Loading) (evaluator.Evaluator, error) {
		return blocking{study.Analytic()}, nil
	},
		RunOptions{Events: func(e Event) {
			if kinds = append(kinds, e.Kind); e.Kind != EventStarted {
				return
			}
			for { // until the lease has ended
				trial, lease, err := db.Pop(t.Context(), study.record, elsewhere)
				if errors.Is(err, store.ErrNothing) {
					continue
				}
				if err == nil {
					err = db.Finish(t.Context(), study.record, lease, complete(trial))
				}
				if err != nil {
					t.Error(err)
				}
				return
			}
		}})
	if err != nil || status.Complete != 1 || !cmp.Equal(kinds, []EventKind{EventStarted, EventTaken}) {
		t.Errorf("%+v, %v, events %v", status, err, kinds)
	}
}

// Attempts that end with their worker are counted for good; those that were interrupted are not.
func TestCrashesAreCountedFromRunToRun(t *testing.T) {
	study, _ := start(t, writeStudy(t, t.TempDir(), 2))
	crash := &evaluator.Failure{Kind: evaluator.FailureCrashed, Message: "killed"}
	attempt := func(fails ...error) (Status, error) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		return study.Run(ctx, func(context.Context, Loading) (evaluator.Evaluator, error) {
			return failing{study.Analytic(), func(job evaluator.Job) error {
				if job.Trial != 1 || len(fails) == 0 {
					return nil
				}
				next := fails[0]
				if fails = fails[1:]; errors.Is(next, context.Canceled) {
					cancel()
				}
				return next
			}}, nil
		}, RunOptions{})
	}
	for range 3 {
		if _, err := attempt(context.Canceled); !errors.Is(err, context.Canceled) {
			t.Fatalf("the error is %v", err)
		}
	}
	if _, err := attempt(crash, context.Canceled); !errors.Is(err, context.Canceled) {
		t.Fatalf("the error is %v", err)
	}
	if trial := trialsOf(t, study)[1]; trial.State != store.Waiting || trial.Attempts != 5 || trial.Crashes != 1 {
		t.Errorf("%s after %d attempts, %d of them crashed", trial.State, trial.Attempts, trial.Crashes)
	}
	status, err := attempt(crash, crash)
	if err != nil || status.Failed != 1 || status.Complete != 1 {
		t.Errorf("%+v, %v", status, err)
	}
	trial := trialsOf(t, study)[1]
	if trial.State != store.Failed || trial.Attempts != 7 || trial.Failure.Kind != evaluator.FailureCrashed ||
		!strings.Contains(trial.Failure.Message, "killed (attempt 3 that ended") {
		t.Errorf("%s after %d attempts: %v", trial.State, trial.Attempts, trial.Failure)
	}
}

// An evaluator that breaks is opened again, for some times; the trial it had is not to blame.
func TestABrokenEvaluatorIsOpenedAgain(t *testing.T) {
	defer func(pause time.Duration) { restartPause = pause }(restartPause)
	restartPause = time.Millisecond
	broken := errors.New("the GPU is gone")
	for _, times := range []int{2, restarts + 1} {
		study, _ := start(t, writeStudy(t, t.TempDir(), 3))
		opened, fails := 0, times
		status, err := study.Run(t.Context(), func(context.Context, Loading) (evaluator.Evaluator, error) {
			opened++
			return failing{study.Analytic(), func(job evaluator.Job) error {
				if fails--; job.Trial == 1 && fails >= 0 {
					return broken
				}
				fails = times
				return nil
			}}, nil
		}, RunOptions{})
		trial := trialsOf(t, study)[1]
		if times <= restarts {
			if err != nil || status.Complete != 3 || trial.Crashes != 0 || opened < times {
				t.Errorf("%d times: %+v, %v, opened %d times", times, status, err, opened)
			}
		} else if !errors.Is(err, broken) || !strings.Contains(err.Error(), "5 times in a row") ||
			status.Complete != 1 || trial.State != store.Waiting {
			t.Errorf("%d times: %+v, %v", times, status, err)
		}
	}
}

func TestNothingUsableInASpaceThatRunsOut(t *testing.T) {
	path := writeStudy(t, t.TempDir(), 50)
	edit(t, path, "search:",
		"space: {preset: groups, groups: 1, serial: [0, 4], parallel: [], prefix: [0, 1], lora: {ranks: []}}\n"+"search:",
		"budget:", "budget:\n  max_failures: 1")
	study, _ := start(t, path)
	_, err := runFailing(t, study, func(evaluator.Job) error {
		return &evaluator.Failure{Kind: evaluator.FailureInternal, Message: "no"}
	})
	if !errors.Is(err, search.ErrExhausted) || !errors.Is(err, ErrNoUsableTrial) {
		t.Errorf("the error is %v", err)
	}
}

// What goes wrong while a run is cancelled is said.
func TestCancellingHidesNoError(t *testing.T) {
	onFile(t)
	study, db := start(t, writeStudy(t, t.TempDir(), 3))
	database := filepath.Join(filepath.Dir(study.config.File()), "studies.db")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err := study.Run(ctx, func(context.Context, Loading) (evaluator.Evaluator, error) {
		return blocking{study.Analytic()}, nil
	},
		RunOptions{Events: func(e Event) {
			if e.Kind == EventStarted {
				if err := os.Rename(database, database+".away"); err != nil {
					t.Error(err)
				}
				cancel()
			}
		}})
	var lost *store.Error
	if !errors.As(err, &lost) || errors.Is(err, context.Canceled) ||
		!strings.Contains(err.Error(), "deleted or renamed") {
		t.Errorf("the error is %v", err)
	}
	if err := db.Close(); err != nil {
		t.Errorf("said twice: %v", err)
	}
}

// While the database is busy an outcome is kept and stored later; that is said once.
func TestOutcomesOutliveABusyDatabase(t *testing.T) {
	study, db := start(t, writeStudy(t, t.TempDir(), 1))
	var delays int
	r := &runner{Study: study, pool: &pool{}, me: store.ThisProcess(), history: NewHistory(db, study.record),
		options: RunOptions{Events: func(e Event) {
			if e.Kind == EventDelayed && store.IsBusy(e.Err) {
				delays++
			}
		}}}
	r.history.space = study.inputs.Space
	trial, lease := begin(t, r)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel() // also when the run is being cancelled
	tries := 0
	if err := r.store(cancelled, Event{Kind: EventFinished, Trial: trial}, func(ctx context.Context) error {
		if tries++; tries <= 3 {
			return &store.Error{Err: errors.New("locked"), Busy: true}
		}
		return db.Finish(ctx, study.record, lease, complete(trial))
	}); err != nil {
		t.Fatal(err)
	}
	if after := trialsOf(t, study)[0]; after.State != store.Complete || delays != 1 || tries != 4 {
		t.Errorf("%s after %d tries, said %d times", after.State, tries, delays)
	}
}

// Numbers of a study never go back from one event to the next, with several workers too.
func TestEventsAreInOrder(t *testing.T) {
	path := writeStudy(t, t.TempDir(), 30)
	edit(t, path, "{analytic: true}", "{analytic: true, workers: 4}")
	study, _ := start(t, path)
	var last Status
	finished := 0
	if _, err := run(t, study, RunOptions{Events: func(e Event) {
		if e.Kind == EventProgress {
			return
		}
		s := e.Status
		if s.Version < last.Version || s.Finished() < last.Finished() || s.Hypervolume < last.Hypervolume {
			t.Errorf("%s: %+v after %+v", e.Kind, s, last)
		}
		if e.Kind == EventFinished {
			if finished++; s.Finished() < finished {
				t.Errorf("%d have ended, and the status says %d", finished, s.Finished())
			}
		}
		last = s
	}}); err != nil {
		t.Fatal(err)
	}
}

// What trials report while they run is stored at most once a second, with the rungs that they have passed.
func TestRunningTrialsCanBeWatched(t *testing.T) {
	study, db := start(t, writeStudy(t, t.TempDir(), 1))
	seen := make(chan struct{})
	var once sync.Once
	watching := watched{study.Analytic(), seen}
	go func() {
		defer once.Do(func() { close(seen) })
		for {
			attempts, err := db.Attempts(t.Context(), study.record)
			if err != nil {
				t.Error(err)
				return
			}
			if len(attempts) == 1 && attempts[0].Progress.Step == 75 {
				if a := attempts[0]; a.Owner != store.ThisProcess() || a.Progress.Steps != 300 || a.Progress.Loss != 0.5 {
					t.Errorf("%+v", a)
				}
				trial, err := db.Trial(t.Context(), study.record, 0)
				if err != nil || trial.State != store.Running || len(trial.Curve) != 1 || trial.Curve[0].Score != 0.6 {
					t.Errorf("%+v, %v", trial, err)
				}
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	}()
	if _, err := study.Run(t.Context(), func(context.Context, Loading) (evaluator.Evaluator, error) {
		return watching,
			nil
	}, RunOptions{}); err != nil {
		t.Fatal(err)
	}
}

// A trial whose evaluator loads for long is held by signs of life, which say what it does.
func TestLoadingIsSeen(t *testing.T) {
	study, db := start(t, writeStudy(t, t.TempDir(), 1))
	tokenising := evaluator.Doing{What: "tokenising", Done: 4, Of: 9, Left: 2.5}
	var told []evaluator.Doing
	if _, err := study.Run(t.Context(), func(ctx context.Context, loading Loading) (evaluator.Evaluator, error) {
		loading(evaluator.Progress{Doing: tokenising})
		for ; ctx.Err() == nil; time.Sleep(10 * time.Millisecond) {
			attempts, err := db.Attempts(ctx, study.record)
			if err != nil {
				return nil, err
			}
			if len(attempts) == 1 && attempts[0].Progress == (store.Progress{Doing: tokenising}) {
				break
			}
		}
		return study.Analytic(), nil
	}, RunOptions{Events: func(e Event) {
		if e.Kind == EventProgress && e.Progress.What != "" {
			told = append(told, e.Progress.Doing)
		}
	}}); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(told, []evaluator.Doing{tokenising}) {
		t.Errorf("told %+v", told)
	}
}

// watched reports a rung, and goes on when somebody has seen it.
type watched struct {
	evaluator.Evaluator
	seen <-chan struct{}
}

func (w watched) Evaluate(ctx context.Context, job evaluator.Job,
	report func(evaluator.Progress) evaluator.Verdict) (evaluator.Result, error) {
	score := 0.6
	report(evaluator.Progress{Step: 75, Steps: 300, Loss: 0.5, Score: &score})
	<-w.seen
	return w.Evaluator.Evaluate(ctx, job, func(evaluator.Progress) evaluator.Verdict { return evaluator.Verdict{} })
}

// countingPruner counts the outlooks that are worked out, with how many outcomes each knows.
type countingPruner struct {
	mu    sync.Mutex
	knows []int
}

func (c *countingPruner) Outlook(history []search.Observation, _ float64) search.Outlook {
	n := 0
	for _, o := range history {
		if o.State != search.Running {
			n++
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.knows = append(c.knows, n)
	return knowing(n)
}

// knowing stops nothing, and says how many outcomes it knows.
type knowing int

func (k knowing) Decide(search.Observation) (evaluator.Verdict, search.Forecast) {
	return evaluator.Verdict{}, search.Forecast{Score: float64(k)}
}

// An outlook knows all outcomes that there were when the trial started, and is worked out once for them.
func TestOutlooksAreReadyAndUpToDate(t *testing.T) {
	study, _ := start(t, writeStudy(t, t.TempDir(), 10))
	pruner := &countingPruner{}
	study.pruner = pruner
	if _, err := run(t, study, RunOptions{Events: func(e Event) {
		if e.Kind == EventFinished && e.Trial.Forecast.Score != float64(e.Trial.Number) {
			t.Errorf("trial %d was judged by %g outcomes", e.Trial.Number, e.Trial.Forecast.Score)
		}
	}}); err != nil {
		t.Fatal(err)
	}
	times := map[int]int{}
	for _, n := range pruner.knows {
		times[n]++
	}
	for n := range 10 {
		if times[n] != 3 { // rungs before the last
			t.Errorf("with %d outcomes %d outlooks were worked out", n, times[n])
		}
	}
}

// A run that is cancelled at any moment ends as cancelled, whatever it was just asking the database.
func TestCancellingAtAnyMoment(t *testing.T) {
	study, _ := start(t, writeStudy(t, t.TempDir(), 60))
	for i := range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		timer := time.AfterFunc(time.Duration(i)*2*time.Millisecond, cancel)
		_, err := study.Run(ctx, func(context.Context, Loading) (evaluator.Evaluator, error) { return study.Analytic(), nil },
			RunOptions{})
		timer.Stop()
		cancel()
		if err != nil && err != context.Canceled { // exactly: nothing went wrong
			t.Errorf("cancelled after %d ms: %v", 2*i, err)
		}
	}
	for i, trial := range mustRun(t, study) {
		if trial.State != store.Complete || trial.Number != int64(i) {
			t.Errorf("trial %d is %s", trial.Number, trial.State)
		}
	}
}
