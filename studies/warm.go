package studies

import (
	"context"
	"fmt"
	"slices"

	"peftsearch/evaluator"
	"peftsearch/search"
	"peftsearch/space"
)

// WarmStart is what a study knew of another one when it started. It is kept as it was, so that the study
// continues in the same way whatever becomes of the other.
type WarmStart struct {
	Study  string      `json:"study"`
	Trials []WarmTrial `json:"trials"`
}

// WarmTrial is a finished trial of the other study, at a point of this one's space.
type WarmTrial struct {
	Point  space.Point `json:"point"`
	Params int64       `json:"params"`
	Score  float64     `json:"score"` // of a pruned trial its forecast, as for samplers
	SD     float64     `json:"sd"`
}

// WarmStartError says why a study cannot start from another.
type WarmStartError struct {
	Study, From string
	Reason      string
}

func (e *WarmStartError) Error() string {
	return fmt.Sprintf("study %s cannot start from study %s: %s", e.Study, e.From, e.Reason)
}

// warmStart reads the other study.
func (s *Store) warmStart(ctx context.Context, config *Config, inputs *Inputs, from string) (*WarmStart, error) {
	refuse := func(format string, args ...any) error {
		return &WarmStartError{config.Study, from, fmt.Sprintf(format, args...)}
	}
	record, err := s.Study(ctx, from)
	if err != nil {
		return nil, err
	}
	if record.Geometry != inputs.Geometry {
		return nil, refuse("their models have different shapes")
	}
	if !slices.Contains([]string{"auto", "gp"}, config.Search.Sampler) {
		return nil, refuse("sampler %s does not learn from other studies, gp and auto do", config.Search.Sampler)
	}
	trials, err := s.Trials(ctx, record)
	if err != nil {
		return nil, err
	}
	out := &WarmStart{Study: from}
	for i, o := range observations(trials) {
		if o.State != search.Complete && o.State != search.Pruned {
			continue
		}
		candidate := evaluator.Candidate{Plan: trials[i].Candidate.Plan, Training: inputs.Training}
		if len(config.Space.LearningRate) > 0 {
			candidate.Training.LearningRate = trials[i].Candidate.Training.LearningRate
		}
		if len(config.Space.Schedule) > 0 {
			candidate.Training.Schedule = trials[i].Candidate.Training.Schedule
		}
		if point, err := inputs.Space.Point(candidate); err == nil { // of what the space cannot express nothing is learned
			out.Trials = append(out.Trials, WarmTrial{point, o.Params, o.Score, o.SD})
		}
	}
	if len(out.Trials) < 2 {
		return nil, refuse("%d of its %d trials are finished and in the space of %s, it takes 2", len(out.Trials), len(trials), config.Study)
	}
	return out, nil
}

// observations are what the samplers are told.
func (w *WarmStart) observations() []search.Observation {
	if w == nil {
		return nil
	}
	out := make([]search.Observation, len(w.Trials))
	for i, t := range w.Trials {
		out[i] = search.Observation{Number: int64(i), Point: t.Point, Params: t.Params, State: search.Complete, Score: t.Score, SD: t.SD}
	}
	return out
}
