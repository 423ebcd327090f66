package space

import (
	"testing"

	"peftsearch/evaluator"
	"peftsearch/peft"
)

func TestMethodsAlone(t *testing.T) {
	g := peft.Geometry{Architecture: "bert", Layers: 6, Hidden: 384, FFN: 1536, Heads: 12}
	for name, c := range map[string]struct {
		config Config
		sizes  map[peft.Method]int // of every module; 0 where the method cannot be alone
	}{
		"per-layer":    {Config{}, map[peft.Method]int{peft.MethodLoRA: 4, peft.MethodSerial: 12, peft.MethodPrefix: 5}},
		"autopeft":     {Config{Preset: PresetAutoPEFT}, map[peft.Method]int{peft.MethodSerial: 0 + 24}},
		"small":        {Config{MaxParams: 20000}, map[peft.Method]int{peft.MethodLoRA: 2, peft.MethodPrefix: 2}},
		"much smaller": {Config{MaxParams: 1000}, map[peft.Method]int{peft.MethodLoRA: 0}},
	} {
		s, err := New(c.config, evaluator.Training{}, g)
		if err != nil {
			t.Fatal(err)
		}
		for m, want := range c.sizes {
			p, ok := s.Alone(m)
			if ok != (want > 0) {
				t.Errorf("%s: %s alone at %v, %v", name, m, p, ok)
			}
			if !ok {
				continue
			}
			candidate, err := s.With(evaluator.Training{LearningRate: 3}).Candidate(p)
			if err != nil || candidate.Training.LearningRate != 3 {
				t.Errorf("%s: %+v, %v", name, candidate.Training, err)
			}
			for i, layer := range candidate.Plan.Layers {
				if len(layer) != 1 || layer.Module(m) == nil || name == "per-layer" && layer.Module(m).Size() != want {
					t.Errorf("%s: layer %d of %s alone has %v", name, i, m, layer)
				}
			}
		}
	}
}
