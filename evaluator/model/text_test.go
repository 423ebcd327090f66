package model

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"peftsearch/data"
	"peftsearch/data/checkpoint"
	"peftsearch/evaluator/torch"
	"peftsearch/peft"
)

// goldenTexts is testdata/gpt2-text.json; scripts/golden/gpt2_text.py writes it.
type goldenTexts struct {
	New    int
	Losses []struct {
		Name, Checkpoint string
		Plan             peft.Plan
		Backbone         bool
		Rows             [][]int32
		Reads            []int
		Loss             float64
		Logits           []float32
	}
	Greedy, Beams []goldenText
}

// goldenText is a prompt, settings and what transformers writes.
type goldenText struct {
	checkpoint    string
	prompt, wrote []int32
	rules         Rules
}

func (g *goldenText) UnmarshalJSON(content []byte) error {
	early := ""
	fields := []any{&g.checkpoint, &g.prompt, &g.rules.EOS, &g.rules.NumBeams, &g.rules.LengthPenalty, &early,
		&g.rules.NoRepeatNgramSize, &g.rules.MinNewTokens, &g.wrote}
	if err := json.Unmarshal(content, &fields); err != nil {
		return err
	}
	g.rules.EarlyStopping = data.EarlyStopping(early)
	return nil
}

func readTexts(t *testing.T) goldenTexts {
	t.Helper()
	var g goldenTexts
	readJSON(t, "gpt2-text.json", &g)
	for _, list := range [][]goldenText{g.Greedy, g.Beams} {
		for i := range list {
			list[i].rules.MaxNewTokens = g.New
		}
	}
	return g
}

// written is a batch of rows of which so many tokens are read, and the others written.
func written(rows [][]int32, reads []int) (batch Batch, targets []float64) {
	for i, row := range rows {
		batch.IDs = append(batch.IDs, row[:len(row)-1]...)
		batch.Lengths = append(batch.Lengths, len(row)-1)
		var marked []int
		for at := reads[i]; at < len(row); at++ {
			marked, targets = append(marked, at-1), append(targets, float64(row[at]))
		}
		batch.Marked, batch.Next = append(batch.Marked, marked), append(batch.Next, row[reads[i]:])
	}
	return batch, targets
}

func TestGoldenTexts(t *testing.T) {
	for _, c := range readTexts(t).Losses {
		t.Run(c.Name, func(t *testing.T) {
			b := loadBackbone(t, c.Checkpoint, onCPU)
			spec := Spec{Plan: c.Plan, Task: data.KindText, Outputs: 2, Seed: 1}
			spec.Training.Backbone = c.Backbone
			m := newModel(t, b, spec)
			file := readTensors(t, c.Name)
			s := newScope(t, b)
			values := s.Float32s(m.parameters.master)
			for _, p := range m.parameters.list {
				if value, ok := file["value."+p.name]; ok {
					copy(values[p.offset:], value.Float32())
				} else if !c.Backbone {
					t.Fatalf("the golden file has no %s", p.name)
				}
			}
			m.parameters.set(s, values)
			batch, targets := written(c.Rows, c.Reads)
			p, x := m.forward(s, batch, m.frontier(true, 0), Pass{}, nil)
			logits := m.head.logits(p, batch, x)
			compare(t, "logits", s.Float32s(logits), c.Logits, 1e-4)
			sum, terms := m.head.loss(s, batch, logits, targets)
			if math.Abs(s.Item(sum)-c.Loss) > 1e-4*c.Loss || terms != len(targets) {
				t.Errorf("loss %g of %d tokens, want %g of %d", s.Item(sum), terms, c.Loss, len(targets))
			}
			grad := s.Float32s(m.Gradient(s, sum))

			scores := s.Float32s(m.Logits(s, batch)) // of each token: its loss, and whether it is the most probable
			loss, vocabulary := 0.0, len(c.Logits)/len(targets)
			for i, target := range targets {
				loss += float64(scores[2*i])
				if hit := argmax(c.Logits[i*vocabulary:][:vocabulary]) == int(target); (scores[2*i+1] == 1) != hit {
					t.Errorf("token %d: hit %g, want %v", i, scores[2*i+1], hit)
				}
			}
			if math.Abs(loss-c.Loss) > 1e-4*c.Loss || !slices.Equal(m.Counts(batch), []int{10, 22, 2}) {
				t.Errorf("scores with a loss of %g and counts %v, want %g", loss, m.Counts(batch), c.Loss)
			}
			if err := s.Err(); err != nil {
				t.Fatal(err)
			}
			for _, p := range m.parameters.list {
				want := file["grad."+p.name].Float32()
				largest := 0.0
				for _, v := range want {
					largest = max(largest, math.Abs(float64(v)))
				}
				compare(t, "gradient of "+p.name, grad[p.offset:][:p.size()], want, 1e-3*largest+1e-5)
			}
		})
	}
}

// bare is a model that writes as its checkpoint does.
func bareWriter(t testing.TB, b *Backbone) *Model {
	return newModel(t, b, Spec{Plan: peft.Plan{Layers: make([]peft.Layer, b.Geometry().Layers)}, Task: data.KindText,
		Outputs: 2})
}

func onward() bool { return false }

// Token for token what transformers writes, for each row alone and for batches of rows of unequal lengths.
func TestWriteEqualsTransformers(t *testing.T) {
	golden := readTexts(t)
	for kind, list := range map[string][]goldenText{"greedy": golden.Greedy, "beams": golden.Beams} {
		if len(list) < 500 {
			t.Errorf("%s: %d settings", kind, len(list))
		}
		models, batches := map[string]*Model{}, map[string][]goldenText{}
		for _, c := range list {
			if models[c.checkpoint] == nil {
				models[c.checkpoint] = bareWriter(t, loadBackbone(t, c.checkpoint, onCPU))
			}
			key := fmt.Sprint(c.checkpoint, c.rules)
			batches[key] = append(batches[key], c)
		}
		for key, batch := range batches {
			var prompts [][]int32
			for _, c := range batch {
				prompts = append(prompts, c.prompt)
				got, err := models[c.checkpoint].Write([][]int32{c.prompt}, c.rules, 0, onward)
				if err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(got[0], c.wrote) {
					t.Errorf("%s %s after %v: %v, want %v", kind, key, c.prompt, got[0], c.wrote)
				}
			}
			got, err := models[batch[0].checkpoint].Write(prompts, batch[0].rules, 0, onward)
			if err != nil {
				t.Fatal(err)
			}
			for i, c := range batch {
				if !slices.Equal(got[i], c.wrote) {
					t.Errorf("%s %s after %v, in a batch: %v, want %v", kind, key, c.prompt, got[i], c.wrote)
				}
			}
		}
	}
}

// recomputed reads every text from its beginning, without a cache, by the pass that training has.
type recomputed struct {
	t     *testing.T
	model *Model
	texts [][]int32
	worst float64 // difference from what the cache says
	cache *generation
}

func (r *recomputed) read(tokens [][]int32, parents []int, logarithms bool) ([][]float32, error) {
	var texts [][]int32
	batch := Batch{}
	for i, row := range tokens {
		if parents != nil {
			row = slices.Concat(r.texts[parents[i]], row)
		}
		texts = append(texts, row)
		batch.IDs, batch.Lengths = append(batch.IDs, row...), append(batch.Lengths, len(row))
		batch.Marked = append(batch.Marked, []int{len(row) - 1})
	}
	r.texts = texts
	s := newScope(r.t, r.model.backbone)
	var values []float32
	torch.NoGrad(func() {
		p, x := r.model.forward(s, batch, Frontier{}, Pass{}, nil)
		logits := r.model.head.logits(p, batch, x)
		if logarithms {
			logits = s.LogSoftmax(logits)
		}
		values = s.Float32s(logits)
	})
	if err := s.Err(); err != nil {
		return nil, err
	}
	cached, err := r.cache.read(tokens, parents, logarithms)
	if err != nil {
		return nil, err
	}
	for i, v := range slices.Concat(cached...) {
		r.worst = max(r.worst, math.Abs(float64(v-values[i])))
	}
	return slices.Collect(slices.Chunk(values, len(values)/len(tokens))), nil
}

// With modules of every method a decoder can have, the cache says what reading everything again does.
func TestCacheEqualsReadingAgain(t *testing.T) {
	lora := peft.LoRA{Rank: 2, Alpha: 4, Targets: []peft.Target{peft.TargetQuery, peft.TargetValue, peft.TargetFFNOut}}
	for name, plan := range map[string]peft.Plan{
		"modules": {Layers: []peft.Layer{{peft.Serial{Width: 3}, peft.Prefix{Length: 3}, lora}, {peft.Prefix{Length: 2},
			peft.Parallel{Width: 2}}}},
		"houlsby": {Layers: []peft.Layer{{peft.Houlsby{Width: 3}}, {lora}}},
		"prompt":  {Input: peft.Layer{peft.Prompt{Length: 3}}, Layers: []peft.Layer{{}, {peft.Prefix{Length: 1}}}},
		"normed":  {Input: peft.Layer{peft.Prompt{Length: 2, Normed: true}}, Layers: []peft.Layer{{lora}, {}}},
	} {
		for _, where := range []string{"gpt2", "gpt2-wide"} {
			m := newModel(t, loadBackbone(t, where, onCPU), Spec{Plan: plan, Task: data.KindText, Outputs: 2, Seed: 5})
			disturb(t, m)
			prompts := [][]int32{{3, 9, 4}, {7}, {1, 2, 3, 4, 5}}
			for _, beams := range []int{1, 3} {
				rules := Rules{Generation: data.Generation{MaxNewTokens: 7, NumBeams: beams, LengthPenalty: 1,
					EarlyStopping: data.StopFalse, NoRepeatNgramSize: 2}, EOS: []int32{11}}
				r := &recomputed{t: t, model: m, cache: &generation{model: m, net: &m.network}}
				var again [][]int32
				var err error
				if beams > 1 {
					again, err = beamSearch(r, prompts, rules, onward)
				} else {
					again, err = greedySearch(r, prompts, rules, onward)
				}
				r.cache.close()
				if err != nil {
					t.Fatalf("%s of %s: %v", name, where, err)
				}
				if r.worst > 1e-4 {
					t.Errorf("%s of %s: logits differ by %g", name, where, r.worst)
				}
				got, err := m.Write(prompts, rules, 0, onward)
				if err != nil {
					t.Fatal(err)
				}
				if fmt.Sprint(got) != fmt.Sprint(again) {
					t.Errorf("%s of %s: %v, want %v", name, where, got, again)
				}
			}
		}
	}
}

// disturb gives everything that is trained other values than those with which modules change nothing.
func disturb(t *testing.T, m *Model) {
	t.Helper()
	values, err := m.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	for i := range values {
		values[i] += float32(math.Sin(float64(i))) / 3
	}
	if err := m.Restore(values); err != nil {
		t.Fatal(err)
	}
}

// Generating leaves nothing behind, and a stop ends it between tokens.
func TestWriteFreesAndStops(t *testing.T) {
	m := bareWriter(t, loadBackbone(t, "gpt2-wide", onCPU))
	rules := Rules{Generation: data.Generation{MaxNewTokens: 6, NumBeams: 2, LengthPenalty: 1,
		EarlyStopping: data.StopFalse}}
	before := torch.Live()
	for range 20 {
		if _, err := m.Write([][]int32{{1, 2}, {3}}, rules, 0, onward); err != nil {
			t.Fatal(err)
		}
	}
	if after := torch.Live(); after != before {
		t.Errorf("%d tensors more", after-before)
	}
	calls := 0
	got, err := m.Write([][]int32{{1, 2}}, rules, 0, func() bool { calls++; return calls > 3 })
	if got != nil || err != nil || calls != 4 {
		t.Errorf("stopped: %v, %v after %d calls", got, err, calls)
	}
	if _, err := m.Write([][]int32{slices.Repeat([]int32{1}, 14)}, rules, 0, onward); err == nil ||
		!strings.Contains(err.Error(), "at most 16") {
		t.Errorf("too long: %v", err)
	}
}

// An encoder writes nothing, and a checkpoint without the matrix that it writes with neither.
func TestNoWriter(t *testing.T) {
	spec := func(b *Backbone) Spec {
		return Spec{Plan: peft.Plan{Layers: make([]peft.Layer, b.Geometry().Layers)}, Task: data.KindText, Head: "linear",
			Outputs: 2}
	}
	b := loadBackbone(t, "bert", onCPU)
	if _, err := New(b, spec(b)); err == nil || !strings.Contains(err.Error(), "bert writes no texts") {
		t.Errorf("%v", err)
	}
	b = openBackbone(t, withConfig(t, "testdata/gpt2", map[string]any{"tie_word_embeddings": false}), onCPU)
	if _, err := New(b, spec(b)); err == nil || !strings.Contains(err.Error(), "no lm_head.weight") {
		t.Errorf("%v", err)
	}
	if b.checkpoint.Has(checkpoint.WordsOut) {
		t.Error("the file has the matrix")
	}
}
