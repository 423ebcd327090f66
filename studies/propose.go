package studies

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"peftsearch/peft"
	"peftsearch/search"
	"peftsearch/studies/store"
)

// errStopped ends what a worker waits for when the run is drained or cancelled.
var errStopped = errors.New("the run ends")

// claim takes a trial to run: one that waits, else a new one. The error is store.ErrEnough if there may be no more
// trials, search.ErrExhausted if there is no further plan.
func (r *runner) claim(ctx context.Context) (trial store.Trial, lease store.Lease, err error) {
	for pause := 2 * time.Millisecond; ; pause = min(2*pause, 250*time.Millisecond) {
		if r.draining() || ctx.Err() != nil {
			return trial, lease, errStopped
		}
		err = r.repeat(ctx, func(ctx context.Context) (err error) {
			trial, lease, err = r.db.Pop(ctx, r.record, r.me)
			return err
		})
		if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			continue
		}
		if !errors.Is(err, store.ErrNothing) {
			return trial, lease, err
		}
		if r.exhausted.Load() { // for good: a candidate stays tried
			return trial, lease, search.ErrExhausted
		}
		select {
		case r.proposing <- struct{}{}:
		case <-r.options.Drain:
			continue
		case <-ctx.Done():
			continue
		}
		trial, lease, err = r.propose(ctx)
		<-r.proposing
		switch {
		case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		case errors.Is(err, store.ErrProposed):
			r.pause(ctx, pause/2+rand.N(pause/2))
		case errors.Is(err, store.ErrMoved), errors.Is(err, store.ErrKnown), errors.Is(err, store.ErrFenced):
			// Ask again, with what is there now.
			pause = 2 * time.Millisecond
		default:
			return trial, lease, err
		}
	}
}

// propose makes the next trial of the study and takes it to run. The sampler computes while everybody else goes on: it
// is only that one process of all makes a proposal at a time.
func (r *runner) propose(ctx context.Context) (trial store.Trial, lease store.Lease, err error) {
	var right store.Lease
	if err = r.repeat(ctx, func(ctx context.Context) (err error) {
		right, err = r.db.Propose(ctx, r.record, int64(r.config.Budget.Trials), r.me)
		return err
	}); err != nil {
		return trial, lease, err
	}
	alive := r.keepAlive(ctx, right)
	proposal, err := r.proposal(ctx, right.Trial())
	alive.stop()
	if err == nil && (r.draining() || ctx.Err() != nil) {
		err = errStopped
	}
	if err == nil {
		err = r.repeat(ctx, func(ctx context.Context) (err error) {
			trial, err = r.db.Add(ctx, r.record, right, proposal, r.me)
			return err
		})
	}
	if err != nil { // also when Add was cancelled: the right would be kept for as long as the process lives
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), giveBackFor)
		defer cancel()
		abandon := func(ctx context.Context) error { return r.db.Abandon(ctx, right) }
		return trial, right, join(err, r.repeat(limited, abandon))
	}
	return trial, right, nil
}

// proposal makes the trial of a number: a baseline first, then what the optimiser suggests.
func (r *runner) proposal(ctx context.Context, number int64) (store.Proposal, error) {
	if err := r.repeat(ctx, r.history.Sync); err != nil {
		return store.Proposal{}, err
	}
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
