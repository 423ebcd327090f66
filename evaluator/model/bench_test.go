package model

import (
	"testing"

	"peftsearch/evaluator"
	"peftsearch/peft"
)

// BenchmarkStep is one training step of MiniLM on 32 rows of 20 to 81 tokens with LoRA r8 on query and
// value, serial adapters of 24 and prefixes of 10.
func BenchmarkStep(b *testing.B) {
	module := peft.Layer{
		peft.Serial{Width: 24}, peft.Prefix{Length: 10},
		peft.LoRA{Rank: 8, Alpha: 8, Targets: []peft.Target{peft.TargetQuery, peft.TargetValue}},
	}
	backbone := loadBackbone(b, "models/all-MiniLM-L6-v2", onCPU)
	lengths, labels := make([]int, 32), make([]float64, 32)
	for i := range lengths {
		lengths[i], labels[i] = 20+i*61/31, float64(i%2) // 20 to 81, on average 50
	}
	batch := randomBatch(backbone, 1, lengths...)
	for _, run := range []struct {
		name   string
		lowest int
		cached bool
	}{{"all layers", 0, false}, {"layers 4-5", 4, false}, {"layers 4-5 cached", 4, true}} {
		b.Run(run.name, func(b *testing.B) {
			plan := peft.Plan{Layers: make([]peft.Layer, 6)}
			for i := run.lowest; i < 6; i++ {
				plan.Layers[i] = module
			}
			m := newModel(b, backbone, Spec{Plan: plan, Outputs: 2, Training: evaluator.Training{MaxGradNorm: 1}})
			batch := batch
			if run.cached {
				batch.Hidden = backbone.Hidden(newScope(b, backbone), batch, m.Frontier(true))
			}
			step := 0
			for b.Loop() {
				s := m.Scope()
				m.Update(s, gradient(m, s, batch, labels, step), 1e-3)
				if err := s.Err(); err != nil {
					b.Fatal(err)
				}
				s.Free()
				step++
			}
		})
	}
}
