package model

import (
	"fmt"

	"peftsearch/evaluator"
	"peftsearch/evaluator/torch"
	"peftsearch/peft"
)

// declareShared adds what the modules of some plans are made of: of tensors with one name the largest in every
// dimension.
func (m *Model) declareShared(plans []peft.Plan) error {
	known := map[string]*parameter{}
	for _, plan := range plans {
		spec := m.spec
		spec.Plan = plan
		if err := plan.Validate(m.backbone.geometry); err != nil {
			return unshared("%v", err)
		}
		var own parameters
		net := m.backbone.network
		if err := net.declare(&own, m.backbone, spec); err != nil {
			return err
		}
		if len(own.frozen) > 0 || net.prefixMLP != nil {
			return unshared("plan %v: matrices that are drawn for each rank, as VeRA's, and what one MLP makes for all "+
				"layers are not the same for plans of other sizes", plan)
		}
		for _, p := range own.list {
			largest := known[p.name]
			if largest == nil {
				known[p.name] = p
				m.parameters.list = append(m.parameters.list, p)
				continue
			}
			if len(p.shape) != len(largest.shape) {
				return unshared("plan %v: %s has shape %v, and %v in another one", plan, p.name, p.shape, largest.shape)
			}
			for i, n := range p.shape {
				largest.shape[i] = max(largest.shape[i], n)
			}
		}
	}
	return nil
}

func unshared(format string, args ...any) error {
	return &evaluator.Failure{Kind: evaluator.FailureInvalidPlan, Message: fmt.Sprintf(format, args...)}
}

// Slice is the model of a plan with the weights of one of Spec.Shared: each of its tensors is the beginning of the
// model's of the same name in every dimension, so the first rows of a LoRA's A and the first columns of its B. Its
// losses and outputs are those of a model of the plan with these weights. Gradient, Update and all that is stored are
// the whole model's. It lives as long as s, and is not closed.
func (m *Model) Slice(s *torch.Scope, plan peft.Plan) (*Model, error) {
	slice := *m
	slice.spec.Plan, slice.network = plan, m.backbone.network
	var own parameters
	if err := slice.network.declare(&own, m.backbone, slice.spec); err != nil {
		return nil, err
	}
	whole := make(map[string]*parameter, len(m.parameters.list))
	for _, p := range m.parameters.list {
		whole[p.name] = p
	}
	for _, p := range own.list {
		of := whole[p.name]
		if of == nil || len(of.shape) != len(p.shape) {
			return nil, unshared("plan %v has %s of shape %v, which the model does not have", plan, p.name, p.shape)
		}
		p.leaf = of.leaf
		for i, n := range p.shape {
			if n > of.shape[i] {
				return nil, unshared("plan %v has %s of shape %v, the model %v", plan, p.name, p.shape, of.shape)
			}
			if n < of.shape[i] {
				p.leaf = s.Narrow(p.leaf, i, 0, n)
			}
		}
	}
	slice.network.bind()
	return &slice, s.Err()
}
