package data

import (
	"encoding/json"
	"math"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestScoreEqualsReference(t *testing.T) {
	content, err := os.ReadFile("testdata/metrics.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Metric              Metric
		Predictions, Labels []float64
		Score               float64
	}
	if err := json.Unmarshal(content, &cases); err != nil {
		t.Fatal(err)
	}
	seen := map[Metric]int{}
	for i, c := range cases {
		seen[c.Metric]++
		if got := Score(c.Metric, c.Predictions, c.Labels); !(math.Abs(got-c.Score) <= 1e-9) {
			t.Errorf("case %d: %s %v of %v: %.15g, want %.15g", i, c.Metric, c.Predictions, c.Labels, got, c.Score)
		}
	}
	for _, metrics := range Metrics {
		for _, metric := range metrics {
			if seen[metric] < 10 {
				t.Errorf("%d cases for %s", seen[metric], metric)
			}
		}
	}
}

func TestScoreOfNaN(t *testing.T) {
	for _, metrics := range Metrics {
		for _, metric := range metrics {
			if got := Score(metric, []float64{1, math.NaN(), 0}, []float64{1, 0, 0}); !math.IsNaN(got) {
				t.Errorf("%s: %g", metric, got)
			}
		}
	}
}

func TestScoreAll(t *testing.T) {
	predictions, labels := []float64{0, 1, 1, 0}, []float64{0, 1, 0, 0}
	for _, test := range []struct {
		kind    Kind
		classes int
		want    []Metric
	}{
		{KindClassification, 2, []Metric{MetricAccuracy, MetricF1, MetricF1Macro, MetricMCC}},
		{KindClassification, 3, []Metric{MetricAccuracy, MetricF1Macro, MetricMCC}},
		{KindRegression, 0, []Metric{MetricSpearman, MetricPearson}},
	} {
		want := map[string]float64{}
		for _, metric := range test.want {
			want[string(metric)] = Score(metric, predictions, labels)
		}
		if diff := cmp.Diff(want, ScoreAll(test.kind, test.classes, predictions, labels)); diff != "" {
			t.Errorf("%s with %d classes (-want +got)\n%s", test.kind, test.classes, diff)
		}
	}
}
