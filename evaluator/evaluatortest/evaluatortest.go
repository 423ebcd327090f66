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
// few seconds at most. It makes one evaluator and leaves it closed.
func Run(t *testing.T, open func(t *testing.T) evaluator.Evaluator, job evaluator.Job) {
	eval := open(t)
	defer eval.Close()
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

	t.Run("a job reports every rung and its best score", func(t *testing.T) {
		best, bestStep, rungs, last := math.Inf(-1), 0, 0, 0
		result, err := eval.Evaluate(ctx, job, func(p evaluator.Progress) evaluator.Verdict {
			if p.Step < last || p.Step > p.Steps {
				t.Errorf("step %d of %d after step %d", p.Step, p.Steps, last)
			}
			last = p.Step
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
	t.Run("the same job gives the same score, bit for bit", func(t *testing.T) {
		first, second := succeed(t), succeed(t)
		if first.Score != second.Score || first.BestStep != second.BestStep {
			t.Errorf("%v and %v", first, second)
		}
	})
	t.Run("a verdict stops the job with its reason", func(t *testing.T) {
		var scores, steps int
		result, err := eval.Evaluate(ctx, job, func(p evaluator.Progress) evaluator.Verdict {
			steps = p.Steps
			if p.Score != nil {
				scores++
				return evaluator.Verdict{Stop: true, Reason: "below the front"}
			}
			return evaluator.Verdict{}
		})
		if err != nil {
			t.Fatal(err)
		}
		if result.Stopped != "below the front" || scores == 0 || result.Steps >= steps {
			t.Errorf("stopped %q after %d scores and %d of %d steps", result.Stopped, scores, result.Steps, steps)
		}
	})
	t.Run("a cancelled job ends with the context's error", func(t *testing.T) {
		cancelled, cancel := context.WithCancel(ctx)
		_, err := eval.Evaluate(cancelled, job, func(evaluator.Progress) evaluator.Verdict {
			cancel()
			return evaluator.Verdict{}
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("the error is %v", err)
		}
		cancel()
		succeed(t)
	})
	t.Run("an invalid plan is a failure, and the next job succeeds", func(t *testing.T) {
		bad := job
		bad.Candidate.Plan = peft.Plan{Layers: make([]peft.Layer, len(job.Candidate.Plan.Layers)+1)}
		var failure *evaluator.Failure
		if _, err := eval.Evaluate(ctx, bad, goOn); !errors.As(err, &failure) || failure.Kind != evaluator.FailureInvalidPlan {
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
