package studies

import (
	"context"
	"errors"
	"sync"
	"time"

	"peftsearch/evaluator"
	"peftsearch/studies/store"
)

// reportEvery is how often at most what a trial reports is stored.
const reportEvery = time.Second

// alive gives signs of life for a lease while something is done under it.
type alive struct {
	// ctx is cancelled when another process has the lease.
	ctx context.Context

	cancel context.CancelCauseFunc
	done   chan struct{} // closed: no more signs
	ended  sync.WaitGroup

	mu       sync.Mutex
	progress store.Progress
	curve    []store.CurvePoint // not stored yet
	fresh    bool               // there is something to store
}

// keepAlive gives signs of life until stop is called on what it returns. What cannot be stored is made up for by the
// next sign.
func (r *runner) keepAlive(ctx context.Context, lease store.Lease) *alive {
	a := &alive{done: make(chan struct{})}
	a.ctx, a.cancel = context.WithCancelCause(ctx)
	ctx = context.WithoutCancel(ctx)
	idle := max(r.db.LeaseTime/8, reportEvery) // without anything to store
	a.ended.Go(func() {
		ticker := time.NewTicker(reportEvery)
		defer ticker.Stop()
		last := time.Now()
		for {
			select {
			case <-a.done:
				return
			case <-ticker.C:
			}
			progress, curve, fresh := a.take()
			if !fresh && time.Since(last) < idle {
				continue
			}
			err := r.db.Beat(ctx, lease, progress, curve)
			if errors.Is(err, store.ErrFenced) {
				a.cancel(err)
				return
			}
			if err != nil {
				a.putBack(curve)
				continue
			}
			last = time.Now()
		}
	})
	return a
}

// report notes what a trial reported. What its worker does beside steps leaves these as they are.
func (a *alive) report(p evaluator.Progress) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.progress.Doing, a.fresh = p.Doing, true; p.Steps == 0 {
		return
	}
	a.progress.Step, a.progress.Steps, a.progress.Loss = p.Step, p.Steps, p.Loss
	if p.Score != nil {
		a.curve = append(a.curve, store.CurvePoint{Step: p.Step, Steps: p.Steps, Loss: p.Loss, Score: *p.Score})
	}
}

func (a *alive) take() (store.Progress, []store.CurvePoint, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	curve, fresh := a.curve, a.fresh
	a.curve, a.fresh = nil, false
	return a.progress, curve, fresh
}

func (a *alive) putBack(curve []store.CurvePoint) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.curve, a.fresh = append(curve, a.curve...), true
}

// stop ends the signs. fenced says that another process has the lease.
func (a *alive) stop() (fenced bool) {
	close(a.done)
	a.ended.Wait()
	fenced = errors.Is(context.Cause(a.ctx), store.ErrFenced)
	a.cancel(nil)
	return fenced
}
