package model

import (
	"cmp"
	"encoding/json"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"peftsearch/data"
	"peftsearch/data/checkpoint"
	"peftsearch/data/tokenizer"
	"peftsearch/evaluator"
	"peftsearch/evaluator/torch"
	"peftsearch/peft"
)

// headCase is a batch through a head of the reference libraries, which scripts/golden/heads.py writes.
type headCase struct {
	Name       string
	Task       data.Kind
	Head       evaluator.Head
	Outputs    int
	IDs, Types []int32
	Lengths    []int
	Marked     [][]int
	Sequences  []int
	Spans      [][]tokenizer.Range
	Targets    []float64
	Logits     []float32
	Loss       float64 // mean over the terms
}

func (c headCase) batch() Batch {
	return Batch{IDs: c.IDs, TypeIDs: c.Types, Lengths: c.Lengths, Marked: c.Marked, Sequences: c.Sequences,
		Spans: c.Spans}
}

// part is the batch of one example.
func (c headCase) part(example int) Batch {
	sequences := c.Sequences
	if sequences == nil {
		sequences = slices.Repeat([]int{1}, len(c.Lengths))
	}
	first, count := 0, sequences[example]
	for _, n := range sequences[:example] {
		first += n
	}
	start := 0
	for _, n := range c.Lengths[:first] {
		start += n
	}
	end := start
	for _, n := range c.Lengths[first : first+count] {
		end += n
	}
	b := Batch{IDs: c.IDs[start:end], TypeIDs: c.Types[start:end], Lengths: c.Lengths[first : first+count],
		Sequences: []int{count}}
	if c.Marked != nil {
		b.Marked = c.Marked[first : first+count]
	}
	if c.Spans != nil {
		b.Spans = c.Spans[first : first+count]
	}
	return b
}

func readHeads(t *testing.T) []headCase {
	t.Helper()
	content, err := os.ReadFile("testdata/heads.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []headCase
	if err := json.Unmarshal(content, &cases); err != nil {
		t.Fatal(err)
	}
	return cases
}

func TestHeadsEqualReference(t *testing.T) {
	file := readTensors(t, "heads")
	seen := map[data.Kind]bool{}
	for _, c := range readHeads(t) {
		seen[c.Task] = true
		t.Run(c.Name, func(t *testing.T) {
			b := loadBackbone(t, "bert", onCPU)
			m := newModel(t, b, Spec{Plan: peft.Plan{Layers: make([]peft.Layer, b.Geometry().Layers)}, Task: c.Task,
				Head: c.Head, Outputs: c.Outputs})
			s := newScope(t, b)
			values := make([]float32, m.parameters.size)
			for _, p := range m.parameters.list {
				copy(values[p.offset:], file[c.Name+".value."+p.name].Float32())
			}
			m.parameters.set(s, values)
			compare(t, "logits", s.Float32s(m.Logits(s, c.batch())), c.Logits, 1e-4)

			sum, terms := m.Loss(s, c.batch(), c.Targets, 0)
			if got := s.Item(sum) / float64(terms); math.Abs(got-c.Loss) > 1e-4 {
				t.Errorf("the loss is %g, want %g", got, c.Loss)
			}
			gradient := s.Float32s(s.Scale(m.Gradient(s, sum), 1/float64(terms)))
			if err := s.Err(); err != nil {
				t.Fatal(err)
			}
			for _, p := range m.parameters.list {
				compare(t, "gradient of "+p.name, gradient[p.offset:][:p.size()], file[c.Name+".grad."+p.name].Float32(), 1e-4)
			}

			// A batch may be cut anywhere: the parts have the same numbers, and the losses of the parts have the sum.
			counts, whole := m.Counts(c.batch()), s.Float32s(m.Logits(s, c.batch()))
			targets, parts, partTerms := c.Targets, 0.0, 0
			for example, count := range counts {
				part := c.part(example)
				compare(t, "logits of a part", s.Float32s(m.Logits(s, part)), whole[:count], 1e-5)
				n := map[data.Kind]int{data.KindMultipleChoice: 1}[c.Task]
				if n == 0 {
					n = count
					if c.Task != data.KindMultilabel {
						n /= c.Outputs
					}
				}
				sum, terms := m.Loss(s, part, targets[:n], 0)
				parts, partTerms, targets, whole = parts+s.Item(sum), partTerms+terms, targets[n:], whole[count:]
			}
			if partTerms != terms || math.Abs(parts/float64(terms)-c.Loss) > 1e-4 {
				t.Errorf("parts have the loss %g of %d terms, the whole %g of %d", parts/float64(terms), partTerms, c.Loss, terms)
			}
		})
	}
	elsewhere := []data.Kind{data.KindClassification, data.KindRegression, data.KindText} // golden.json, gpt2-text.json
	for _, kind := range data.Kinds() {
		if !slices.Contains(elsewhere, kind) && !seen[kind] {
			t.Errorf("no case for %s", kind)
		}
	}
}

// Hidden states at the frontier, of what the head reads alone, change no answer of any head.
func TestHeadsFromHiddenStates(t *testing.T) {
	for _, c := range readHeads(t) {
		b := loadBackbone(t, "bert", onCPU)
		layers := make([]peft.Layer, b.Geometry().Layers)
		layers[len(layers)-1] = peft.Layer{peft.Serial{Width: 4}}
		m := newModel(t, b, Spec{Plan: peft.Plan{Layers: layers}, Task: c.Task, Head: c.Head, Outputs: c.Outputs, Seed: 3})
		s := newScope(t, b)
		batch := c.batch()
		want := s.Float32s(m.Logits(s, batch))
		batch.Hidden = b.Hidden(s, batch, m.Frontier(false))
		batch.IDs, batch.TypeIDs = nil, nil
		compare(t, c.Name, s.Float32s(m.Logits(s, batch)), want, 1e-5)
		if err := s.Err(); err != nil {
			t.Errorf("%s: %v", c.Name, err)
		}
	}
}

func TestHeadsRefuse(t *testing.T) {
	cases := map[string]headCase{}
	for _, c := range readHeads(t) {
		cases[c.Name] = c
	}
	for name, test := range map[string]struct {
		of     string
		change func(c *headCase)
		want   string
	}{
		"a class too high":   {"tokens", func(c *headCase) { c.Targets[0] = 5 }, "class index below 5"},
		"too few targets":    {"tokens", func(c *headCase) { c.Targets = c.Targets[1:] }, "5 targets for 6"},
		"nothing marked":     {"tokens", func(c *headCase) { c.Marked[1] = nil }, "marked tokens"},
		"a choice too high":  {"choice-adapters", func(c *headCase) { c.Targets[0] = 4 }, "class index below 4"},
		"no numbers":         {"choice-adapters", func(c *headCase) { c.Sequences = nil }, "without the numbers"},
		"too many choices":   {"choice-adapters", func(c *headCase) { c.Sequences[0] = 3 }, "examples of"},
		"a span that is not": {"coreference-dense", func(c *headCase) { c.Spans[0][0].End = 9 }, "not among its marked"},
		"too few label values": {"multilabel-adapters", func(c *headCase) { c.Targets = c.Targets[1:] },
			"values for the shape"},
	} {
		c := cases[test.of]
		c.Targets, c.Marked, c.Sequences = slices.Clone(c.Targets), slices.Clone(c.Marked), slices.Clone(c.Sequences)
		c.Spans = slices.Clone(c.Spans)
		if c.Spans != nil {
			c.Spans[0] = slices.Clone(c.Spans[0])
		}
		test.change(&c)
		b := loadBackbone(t, "bert", onCPU)
		m := newModel(t, b, Spec{Plan: peft.Plan{Layers: make([]peft.Layer, b.Geometry().Layers)}, Task: c.Task,
			Head: c.Head, Outputs: c.Outputs})
		s := m.Scope()
		m.Loss(s, c.batch(), c.Targets, 0)
		if err := s.Err(); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
		s.Free()
	}
}

// The places are those of the classes For… in transformers 4.57: a ClassificationHead drops before each of its layers,
// a pooler is not dropped before, GPT2ForSequenceClassification drops nothing.
func TestFullFineTuningHasItsDropoutInTheHead(t *testing.T) {
	for _, c := range []struct {
		modelType           string
		kind                data.Kind
		backbone, pooler    bool
		dropDense, dropLast bool
	}{
		{checkpoint.BERT, data.KindClassification, true, true, false, true},
		{checkpoint.BERT, data.KindTokenClassification, true, false, false, true},
		{checkpoint.RoBERTa, data.KindRegression, true, true, true, true},
		{checkpoint.RoBERTa, data.KindMultipleChoice, true, true, false, true},
		{checkpoint.GPT2, data.KindClassification, true, false, true, false},
		{checkpoint.BERT, data.KindClassification, false, false, false, false},
	} {
		m := &Model{network: network{config: checkpoint.Config{ModelType: c.modelType}}, spec: Spec{Task: c.kind,
			Head: evaluator.HeadLinear, Training: evaluator.Training{Backbone: c.backbone, Pooler: c.pooler}}}
		form := m.headForm()
		if form.dropDense != c.dropDense || form.dropLast != c.dropLast || (form.Head == evaluator.HeadDense) != c.pooler {
			t.Errorf("%+v: %+v", c, form)
		}
	}
}

func TestHeadDropsWhereItsFormSays(t *testing.T) {
	s := torch.NewScope(torch.CPU)
	defer s.Free()
	const width = 64
	identity, ones := make([]float32, width*width), make([]float32, width)
	for i := range width {
		identity[i*width+i], ones[i] = 1, 1
	}
	given := func(values []float32, shape ...int) *parameter {
		return &parameter{leaf: torch.From(s, values, shape...)}
	}
	one := math.Tanh(1)
	for _, c := range []struct {
		form headForm
		unit float64 // the logit is so many times the number of elements that are left; 0 where all are
	}{
		{headForm{}, 0},
		{headForm{dropDense: true}, math.Tanh(2)},
		{headForm{dropLast: true}, 2 * one},
	} {
		layer := outputLayer{form: c.form, outputs: 1, denseWeight: given(identity, width, width),
			denseBias: given(make([]float32, width), width), weight: given(ones, 1, width), bias: given([]float32{0}, 1)}
		p := &pass{Scope: s, dropout: newDropout(1, 0, 0.5)}
		got := float64(s.Float32s(layer.apply(p, torch.From(s, ones, 1, width)))[0])
		if err := s.Err(); err != nil {
			t.Fatal(err)
		}
		left := width
		if c.unit > 0 {
			left = int(math.Round(got / c.unit))
		}
		if want := float64(left) * cmp.Or(c.unit, one); math.Abs(got-want) > 1e-3 ||
			c.unit > 0 && (left < 10 || left > 54) {
			t.Errorf("%+v: %g of %d elements, want %g", c.form, got, left, want)
		}
	}
}
