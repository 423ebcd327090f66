package metric

import (
	"encoding/json"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
)

// language is what sacreBLEU 2.6.0 and rouge-score 0.1.2 say of texts.
type language struct {
	Hyp, Ref, Ref2 []string
	BLEU           corpusScores `json:"bleu"`
	ChrF           corpusScores `json:"chrf"`
	ChrFPlus       corpusScores `json:"chrf++"`
	Tokens         []string     `json:"tokens_13a"`
	ROUGE          []map[string][3]float64
	Docs           [][2]string
	DocsROUGE      []map[string][3]float64 `json:"docs_rouge"`
}

type corpusScores struct {
	Corpus   float64
	Two      float64 `json:"corpus_two_references"`
	Sentence []float64
}

func TestTextMetricsEqualTheLibraries(t *testing.T) {
	content, err := os.ReadFile("testdata/text.json") // scripts/golden/text.py writes it
	if err != nil {
		t.Fatal(err)
	}
	var golden map[string]json.RawMessage
	if err := json.Unmarshal(content, &golden); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"en", "sl"} {
		var l language
		if err := json.Unmarshal(golden[name], &l); err != nil {
			t.Fatal(err)
		}
		check := func(what string, got, want float64) {
			t.Helper()
			if math.Abs(got-want) > 1e-10 {
				t.Errorf("%s %s: %v, want %v", name, what, got, want)
			}
		}
		one, two := make([]Pair, len(l.Hyp)), make([]Pair, len(l.Hyp))
		for i, text := range l.Hyp {
			one[i], two[i] = Pair{text, []string{l.Ref[i]}}, Pair{text, []string{l.Ref[i], l.Ref2[i]}}
		}
		check("bleu", bleu(one), l.BLEU.Corpus/100)
		check("bleu of two", bleu(two), l.BLEU.Two/100)
		check("chrf", chrf(one, 0), l.ChrF.Corpus/100)
		check("chrf of two", chrf(two, 0), l.ChrF.Two/100)
		check("chrf++", chrf(one, chrfWords), l.ChrFPlus.Corpus/100)
		check("chrf++ of two", chrf(two, chrfWords), l.ChrFPlus.Two/100)
		for i := range one {
			check("chrf of a sentence", chrf(one[i:i+1], 0), l.ChrF.Sentence[i]/100)
		}
		kinds := map[string]func(reference, text string, words rougeWords) float64{"rouge1": rougeN(1), "rouge2": rougeN(2),
			"rougeL": rougeL, "rougeLsum": rougeLsum}
		for key, score := range kinds {
			for i := range one {
				check(key, rouge(one[i:i+1], asciiWords, score), l.ROUGE[i][key][2])
			}
			for i, d := range l.Docs {
				check(key+" of a document", rouge([]Pair{{d[1], []string{d[0]}}}, asciiWords, score), l.DocsROUGE[i][key][2])
			}
		}
		for i, text := range slices.Concat(l.Ref, l.Hyp) {
			if got := tokens13a(text); !slices.Equal(got, strings.Fields(l.Tokens[i])) {
				t.Errorf("%q is %q", text, got)
			}
		}
	}
}
