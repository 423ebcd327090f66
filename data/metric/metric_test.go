package metric

import (
	"encoding/json"
	"math"
	"os"
	"testing"
)

var all = []Name{Accuracy, F1, F1Macro, MCC, Pearson, Spearman}

func TestScoreEqualsReference(t *testing.T) {
	content, err := os.ReadFile("testdata/metrics.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Metric              Name
		Predictions, Labels []float64
		Score               float64
	}
	if err := json.Unmarshal(content, &cases); err != nil {
		t.Fatal(err)
	}
	seen := map[Name]int{}
	for i, c := range cases {
		seen[c.Metric]++
		if got := Score(c.Metric, c.Predictions, c.Labels); !(math.Abs(got-c.Score) <= 1e-9) {
			t.Errorf("case %d: %s %v of %v: %.15g, want %.15g", i, c.Metric, c.Predictions, c.Labels, got, c.Score)
		}
	}
	for _, name := range all {
		if seen[name] < 10 {
			t.Errorf("%d cases for %s", seen[name], name)
		}
	}
}

func TestScoreOfNaN(t *testing.T) {
	for _, name := range all {
		if got := Score(name, []float64{1, math.NaN(), 0}, []float64{1, 0, 0}); !math.IsNaN(got) {
			t.Errorf("%s: %g", name, got)
		}
	}
}
