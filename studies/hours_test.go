package studies

import (
	"context"
	"testing"
	"time"

	"peftsearch/evaluator"
)

// slow gives an evaluator's results the time of a long training.
type slow struct {
	evaluator.Evaluator
	seconds float64
}

func (s slow) Evaluate(ctx context.Context, job evaluator.Job,
	report func(evaluator.Progress) evaluator.Verdict) (evaluator.Result, error) {
	result, err := s.Evaluator.Evaluate(ctx, job, report)
	result.WallS = s.seconds
	return result, err
}

// A budget of hours ends with the training that comes nearest to it, whatever was interrupted in between, and
// replicates are a share of the time.
func TestABudgetOfHours(t *testing.T) {
	path := writeStudy(t, t.TempDir(), 1)
	edit(t, path, "trials: 1", "hours: 2", "sampler: tpe", "sampler: gp", "seed: 11", "replicates: 0.25, seed: 11")
	const minutes = 9
	drain := make(chan struct{})
	for part := range 2 {
		study, _ := start(t, path)
		ended := 0
		status, err := study.Run(t.Context(), func(context.Context, Loading) (evaluator.Evaluator, error) {
			return slow{study.Analytic(), 60 * minutes}, nil
		}, RunOptions{Drain: drain, Events: func(e Event) {
			if e.Kind == EventFinished {
				if ended++; part == 0 && ended == 5 {
					close(drain)
				}
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		if part == 0 {
			drain = nil
			if status.Used != 45*time.Minute || status.Remaining != 75*time.Minute || status.Over() {
				t.Errorf("after 5 trainings of 9 minutes: %+v", status)
			}
			continue
		}
		if status.Done() != 13 || status.Used != 117*time.Minute || status.Remaining != 3*time.Minute {
			t.Errorf("%d trainings of 9 minutes in 2 hours: %+v", status.Done(), status)
		}
		if status.Beside < 1 || status.Beside > 3 {
			t.Errorf("%d replicates in the last quarter", status.Beside)
		}
	}
}
