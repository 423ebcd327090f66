package studies

import (
	"context"
	"math"
	"math/rand/v2"
	"testing"

	"peftsearch/evaluator"
)

// rowed is an evaluator that tells what its dev rows do to scores: 0.02 to all alike and 0.005 to each.
type rowed struct{ evaluator.Evaluator }

func (r rowed) Evaluate(ctx context.Context, job evaluator.Job,
	report func(evaluator.Progress) evaluator.Verdict) (evaluator.Result, error) {
	result, err := r.Evaluator.Evaluate(ctx, job, report)
	common, own := rand.New(rand.NewPCG(1, 0)), rand.New(rand.NewPCG(job.Seed, 2))
	for range evaluator.Resamples {
		result.Resampled = append(result.Resampled, result.Score+0.02*common.NormFloat64()+0.005*own.NormFloat64())
	}
	return result, err
}

// A front knows what rows and trainings do to its scores, and recommends a small plan that is hardly worse than the
// best; the same after the study was read again.
func TestAFrontIsAssessed(t *testing.T) {
	s, db := start(t, writeStudy(t, t.TempDir(), 25))
	if _, err := s.Run(t.Context(), func(context.Context, Loading) (evaluator.Evaluator, error) {
		return rowed{s.Analytic()}, nil
	}, RunOptions{}); err != nil {
		t.Fatal(err)
	}
	a, err := ReadAssessed(t.Context(), db, s.Record())
	if err != nil {
		t.Fatal(err)
	}
	r := a.Recommended
	if r == nil || r.AsGood < 0.2 || !(a.Noise() > 0 && a.Noise() < 0.1) {
		t.Fatalf("recommended %+v, noise %g", r, a.Noise())
	}
	for _, m := range a.Members {
		if sd := a.RowSD(m.Number); math.Abs(sd-0.0206) > 0.005 {
			t.Errorf("trial %d depends on the rows by %g", m.Number, sd)
		}
		mean, sd, ok := a.Expected(m.Number)
		if !ok || math.Abs(mean-m.Result.Score) > 6*sd+0.05 {
			t.Errorf("trial %d has %g and is expected to have %g ± %g", m.Number, m.Result.Score, mean, sd)
		}
	}
	if first := a.Members[0]; a.WithinNoise(first.Number) {
		t.Error("the first step of the front is within noise")
	}
	p := a.Compare(a.Members[0], a.Members[len(a.Members)-1])
	if math.Abs(p.RowSD-0.005*math.Sqrt2) > 0.002 || p.SD < p.RowSD || !(p.PValue >= 0 && p.PValue < 0.05) ||
		p.Difference >= 0 {
		t.Errorf("the ends of the front differ by %+v", p)
	}
	o, err := Watch(db, s.Record(), nil).Look(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if trial, ok := o.Recommend(); !ok || trial != r.Trial {
		t.Errorf("the overview recommends trial %d, the front %d", trial, r.Trial)
	}
}

func TestAStudyWithoutATrialIsNotAssessed(t *testing.T) {
	s, db := start(t, writeStudy(t, t.TempDir(), 3))
	a, err := ReadAssessed(t.Context(), db, s.Record())
	if err != nil || a.Recommended != nil || len(a.Members) != 0 {
		t.Errorf("%+v, %v", a, err)
	}
}
