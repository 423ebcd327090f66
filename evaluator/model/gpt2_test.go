package model

import (
	"fmt"
	"maps"
	"path/filepath"
	"strings"
	"testing"

	"peftsearch/data"
	"peftsearch/data/checkpoint"
	"peftsearch/evaluator"
	"peftsearch/peft"
)

// readDecoders reads testdata/gpt2.json; scripts/golden/gpt2.py writes it.
func readDecoders(t *testing.T) goldenEncoders {
	t.Helper()
	var g goldenEncoders
	readJSON(t, "gpt2.json", &g)
	return g
}

// Heads of a width with a kernel and without, files of a model with a head and in half precision, and every key of
// config.json that changes what is computed.
func TestHiddenStatesOfGPT2(t *testing.T) {
	want := readTensors(t, "gpt2-hidden")
	for i, c := range readDecoders(t).Hidden {
		t.Run(strings.TrimSuffix(fmt.Sprint(c.Checkpoint, " ", c.Config), " map[]"), func(t *testing.T) {
			b := openBackbone(t, withConfig(t, filepath.Join("testdata", c.Checkpoint), c.Config), onCPU)
			s := newScope(t, b)
			got := s.Float32s(lastHidden(b, s, unpad(c.IDs, nil, c.Lengths)))
			if err := s.Err(); err != nil {
				t.Fatal(err)
			}
			compare(t, "hidden states", got, want[fmt.Sprint("hidden.", i)].Float32(), 1e-4)
		})
	}
}

func TestGoldenGPT2(t *testing.T) { testGolden(t, readDecoders(t).Cases) }

// The head for texts reads each row's last token, whatever hidden states it starts from, and the one for words reads
// tokens that see nothing of what comes after them.
func TestDecoderReadsNothingLater(t *testing.T) {
	for _, name := range []string{"gpt2", "gpt2-wide"} {
		b := loadBackbone(t, name, onCPU)
		layers := []peft.Layer{{peft.Prefix{Length: 2}}, {peft.Serial{Width: 3}, peft.LoRA{Rank: 2, Alpha: 2,
			Targets: []peft.Target{peft.TargetQuery, peft.TargetAttentionOutput}}}}
		s := newScope(t, b)
		long := Batch{IDs: []int32{5, 9, 3, 7, 11, 4, 6, 8}, Lengths: []int{5, 3}}
		short := Batch{IDs: []int32{5, 9, 3, 7, 4, 6, 8}, Lengths: []int{4, 3}}

		long.Marked, short.Marked = [][]int{{1, 3}, {0, 2}}, [][]int{{1, 3}, {0, 2}}
		words := newModel(t, b, Spec{Plan: peft.Plan{Layers: layers}, Task: data.KindTokenClassification, Outputs: 3,
			Seed: 2})
		compare(t, "words before the last", s.Float32s(words.Logits(s, long)), s.Float32s(words.Logits(s, short)), 1e-5)

		text := newModel(t, b, Spec{Plan: peft.Plan{Layers: []peft.Layer{{}, layers[1]}}, Task: data.KindClassification,
			Outputs: 2, Seed: 2})
		whole := s.Float32s(text.Logits(s, long))
		from := long
		from.Hidden, from.IDs = b.Hidden(s, long, text.Frontier(false)), nil
		compare(t, "from hidden states", s.Float32s(text.Logits(s, from)), whole, 1e-5)
		alone := s.Float32s(text.Logits(s, Batch{IDs: []int32{4, 6, 8}, Lengths: []int{3}}))
		compare(t, "a row alone", alone, whole[2:], 1e-5)
		if err := s.Err(); err != nil {
			t.Fatal(err)
		}
	}
}

// What a decoder cannot have is refused with the reason.
func TestDecoderRefuses(t *testing.T) {
	b := loadBackbone(t, "gpt2", onCPU)
	for _, test := range []struct {
		module peft.Module
		want   string
	}{
		{peft.Serial{Width: 2, Gate: true}, "a gate is a mean over all tokens"},
		{peft.Prefix{Length: 2, Gate: true}, "a gate is a mean over all tokens"},
		{peft.BitFit{}, "encoders such as BERT"},
	} {
		_, err := New(b, Spec{Plan: peft.Plan{Layers: []peft.Layer{{}, {test.module}}}, Task: data.KindClassification,
			Head: evaluator.HeadLinear, Outputs: 2})
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.module, err, test.want)
		}
	}
}

// A prompt of word embeddings is what tokens of these words before the row are.
func TestPromptOfADecoder(t *testing.T) {
	b := loadBackbone(t, "gpt2", onCPU)
	m := newModel(t, b, Spec{Plan: peft.Plan{Input: peft.Layer{peft.Prompt{Length: 2}}, Layers: make([]peft.Layer, 2)},
		Task: data.KindClassification, Outputs: 2, Seed: 2})
	bare := newModel(t, b, Spec{Plan: peft.Plan{Layers: make([]peft.Layer, 2)}, Task: data.KindClassification, Outputs: 2,
		Seed: 2})
	words, err := b.checkpoint.Tensor(wordTable)
	if err != nil {
		t.Fatal(err)
	}
	tensors, err := m.Tensors()
	if err != nil {
		t.Fatal(err)
	}
	head, err := bare.Tensors()
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(tensors, head)
	tensors["input.prompt.tokens"] = checkpoint.NewTensor(append(words.Row(7), words.Row(9)...), 2, 32)
	if err := m.SetTensors(tensors); err != nil {
		t.Fatal(err)
	}
	s := newScope(t, b)
	got := s.Float32s(m.Logits(s, Batch{IDs: []int32{3, 4, 5, 6}, Lengths: []int{3, 1}}))
	want := s.Float32s(bare.Logits(s, Batch{IDs: []int32{7, 9, 3, 4, 5, 7, 9, 6}, Lengths: []int{5, 3}}))
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	compare(t, "logits", got, want, 1e-5)
}
