package studies

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"peftsearch/evaluator"
	"peftsearch/search"
	"peftsearch/studies/store"
)

// Errors that end a run early; everything that was finished is stored.
var (
	ErrTooManyFailures = errors.New("too many trials failed")
	ErrNoUsableTrial   = errors.New("no trial gave a score")
)

const (
	minFinished = 5 // outcomes before their failures can end a run
	maxCrashes  = 3 // attempts at a trial that end with their worker; then the trial has failed
)

// RunOptions adjusts one call of Run.
type RunOptions struct {
	// Events receives every event, one at a time, from the goroutines of the workers. It must return
	// quickly. Nil ignores them.
	Events func(Event)
	// Drain, when closed, lets running trials end and starts no new ones. Nil never does.
	Drain <-chan struct{}
}

// Run runs trials until the study has its budget, with open making one evaluator for each worker. It returns the
// status at the end. Trials that other processes run are waited for: if one of these ends, its trials are run here.
//
// When ctx is cancelled, running trials are interrupted at their next step and wait to run again; the error is then
// ctx.Err(), unless there is one that matters more. Other errors: ErrTooManyFailures, ErrNoUsableTrial,
// search.ErrExhausted (the space has no further plan), what open returns, a *store.Error of a database
// that cannot be written. Whatever the error, finished trials are stored: while the database is busy or away their
// outcomes are kept, and stored when it is back.
func (s *Study) Run(ctx context.Context, open Open, options RunOptions) (Status, error) {
	r := &runner{Study: s, me: store.ThisProcess(), options: options, proposing: make(chan struct{}, 1)}
	r.pool = &pool{workers: int(s.config.Evaluator.Workers), open: open, drain: options.Drain, next: r.next}
	r.history = NewHistory(s.db, s.record)
	err := r.calibrate(ctx)
	r.history = NewHistory(s.db, s.record) // with the space of plans that are trained at the rates found
	r.history.space, r.history.curves = s.inputs.Space, s.pruner != nil
	if err == nil && ctx.Err() == nil && !r.draining() {
		err = r.shareWeights(ctx)
	}
	if s.pruner != nil {
		r.outlooks = &outlooks{pruner: s.pruner, history: r.history, latest: map[float64]*outlook{}}
		defer r.outlooks.close()
	}
	if err == nil && ctx.Err() == nil && !r.draining() {
		err = r.pool.run(ctx)
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), giveBackFor)
	defer cancel()
	var status Status
	statusErr := r.repeat(last, func(ctx context.Context) (err error) {
		status, err = r.sync(ctx)
		return err
	})
	if err != nil || statusErr != nil {
		return status, join(err, statusErr)
	}
	if ctx.Err() != nil {
		return status, ctx.Err()
	}
	if r.exhausted.Load() {
		err = search.ErrExhausted
	}
	if status.Complete == 0 && !r.pool.draining() {
		err = errors.Join(err, ErrNoUsableTrial)
	}
	return status, err
}

// runner is one call of Run.
type runner struct {
	*Study
	*pool
	me        store.Owner
	options   RunOptions
	history   *History
	outlooks  *outlooks     // nil without a pruner
	proposing chan struct{} // held while a worker of this process makes a proposal
	exhausted atomic.Bool   // there is no further plan
	idle      atomic.Bool   // a worker waits for what other processes run

	mu sync.Mutex // guards the order of events
}

// next is the next trial of a worker. When all trials that are left run elsewhere, one worker waits for them.
func (r *runner) next(ctx context.Context) (*training, error) {
	waiting, told := false, 0
	defer func() {
		if waiting {
			r.idle.Store(false)
		}
	}()
	for !r.draining() && ctx.Err() == nil {
		claimed, err := r.claim(ctx)
		switch {
		case err == nil:
			return claimed, nil
		case errors.Is(err, errStopped):
			return nil, nil
		case errors.Is(err, search.ErrExhausted):
			r.exhausted.Store(true)
		case !errors.Is(err, store.ErrEnough):
			return nil, err
		}
		elsewhere, err := r.elsewhere(ctx)
		if err != nil || elsewhere == 0 || !waiting && !r.idle.CompareAndSwap(false, true) {
			return nil, err
		}
		if waiting = true; elsewhere != told {
			told = elsewhere
			r.emit(ctx, Event{Kind: EventWaiting, Elsewhere: elsewhere})
		}
		r.pause(ctx, elsewherePause)
	}
	return nil, nil
}

// elsewherePause is how often a worker without work looks at what other processes run.
const elsewherePause = 500 * time.Millisecond

// elsewhere counts the trials and jobs that other processes run.
func (r *runner) elsewhere(ctx context.Context) (n int, err error) {
	err = r.repeat(ctx, func(ctx context.Context) (err error) {
		n, err = r.db.Elsewhere(ctx, r.record, r.me)
		return err
	})
	return n, err
}

// held is a training under a lease, which signs of life hold from now on: while its evaluator is opened too.
func (r *runner) held(ctx context.Context, e Event, lease store.Lease,
	train func(ctx context.Context, eval evaluator.Evaluator, alive *alive) error) *training {
	alive := r.keepAlive(ctx, lease)
	return &training{
		do:      func(ctx context.Context, eval evaluator.Evaluator) error { return train(ctx, eval, alive) },
		loading: func(p evaluator.Progress) { r.report(alive, e, p) },
		giveBack: func() error {
			alive.stop()
			return r.giveBack(ctx, e, lease)
		},
	}
}

// train runs one trial and stores what becomes of it.
func (r *runner) train(ctx context.Context, eval evaluator.Evaluator, trial store.Trial, lease store.Lease,
	alive *alive) error {
	r.emit(ctx, Event{Kind: EventStarted, Trial: trial})
	known := r.history.Outcomes()
	var stop evaluator.Verdict // the first
	job := evaluator.Job{Trial: trial.Number, Candidate: trial.Candidate, Seed: trial.Seed,
		Budget: r.config.TrialBudget()}
	result, err := eval.Evaluate(alive.ctx, job, func(p evaluator.Progress) evaluator.Verdict {
		if p.Score != nil {
			trial.Curve = append(trial.Curve, store.CurvePoint{Step: p.Step, Steps: p.Steps, Loss: p.Loss, Score: *p.Score})
		}
		r.report(alive, Event{Trial: trial}, p)
		if p.Score != nil && r.pruner != nil && p.Step < p.Steps && !stop.Stop {
			stop, trial.Forecast = r.judge(trial, known)
		}
		return stop
	})
	trial.State, trial.Result = store.Complete, result
	if err == nil && stop.Stop && result.Stopped != "" {
		trial.State = store.Pruned
	}
	if err := r.conclude(ctx, lease, alive.stop(), err, Event{Trial: trial}, func(ctx context.Context) error {
		return r.db.Finish(ctx, r.record, lease, trial)
	}); err != nil {
		return err
	}
	return r.tooMany()
}

// conclude stores what becomes of a training: its outcome by finish, unless it ended with an error. The event has its
// trial or its job.
func (r *runner) conclude(ctx context.Context, lease store.Lease, fenced bool, err error, e Event,
	finish func(context.Context) error) error {
	var failure *evaluator.Failure
	switch {
	case fenced:
		e.Kind = EventTaken
		r.emit(ctx, e)
		return nil
	case err == nil:
		e.Kind = EventFinished
		return r.store(ctx, e, finish)
	case errors.As(err, &failure):
		crashed := failure.Kind == evaluator.FailureCrashed // which somebody may have done; other slips happen again
		crashes := 1 + e.crashes()
		if crashed && crashes < maxCrashes {
			e = e.failed(failure)
			e.Kind = EventRetried
			return r.store(ctx, e, func(ctx context.Context) error { return r.db.Release(ctx, lease, true) })
		}
		if crashed {
			failure = &evaluator.Failure{Kind: failure.Kind,
				Message: fmt.Sprintf("%s (attempt %d that ended with its worker)", failure.Message, crashes)}
		}
		e = e.failed(failure)
		e.Kind = EventFailed
		return r.store(ctx, e, func(ctx context.Context) error { return r.db.Fail(ctx, lease, failure) })
	case ctx.Err() != nil:
		return r.giveBack(ctx, e, lease)
	default:
		if back := r.giveBack(ctx, e, lease); back != nil {
			return join(err, back)
		}
		return &brokenError{err}
	}
}

// store stores what became of a trial, for as long as it takes, and says so.
func (r *runner) store(ctx context.Context, e Event, write func(context.Context) error) error {
	ctx = context.WithoutCancel(ctx) // an outcome is stored even if the run is being cancelled
	err := r.repeat(ctx, write)
	switch {
	case errors.Is(err, store.ErrFenced):
		e.Kind, err = EventTaken, nil
	case err != nil:
		return err
	}
	r.emit(ctx, e)
	if r.outlooks != nil && err == nil {
		r.outlooks.prepare()
	}
	return err
}

// giveBackFor is how long the last steps of a run are tried. Where a trial cannot be returned, others see that the
// process has ended.
const giveBackFor = 15 * time.Second

// giveBack makes the trial or the job of an event wait again.
func (r *runner) giveBack(ctx context.Context, e Event, lease store.Lease) error {
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), giveBackFor)
	defer cancel()
	err := r.repeat(limited, func(ctx context.Context) error { return r.db.Release(ctx, lease, false) })
	if err != nil && !errors.Is(err, store.ErrFenced) && limited.Err() == nil {
		return err
	}
	e.Kind = EventReturned
	r.emit(context.WithoutCancel(ctx), e)
	return nil
}

// repeat repeats a step until the database has decided it, and says once that it has to wait.
func (r *runner) repeat(ctx context.Context, step func(context.Context) error) error {
	return repeat(ctx, step, func(err error) { r.emit(ctx, Event{Kind: EventDelayed, Err: err}) })
}

// judge asks the pruner about a trial that has just reached a rung, and started when so many outcomes were known.
func (r *runner) judge(trial store.Trial, known int) (evaluator.Verdict, search.Forecast) {
	o := search.Observation{Number: trial.Number, Point: trial.Point, Params: trial.Params, State: search.Running,
		Curve: rungs(trial.Curve)}
	return r.outlooks.at(o.Curve[len(o.Curve)-1].Share, known).Decide(o)
}

// tooMany reports whether more trials failed than the study file allows.
func (r *runner) tooMany() error {
	status := r.status(r.history)
	allowed := r.config.Budget.MaxFailures
	if n := status.Finished(); n >= minFinished && float64(status.Failed) > allowed*float64(n) {
		return fmt.Errorf("%w: %d of %d, budget.max_failures allows a share of %g",
			ErrTooManyFailures, status.Failed, n, allowed)
	}
	return nil
}

// sync brings the history up to date and returns the study's status.
func (r *runner) sync(ctx context.Context) (Status, error) {
	err := r.history.Sync(ctx)
	return r.status(r.history), err
}

// emit sends an event with the study's status as it is then. Where the database cannot be read, the status is the
// latest that was known.
func (r *runner) emit(ctx context.Context, e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e.Status, _ = r.sync(context.WithoutCancel(ctx)) // the next write reports it
	if r.options.Events != nil {
		r.options.Events(e)
	}
}

// report notes and sends progress, without looking at the database.
func (r *runner) report(alive *alive, e Event, p evaluator.Progress) {
	alive.report(p)
	if r.options.Events == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	e.Kind, e.Progress = EventProgress, p
	r.options.Events(e)
}
