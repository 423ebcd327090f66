package model

import (
	"math"
	"slices"
	"testing"

	"peftsearch/data/tokenizer"
)

// The multilingual checkpoint, with its tokenizer, computes what transformers does for Slovene, and knows which English
// sentence is whose translation.
func TestMultilingualE5(t *testing.T) {
	var golden []struct { // scripts/golden/e5.py writes it
		Texts []string  // Slovene, English
		IDs   [][]int32 // of each
	}
	readJSON(t, "e5.json", &golden)
	const name = "models/multilingual-e5-small"
	b := loadBackbone(t, name, onCPU)
	words, err := tokenizer.Load("../../" + name)
	if err != nil {
		t.Fatal(err)
	}
	s := newScope(t, b)
	var hidden []float32
	var slovene, english [][]float64
	for _, g := range golden {
		for language, text := range g.Texts {
			ids := words.Encode(b.MaxLength(), text).IDs
			if !slices.Equal(ids, g.IDs[language]) {
				t.Errorf("%q: ids %v, want %v", text, ids, g.IDs[language])
			}
			states := s.Float32s(lastHidden(b, s, Batch{IDs: ids, Lengths: []int{len(ids)}}))
			if err := s.Err(); err != nil {
				t.Fatal(err)
			}
			mean := meanOf(states, b.Geometry().Hidden)
			if language == 0 {
				hidden, slovene = append(hidden, states...), append(slovene, mean)
			} else {
				english = append(english, mean)
			}
		}
	}
	compare(t, "hidden states", hidden, readTensors(t, "e5")["hidden"].Float32(), 1e-4)
	for i, from := range slovene {
		best := 0
		for j := range english {
			if cosine(from, english[j]) > cosine(from, english[best]) {
				best = j
			}
		}
		if best != i {
			t.Errorf("%q is nearest to %q", golden[i].Texts[0], golden[best].Texts[1])
		}
	}
}

// meanOf is the mean of rows of a width.
func meanOf(rows []float32, width int) []float64 {
	mean := make([]float64, width)
	for i, v := range rows {
		mean[i%width] += float64(v) * float64(width) / float64(len(rows))
	}
	return mean
}

func cosine(a, b []float64) float64 {
	var ab, aa, bb float64
	for i := range a {
		ab, aa, bb = ab+a[i]*b[i], aa+a[i]*a[i], bb+b[i]*b[i]
	}
	return ab / math.Sqrt(aa*bb)
}
