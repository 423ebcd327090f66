package evaluator

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"peftsearch/peft"
)

// Analytic is an Evaluator without training: a smooth surface that behaves like fine-tuning, for tests
// and for trying the commands without libtorch.
//
// Each layer has the gain g of its best module or the input's ([peft.Method.Gain]), upper layers count more, and
// the final score is 0.5 + 0.4·Σ depth·g/Σ depth, a little lower away from the best learning rate of 1e-3; full
// fine-tuning has 0.9. Over the steps the score follows final − (final−0.5)·exp(−4·share). Noise of standard
// deviation Noise is drawn from the job's seed.
type Analytic struct {
	Geometry peft.Geometry
	Noise    float64
	Metric   string        // what the scores are called in Result.Dev and Result.Test
	Delay    time.Duration // at every rung
}

// analyticSteps is the length of one epoch.
const analyticSteps = 100

// Evaluate implements Evaluator.
func (a *Analytic) Evaluate(ctx context.Context, job Job, report func(Progress) Verdict) (Result, error) {
	if err := job.Candidate.Plan.Validate(a.Geometry); err != nil {
		return Result{}, &Failure{Kind: FailureInvalidPlan, Message: err.Error()}
	}
	if !(job.Budget.Epochs > 0) || len(job.Budget.Rungs) == 0 {
		return Result{}, &Failure{Kind: FailureInternal, Message: fmt.Sprintf("budget %+v has no training in it", job.Budget)}
	}
	if ctx.Err() != nil {
		return Result{}, ctx.Err()
	}
	rng := rand.New(rand.NewPCG(job.Seed, 0))
	final := a.surface(job.Candidate) + a.Noise*rng.NormFloat64()
	steps := max(1, int(math.Round(job.Budget.Epochs*analyticSteps)))
	result := Result{Score: math.Inf(-1), Head: int64(a.Geometry.Hidden) + 1}
	for _, share := range job.Budget.Rungs {
		select {
		case <-ctx.Done():
		case <-time.After(a.Delay):
		}
		if ctx.Err() != nil { // both may have been ready
			return Result{}, ctx.Err()
		}
		step := max(1, int(math.Round(share*float64(steps))))
		score := final - (final-0.5)*math.Exp(-4*share)
		result.Steps = step
		if score > result.Score {
			result.Score, result.BestStep = score, step
		}
		verdict := report(Progress{Step: step, Steps: steps, Loss: 1 - score, Score: &score})
		if verdict.Stop && step < steps {
			result.Stopped = cmp.Or(verdict.Reason, "stopped")
			break
		}
	}
	result.Dev = map[string]float64{a.Metric: result.Score}
	if job.Test {
		result.Test = map[string]float64{a.Metric: result.Score - 0.01}
	}
	return result, nil
}

// Map implements Mapper: the surface with noise of a twentieth of its range beside it, as if weights had been shared.
func (a *Analytic) Map(ctx context.Context, job MapJob, report func(Progress)) (MapResult, error) {
	rng := rand.New(rand.NewPCG(job.Seed, 1))
	result := MapResult{Steps: max(1, int(math.Round(job.Budget.Epochs*analyticSteps)))}
	for i, plan := range job.Score {
		select {
		case <-ctx.Done():
			return MapResult{}, ctx.Err()
		case <-time.After(a.Delay):
		}
		if err := plan.Validate(a.Geometry); err != nil {
			return MapResult{}, &Failure{Kind: FailureInvalidPlan, Message: err.Error()}
		}
		score := a.surface(Candidate{Plan: plan, Training: job.Training}) + 0.02*rng.NormFloat64()
		result.Scores = append(result.Scores, min(max(score, 0), 1))
		report(Progress{Doing: Doing{What: "scoring plans", Done: int64(i + 1), Of: int64(len(job.Score))}})
	}
	return result, nil
}

// Close implements Evaluator.
func (a *Analytic) Close() error { return nil }

func (a *Analytic) surface(c Candidate) float64 {
	if c.Training.Backbone {
		return 0.9
	}
	var sum, weights float64
	for i, layer := range c.Plan.Layers {
		gain := 0.0
		for _, module := range slices.Concat(c.Plan.Input, layer) {
			gain = max(gain, module.Method().Gain(module.Size()))
		}
		depth := float64(i+1) / float64(len(c.Plan.Layers))
		sum += depth * gain
		weights += depth
	}
	rate := math.Log10(max(c.Training.LearningRate, 1e-9)) + 3
	return 0.5 + 0.4*sum/weights*math.Exp(-0.1*rate*rate)
}
