// Package evaluatortest is the conformance suite of evaluator.Evaluator.
package evaluatortest

import (
	"context"
	"errors"
	"math"
	"testing"

	"peftsearch/evaluator"
	"peftsearch/peft"
)

// Run checks the contract of an evaluator on a job that succeeds, has at least two rungs and takes a
// few seconds at most. It opens two evaluators and leaves them closed.
func Run(t *testing.T, open func(t *testing.T) evaluator.Evaluator, job evaluator.Job) {
	reopen := func() evaluator.Evaluator { return open(t) } // it lives as long as t
	eval := reopen()
	defer func() { eval.Close() }()
	ctx := context.Background()
	goOn := func(evaluator.Progress) evaluator.Verdict { return evaluator.Verdict{} }
	succeed := func(t *testing.T) evaluator.Result {
		t.Helper()
		result, err := eval.Evaluate(ctx, job, goOn)
		if err != nil {
			t.Fatal(err)
		}
		return result
	}
	// stop ends the job at a rung, counted from 1, and returns that rung with the result. Evaluators of workers
	// that do not wait may pass it.
	stop := func(t *testing.T, at int, reason string) (rung evaluator.Progress, result evaluator.Result) {
		t.Helper()
		rungs, stopped := 0, false
		result, err := eval.Evaluate(ctx, job, func(p evaluator.Progress) evaluator.Verdict {
			if stopped && (waits(eval) || p.Score == nil) {
				t.Errorf("step %d is reported after a stop", p.Step)
			}
			if stopped {
				return evaluator.Verdict{}
			}
			if p.Score == nil {
				return evaluator.Verdict{}
			}
			rungs++
			rung, stopped = p, rungs == at
			return evaluator.Verdict{Stop: stopped, Reason: reason}
		})
		if err != nil {
			t.Fatal(err)
		}
		if rungs != at {
			t.Errorf("%d rungs, the stop is at number %d", rungs, at)
		}
		return rung, result
	}

	t.Run("a job reports every rung and its best score", func(t *testing.T) {
		best, bestStep, rungs, last, steps := math.Inf(-1), 0, 0, 0, 0
		result, err := eval.Evaluate(ctx, job, func(p evaluator.Progress) evaluator.Verdict {
			if p.Step < last || p.Step > p.Steps || steps > 0 && p.Steps != steps {
				t.Errorf("step %d of %d after step %d of %d", p.Step, p.Steps, last, steps)
			}
			last, steps = p.Step, p.Steps
			if p.Score != nil {
				rungs++
				if *p.Score > best {
					best, bestStep = *p.Score, p.Step
				}
			}
			return evaluator.Verdict{}
		})
		if err != nil {
			t.Fatal(err)
		}
		if rungs != len(job.Budget.Rungs) {
			t.Errorf("%d scores for %d rungs", rungs, len(job.Budget.Rungs))
		}
		if result.Score != best || result.BestStep != bestStep {
			t.Errorf("result %g at step %d, the best rung was %g at step %d", result.Score, result.BestStep, best, bestStep)
		}
		if result.Stopped != "" || result.Steps != last {
			t.Errorf("stopped %q after %d steps, progress went to %d", result.Stopped, result.Steps, last)
		}
		if job.Test != (result.Test != nil) {
			t.Errorf("test metrics %v, asked for: %v", result.Test, job.Test)
		}
	})
	t.Run("a verdict stops the job with its reason", func(t *testing.T) {
		rung, result := stop(t, 1, "below the front")
		if result.Stopped != "below the front" || result.Steps < rung.Step || result.Steps >= rung.Steps {
			t.Errorf("stopped %q after %d of %d steps, the rung was at %d", result.Stopped, result.Steps, rung.Steps, rung.Step)
		}
		if waits(eval) && (result.Steps != rung.Step || result.Score != *rung.Score) {
			t.Errorf("score %g after %d steps, the rung had %g after %d", result.Score, result.Steps, *rung.Score, rung.Step)
		}
	})
	t.Run("a stop without a reason has one in the result", func(t *testing.T) {
		if _, result := stop(t, 1, ""); result.Stopped == "" {
			t.Error("stopped is empty")
		}
	})
	t.Run("a stop at the last rung changes nothing", func(t *testing.T) {
		if rung, result := stop(t, len(job.Budget.Rungs), "too late"); result.Stopped != "" || result.Steps != rung.Steps {
			t.Errorf("stopped %q after %d of %d steps", result.Stopped, result.Steps, rung.Steps)
		}
	})
	t.Run("the same job gives the same score, bit for bit, whatever was before", func(t *testing.T) {
		first := succeed(t)
		stop(t, 1, "between two")
		second := succeed(t)
		if err := eval.Close(); err != nil {
			t.Fatal(err)
		}
		eval = reopen()
		third := succeed(t)
		for _, other := range []evaluator.Result{second, third} {
			if first.Score != other.Score || first.BestStep != other.BestStep {
				t.Errorf("%v and %v", first, other)
			}
		}
	})
	t.Run("a cancelled job ends with the context's error", func(t *testing.T) {
		cancelled, cancel := context.WithCancel(ctx)
		defer cancel()
		_, err := eval.Evaluate(cancelled, job, func(evaluator.Progress) evaluator.Verdict {
			if cancelled.Err() != nil {
				t.Error("a report after the end of the context")
			}
			cancel()
			return evaluator.Verdict{}
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("the error is %v", err)
		}
		if _, err := eval.Evaluate(cancelled, job, goOn); !errors.Is(err, context.Canceled) {
			t.Errorf("with a context that has ended the error is %v", err)
		}
		succeed(t)
	})
	t.Run("an invalid plan is a failure, and the next job succeeds", func(t *testing.T) {
		bad := job
		bad.Trial = 0
		bad.Candidate.Plan = peft.Plan{Layers: make([]peft.Layer, len(job.Candidate.Plan.Layers)+1)}
		var failure *evaluator.Failure
		if _, err := eval.Evaluate(ctx, bad, goOn); !errors.As(err, &failure) ||
			failure.Kind != evaluator.FailureInvalidPlan {
			t.Errorf("the error is %v", err)
		}
		succeed(t)
	})
	t.Run("close may be called twice", func(t *testing.T) {
		if err := errors.Join(eval.Close(), eval.Close()); err != nil {
			t.Error(err)
		}
	})
}

// waits reports whether an evaluator waits at rungs: all do, but processes with a worker that does not.
func waits(eval evaluator.Evaluator) bool {
	process, ok := eval.(*evaluator.Process)
	return !ok || process.Ready().Waits()
}
