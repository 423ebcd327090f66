package metric

import (
	"encoding/json"
	"math"
	"os"
	"strings"
	"testing"
)

var forms = map[string]Form{"classes": Classes, "values": Values, "sets": Sets, "tags": Tags}

func TestScoreEqualsReference(t *testing.T) {
	content, err := os.ReadFile("testdata/metrics.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Metric            Name
		Form              string
		Tags              []string
		Predicted, Actual [][]float64
		Score             float64
	}
	if err := json.Unmarshal(content, &cases); err != nil {
		t.Fatal(err)
	}
	seen := map[Name]int{}
	for i, c := range cases {
		a := Answers{forms[c.Form], c.Tags, c.Predicted, c.Actual}
		got := math.NaN()
		if _, ok := metrics[c.Metric]; ok {
			got = Score(c.Metric, a)
			if low, high := c.Metric.Range(); got < low || got > high {
				t.Errorf("case %d: %s is %g, its range is from %g to %g", i, c.Metric, got, low, high)
			}
			seen[c.Metric]++
		} else {
			got = EntityF1ByType(a)[string(c.Metric)]
			seen["of a type"]++
		}
		if !(math.Abs(got-c.Score) <= 1e-9) {
			t.Errorf("case %d: %s %v of %v: %.15g, want %.15g", i, c.Metric, c.Predicted, c.Actual, got, c.Score)
		}
	}
	for name := range metrics {
		if _, text := textMetrics[name]; seen[name] < 10 && !text { // text_test.go has their cases

			t.Errorf("%d cases for %s", seen[name], name)
		}
	}
	if seen["of a type"] < 10 {
		t.Errorf("%d cases of types", seen["of a type"])
	}
}

func TestScoreOfNaN(t *testing.T) {
	for name := range metrics {
		a := Answers{Predicted: [][]float64{{1}, {math.NaN()}, {0}}, Actual: [][]float64{{1}, {0}, {0}}}
		if _, text := textMetrics[name]; text {
			a = Answers{Form: Texts, Predicted: [][]float64{{math.NaN(), 0, 1}}, Actual: [][]float64{Target([]string{"a"})}}
		}
		if got := Score(name, a); !math.IsNaN(got) {
			t.Errorf("%s: %g", name, got)
		}
	}
}

// Every constant answer is at most as good as chance, and one of them is as good.
func TestChance(t *testing.T) {
	rows := func(values ...float64) (out [][]float64) {
		for _, v := range values {
			out = append(out, []float64{v})
		}
		return out
	}
	tags := []string{"O", "B-X", "I-X"}
	for _, test := range []struct {
		name Name
		a    Answers
		want float64
	}{
		{Accuracy, Answers{Form: Classes, Actual: rows(0, 0, 1, 0)}, 0.75},
		{F1, Answers{Form: Classes, Actual: rows(0, 0, 1, 0)}, 0.4},
		{F1Macro, Answers{Form: Classes, Actual: rows(0, 0, 1, 0)}, 3.0 / 7},
		{BalancedAccuracy, Answers{Form: Classes, Actual: rows(0, 0, 1, 2)}, 1.0 / 3},
		{MCC, Answers{Form: Classes, Actual: rows(0, 0, 1, 0)}, 0},
		{F1, Answers{Form: Classes, Actual: [][]float64{{0, 1}, {1}, {0}}}, 2.0 / 3},
		{Spearman, Answers{Form: Values, Actual: rows(1, 2, 4)}, 0},
		{NegRMSE, Answers{Form: Values, Actual: rows(1, 3)}, -1},
		{NegRAE, Answers{Form: Values, Actual: rows(0, 0, 3)}, -0.75},
		{Accuracy, Answers{Form: Sets, Actual: [][]float64{{1, 0}, {1, 0}, {1, 1}}}, 2.0 / 3},
		{F1Micro, Answers{Form: Sets, Actual: [][]float64{{1, 0}, {0, 1}}}, 2.0 / 3},
		{Accuracy, Answers{Form: Tags, Labels: tags, Actual: [][]float64{{0, 0, 1}}}, 2.0 / 3},
		{EntityF1, Answers{Form: Tags, Labels: tags, Actual: [][]float64{{0, 0}, {1, 0}}}, 0.4},
		{ExactMatch, Answers{Form: Texts, Actual: [][]float64{Target([]string{"a"}), Target([]string{"ž", "a"}),
			Target([]string{"ž"})}}, 2.0 / 3},
		{TokenAccuracy, Answers{Form: Texts, Actual: [][]float64{Target([]string{"a"})}}, 0},
		{TokenProbability, Answers{Form: Texts, Actual: [][]float64{Target([]string{"a"})}}, 0},
	} {
		if got := Chance(test.name, test.a); math.Abs(got-test.want) > 1e-12 {
			t.Errorf("%s of %v: %g, want %g", test.name, test.a.Actual, got, test.want)
		}
	}
}

// A sentence of many labels and rows is answered in time.
func TestChanceOfManyLabels(t *testing.T) {
	a := Answers{Form: Sets}
	for i := range 500 {
		row := make([]float64, 300)
		row[i%300], row[0] = 1, 1
		a.Actual = append(a.Actual, row)
	}
	if got := Chance(F1Micro, a); !(got > 0.6 && got < 0.7) {
		t.Errorf("%g", got)
	}
}

func TestEntitiesOfStrictTags(t *testing.T) {
	for tags, want := range map[string]int{"B-X I-X": 1, "O I-X": 0, "B-X I-Y": 1, "B-X B-X": 2, "I-X I-X": 0,
		"B-X O I-X": 1} {
		if got := entitiesOf(strings.Fields(tags), strict); len(got) != want {
			t.Errorf("%s: %v, want %d", tags, got, want)
		}
	}
}
