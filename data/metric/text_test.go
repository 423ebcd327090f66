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
		of := func(name Name, texts []string, references ...[]string) float64 {
			a := Answers{Form: Texts}
			for i, text := range texts {
				var row []string
				for _, r := range references {
					row = append(row, r[i])
				}
				a.Predicted = append(a.Predicted, append([]float64{0, 0, 1}, Points(text)...))
				a.Actual = append(a.Actual, Target(row))
			}
			return Score(name, a)
		}
		for metric, want := range map[Name]corpusScores{BLEU: l.BLEU, ChrF: l.ChrF, ChrFPlus: l.ChrFPlus} {
			check(string(metric), of(metric, l.Hyp, l.Ref), want.Corpus/100)
			check(string(metric)+" of two", of(metric, l.Hyp, l.Ref, l.Ref2), want.Two/100)
		}
		for i := range l.Hyp {
			check("chrf of a sentence", of(ChrF, l.Hyp[i:i+1], l.Ref[i:i+1]), l.ChrF.Sentence[i]/100)
		}
		for _, metric := range []Name{ROUGE1, ROUGE2, ROUGEL, ROUGELsum} {
			for i := range l.Hyp {
				check(string(metric), of(metric, l.Hyp[i:i+1], l.Ref[i:i+1]), l.ROUGE[i][string(metric)][2])
			}
			for i, d := range l.Docs {
				check(string(metric)+" of a document", of(metric, []string{d[1]}, []string{d[0]}),
					l.DocsROUGE[i][string(metric)][2])
			}
		}
		for i, text := range slices.Concat(l.Ref, l.Hyp) {
			if got := tokens13a(text); !slices.Equal(got, strings.Fields(l.Tokens[i])) {
				t.Errorf("%q is %q", text, got)
			}
		}
	}
}

// ROUGE parts Slovene words at letters beyond a to z, its Unicode form does not.
func TestTextMetricsOfAFewRows(t *testing.T) {
	row := func(loss, hits, tokens float64, text string) []float64 {
		return append([]float64{loss, hits, tokens}, Points(text)...)
	}
	a := Answers{Form: Texts, Predicted: [][]float64{row(1, 2, 3, " čebela leti"), row(2, 0, 1, "žaba")},
		Actual: [][]float64{Target([]string{"ptica", "čebela leti"}), Target([]string{"čaba"})}}
	for name, want := range map[Name]float64{TokenAccuracy: 0.5, TokenProbability: math.Exp(-0.75), ExactMatch: 0.5,
		ROUGE1: 1, ROUGE1Unicode: 0.5, ROUGELUnicode: 0.5, ROUGE2Unicode: 0.5, ROUGELsumUnicode: 0.5} {
		if got := Score(name, a); math.Abs(got-want) > 1e-12 {
			t.Errorf("%s is %g, want %g", name, got, want)
		}
	}
	if got := References(Target([]string{"a b", "", "ž"})); !slices.Equal(got, []string{"a b", "", "ž"}) {
		t.Errorf("references %q", got)
	}
}
