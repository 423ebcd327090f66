package studies

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"peftsearch/evaluator"
	"peftsearch/peft"
	"peftsearch/search"
	"peftsearch/studies/config"
	"peftsearch/studies/store"
)

// Errors that end a run early; everything that was finished is stored.
var (
	ErrTooManyFailures = errors.New("too many trials failed")
	ErrNoUsableTrial   = errors.New("no trial gave a score")
)

// minFinished is how many trials must have an outcome before their failures can end a run.
const minFinished = 5

const heartbeatEvery = 15 * time.Second

// Study is a stored study, opened with its inputs to run on.
type Study struct {
	store     *store.Store
	record    *store.Record
	config    *config.Config
	inputs    *config.Inputs
	optimizer *search.Optimizer
	pruner    search.Pruner // nil for none
	continued bool
}

// Start opens the study of a study file: it creates it, or continues it if the database has it. The
// error is an *IdentityError if the stored study had other inputs.
func Start(ctx context.Context, db *store.Store, file *config.Config, inputs *config.Inputs) (*Study, error) {
	return StartFrom(ctx, db, file, inputs, "")
}

// StartFrom is Start for a study that learns from the finished trials of another one of the database, which
// had a model of the same shape. A study that was started so continues so, with or without its name; one
// that was not cannot. The error can also be a *WarmStartError.
func StartFrom(ctx context.Context, db *store.Store, file *config.Config, inputs *config.Inputs, other string) (*Study, error) {
	smallest, largest := inputs.Space.ParamRange()
	reference := search.Reference{Chance: inputs.Dataset.Chance(), MinParams: smallest, MaxParams: largest}
	s := &Study{store: db, config: file, inputs: inputs}
	var err error
	s.record, err = db.Study(ctx, file.Study)
	switch {
	case errors.Is(err, store.ErrNoStudy):
		s.record = &store.Record{Name: file.Study, Created: time.Now(), Path: file.File(), Config: file.Text(), Identity: identity(file, inputs),
			Metric: string(file.Task.Metric), Geometry: inputs.Geometry, Reference: reference, Seed: file.Search.Seed}
		if other != "" {
			if s.record.WarmStart, err = warmStart(ctx, db, file, inputs, other); err != nil {
				return nil, err
			}
		}
	case err != nil:
		return nil, err
	default:
		s.continued = true
		if err := Check(s.record, file, inputs); err != nil {
			return nil, err
		}
		if other != "" && (s.record.WarmStart == nil || s.record.WarmStart.Study != other) {
			return nil, &WarmStartError{file.Study, other, "it was started already, without it"}
		}
	}
	s.optimizer, err = search.NewOptimizer(inputs.Space, search.Options{Seed: s.record.Seed, Sampler: file.Search.Sampler,
		Initial: file.Search.Initial, Reference: s.record.Reference, Prior: priorOf(s.record.WarmStart), TrialSeconds: file.TrialSeconds(inputs)})
	if err != nil {
		return nil, err
	}
	if file.Search.Pruner == config.PrunerFront {
		s.pruner = search.FrontPruner{Space: inputs.Space, Reference: s.record.Reference, Growth: search.DefaultGrowth}
	}
	if !s.continued {
		if err := db.Create(ctx, s.record); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Record is the study as it is stored.
func (s *Study) Record() *store.Record { return s.record }

// Config is the study file.
func (s *Study) Config() *config.Config { return s.config }

// Continued reports whether the study was in the database already.
func (s *Study) Continued() bool { return s.continued }

// Expect is what a worker of the study must have loaded.
func (s *Study) Expect() evaluator.Expect {
	return s.inputs.Expect()
}

// RunOptions adjusts one call of Run.
type RunOptions struct {
	// Events receives every event, one at a time, from the goroutines of the workers. It must return
	// quickly. Nil ignores them.
	Events func(Event)
	// Drain, when closed, lets running trials end and starts no new ones. Nil never does.
	Drain <-chan struct{}
}

// Run runs trials until the study has its budget, with open making one evaluator for each worker. It
// returns the status at the end. When ctx is cancelled, running trials are interrupted at their next
// step and wait to run again; the error is then ctx.Err(). Other errors: ErrTooManyFailures,
// ErrNoUsableTrial, search.ErrExhausted (the space has no further plan), an evaluator that
// cannot be opened, a database that cannot be written. Whatever the error, finished trials are stored.
func (s *Study) Run(ctx context.Context, open func(ctx context.Context) (evaluator.Evaluator, error), options RunOptions) (Status, error) {
	me, err := store.ThisProcess()
	if err != nil {
		return Status{}, err
	}
	r := &runner{Study: s, me: me, options: options, open: open}
	group, ctx2 := errgroup.WithContext(ctx)
	for range s.config.Evaluator.Workers {
		group.Go(func() error { return r.work(ctx2) })
	}
	err = group.Wait()
	switch {
	case ctx.Err() != nil:
		err = ctx.Err()
	case err == nil && r.exhausted.Load():
		err = search.ErrExhausted
	}
	status, statusErr := s.Status(context.WithoutCancel(ctx))
	if err == nil && statusErr == nil && !r.draining() && status.Complete == 0 {
		err = ErrNoUsableTrial
	}
	return status, errors.Join(err, statusErr)
}

// Status reads where the study stands.
func (s *Study) Status(ctx context.Context) (Status, error) {
	trials, err := s.store.Trials(ctx, s.record)
	if err != nil {
		return Status{}, err
	}
	return statusOf(trials, FrontOf(trials, s.record.Reference), s.config.Budget.Trials, int(s.config.Evaluator.Workers)), nil
}

// runner is one call of Run.
type runner struct {
	*Study
	me      store.Process
	options RunOptions
	open    func(ctx context.Context) (evaluator.Evaluator, error)

	mu        sync.Mutex  // guards calls of options.Events
	exhausted atomic.Bool // a worker found no further plan
	crashed   sync.Map    // numbers of the trials whose worker ended
}

func (r *runner) draining() bool {
	select {
	case <-r.options.Drain:
		return true
	default:
		return false
	}
}

// work is one worker: it runs trials one after another.
func (r *runner) work(ctx context.Context) (err error) {
	var eval evaluator.Evaluator
	defer func() {
		if eval != nil {
			err = errors.Join(err, eval.Close())
		}
	}()
	for !r.draining() && ctx.Err() == nil {
		trial, lease, err := r.store.Claim(ctx, r.record, r.config.Budget.Trials, r.me, r.propose)
		if errors.Is(err, store.ErrNoneLeft) {
			return nil
		}
		if errors.Is(err, search.ErrExhausted) { // the other workers' trials go on
			r.exhausted.Store(true)
			return nil
		}
		if err != nil {
			return err
		}
		if eval == nil {
			if eval, err = r.open(ctx); err != nil {
				return errors.Join(err, r.giveBack(trial, lease))
			}
		}
		if err := r.trial(ctx, eval, trial, lease); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// propose makes the trial of a number: a baseline first, then what the optimiser suggests.
func (r *runner) propose(trials []store.Trial, number int64) (store.Proposal, error) {
	for _, name := range r.config.Baselines {
		plan, err := peft.Preset(name, r.inputs.Geometry)
		if err != nil {
			return store.Proposal{}, err
		}
		if _, known := store.Find(trials, r.Candidate(plan)); !known {
			return r.given("baseline:"+name, "named in the study file", plan), nil
		}
	}
	history, err := search.NewHistory(r.inputs.Space, observations(trials))
	if err != nil {
		return store.Proposal{}, err
	}
	suggestion, err := r.optimizer.Ask(history, number)
	if err != nil {
		return store.Proposal{}, err
	}
	p := store.Proposal{Origin: suggestion.Sampler, Reason: suggestion.Reason}
	p.Trial.Point = suggestion.Point
	p.Trial.Params = r.inputs.Space.Params(suggestion.Point)
	p.Trial.Candidate, err = r.inputs.Space.Candidate(suggestion.Point)
	return p, err
}

var searchStates = map[store.State]search.State{store.Waiting: search.Running, store.Running: search.Running,
	store.Complete: search.Complete, store.Pruned: search.Pruned, store.Failed: search.Failed}

func observations(trials []store.Trial) []search.Observation {
	out := make([]search.Observation, len(trials))
	for i, t := range trials {
		o := search.Observation{Number: t.Number, Point: t.Point, Params: t.Params, State: searchStates[t.State], Score: t.Result.Score}
		if t.State == store.Pruned {
			o.Score, o.SD = t.Forecast.Score, t.Forecast.SD
		}
		for _, p := range t.Curve {
			o.Curve = append(o.Curve, search.Rung{Share: float64(p.Step) / float64(p.Steps), Score: p.Score})
		}
		out[i] = o
	}
	return out
}

// trial runs one claimed trial and stores what becomes of it. An error ends the run.
func (r *runner) trial(ctx context.Context, eval evaluator.Evaluator, trial store.Trial, lease string) error {
	r.emit(ctx, Event{Kind: EventStarted, Trial: trial})
	stopBeating := r.keepBeating(ctx, trial.Number, lease)
	defer stopBeating()
	var curve []store.CurvePoint
	var verdict evaluator.Verdict
	job := evaluator.Job{Trial: trial.Number, Candidate: trial.Candidate, Seed: trial.Seed, Budget: r.config.TrialBudget()}
	result, err := eval.Evaluate(ctx, job, func(p evaluator.Progress) evaluator.Verdict {
		if p.Score != nil {
			curve = append(curve, store.CurvePoint{Step: p.Step, Steps: p.Steps, Loss: p.Loss, Score: *p.Score})
		}
		r.emitProgress(trial, p)
		if p.Score == nil || r.pruner == nil {
			return evaluator.Verdict{}
		}
		trial.Curve = curve
		verdict, trial.Forecast = r.judge(ctx, trial)
		return verdict
	})
	stopBeating()
	stored := context.WithoutCancel(ctx) // an outcome is stored even if the run is being cancelled
	var failure *evaluator.Failure
	switch {
	case err == nil:
		trial.State, trial.Result, trial.Curve = store.Complete, result, curve
		if verdict.Stop && result.Stopped == verdict.Reason {
			trial.State = store.Pruned
		}
		if err := r.store.Finish(stored, r.record, trial, lease); err != nil {
			return r.notStored(trial, lease, err)
		}
		r.emit(stored, Event{Kind: EventFinished, Trial: trial})
		return nil
	case errors.As(err, &failure) && failure.Kind == evaluator.FailureCrashed && r.firstCrash(trial.Number):
		trial.Failure = failure
		if err := r.store.Release(stored, r.record, trial.Number, lease); err != nil {
			return ignoreFenced(err)
		}
		r.emit(stored, Event{Kind: EventRetried, Trial: trial})
		return nil
	case errors.As(err, &failure):
		trial.State, trial.Failure = store.Failed, failure
		if err := r.store.Fail(stored, r.record, trial.Number, lease, failure); err != nil {
			return r.notStored(trial, lease, err)
		}
		r.emit(stored, Event{Kind: EventFailed, Trial: trial})
		return r.tooMany(stored)
	default: // interrupted, or the evaluator can score nothing
		back := r.giveBack(trial, lease)
		r.emit(stored, Event{Kind: EventReturned, Trial: trial})
		return errors.Join(err, back)
	}
}

// judge asks the pruner about a trial that has just reached a rung. If the history cannot be read the trial
// goes on: storing its outcome reports the problem.
func (r *runner) judge(ctx context.Context, trial store.Trial) (evaluator.Verdict, search.Forecast) {
	trials, err := r.store.Trials(ctx, r.record)
	if err != nil {
		return evaluator.Verdict{}, search.Forecast{}
	}
	curves, err := r.store.Curves(ctx, r.record)
	if err != nil {
		return evaluator.Verdict{}, search.Forecast{}
	}
	for i := range trials {
		trials[i].Curve = curves[trials[i].Number]
	}
	asking := observations([]store.Trial{trial})[0]
	return r.pruner.Outlook(observations(trials), asking.Curve[len(asking.Curve)-1].Share).Decide(asking)
}

// firstCrash reports whether a trial's worker ends for the first time in this run. What was interrupted
// before does not count.
func (r *runner) firstCrash(number int64) bool {
	_, again := r.crashed.LoadOrStore(number, true)
	return !again
}

// giveBack makes a trial wait again.
func (r *runner) giveBack(trial store.Trial, lease string) error {
	return ignoreFenced(r.store.Release(context.Background(), r.record, trial.Number, lease))
}

// notStored handles the error of storing an outcome: the trial runs again. If even that cannot be written,
// the next run sees that its process is gone.
func (r *runner) notStored(trial store.Trial, lease string, err error) error {
	if ignoreFenced(err) != nil {
		r.giveBack(trial, lease)
	}
	return ignoreFenced(err)
}

// ignoreFenced drops the error of a trial that another process has taken over: its outcome counts.
func ignoreFenced(err error) error {
	if errors.Is(err, store.ErrFenced) {
		return nil
	}
	return err
}

// tooMany reports whether more trials failed than the study file allows.
func (r *runner) tooMany(ctx context.Context) error {
	status, err := r.Status(ctx)
	if err != nil {
		return err
	}
	allowed := r.config.Budget.MaxFailures
	if n := status.Finished(); n >= minFinished && float64(status.Failed) > allowed*float64(n) {
		return fmt.Errorf("%w: %d of %d, budget.max_failures allows a share of %g", ErrTooManyFailures, status.Failed, n, allowed)
	}
	return nil
}

// keepBeating sends heartbeats until the returned function is called; it may be called twice.
func (r *runner) keepBeating(ctx context.Context, number int64, lease string) func() {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(heartbeatEvery)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				r.store.Beat(ctx, r.record, number, lease) // a missed beat is made up by the next
			}
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// emit sends an event with the study's status.
func (r *runner) emit(ctx context.Context, e Event) {
	if r.options.Events == nil {
		return
	}
	status, err := r.Status(context.WithoutCancel(ctx))
	if err != nil {
		return // the next write reports it
	}
	e.Status = status
	r.mu.Lock()
	defer r.mu.Unlock()
	r.options.Events(e)
}

// emitProgress sends progress without looking at the database.
func (r *runner) emitProgress(trial store.Trial, p evaluator.Progress) {
	if r.options.Events == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.options.Events(Event{Kind: EventProgress, Trial: trial, Progress: p})
}

// TimingJob is a job without an end for measuring how fast this study's trials are: a usual plan with
// modules in every layer, on few rows, so that every measurement has the same ones.
func (s *Study) TimingJob() (evaluator.Job, error) {
	plan, err := peft.Preset("lora-r8", s.inputs.Geometry)
	return evaluator.Job{Candidate: evaluator.Candidate{Plan: plan, Training: s.inputs.Training},
		Budget: evaluator.Budget{Epochs: 1e6, TrainRows: 8 * s.inputs.Training.BatchSize, Rungs: []float64{1}}}, err
}

// Analytic makes the evaluator of a study file with evaluator.analytic.
func (s *Study) Analytic() evaluator.Evaluator {
	return &evaluator.Analytic{Geometry: s.inputs.Geometry, Noise: 0.005, Metric: s.record.Metric}
}
