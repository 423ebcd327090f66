package studies

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"peftsearch/evaluator"
	"peftsearch/studies/store"
)

// Open opens an evaluator for one goroutine, and says what that waits for.
type Open func(ctx context.Context, loading Loading) (evaluator.Evaluator, error)

// Loading takes what a worker does until it is ready, from the goroutine that opens it.
type Loading = func(evaluator.Progress)

// pool does trainings on evaluators, one for each worker, until there is none left.
type pool struct {
	workers int
	open    Open
	drain   <-chan struct{} // closed: no training begins
	// next is a worker's next training, nil for none. It is called by several goroutines.
	next func(ctx context.Context) (*training, error)

	opened atomic.Bool // an evaluator has been opened: that another cannot be may pass
}

// training is what a worker does next.
type training struct {
	// do trains, and stores what becomes of it; what cannot be trained is returned. The error is a *brokenError if
	// it is the evaluator's fault; others end the pool.
	do func(ctx context.Context, eval evaluator.Evaluator) error
	// loading takes what it waits for while its evaluator is opened.
	loading Loading
	// giveBack returns it before it was begun.
	giveBack func() error
}

// brokenError says that an evaluator can do nothing any more, whatever it is given.
type brokenError struct{ err error }

func (e *brokenError) Error() string { return e.err.Error() }
func (e *brokenError) Unwrap() error { return e.err }

// restarts of an evaluator without a training in between are tried.
const restarts = 4

// restartPause is the time before the first of them; it grows. Tests shorten it.
var restartPause = 100 * time.Millisecond

func (p *pool) draining() bool {
	select {
	case <-p.drain:
		return true
	default:
		return false
	}
}

// run returns when all workers have ended, which they do when nothing is left, when ctx is cancelled or drain closed,
// or with an error. That ctx was cancelled is no error of a worker.
func (p *pool) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for range p.workers {
		group.Go(func() error { return p.work(ctx) })
	}
	return group.Wait()
}

// work is one worker: it does trainings one after another.
func (p *pool) work(ctx context.Context) (err error) {
	var eval evaluator.Evaluator
	defer func() {
		if eval != nil {
			err = errors.Join(err, eval.Close())
		}
	}()
	failed := 0 // in a row
	for !p.draining() && ctx.Err() == nil {
		t, err := p.next(ctx)
		if err != nil || t == nil {
			return err
		}
		var broken *brokenError
		if eval == nil {
			if eval, err = p.open(ctx, t.loading); err != nil {
				eval, err = nil, &brokenError{err}
				if back := t.giveBack(); back != nil {
					return join(err, back)
				}
			}
		}
		if err == nil {
			p.opened.Store(true)
			err = t.do(ctx, eval)
		}
		switch {
		case err == nil:
			failed = 0
			continue
		case ctx.Err() != nil && errors.As(err, &broken): // it was not to be opened any more
			return nil
		case !errors.As(err, &broken), !p.opened.Load() && !errors.Is(err, evaluator.ErrKilled):
			return err
		}
		if failed++; failed > restarts {
			return fmt.Errorf("%d times in a row: %w", failed, err)
		}
		if eval != nil {
			eval.Close() // it is lost already
			eval = nil
		}
		p.pause(ctx, restartPause<<(2*(failed-1)))
	}
	return nil
}

// pause waits, unless there is something else to do.
func (p *pool) pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	case <-p.drain:
	}
}

// repeat repeats a step of the store until it is decided, or ctx ends: the error is then ctx.Err() if it was cancelled,
// and the step's if its time is over. The first time that the step is not decided it calls delayed.
func repeat(ctx context.Context, step func(context.Context) error, delayed func(error)) error {
	const shortest, longest = 50 * time.Millisecond, 5 * time.Second
	for pause := shortest; ; pause = min(2*pause, longest) {
		err := step(ctx)
		if !store.IsBusy(err) {
			return err
		}
		if pause == shortest {
			delayed(err)
		}
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) { // which may be what the step failed of
				return ctx.Err()
			}
			return err
		case <-time.After(pause/2 + rand.N(pause/2)): // not in step with other processes
		}
	}
}

// join adds an error to another one that does not have it.
func join(err, more error) error {
	if more == nil || errors.Is(err, more) {
		return err
	}
	return errors.Join(err, more)
}
