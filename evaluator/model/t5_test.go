package model

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"peftsearch/data"
	"peftsearch/peft"
)

// goldenT5 is testdata/t5.json; scripts/golden/t5.py writes it.
type goldenT5 struct {
	goldenEncoders
	Buckets []struct {
		Buckets, Most int
		Causal        bool
		Want          []int32 // of distances from -1200 to 1200
	}
}

func readT5(t *testing.T) goldenT5 {
	t.Helper()
	var g goldenT5
	readJSON(t, "t5.json", &g)
	return g
}

// Both stacks, in files of models with heads and in half precision, and every key of config.json that changes what is
// computed.
func TestHiddenStatesOfT5(t *testing.T) {
	want := readTensors(t, "t5-hidden")
	for i, c := range readT5(t).Hidden {
		t.Run(strings.TrimSuffix(fmt.Sprint(c.Checkpoint, " ", c.Config), " map[]"), func(t *testing.T) {
			b := openBackbone(t, withConfig(t, filepath.Join("testdata", c.Checkpoint), c.Config), onCPU)
			s, batch := newScope(t, b), unpad(c.IDs, nil, c.Lengths)
			decoding := b.network.family.(*t5).decoding()
			encoder := s.Float32s(b.Hidden(s, batch, Frontier{Step: decoding}))
			got := s.Float32s(lastHidden(b, s, batch))
			if err := s.Err(); err != nil {
				t.Fatal(err)
			}
			compare(t, "the encoder's output", encoder, want[fmt.Sprint("encoder.", i)].Float32(), 1e-4)
			compare(t, "hidden states", got, want[fmt.Sprint("hidden.", i)].Float32(), 1e-4)
		})
	}
}

func TestGoldenT5(t *testing.T) { testGolden(t, readT5(t).Cases) }

// Every distance is in the bucket that transformers has it in.
func TestBucketsOfT5(t *testing.T) {
	for _, c := range readT5(t).Buckets {
		p := &pass{net: &network{}, stack: peft.Stack{Causal: c.Causal}}
		p.net.config.Buckets, p.net.config.MaxDistance = c.Buckets, c.Most
		for i, want := range c.Want {
			if got := p.bucket(i - 1200); got != want {
				t.Errorf("distance %d of %d buckets up to %d, causal %v: bucket %d, want %d", i-1200, c.Buckets, c.Most,
					c.Causal, got, want)
			}
		}
	}
}

// What is below the frontier is the encoder's output while modules are in the decoder, all with none, and else what an
// encoder has; a pass from there is the whole one. So is a row alone.
func TestFrontiersOfT5(t *testing.T) {
	b := loadBackbone(t, "t5", onCPU)
	batch := Batch{IDs: []int32{5, 9, 3, 7, 11, 4, 6, 8, 2}, Lengths: []int{5, 3, 1}}
	modules := peft.Layer{peft.Serial{Width: 3}, peft.LoRA{Rank: 2, Alpha: 2, Targets: []peft.Target{peft.TargetQuery}}}
	decoder := modules.With(peft.Prefix{Length: 2, Cross: true})
	for name, test := range map[string]struct {
		layers []peft.Layer
		want   Frontier
	}{
		"decoder": {[]peft.Layer{{}, {}, decoder, {}}, Frontier{Step: 4}},
		"last":    {[]peft.Layer{{}, {}, {}, decoder}, Frontier{Step: 4}},
		"head":    {make([]peft.Layer, 4), Frontier{Step: 10, Rows: Last}},
		"encoder": {[]peft.Layer{{}, modules, decoder, {}}, Frontier{Step: 2}},
		"ffn":     {[]peft.Layer{{}, {peft.Serial{Width: 3}}, {}, {}}, Frontier{Step: 3}},
	} {
		t.Run(name, func(t *testing.T) {
			m := newModel(t, b, Spec{Plan: peft.Plan{Layers: test.layers}, Task: data.KindClassification, Outputs: 2,
				Seed: 2})
			s := newScope(t, b)
			if got := m.Frontier(true); got != test.want {
				t.Fatalf("the frontier is %v, want %v", got, test.want)
			}
			whole := s.Float32s(m.Logits(s, batch))
			from := batch
			from.Hidden = b.Hidden(s, batch, m.Frontier(false))
			compare(t, "from hidden states", s.Float32s(m.Logits(s, from)), whole, 1e-5)
			alone := s.Float32s(m.Logits(s, Batch{IDs: []int32{4, 6, 8}, Lengths: []int{3}}))
			compare(t, "a row alone", alone, whole[2:4], 1e-5)
			if err := s.Err(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// A prefix's pairs are at no distance, so they may stand in any order, however many the layers have.
func TestPrefixesOfT5HaveNoOrder(t *testing.T) {
	b := loadBackbone(t, "t5", onCPU)
	batch := Batch{IDs: []int32{5, 9, 3, 7, 11, 4, 6, 8, 2}, Lengths: []int{5, 4}}
	m := newModel(t, b, Spec{Plan: peft.Plan{Layers: []peft.Layer{{peft.Prefix{Length: 5}}, {peft.Prefix{Length: 9}}, nil,
		{peft.Prefix{Length: 3, Cross: true}}}}, Task: data.KindClassification, Outputs: 2, Seed: 2})
	s := newScope(t, b)
	before, values := s.Float32s(m.Logits(s, batch)), s.Float32s(m.parameters.master)
	for _, p := range m.parameters.list {
		if strings.Contains(p.name, ".prefix.") {
			width := p.shape[1]
			pairs := slices.Collect(slices.Chunk(slices.Clone(values[p.offset:][:p.size()]), width))
			slices.Reverse(pairs)
			copy(values[p.offset:], slices.Concat(pairs...))
		}
	}
	m.parameters.set(s, values)
	compare(t, "logits", s.Float32s(m.Logits(s, batch)), before, 1e-5)
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
}

// What T5 cannot have is refused with the reason.
func TestT5Refuses(t *testing.T) {
	b := loadBackbone(t, "t5", onCPU)
	four := func(at int, module peft.Module) peft.Plan {
		p := peft.Plan{Layers: make([]peft.Layer, 4)}
		p.Layers[at] = peft.Layer{module}
		return p
	}
	for _, test := range []struct {
		plan peft.Plan
		task data.Kind
		want string
	}{
		{four(2, peft.Serial{Width: 2, Gate: true}), data.KindClassification, "a gate is a mean over all tokens"},
		{four(0, peft.BitFit{}), data.KindClassification, "encoders such as BERT"},
		{four(1, peft.Prefix{Length: 2, Cross: true}), data.KindClassification, "do not read an encoder"},
		{four(1, peft.LoRA{Rank: 1, Alpha: 1, Targets: []peft.Target{peft.TargetCrossKey}}), data.KindClassification,
			"do not read an encoder"},
		{peft.Plan{Input: peft.Layer{peft.Prompt{Length: 2}}, Layers: make([]peft.Layer, 4)}, data.KindClassification,
			"a prompt is not supported"},
		{peft.Plan{Layers: make([]peft.Layer, 4)}, data.KindTokenClassification, "reads single tokens"},
	} {
		_, err := New(b, Spec{Plan: test.plan, Task: test.task, Head: "linear", Outputs: 2})
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%v, %s: error %v, want one with %q", test.plan, test.task, err, test.want)
		}
	}
}
