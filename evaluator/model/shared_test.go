package model

import (
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"peftsearch/data"
	"peftsearch/data/checkpoint"
	"peftsearch/evaluator"
	"peftsearch/evaluator/torch"
	"peftsearch/peft"
)

// beginning is the first elements of values of a shape in every dimension of a smaller one.
func beginning(values []float32, shape, smaller []int) []float32 {
	if len(shape) == 0 {
		return values[:1]
	}
	size := len(values) / shape[0]
	var out []float32
	for i := range smaller[0] {
		out = append(out, beginning(values[i*size:][:size], shape[1:], smaller[1:])...)
	}
	return out
}

// named are the values of a flat tensor by the names of parameters.
func named(ps *parameters, values []float32) map[string]checkpoint.Tensor {
	out := map[string]checkpoint.Tensor{}
	for _, p := range ps.list {
		out[p.name] = checkpoint.NewTensor(values[p.offset:][:p.size()], p.shape...)
	}
	return out
}

// A slice computes what a model of its own plan with the same weights computes, and has its gradients; those of
// everything else are 0. It is so for every method whose sizes can share weights, and in training with dropout.
func TestSlicesEqualModelsOfTheirPlans(t *testing.T) {
	for _, settings := range []evaluator.Settings{onCPU, {Device: "cpu", Precision: "bfloat16", Threads: 1}} {
		b := loadBackbone(t, "bert", settings)
		tolerance := map[string]float64{"float32": 2e-6, "bfloat16": 0.02}[settings.Precision]
		drawn := rapid.Custom(func(rt *rapid.T) peft.Plan { return drawPlan(rt, b.Geometry()) })
		for round := range 8 {
			var plans []peft.Plan
			for i := range 3 {
				plan := drawn.Example(3*round + i)
				for i, layer := range plan.Layers {
					plan.Layers[i] = slices.DeleteFunc(layer, func(m peft.Module) bool { return m.Method() == peft.MethodVeRA })
				}
				plans = append(plans, plan)
			}
			spec := Spec{Plan: peft.Plan{Layers: make([]peft.Layer, b.Geometry().Layers)}, Task: data.KindClassification,
				Head: evaluator.HeadDense, Outputs: 3, Training: evaluator.Training{Dropout: 0.1}, Seed: 5, Shared: plans}
			shared, err := New(b, spec)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(shared.Close)
			weights := snapshot(t, shared)
			for i := range weights { // modules that change nothing would be alike in any case
				weights[i] += 0.03 * float32(i%7-3)
			}
			if err := shared.Restore(weights); err != nil {
				t.Fatal(err)
			}
			batch, labels := randomBatch(b, 3, 9, 4, 10), []float64{2, 0, 1}
			for _, plan := range plans {
				alone := spec
				alone.Plan, alone.Shared = plan, nil
				plain, err := New(b, alone)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(plain.Close)
				tensors := named(&shared.parameters, weights)
				begun := map[string]checkpoint.Tensor{}
				for _, p := range plain.parameters.list {
					whole := tensors[p.name]
					begun[p.name] = checkpoint.NewTensor(beginning(whole.Float32(), whole.Shape, p.shape), p.shape...)
				}
				if err := plain.SetTensors(begun); err != nil {
					t.Fatal(err)
				}
				s := newScope(t, b)
				slice, err := shared.Slice(s, plan)
				if err != nil {
					t.Fatal(err)
				}
				if slice.Frontier(false) != plain.Frontier(false) {
					t.Errorf("%v: frontiers differ", plan)
				}
				compare(t, "logits", s.Float32s(slice.Logits(s, batch)), logits(t, plain, batch), tolerance)
				whole, own := gradientOf(s, slice, batch, labels), gradientOf(s, plain, batch, labels)
				if err := s.Err(); err != nil {
					t.Fatalf("%v: %v", plan, err)
				}
				got, want := named(&shared.parameters, whole), named(&plain.parameters, own)
				for name, g := range got {
					sum := 0.0
					for _, v := range g.Float32() {
						sum += float64(v * v)
					}
					w, has := want[name]
					if !has {
						if sum != 0 {
							t.Errorf("%v: a gradient with respect to %s", plan, name)
						}
						continue
					}
					values := beginning(g.Float32(), g.Shape, w.Shape)
					compare(t, "gradient of "+name, values, w.Float32(), 10*tolerance)
					for _, v := range values {
						sum -= float64(v * v)
					}
					if sum > 1e-6 {
						t.Errorf("%v: a gradient beside the plan's part of %s", plan, name)
					}
				}
			}
		}
	}
}

func gradientOf(s *torch.Scope, m *Model, batch Batch, labels []float64) []float32 {
	sum, _ := m.Loss(s, batch, labels, 4)
	return s.Float32s(m.Gradient(s, sum))
}

// Training slices trains the whole: small plans and large ones learn, and the same steps give the same weights.
func TestSharedWeightsLearn(t *testing.T) {
	b := loadBackbone(t, "bert", onCPU)
	plan := func(width, rank int) peft.Plan {
		p := peft.Plan{Layers: make([]peft.Layer, b.Geometry().Layers)}
		for i := range p.Layers {
			p.Layers[i] = peft.Layer{peft.Parallel{Width: width},
				peft.LoRA{Rank: rank, Alpha: float64(rank), Targets: peft.Targets[:2]}}
		}
		return p
	}
	plans := []peft.Plan{plan(2, 1), plan(16, 2), plan(4, 8)}
	batch, labels := randomBatch(b, 3, 9, 4, 12, 7), []float64{1, 0, 1, 0}
	run := func() (first, last []float64, weights []float32) {
		m := newModel(t, b, Spec{Plan: peft.Plan{Layers: make([]peft.Layer, b.Geometry().Layers)}, Outputs: 2, Seed: 5,
			Shared: plans})
		for step := range 90 {
			s := m.Scope()
			slice, err := m.Slice(s, plans[step%3])
			if err != nil {
				t.Fatal(err)
			}
			sum, terms := slice.Loss(s, batch, labels, step)
			if loss := s.Item(sum) / float64(terms); step < 3 {
				first = append(first, loss)
			} else if step >= 87 {
				last = append(last, loss)
			}
			m.Update(s, s.Scale(slice.Gradient(s, sum), 1/float64(terms)), 5e-3)
			if err := s.Err(); err != nil {
				t.Fatal(err)
			}
			s.Free()
		}
		return first, last, snapshot(t, m)
	}
	first, last, weights := run()
	for i := range plans {
		if !(last[i] < first[i]/2) {
			t.Errorf("the loss of plan %d goes from %g to %g", i, first[i], last[i])
		}
	}
	if _, _, again := run(); !slices.Equal(weights, again) {
		t.Error("the same steps give other weights")
	}
}

func TestWhatSharesNoWeights(t *testing.T) {
	b := loadBackbone(t, "bert", onCPU)
	bare := peft.Plan{Layers: make([]peft.Layer, b.Geometry().Layers)}
	with := func(m peft.Module) peft.Plan {
		p := peft.Plan{Layers: slices.Clone(bare.Layers)}
		p.Layers[0] = peft.Layer{m}
		return p
	}
	var failure *evaluator.Failure
	for name, c := range map[string]Spec{
		"VeRA":       {Shared: []peft.Plan{with(peft.VeRA{Rank: 4, Targets: peft.Targets[:1]})}},
		"prefix_mlp": {Shared: []peft.Plan{with(peft.Prefix{Length: 2})}, Training: evaluator.Training{PrefixMLP: 3}},
		"no plan":    {Shared: []peft.Plan{{Layers: make([]peft.Layer, 1)}}},
	} {
		c.Plan, c.Task, c.Head, c.Outputs = bare, data.KindClassification, evaluator.HeadLinear, 2
		if _, err := New(b, c); !errors.As(err, &failure) {
			t.Errorf("%s: %v", name, err)
		}
	}
	m := newModel(t, b, Spec{Plan: bare, Outputs: 2, Shared: []peft.Plan{with(peft.Serial{Width: 4})}})
	s := newScope(t, b)
	for _, plan := range []peft.Plan{with(peft.Serial{Width: 5}), with(peft.Prefix{Length: 1})} {
		if _, err := m.Slice(s, plan); !errors.As(err, &failure) {
			t.Errorf("a slice of %v, which was not shared: %v", plan, err)
		}
	}
}
