package studies

import (
	"context"
	"errors"
	"slices"

	"peftsearch/evaluator"
	"peftsearch/search"
	"peftsearch/studies/config"
	"peftsearch/studies/store"
)

// firstJob is the number that a worker knows job 0 by. No trial has it.
const firstJob = 1 << 40

// merged are jobs by number with those that have changed or are new.
func merged(jobs, changed []store.Job) []store.Job {
	for _, j := range changed {
		if j.Number < int64(len(jobs)) {
			jobs[j.Number] = j
		} else {
			jobs = append(jobs, j)
		}
	}
	return jobs
}

// waitingJob takes a job that waits. The error is store.ErrNothing if there is none.
func (r *runner) waitingJob(ctx context.Context) (claimed *training, err error) {
	err = r.repeat(ctx, func(ctx context.Context) error {
		job, lease, err := r.db.PopJob(ctx, r.record, r.me)
		if err == nil {
			claimed = r.ofJob(ctx, job, lease)
		}
		return err
	})
	return claimed, err
}

// before does the trainings that come before the trials, by so many workers and together with other processes, until
// done says that all have ended. next is the next one; its error is store.ErrNothing if what runs decides that.
func (r *runner) before(ctx context.Context, workers int, done func() bool, next func() (*store.Job, error)) error {
	proposal := func(ctx context.Context, _ int64) (*store.Proposal, *store.Job, error) {
		if err := r.repeat(ctx, r.history.Sync); err != nil {
			return nil, nil, err
		}
		job, err := next()
		return nil, job, err
	}
	p := &pool{workers: workers, open: r.open, drain: r.drain, next: func(ctx context.Context) (*training, error) {
		return r.nextBefore(ctx, done, proposal)
	}}
	return p.run(ctx)
}

// nextBefore is the next training of a worker: nil when all have ended.
func (r *runner) nextBefore(ctx context.Context, done func() bool,
	proposal func(context.Context, int64) (*store.Proposal, *store.Job, error)) (*training, error) {
	for !r.draining() && ctx.Err() == nil {
		if err := r.repeat(ctx, r.history.Sync); err != nil {
			return nil, err
		}
		if done() {
			return nil, nil
		}
		claimed, err := r.waitingJob(ctx)
		if errors.Is(err, store.ErrNothing) {
			claimed, err = r.propose(ctx, config.MaxTrials, proposal)
		}
		switch {
		case ctx.Err() != nil && errors.Is(err, ctx.Err()), errors.Is(err, errStopped):
			return nil, nil
		case errors.Is(err, store.ErrNothing), errors.Is(err, store.ErrProposed):
			r.pause(ctx, elsewherePause) // what others train decides what comes next
		case err != nil:
			return nil, err
		default:
			return claimed, nil
		}
	}
	return nil, nil
}

// ofJob is the training of a job.
func (r *runner) ofJob(ctx context.Context, job store.Job, lease store.Lease) *training {
	return r.held(ctx, Event{Job: &job}, lease,
		func(ctx context.Context, eval evaluator.Evaluator, alive *alive) error {
			if job.Kind == store.JobMap {
				return r.makeMap(ctx, eval, job, lease, alive)
			}
			return r.trainJob(ctx, eval, job, lease, alive)
		})
}

// trainJob runs one job and stores what becomes of it.
func (r *runner) trainJob(ctx context.Context, eval evaluator.Evaluator, job store.Job, lease store.Lease,
	alive *alive) error {
	r.emit(ctx, Event{Kind: EventStarted, Job: &job})
	budget := r.config.TrialBudget()
	budget.Epochs *= job.Share
	result, err := eval.Evaluate(alive.ctx, evaluator.Job{Trial: firstJob + job.Number, Candidate: job.Candidate,
		Seed: job.Seed, Budget: budget}, func(p evaluator.Progress) evaluator.Verdict {
		r.report(alive, Event{Job: &job}, p)
		return evaluator.Verdict{}
	})
	done := job
	done.State, done.Result = store.Complete, result
	return r.conclude(ctx, lease, alive.stop(), err, Event{Job: &done}, func(ctx context.Context) error {
		return r.db.FinishJob(ctx, r.record, lease, done)
	})
}

// replicate is another training of the plan by which it changes most what the best one is; nil if none of those that
// could be is left, or scores tell nothing.
func (r *runner) replicate(ctx context.Context) (*store.Job, error) {
	p, err := search.NewPosterior(r.inputs.Space, r.record.Reference, r.history.past.Observations())
	if err != nil {
		return nil, nil
	}
	jobs := r.history.Jobs()
	number, ok := p.Contender(func(trial int64) bool { // those that failed are not tried again
		return slices.ContainsFunc(jobs, func(j store.Job) bool { return j.Trial == trial && j.State != store.Complete })
	})
	if !ok {
		return nil, nil
	}
	training := int64(1)
	for _, j := range jobs {
		if j.Trial == number {
			training++
		}
	}
	var trials []store.Trial
	if err := r.repeat(ctx, func(ctx context.Context) (err error) {
		trials, err = r.db.Select(ctx, r.record, []int64{number})
		return err
	}); err != nil {
		return nil, err
	}
	return &store.Job{Kind: store.JobReplicate, Trial: number, Candidate: trials[0].Candidate,
		Seed: store.JobSeed(r.record.Seed, number, training), Share: 1}, nil
}
