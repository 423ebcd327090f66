package train

import (
	"fmt"
	"slices"
	"time"

	"peftsearch/evaluator"
	"peftsearch/evaluator/model"
	"peftsearch/evaluator/torch"
	"peftsearch/peft"
)

// Map runs a map's job. Errors are those of Train.
func (s *Session) Map(job evaluator.MapJob, control Control) (evaluator.MapResult, error) {
	result, err := s.runMap(job, control)
	return result, asFailure(err)
}

func (s *Session) runMap(job evaluator.MapJob, control Control) (evaluator.MapResult, error) {
	if len(job.Plans) == 0 || job.Rows < 1 {
		return evaluator.MapResult{}, fmt.Errorf("a map of %d plans on %d rows: at least one of each", len(job.Plans),
			job.Rows)
	}
	training := job.Training
	training.Methods.AdapterDrop = 0 // plans of other sizes leave layers bare
	r, err := s.newRun(evaluator.Job{Trial: job.Trial, Seed: job.Seed, Budget: job.Budget,
		Candidate: evaluator.Candidate{Plan: peft.Plan{Layers: make([]peft.Layer, s.ready.Geometry.Layers)},
			Training: training}}, control, slices.Concat(job.Plans, job.Score)...)
	if err != nil {
		return evaluator.MapResult{}, err
	}
	defer r.model.Close()
	r.plans = job.Plans
	tell := &teller{tell: func(d evaluator.Doing) { control.Report(evaluator.Progress{Doing: d}) }}
	tell.begin("training weights that plans share", r.steps)
	for r.Step < r.steps {
		if r.halted() {
			return evaluator.MapResult{}, errStopped
		}
		if err := r.update(r.next()); err != nil {
			return evaluator.MapResult{}, err
		}
		tell.add(1)
	}
	rows := newRand(s.hello.Task.SplitSeed, "rows of maps", 0).Perm(len(s.dev.lengths))
	dev := s.dev.some(rows[:min(job.Rows, len(rows))])
	tell.begin("scoring plans with them", len(job.Score))
	result := evaluator.MapResult{Steps: r.Step}
	for _, plan := range job.Score {
		score, err := r.estimate(plan, dev)
		if err != nil {
			return evaluator.MapResult{}, err
		}
		result.Scores = append(result.Scores, score)
		tell.add(1)
	}
	result.WallS, result.PeakB = time.Since(r.started).Seconds(), torch.PeakRSS()
	return result, nil
}

// stepModel is what the next step trains: the model or, of a map, the part of it that is a random plan's.
func (r *run) stepModel(s *torch.Scope) (*model.Model, error) {
	if r.plans == nil {
		return r.model, nil
	}
	return r.model.Slice(s, r.plans[newRand(r.job.Seed, "plans of a map", r.Step).IntN(len(r.plans))])
}

// estimate is what a plan scores with the shared weights.
func (r *run) estimate(plan peft.Plan, rows *split) (float64, error) {
	scope := r.model.Scope()
	defer scope.Free()
	slice, err := r.model.Slice(scope, plan)
	if err != nil {
		return 0, err
	}
	metrics, _, stopped, err := r.evaluate(slice, rows, 0)
	if stopped {
		err = errStopped
	}
	return metrics[string(r.hello.Task.Metric)], err
}
