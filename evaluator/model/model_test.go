package model

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"peftsearch/data"
	"peftsearch/data/checkpoint"
	"peftsearch/evaluator"
	"peftsearch/evaluator/torch"
	"peftsearch/peft"
)

// hybrid has every method, different sizes, and leaves out the layers below lowest.
func hybrid(layers, lowest int) peft.Plan {
	p := peft.Plan{Layers: make([]peft.Layer, layers)}
	for i := lowest; i < layers; i++ {
		p.Layers[i] = peft.Layer{
			peft.Serial{Width: 1 + i}, peft.Parallel{Width: 4 - i}, peft.Prefix{Length: 2 + i},
			peft.LoRA{Rank: 1 + i, Alpha: 4, Targets: peft.Targets},
		}
	}
	return p
}

// randomBatch has rows of the given lengths.
func randomBatch(b *Backbone, seed uint64, lengths ...int) Batch {
	rng := rand.New(rand.NewPCG(seed, 0))
	c := b.network.config
	batch := Batch{Lengths: lengths}
	for _, length := range lengths {
		for range length {
			batch.IDs = append(batch.IDs, int32(rng.IntN(c.Vocab)))
			batch.TypeIDs = append(batch.TypeIDs, int32(rng.IntN(max(1, c.Types))))
		}
	}
	return batch
}

// part is some rows of a batch.
func part(batch Batch, rows ...int) Batch {
	var some Batch
	for _, row := range rows {
		from := 0
		for _, length := range batch.Lengths[:row] {
			from += length
		}
		to := from + batch.Lengths[row]
		some.Lengths = append(some.Lengths, to-from)
		some.IDs, some.TypeIDs = append(some.IDs, batch.IDs[from:to]...), append(some.TypeIDs, batch.TypeIDs[from:to]...)
	}
	return some
}

func logits(t *testing.T, m *Model, batch Batch) []float32 {
	t.Helper()
	s := m.Scope()
	defer s.Free()
	values := s.Float32s(m.Logits(s, batch))
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	return values
}

// train makes steps and returns their losses.
func train(t *testing.T, m *Model, batch Batch, labels []float64, from, to int, rate float64) (losses []float64) {
	t.Helper()
	for step := from; step < to; step++ {
		s := m.Scope()
		sum, terms := m.Loss(s, batch, labels, step)
		losses = append(losses, s.Item(sum)/float64(terms))
		m.Update(s, s.Scale(m.Gradient(s, sum), 1/float64(terms)), rate)
		err := s.Err()
		s.Free()
		if err != nil {
			t.Fatal(err)
		}
	}
	return losses
}

func snapshot(t *testing.T, m *Model) []float32 {
	t.Helper()
	values, err := m.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	return values
}

func TestFreshParallelAndLoRAChangeNothing(t *testing.T) {
	b := loadBackbone(t, "bert", onCPU)
	batch := randomBatch(b, 1, 9, 4, 1)
	plan := peft.Plan{Layers: make([]peft.Layer, 3)}
	bare := logits(t, newModel(t, b, Spec{Plan: plan, Outputs: 2, Seed: 5}), batch)
	for i := range plan.Layers {
		plan.Layers[i] = peft.Layer{peft.Parallel{Width: 3}, peft.LoRA{Rank: 2, Alpha: 2, Targets: peft.Targets}}
	}
	if diff := cmp.Diff(bare, logits(t, newModel(t, b, Spec{Plan: plan, Outputs: 2, Seed: 5}), batch)); diff != "" {
		t.Errorf("fresh modules change the logits:\n%s", diff)
	}
	plan.Layers[1] = append(plan.Layers[1], peft.Serial{Width: 3})
	if cmp.Equal(bare, logits(t, newModel(t, b, Spec{Plan: plan, Outputs: 2, Seed: 5}), batch)) {
		t.Error("a serial adapter changes nothing")
	}
}

// The last block is computed for the tokens that are read: the same as those of the whole block.
func TestTheLastBlockForSomeRows(t *testing.T) {
	b := loadBackbone(t, "bert", onCPU)
	batch := randomBatch(b, 2, 8, 5, 1, 12)
	batch.Marked = [][]int{{0, 3, 7}, {4}, {0}, {2, 11}}
	m := newModel(t, b, Spec{Plan: hybrid(3, 1), Outputs: 1})
	steps, width := m.network.family.steps(), b.Geometry().Hidden
	s := newScope(t, b)
	hidden := func(rows Rows) (values []float32) {
		torch.NoGrad(func() {
			p, x := m.network.start(s, batch, 0, rows, nil)
			values = s.Float32s(p.run(x, 0, steps))
		})
		return values
	}
	all := hidden(All)
	for rows, indices := range map[Rows][]int{First: {0, 8, 13, 14}, Last: {7, 12, 13, 25},
		Marked: {0, 3, 7, 12, 13, 16, 25}} {
		var want []float32
		for _, i := range indices {
			want = append(want, all[i*width:][:width]...)
		}
		compare(t, rows.String(), hidden(rows), want, 1e-5)
	}
	if err := s.Err(); err != nil {
		t.Error(err)
	}
}

func TestHiddenStatesAtTheFrontier(t *testing.T) {
	labels := []float64{0, 1, 1}
	ffnOnly := peft.Layer{peft.Serial{Width: 3}, peft.LoRA{Rank: 2, Alpha: 2, Targets: []peft.Target{peft.TargetFFNOut}}}
	for _, precision := range []string{PrecisionFloat32, PrecisionBFloat16} {
		settings := onCPU
		settings.Precision = precision
		b := loadBackbone(t, "bert", settings)
		for step, want := range map[int]Frontier{1: {1, All}, 2: {2, All}, 3: {3, All}, 4: {4, All}, 5: {5, First},
			6: {6, First}} {
			plan := hybrid(3, (step+1)/2)
			if step%2 == 1 {
				plan.Layers[step/2] = ffnOnly
			}
			m := newModel(t, b, Spec{Plan: plan, Outputs: 2, Seed: 1})
			at := m.Frontier(true)
			if at != want {
				t.Fatalf("frontier %v, want %v, of %v", at, want, plan)
			}
			s := newScope(t, b)
			batch := randomBatch(b, 3, 7, 2, 5)
			cached := Batch{Lengths: batch.Lengths, Hidden: b.Hidden(s, batch, at)}
			if !slices.Equal(s.Float32s(m.Logits(s, cached)), s.Float32s(m.Logits(s, batch))) {
				t.Errorf("step %d, %s: other logits with hidden states than without", step, precision)
			}
			compare(t, "gradient", s.Float32s(gradient(m, s, cached, labels, 0)), s.Float32s(gradient(m, s, batch, labels, 0)),
				1e-6)
			if err := s.Err(); err != nil {
				t.Fatal(err)
			}
			cached.Lengths = []int{7, 2, 5, 1}
			if m.Logits(s, cached); s.Err() == nil {
				t.Error("hidden states of other rows are accepted")
			}
		}
	}
}

// Hidden states that were kept by another version of the forward pass must not be read: if this fails because
// they are now computed to something else, raise ForwardVersion and write down the new sums.
func TestForwardVersion(t *testing.T) {
	const version = 3
	for checkpoint, want := range map[string][]float64{
		"bert":    {4.19641, -17.53513, 13.25773, 1.62062, 11.77301, 2.51963, -12.60660},
		"roberta": {15.56841, -0.24285, -14.77537, -12.47378, -23.73723},
	} {
		b := loadBackbone(t, checkpoint, onCPU)
		s := newScope(t, b)
		batch := randomBatch(b, 12, 9, 3, 12)
		var sums []float64
		for step := range b.network.family.steps() + 1 {
			sum := 0.0
			for i, v := range s.Float32s(b.Hidden(s, batch, Frontier{Step: step})) {
				sum += float64(v) * math.Cos(float64(i))
			}
			sums = append(sums, sum)
		}
		if err := s.Err(); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, sums, cmpopts.EquateApprox(0, 1e-3)); diff != "" || ForwardVersion != version {
			t.Errorf("%s, version %d, sums (-of version %d +now):\n%s", checkpoint, ForwardVersion, version, diff)
		}
	}
}

func TestWhatChangesIsNotTakenFromTheCache(t *testing.T) {
	b := loadBackbone(t, "bert", onCPU)
	for name, test := range map[string]struct {
		training  evaluator.Training
		evaluates Frontier
	}{
		"dropout":  {evaluator.Training{Dropout: 0.1}, Frontier{2, All}},
		"backbone": {evaluator.Training{Backbone: true}, Frontier{}},
	} {
		m := newModel(t, b, Spec{Plan: hybrid(3, 1), Outputs: 1, Training: test.training})
		if at := m.Frontier(true); at.Step != 0 {
			t.Errorf("with %s, training has a frontier at step %d", name, at.Step)
		}
		if at := m.Frontier(false); at != test.evaluates {
			t.Errorf("with %s, evaluation has the frontier %v, want %v", name, at, test.evaluates)
		}
		s := newScope(t, b)
		batch := randomBatch(b, 3, 7, 2, 5)
		batch.Hidden = b.Hidden(s, batch, Frontier{2, All})
		if m.Loss(s, batch, []float64{1, 2, 3}, 0); s.Err() == nil {
			t.Errorf("training with %s takes cached hidden states", name)
		}
	}
}

// Whom a row shares its batch with changes nothing, and the parts of a batch have the loss and the gradient
// of the whole.
func TestBatchesMayBeCutAnywhere(t *testing.T) {
	for _, checkpoint := range []string{"bert", "roberta"} {
		b := loadBackbone(t, checkpoint, onCPU)
		m := newModel(t, b, Spec{Plan: hybrid(b.Geometry().Layers, 0), Outputs: 2})
		batch := randomBatch(b, 4, 11, 3, 6, 1, 12, 5, 4, 9, 2, 10, 8) // of several groups
		labels := []float64{0, 1, 1, 0, 0, 1, 0, 1, 1, 0, 0}
		together := logits(t, m, batch)
		for row := range batch.Lengths {
			compare(t, checkpoint+", a row alone", logits(t, m, part(batch, row)), together[2*row:][:2], 1e-5)
		}
		s := newScope(t, b)
		whole, terms := m.Loss(s, batch, labels, 0)
		one, oneTerms := m.Loss(s, part(batch, 0, 1, 2, 3, 4, 5, 6), labels[:7], 0)
		two, twoTerms := m.Loss(s, part(batch, 7, 8, 9, 10), labels[7:], 0)
		if terms != 11 || oneTerms+twoTerms != terms {
			t.Errorf("%d terms, and %d and %d of the parts", terms, oneTerms, twoTerms)
		}
		compare(t, checkpoint+", loss", s.Float32s(s.Add(one, two)), s.Float32s(whole), 1e-5)
		compare(t, checkpoint+", gradient", s.Float32s(s.Add(m.Gradient(s, one), m.Gradient(s, two))),
			s.Float32s(m.Gradient(s, whole)), 1e-4)
		if err := s.Err(); err != nil {
			t.Fatal(err)
		}
	}
}

// Attention of flat tokens and of padded rows, which dropout takes, are the same.
func TestFlatAndPaddedAttention(t *testing.T) {
	for precision, tolerance := range map[string]float64{PrecisionFloat32: 1e-4, PrecisionBFloat16: 0.05} {
		settings := onCPU
		settings.Precision = precision
		b := loadBackbone(t, "models/bert-tiny", settings)
		spec := Spec{Plan: hybrid(2, 0), Outputs: 2, Seed: 4}
		flat := newModel(t, b, spec)
		spec.Training.Dropout = 1e-9 // drops nothing
		padded := newModel(t, b, spec)
		batch, labels := randomBatch(b, 13, 40, 3, 17, 64, 5, 8, 9, 33, 2, 21), []float64{0, 1, 1, 0, 1, 0, 0, 1, 1, 0}
		s := newScope(t, b)
		compare(t, precision+", loss", s.Float32s(loss(padded, s, batch, labels, 0)),
			s.Float32s(loss(flat, s, batch, labels, 0)), tolerance)
		compare(t, precision+", gradient", s.Float32s(gradient(padded, s, batch, labels, 0)),
			s.Float32s(gradient(flat, s, batch, labels, 0)), tolerance)
		if err := s.Err(); err != nil {
			t.Fatal(err)
		}
	}
}

// transformers takes RoBERTa's positions from the ids: a padding token in the text is not counted.
func TestPositions(t *testing.T) {
	batch := Batch{IDs: []int32{5, 1, 6, 7, 0, 1}, Lengths: []int{4, 2}}
	for checkpoint, want := range map[string][]int32{"bert": {0, 1, 2, 3, 0, 1}, "roberta": {2, 1, 3, 4, 2, 1}} {
		b := loadBackbone(t, checkpoint, onCPU)
		if got := b.network.family.(*bert).positions(batch); !slices.Equal(got, want) {
			t.Errorf("%s: positions %v, want %v", checkpoint, got, want)
		}
	}
}

func TestParamsCountsTheTensors(t *testing.T) {
	b := loadBackbone(t, "bert", onCPU)
	g := b.Geometry()
	rapid.Check(t, func(rt *rapid.T) {
		plan := peft.Plan{Layers: make([]peft.Layer, g.Layers)}
		for i := range plan.Layers {
			l := &plan.Layers[i]
			if w := rapid.IntRange(0, 40).Draw(rt, "serial"); w > 0 {
				*l = append(*l, peft.Serial{Width: w})
			}
			if w := rapid.IntRange(0, 40).Draw(rt, "parallel"); w > 0 {
				*l = append(*l, peft.Parallel{Width: w})
			}
			if p := rapid.IntRange(0, 20).Draw(rt, "prefix"); p > 0 {
				*l = append(*l, peft.Prefix{Length: p})
			}
			targets := rapid.Permutation(peft.Targets).Draw(rt, "targets")[:rapid.IntRange(0, 6).Draw(rt, "count")]
			if len(targets) > 0 {
				*l = append(*l, peft.LoRA{Rank: rapid.IntRange(1, 32).Draw(rt, "rank"), Alpha: 1, Targets: targets})
			}
		}
		spec := Spec{
			Plan: plan, Head: rapid.SampledFrom([]evaluator.Head{evaluator.HeadLinear, evaluator.HeadDense}).Draw(rt, "head"),
			Task: data.KindClassification, Outputs: rapid.IntRange(1, 4).Draw(rt, "outputs"),
			Training: evaluator.Training{PrefixMLP: rapid.IntRange(0, 3).Draw(rt, "mlp")},
		}
		m, err := New(b, spec)
		if err != nil {
			rt.Fatal(err)
		}
		defer m.Close()
		tensors, err := m.Tensors()
		if err != nil {
			rt.Fatal(err)
		}
		var modules, head int64
		for name, tensor := range tensors {
			if strings.HasPrefix(name, "head.") {
				head += int64(tensor.Elements())
			} else {
				modules += int64(tensor.Elements())
			}
		}
		if want := plan.Params(g).Total(); modules != want {
			rt.Errorf("%v has %d elements, Params says %d", plan, modules, want)
		}
		if head != m.HeadParams() {
			rt.Errorf("the head has %d elements, HeadParams says %d", head, m.HeadParams())
		}
	})
}

func TestTrainingLearns(t *testing.T) {
	b := loadBackbone(t, "bert", onCPU)
	batch := randomBatch(b, 5, 8, 3, 5, 8, 2, 7)
	classes, values := []float64{0, 1, 2, 0, 1, 2}, []float64{-1, 0, 2, 1, -2, 0.5}
	only := func(l peft.Layer) peft.Plan { return peft.Plan{Layers: []peft.Layer{{}, l, {}}} }
	for name, spec := range map[string]Spec{
		"serial":   {Plan: only(peft.Layer{peft.Serial{Width: 8}}), Outputs: 3},
		"parallel": {Plan: only(peft.Layer{peft.Parallel{Width: 8}}), Outputs: 1},
		"prefix":   {Plan: only(peft.Layer{peft.Prefix{Length: 6}}), Outputs: 3},
		"prefix MLP": {Plan: only(peft.Layer{peft.Prefix{Length: 6}}), Outputs: 3,
			Training: evaluator.Training{PrefixMLP: 16}},
		"lora":     {Plan: only(peft.Layer{peft.LoRA{Rank: 4, Alpha: 8, Targets: peft.Targets}}), Outputs: 1},
		"hybrid":   {Plan: hybrid(3, 1), Head: evaluator.HeadDense, Outputs: 3},
		"dropout":  {Plan: hybrid(3, 0), Outputs: 3, Training: evaluator.Training{Dropout: 0.1}},
		"backbone": {Plan: only(peft.Layer{}), Outputs: 1, Training: evaluator.Training{Backbone: true}},
	} {
		for _, precision := range []string{PrecisionFloat32, PrecisionBFloat16} {
			t.Run(name+" "+precision, func(t *testing.T) {
				settings := onCPU
				settings.Precision = precision
				b := loadBackbone(t, "bert", settings)
				labels := classes
				if spec.Outputs == 1 {
					labels = values
				}
				losses := train(t, newModel(t, b, spec), batch, labels, 0, 60, 0.01)
				if first, last := losses[0], losses[len(losses)-1]; !(last < first/2) {
					t.Errorf("the loss went from %g to %g", first, last)
				}
			})
		}
	}
}

func TestTrainingLeavesTheBackboneAlone(t *testing.T) {
	for _, spec := range []Spec{
		{Plan: hybrid(3, 1), Outputs: 1},
		{Plan: hybrid(3, 1), Outputs: 1, Training: evaluator.Training{Backbone: true}},
	} {
		b := loadBackbone(t, "bert", onCPU)
		s := newScope(t, b)
		batch, labels := randomBatch(b, 11, 8, 3), []float64{1, 2}
		hidden := b.Hidden(s, batch, Frontier{2, All})
		before := s.Float32s(hidden)
		input := batch
		if !spec.Training.Backbone {
			input.Hidden = hidden
		}
		train(t, newModel(t, b, spec), input, labels, 0, 3, 1e-2)
		if !slices.Equal(before, s.Float32s(hidden)) {
			t.Error("training changes cached hidden states")
		}
		if !slices.Equal(before, s.Float32s(b.Hidden(s, batch, Frontier{2, All}))) {
			t.Error("training changes the frozen backbone")
		}
	}
}

func TestBFloat16IsCloseToFloat32(t *testing.T) {
	settings := onCPU
	settings.Precision = PrecisionBFloat16
	low, full := loadBackbone(t, "bert", settings), loadBackbone(t, "bert", onCPU)
	if low.Precision() != "bfloat16" || full.Precision() != "float32" {
		t.Errorf("precisions %s and %s", low.Precision(), full.Precision())
	}
	spec := Spec{Plan: hybrid(3, 0), Outputs: 2, Seed: 9}
	batch := randomBatch(full, 6, 9, 4)
	compare(t, "logits", logits(t, newModel(t, low, spec), batch), logits(t, newModel(t, full, spec), batch), 0.02)
}

func TestSameSeedSameResult(t *testing.T) {
	b := loadBackbone(t, "bert", onCPU)
	batch, labels := randomBatch(b, 7, 8, 3, 5), []float64{1, 2, 3}
	spec := Spec{Plan: hybrid(3, 0), Outputs: 1, Seed: 3, Training: evaluator.Training{Dropout: 0.2, WeightDecay: 0.1,
		PrefixMLP: 4}}
	first, second := newModel(t, b, spec), newModel(t, b, spec)
	train(t, first, batch, labels, 0, 5, 1e-3)
	train(t, second, batch, labels, 0, 2, 1e-3)
	state, err := second.State()
	if err != nil {
		t.Fatal(err)
	}
	continued := newModel(t, b, spec)
	if err := continued.SetState(state); err != nil {
		t.Fatal(err)
	}
	train(t, second, batch, labels, 2, 5, 1e-3)
	train(t, continued, batch, labels, 2, 5, 1e-3)
	if !slices.Equal(snapshot(t, first), snapshot(t, second)) {
		t.Error("the same seed gives another model")
	}
	if !slices.Equal(snapshot(t, first), snapshot(t, continued)) {
		t.Error("a model continued from a state differs")
	}
	spec.Seed++
	other := newModel(t, b, spec)
	if slices.Equal(snapshot(t, newModel(t, b, spec)), snapshot(t, first)) {
		t.Error("another seed gives the same model")
	}
	if err := other.SetState(State{Parameters: state.Parameters[1:], Optimizer: state.Optimizer}); err == nil {
		t.Error("a state of another size is accepted")
	}
}

func TestDropout(t *testing.T) {
	b := loadBackbone(t, "bert", onCPU)
	s := newScope(t, b)
	const n, probability = 40000, 0.1
	p := &pass{Scope: s, net: &b.network, dropout: newDropout(1, 2, probability)}
	ones := make([]float32, n)
	for i := range ones {
		ones[i] = 1
	}
	x := torch.From(s, ones, n)
	zero := 0
	for _, v := range s.Float32s(p.drop(x)) {
		switch {
		case v == 0:
			zero++
		case math.Abs(float64(v)-1/(1-probability)) > 1e-6:
			t.Fatalf("a kept element is %g", v)
		}
	}
	if share := float64(zero) / n; math.Abs(share-probability) > 0.01 {
		t.Errorf("%g of the elements are dropped, want %g", share, probability)
	}

	spec := Spec{Plan: hybrid(3, 0), Outputs: 1, Training: evaluator.Training{Dropout: probability}}
	m, batch, labels := newModel(t, b, spec), randomBatch(b, 8, 8, 3), []float64{1, 2}
	if !slices.Equal(logits(t, m, batch), logits(t, m, batch)) {
		t.Error("logits have dropout")
	}
	losses := []float64{s.Item(loss(m, s, batch, labels, 0)), s.Item(loss(m, s, batch, labels, 1)),
		s.Item(loss(m, s, batch, labels, 0))}
	if losses[0] == losses[1] || losses[0] != losses[2] {
		t.Errorf("losses of steps 0, 1, 0 are %v: the step alone selects the masks", losses)
	}
}

func TestTensorsRoundTrip(t *testing.T) {
	for name, training := range map[string]evaluator.Training{
		"flat": {}, "prefix MLP": {PrefixMLP: 5}, "backbone": {Backbone: true}, "bfloat16": {},
	} {
		t.Run(name, func(t *testing.T) {
			settings := onCPU
			if name == "bfloat16" {
				settings.Precision = PrecisionBFloat16
			}
			b := loadBackbone(t, "bert", settings)
			batch, labels := randomBatch(b, 9, 8, 3, 5), []float64{1, 2, 3}
			spec := Spec{Plan: hybrid(3, 0), Head: evaluator.HeadDense, Outputs: 1, Training: training}
			m := newModel(t, b, spec)
			train(t, m, batch, labels, 0, 3, 1e-2)
			tensors, err := m.Tensors()
			if err != nil {
				t.Fatal(err)
			}
			spec.Seed, spec.Training.PrefixMLP = 99, 0
			other := newModel(t, b, spec)
			if err := other.SetTensors(tensors); err != nil {
				t.Fatal(err)
			}
			compare(t, "logits", logits(t, other, batch), logits(t, m, batch), 1e-5)

			kept := tensors["head.bias"]
			delete(tensors, "head.bias")
			if err := other.SetTensors(tensors); err == nil || !strings.Contains(err.Error(), "head.bias") {
				t.Errorf("a missing tensor: %v", err)
			}
			tensors["head.bias"] = checkpoint.NewTensor([]float32{1, 2}, 2)
			if err := other.SetTensors(tensors); err == nil || !strings.Contains(err.Error(), "shape") {
				t.Errorf("a tensor of another shape: %v", err)
			}
			tensors["head.bias"], tensors["layers.7.serial.up.bias"] = kept, kept
			if err := other.SetTensors(tensors); err == nil || !strings.Contains(err.Error(), "layers.7") {
				t.Errorf("a surplus tensor: %v", err)
			}
			if training.PrefixMLP > 0 {
				if err := m.SetTensors(tensors); err == nil {
					t.Error("a model with a prefix MLP takes flat prefixes")
				}
			}
		})
	}
}

func TestNothingLeaks(t *testing.T) {
	before := torch.Live()
	t.Run("life", func(t *testing.T) {
		b := loadBackbone(t, "bert", onCPU)
		batch, labels := randomBatch(b, 10, 8, 3, 5), []float64{1, 2, 3}
		loaded := torch.Live()
		m, err := New(b, Spec{Plan: hybrid(3, 0), Task: data.KindRegression, Head: evaluator.HeadLinear, Outputs: 1,
			Training: evaluator.Training{Dropout: 0.1}})
		if err != nil {
			t.Fatal(err)
		}
		made := torch.Live()
		train(t, m, batch, labels, 0, 3, 1e-3)
		logits(t, m, batch)
		if _, err := m.Tensors(); err != nil {
			t.Fatal(err)
		}
		if got := torch.Live(); got != made {
			t.Errorf("%d tensors live after training, %d before", got, made)
		}
		m.Close()
		if got := torch.Live(); got != loaded {
			t.Errorf("%d tensors live after the model is closed, %d before it was made", got, loaded)
		}
	})
	if got := torch.Live(); got != before {
		t.Errorf("%d tensors outlive everything", got-before)
	}
}

func TestErrors(t *testing.T) {
	b := loadBackbone(t, "bert", onCPU)
	var failure *evaluator.Failure
	if _, err := New(b, Spec{Plan: hybrid(2, 0), Outputs: 1}); !errors.As(err, &failure) ||
		failure.Kind != evaluator.FailureInvalidPlan {
		t.Errorf("a plan of another depth: %v", err)
	}
	for name, spec := range map[string]Spec{
		"outputs": {Plan: hybrid(3, 0)},
		"task":    {Plan: hybrid(3, 0), Task: "parsing", Outputs: 1},
		"head":    {Plan: hybrid(3, 0), Task: data.KindRegression, Head: "conv", Outputs: 1},
		"dropout": {Plan: hybrid(3, 0), Head: evaluator.HeadDense, Outputs: 1, Training: evaluator.Training{Dropout: 1}},
		"prefix_mlp": {Plan: hybrid(3, 0), Head: evaluator.HeadDense, Outputs: 1,
			Training: evaluator.Training{PrefixMLP: -1}},
	} {
		if _, err := New(b, spec); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("bad %s: %v", name, err)
		}
	}
	for name, settings := range map[string]evaluator.Settings{
		"device":    {Device: "tpu", Precision: "auto", Threads: 1},
		"precision": {Device: "cpu", Precision: "float64", Threads: 1},
		"threads":   {Device: "cpu", Precision: "auto"},
	} {
		if _, err := Load(b.checkpoint, settings); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("bad %s: %v", name, err)
		}
	}
	m := newModel(t, b, Spec{Plan: hybrid(3, 0), Outputs: 2})
	for name, batch := range map[string]Batch{
		"without rows":  {},
		"at most 16":    {IDs: make([]int32, 17), Lengths: []int{17}},
		"of 0 tokens":   {IDs: make([]int32, 3), Lengths: []int{3, 0}},
		"2 ids":         {IDs: make([]int32, 2), Lengths: []int{3}},
		"1 types":       {IDs: make([]int32, 3), TypeIDs: make([]int32, 1), Lengths: []int{3}},
		"vocabulary":    {IDs: []int32{1, 40, 2}, Lengths: []int{3}},
		"token type 2:": {IDs: make([]int32, 3), TypeIDs: []int32{0, 1, 2}, Lengths: []int{3}},
	} {
		s := newScope(t, b)
		if m.Logits(s, batch); s.Err() == nil || !strings.Contains(s.Err().Error(), name) {
			t.Errorf("bad batch (%s): %v", name, s.Err())
		}
	}
	batch := Batch{IDs: make([]int32, 6), Lengths: []int{3, 3}}
	for _, marked := range [][][]int{nil, {{0}}, {{0}, {}}, {{0}, {3}}, {{-1}, {0}}, {{1, 0}, {0}}} {
		batch.Marked = marked
		s := newScope(t, b)
		if b.Hidden(s, batch, Frontier{6, Marked}); s.Err() == nil {
			t.Errorf("marked tokens %v are accepted", marked)
		}
	}
	batch = Batch{IDs: make([]int32, 3), Lengths: []int{3}}
	for _, labels := range [][]float64{nil, {0.5}, {-1}, {2}, {math.NaN()}} {
		s := newScope(t, b)
		if m.Loss(s, batch, labels, 0); s.Err() == nil {
			t.Errorf("labels %v are accepted", labels)
		}
	}
	s := newScope(t, b)
	if b.Hidden(s, batch, Frontier{7, All}); s.Err() == nil {
		t.Error("hidden states before a step that is not there")
	}
}
