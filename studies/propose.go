package studies

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"peftsearch/evaluator"
	"peftsearch/peft"
	"peftsearch/search"
	"peftsearch/studies/store"
)

// errStopped ends what a worker waits for when the run is drained or cancelled.
var errStopped = errors.New("the run ends")

// claim takes a trial or a job to run: one that waits, else a new one. The error is store.ErrEnough if there may be no
// more of them, search.ErrExhausted if there is no further plan.
func (r *runner) claim(ctx context.Context) (*training, error) {
	for pause := 2 * time.Millisecond; ; pause = min(2*pause, 250*time.Millisecond) {
		if r.draining() || ctx.Err() != nil {
			return nil, errStopped
		}
		claimed, err := r.waiting(ctx)
		if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			continue
		}
		if !errors.Is(err, store.ErrNothing) {
			return claimed, err
		}
		if r.exhausted.Load() { // for good: a candidate stays tried
			return nil, search.ErrExhausted
		}
		select {
		case r.proposing <- struct{}{}:
		case <-r.options.Drain:
			continue
		case <-ctx.Done():
			continue
		}
		claimed, err = r.propose(ctx, r.config.Budget.Trials, r.proposal)
		<-r.proposing
		switch {
		case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		case errors.Is(err, store.ErrProposed):
			r.pause(ctx, pause/2+rand.N(pause/2))
		case errors.Is(err, store.ErrMoved), errors.Is(err, store.ErrKnown), errors.Is(err, store.ErrFenced):
			// Ask again, with what is there now.
			pause = 2 * time.Millisecond
		default:
			return claimed, err
		}
	}
}

// waiting takes a trial or a job that waits. The error is store.ErrNothing if there is none.
func (r *runner) waiting(ctx context.Context) (claimed *training, err error) {
	err = r.repeat(ctx, func(ctx context.Context) error {
		trial, lease, err := r.db.Pop(ctx, r.record, r.me)
		if err == nil {
			claimed = r.ofTrial(ctx, trial, lease)
		}
		return err
	})
	if !errors.Is(err, store.ErrNothing) {
		return claimed, err
	}
	return r.waitingJob(ctx)
}

// ofTrial is the training of a trial.
func (r *runner) ofTrial(ctx context.Context, trial store.Trial, lease store.Lease) *training {
	return r.held(ctx, Event{Trial: trial}, lease,
		func(ctx context.Context, eval evaluator.Evaluator, alive *alive) error {
			return r.train(ctx, eval, trial, lease, alive)
		})
}

// propose makes the next trial or job of the study and takes it to run, if the study has fewer trials than a limit.
// What make does, as a sampler, is done while everybody else goes on: it is only that one process of all makes a
// proposal at a time. make returns either a proposal or a job.
func (r *runner) propose(ctx context.Context, limit int,
	make func(context.Context, int64) (*store.Proposal, *store.Job, error)) (claimed *training, err error) {
	var right store.Lease
	if err = r.repeat(ctx, func(ctx context.Context) (err error) {
		right, err = r.db.Propose(ctx, r.record, int64(limit), r.me)
		return err
	}); err != nil {
		return nil, err
	}
	alive := r.keepAlive(ctx, right)
	proposal, job, err := make(ctx, right.Trial())
	alive.stop()
	if err == nil && (r.draining() || ctx.Err() != nil) {
		err = errStopped
	}
	if err == nil {
		err = r.repeat(ctx, func(ctx context.Context) error {
			if job != nil {
				added, lease, err := r.db.AddJob(ctx, r.record, right, *job)
				if err == nil {
					claimed = r.ofJob(ctx, added, lease)
				}
				return err
			}
			trial, err := r.db.Add(ctx, r.record, right, *proposal, r.me)
			if err == nil {
				claimed = r.ofTrial(ctx, trial, right)
			}
			return err
		})
	}
	if err != nil { // also when Add was cancelled: the right would be kept for as long as the process lives
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), giveBackFor)
		defer cancel()
		abandon := func(ctx context.Context) error { return r.db.Abandon(ctx, right) }
		return nil, join(err, r.repeat(limited, abandon))
	}
	return claimed, nil
}

// proposal makes the trial of a number, or a replicate of another trial: a baseline first, then what the optimiser
// suggests and, near the end of the budget, replicates of the plans that could be the best.
func (r *runner) proposal(ctx context.Context, number int64) (*store.Proposal, *store.Job, error) {
	if err := r.repeat(ctx, r.history.Sync); err != nil {
		return nil, nil, err
	}
	progress := r.history.Progress(r.config.Budget, r.workers)
	if progress >= 1 {
		return nil, nil, store.ErrEnough
	}
	if search.Racing(progress, r.config.Search.Replicates) {
		if job, err := r.replicate(ctx); job != nil || err != nil {
			return nil, job, err
		}
	}
	trial, err := r.newTrial(number)
	return &trial, nil, err
}

// newTrial makes the trial of a number.
func (r *runner) newTrial(number int64) (store.Proposal, error) {
	for _, name := range r.config.Baselines {
		preset, err := peft.NewPreset(name, r.inputs.Geometry)
		if err != nil {
			return store.Proposal{}, err
		}
		baseline := r.Baseline(preset)
		if _, known := r.history.Find(store.KeyOf(baseline)); !known {
			return r.given("baseline:"+name, "named in the study file", baseline), nil
		}
	}
	for {
		suggestion, err := r.ask(r.history.past, number)
		if err != nil {
			return store.Proposal{}, err
		}
		candidate, err := r.inputs.Space.Candidate(suggestion.Point)
		if err != nil {
			return store.Proposal{}, err
		}
		if _, known := r.history.Find(store.KeyOf(candidate)); !known {
			return store.Proposal{Origin: suggestion.Sampler, Reason: suggestion.Reason, Point: suggestion.Point,
				Candidate: candidate, Params: r.inputs.Space.Params(suggestion.Point)}, nil
		}
		// A trial has this plan of the space, and was stored without its point.
		if err := r.history.past.Exclude(suggestion.Point); err != nil {
			return store.Proposal{}, err
		}
	}
}
