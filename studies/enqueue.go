package studies

import (
	"cmp"
	"context"

	"peftsearch/evaluator"
	"peftsearch/peft"
	"peftsearch/studies/store"
)

// Enqueue makes a candidate wait as the next trial. Its origin is
// "enqueued:" and name; reason says in words why it is there. A study never has the same candidate
// twice: if it is there already, Enqueue returns its trial and added is false. The plan must fit the
// study's backbone. The error can be ErrNotCalibrated.
func (s *Study) Enqueue(ctx context.Context, name, reason string, c evaluator.Candidate) (trial store.Trial,
	added bool, err error) {
	if err := c.Plan.Validate(s.inputs.Geometry); err != nil {
		return store.Trial{}, false, err
	}
	if err := s.rated(ctx); err != nil {
		return store.Trial{}, false, err
	}
	return s.db.Enqueue(ctx, s.record, s.given("enqueued:"+name, reason, c))
}

// Candidate is a plan with the study's own training settings.
func (s *Study) Candidate(plan peft.Plan) evaluator.Candidate {
	return evaluator.Candidate{Plan: plan, Training: s.inputs.Training}
}

// Baseline is a preset with the study's own training settings, but for those that define it.
func (s *Study) Baseline(p peft.Preset) evaluator.Candidate {
	c := s.Candidate(p.Plan)
	c.Training.PrefixMLP = cmp.Or(p.PrefixMLP, c.Training.PrefixMLP)
	return c
}

// given is the proposal of a candidate that no sampler chose.
func (s *Study) given(origin, reason string, c evaluator.Candidate) store.Proposal {
	p := store.Proposal{Origin: origin, Reason: reason, Candidate: c, Params: c.Plan.Params(s.inputs.Geometry).Total()}
	if point, err := s.inputs.Space.Point(p.Candidate); err == nil {
		p.Point = point // the samplers learn from it, and do not propose it again
	}
	return p
}
