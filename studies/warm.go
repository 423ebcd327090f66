package studies

import (
	"context"
	"fmt"
	"slices"

	"peftsearch/evaluator"
	"peftsearch/search"
	"peftsearch/studies/config"
	"peftsearch/studies/store"
)

// WarmStartError says why a study cannot start from another.
type WarmStartError struct {
	Study, From string
	Reason      string
}

func (e *WarmStartError) Error() string {
	return fmt.Sprintf("study %s cannot start from study %s: %s", e.Study, e.From, e.Reason)
}

// warmStart reads the other study.
func warmStart(ctx context.Context, db *store.Store, file *config.Config, inputs *config.Inputs, from string) (*store.WarmStart, error) {
	refuse := func(format string, args ...any) error {
		return &WarmStartError{file.Study, from, fmt.Sprintf(format, args...)}
	}
	record, err := db.Study(ctx, from)
	if err != nil {
		return nil, err
	}
	if !record.Geometry.SameShape(inputs.Geometry) {
		return nil, refuse("their models have different shapes")
	}
	if !slices.Contains([]string{"auto", "gp"}, file.Search.Sampler) {
		return nil, refuse("sampler %s does not learn from other studies, gp and auto do", file.Search.Sampler)
	}
	trials, err := db.Trials(ctx, record)
	if err != nil {
		return nil, err
	}
	out := &store.WarmStart{Study: from}
	for i, trial := range trials {
		if trial.State != store.Complete && trial.State != store.Pruned {
			continue
		}
		score, sd := trial.Result.Score, 0.0
		if trial.State == store.Pruned {
			score, sd = trial.Forecast.Score, trial.Forecast.SD
		}
		candidate := evaluator.Candidate{Plan: trials[i].Candidate.Plan, Training: inputs.Training}
		if len(file.Space.LearningRate) > 0 {
			candidate.Training.LearningRate = trials[i].Candidate.Training.LearningRate
		}
		if len(file.Space.Schedule) > 0 {
			candidate.Training.Schedule = trials[i].Candidate.Training.Schedule
		}
		if point, err := inputs.Space.Point(candidate); err == nil { // of what the space cannot express nothing is learned
			out.Trials = append(out.Trials, store.WarmTrial{Point: point, Params: trial.Params, Score: score, SD: sd})
		}
	}
	if len(out.Trials) < 2 {
		return nil, refuse("%d of its %d trials are finished and in the space of %s, it takes 2", len(out.Trials), len(trials), file.Study)
	}
	return out, nil
}

// priorOf is what the samplers are told.
func priorOf(w *store.WarmStart) []search.Observation {
	if w == nil {
		return nil
	}
	out := make([]search.Observation, len(w.Trials))
	for i, t := range w.Trials {
		out[i] = search.Observation{Number: int64(i), Point: t.Point, Params: t.Params, State: search.Complete, Score: t.Score, SD: t.SD}
	}
	return out
}
