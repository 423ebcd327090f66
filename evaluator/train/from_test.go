package train

import (
	"math"
	"path/filepath"
	"strings"
	"testing"

	"peftsearch/data/metric"
	"peftsearch/evaluator"
	"peftsearch/peft"
)

// A job that begins with a trained directory goes on from its scores, in the labels' units.
func TestTrainingGoesOnFromADirectory(t *testing.T) {
	s := openTiny(t, 0)
	job := upperLayer()
	job.Output, job.Test = filepath.Join(t.TempDir(), "first"), true
	first, err := s.Train(job, free())
	if err != nil {
		t.Fatal(err)
	}
	on := job
	on.From, on.Output = job.Output, filepath.Join(t.TempDir(), "on")
	on.Candidate.Training.LearningRate = 1e-9 // nothing moves
	on.Budget = evaluator.Budget{Epochs: 0.05, Rungs: []float64{1}}
	second, err := s.Train(on, free())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []metric.Name{metric.Spearman, metric.NegRMSE} {
		before, after := first.Test[string(name)], second.Test[string(name)]
		if math.Abs(before-after) > 1e-3 {
			t.Errorf("%s was %g, and is %g where training goes on", name, before, after)
		}
	}
	for _, dir := range []string{job.Output, on.Output} {
		trained, err := peft.ReadTrained(dir)
		if err != nil {
			t.Fatal(err)
		}
		ends, ok := trained.Metrics.Intervals["test"]
		score := trained.Metrics.Test[string(metric.Spearman)]
		if !ok || !(ends[0] < score && score < ends[1]) || trained.Info.DataFingerprint == "" {
			t.Errorf("the interval of the score %g is %v", score, ends)
		}
	}
	on.Candidate.Plan = peft.Plan{Layers: []peft.Layer{{}, {peft.Serial{Width: 16}}}}
	on.Output = ""
	if _, err := s.Train(on, free()); err == nil || !strings.Contains(err.Error(), "the job") {
		t.Errorf("a directory of another plan: %v", err)
	}
}
