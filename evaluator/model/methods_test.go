package model

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"peftsearch/data"
	"peftsearch/data/checkpoint"
	"peftsearch/evaluator"
	"peftsearch/evaluator/torch"
	"peftsearch/peft"
)

// TestMethods compares the methods that have libraries of their own with those; scripts/golden/methods.py writes what
// they compute.
func TestMethods(t *testing.T) {
	var g golden
	readJSON(t, "methods.json", &g)
	testGolden(t, g.Cases)
}

// setFrozen replaces VeRA's random matrices by those of a golden file: a target has the first columns and rows.
func setFrozen(m *Model, s *torch.Scope, file map[string]checkpoint.Tensor) {
	a, ok := file["frozen.a"]
	if !ok {
		return
	}
	b := file["frozen.b"]
	for i := range m.network.modules {
		for _, p := range m.network.modules[i].products {
			v, ok := p.(*vera)
			if !ok {
				continue
			}
			down := s.Narrow(torch.From(s, a.Float32(), a.Shape...), 1, 0, v.down.Size(1))
			up := s.Narrow(torch.From(s, b.Float32(), b.Shape...), 0, 0, v.up.Size(0))
			s.CopyTo(v.down, down)
			s.CopyTo(v.up, up)
		}
	}
}

// drawModule draws a module of any method for layers.
func drawModule(t *rapid.T, m peft.Method, g peft.Geometry, taken map[peft.Target]bool) peft.Module {
	var free []peft.Target
	for _, target := range peft.Targets {
		if !taken[target] {
			free = append(free, target)
		}
	}
	if len(free) == 0 {
		free = peft.Targets[:1] // of a module that there is no place for, and that is left out
	}
	targets := rapid.Permutation(free).Draw(t, "targets")[:rapid.IntRange(1, len(free)).Draw(t, "count")]
	size := rapid.IntRange(1, min(30, m.Largest(g))).Draw(t, "size")
	module := m.Sized(size, peft.Style{Scale: 1, Targets: targets, Gate: rapid.Bool().Draw(t, "gate")})
	switch module := module.(type) {
	case peft.Parallel:
		module.LearnedScale = rapid.Bool().Draw(t, "learned")
		return module
	case peft.Houlsby:
		module.LearnedScale = rapid.Bool().Draw(t, "learned")
		return module
	case peft.Compacter:
		module.Width, module.FFNOnly = 4*module.Width, rapid.Bool().Draw(t, "ffn only")
		module.LearnedScale = rapid.Bool().Draw(t, "learned")
		return module
	case peft.BitFit:
		module.Norms = rapid.Bool().Draw(t, "norms")
		return module
	case interface{ Replaced() []peft.Target }:
		if len(free) == 1 && taken[free[0]] {
			return nil
		}
		for _, target := range module.Replaced() {
			taken[target] = true
		}
	}
	return module
}

func drawPlan(t *rapid.T, g peft.Geometry) peft.Plan {
	plan := peft.Plan{Layers: make([]peft.Layer, g.Layers)}
	for _, m := range peft.Methods {
		if m.Input() && rapid.IntRange(0, 3).Draw(t, "input") == 0 {
			plan.Input = append(plan.Input, peft.Prompt{Length: rapid.IntRange(1, 5).Draw(t, "size"),
				Normed: rapid.Bool().Draw(t, "normed"), AfterFirst: rapid.Bool().Draw(t, "after first")})
		}
	}
	for i := range plan.Layers {
		taken := map[peft.Target]bool{}
		for _, m := range peft.Methods {
			if m.Input() || rapid.IntRange(0, 2).Draw(t, string(m)) > 0 {
				continue
			}
			if module := drawModule(t, m, g, taken); module != nil {
				plan.Layers[i] = append(plan.Layers[i], module)
			}
		}
	}
	return plan
}

// Counts are those of the real tensors, whose names and shapes are those that the plan says.
func TestParamsCountsTheTensorsOfEveryMethod(t *testing.T) {
	b := loadBackbone(t, "bert", onCPU)
	g := b.Geometry()
	rapid.Check(t, func(rt *rapid.T) {
		plan := drawPlan(rt, g)
		m, err := New(b, Spec{Plan: plan, Task: data.KindClassification, Head: evaluator.HeadLinear, Outputs: 2,
			Training: evaluator.Training{PrefixMLP: rapid.IntRange(0, 3).Draw(rt, "mlp")}})
		if err != nil {
			rt.Fatalf("%v: %v", plan, err)
		}
		defer m.Close()
		tensors, err := m.Tensors()
		if err != nil {
			rt.Fatal(err)
		}
		var elements int64
		shapes := plan.TensorShapes(g)
		for name, tensor := range tensors {
			if strings.HasPrefix(name, "head.") {
				continue
			}
			elements += int64(tensor.Elements())
			if want, ok := shapes[name]; !ok || len(want) != len(tensor.Shape) {
				rt.Errorf("%v: %s has shape %v, the plan says %v", plan, name, tensor.Shape, want)
			}
			delete(shapes, name)
		}
		if len(shapes) > 0 {
			rt.Errorf("%v: no tensors %v", plan, shapes)
		}
		if want := plan.Params(g).Total(); elements != want {
			rt.Errorf("%v has %d elements, Params says %d", plan, elements, want)
		}
	})
}

// Counts, names and shapes are those of the tensors that a model declares, for 10,000 plans of all methods.
func TestCountsOfTenThousandPlans(t *testing.T) {
	b := loadBackbone(t, "bert", onCPU)
	g := b.Geometry()
	plans := rapid.Custom(func(t *rapid.T) peft.Plan { return drawPlan(t, g) })
	for i := range 10_000 {
		plan := plans.Example(i)
		var declared parameters
		network := b.network
		if err := network.declare(&declared, b, Spec{Plan: plan}); err != nil {
			t.Fatal(err)
		}
		shapes, elements := plan.TensorShapes(g), int64(0)
		if len(declared.list) != len(shapes) {
			t.Errorf("%v: %d tensors, the plan says %d", plan, len(declared.list), len(shapes))
		}
		for _, p := range declared.list {
			elements += int64(p.size())
			if !slices.Equal(p.shape, shapes[p.name]) {
				t.Errorf("%v: %s has shape %v, the plan says %v", plan, p.name, p.shape, shapes[p.name])
			}
		}
		if want := plan.Params(g).Total(); elements != want {
			t.Errorf("%v has %d elements, Params says %d", plan, elements, want)
		}
	}
}

// A row's outputs do not depend on whom it shares its batch with, gates included.
func TestRowsOfEveryMethodAreIndependent(t *testing.T) {
	b := loadBackbone(t, "bert", onCPU)
	rapid.Check(t, func(rt *rapid.T) {
		m, err := New(b, Spec{Plan: drawPlan(rt, b.Geometry()), Task: data.KindClassification, Head: evaluator.HeadLinear,
			Outputs: 2, Seed: 3})
		if err != nil {
			rt.Fatal(err)
		}
		defer m.Close()
		s := m.Scope()
		defer s.Free()
		together := randomBatch(b, 5, 8, 3, 6)
		want := s.Float32s(m.Logits(s, together))
		at := 0
		for row, length := range together.Lengths {
			alone := Batch{IDs: together.IDs[at:][:length], TypeIDs: together.TypeIDs[at:][:length], Lengths: []int{length}}
			at += length
			got := s.Float32s(m.Logits(s, alone))
			for j, v := range got {
				if d := v - want[row*len(got)+j]; d > 1e-4 || d < -1e-4 {
					rt.Errorf("%v: output %d of row %d is %g alone, %g in the batch", m.spec.Plan, j, row, v, want[row*len(got)+j])
				}
			}
		}
		if err := s.Err(); err != nil {
			rt.Fatal(err)
		}
	})
}

// Each parameter moves by its own rate, which is what parameter groups of PyTorch's AdamW do: a step is proportional
// to it, weight decay included.
func TestRatesOfMethods(t *testing.T) {
	b := loadBackbone(t, "bert", onCPU)
	layers := make([]peft.Layer, b.Geometry().Layers)
	layers[1] = peft.Layer{peft.Serial{Width: 3}, peft.Prefix{Length: 2},
		peft.LoRA{Rank: 2, Alpha: 4, Targets: peft.Targets}}
	batch, labels := randomBatch(b, 5, 8, 3, 6), []float64{0, 1, 0}
	moved := func(methods evaluator.MethodTraining) map[string][]float32 {
		m := newModel(t, b, Spec{Plan: peft.Plan{Layers: layers}, Task: data.KindClassification, Outputs: 2, Seed: 1,
			Training: evaluator.Training{LearningRate: 1e-3, WeightDecay: 0.1, Methods: methods}})
		before, err := m.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		s := newScope(t, b)
		m.Update(s, gradient(m, s, batch, labels, 0), 1e-3)
		after, err := m.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		deltas := map[string][]float32{}
		for _, p := range m.parameters.list {
			for i := range p.size() {
				deltas[p.name] = append(deltas[p.name], after[p.offset+i]-before[p.offset+i])
			}
		}
		return deltas
	}
	once := moved(evaluator.MethodTraining{})
	rates := evaluator.NewRates(map[string]float64{"prefix": 5e-3, "serial": 5e-4, "head": 2e-3})
	for name, deltas := range moved(evaluator.MethodTraining{Rates: rates, LoRAPlus: 4}) {
		factor := float32(1)
		switch {
		case strings.Contains(name, ".prefix."):
			factor = 5
		case strings.Contains(name, ".serial."):
			factor = 0.5
		case strings.HasPrefix(name, "head."):
			factor = 2
		case strings.HasSuffix(name, ".b"):
			factor = 4
		}
		want := make([]float32, len(deltas))
		for i, d := range once[name] {
			want[i] = factor * d
		}
		compare(t, name, deltas, want, 2e-6)
	}
}

// What a graph has for Compacter's matrices is what training computes.
func TestKroneckerOfGraphs(t *testing.T) {
	b := loadBackbone(t, "bert", onCPU)
	plan := peft.Plan{Layers: make([]peft.Layer, b.Geometry().Layers)}
	plan.Layers[1] = peft.Layer{peft.Compacter{Bottleneck: peft.Bottleneck{Width: 12}}}
	m := newModel(t, b, Spec{Plan: plan, Task: data.KindClassification, Outputs: 2, Seed: 4})
	tensors, err := m.Tensors()
	if err != nil {
		t.Fatal(err)
	}
	s := newScope(t, b)
	up := m.network.modules[1].ffn[0].(houlsby).up
	got := up.weight(s)
	want := peft.Kronecker(tensors["shared.compacter.rule"], tensors["layers.1.compacter.ffn.up.left"],
		tensors["layers.1.compacter.ffn.up.right"])
	if !slices.Equal(got.Shape(), want.Shape) {
		t.Fatalf("shape %v, want %v", got.Shape(), want.Shape)
	}
	compare(t, "matrix", s.Float32s(got), want.Float32(), 1e-9)
	if err := s.Err(); err != nil {
		t.Error(err)
	}
}

// Adapters of one layer add up: the loss depends on every one.
func TestAdaptersOfALayerAddUp(t *testing.T) {
	b := loadBackbone(t, "bert", onCPU)
	plan := peft.Plan{Layers: make([]peft.Layer, b.Geometry().Layers)}
	for i := range plan.Layers {
		plan.Layers[i] = peft.Layer{peft.Serial{Width: 2}, peft.Parallel{Width: 3}, peft.Houlsby{Width: 2},
			peft.Compacter{Bottleneck: peft.Bottleneck{Width: 4}, FFNOnly: i%2 == 0}}
	}
	m := newModel(t, b, Spec{Plan: plan, Task: data.KindClassification, Outputs: 2, Seed: 4})
	s := newScope(t, b)
	if m.Gradient(s, loss(m, s, randomBatch(b, 5, 8), []float64{1}, 0)); s.Err() != nil {
		t.Error(s.Err())
	}
}
