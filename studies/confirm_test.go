package studies

import (
	"context"
	"errors"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"peftsearch/evaluator"
	"peftsearch/studies/store"
)

// counting counts evaluations, and fails those that fails names.
type counting struct {
	evaluator.Evaluator
	n     *int
	fails func(job evaluator.Job) error
}

func (c counting) Evaluate(ctx context.Context, job evaluator.Job,
	report func(evaluator.Progress) evaluator.Verdict) (evaluator.Result, error) {
	*c.n++
	if c.fails != nil {
		if err := c.fails(job); err != nil {
			return evaluator.Result{}, err
		}
	}
	return c.Evaluator.Evaluate(ctx, job, report)
}

// confirm confirms with one worker and returns how many trainings were started.
func confirm(ctx context.Context, study *Study, candidates []evaluator.Candidate, seeds int,
	fails func(evaluator.Job) error, options ConfirmOptions) (int, error) {
	n := 0
	err := study.Confirm(ctx, func(context.Context, Loading) (evaluator.Evaluator, error) {
		return counting{study.Analytic(), &n, fails}, nil
	}, candidates, seeds, options)
	return n, err
}

func confirmations(t *testing.T, study *Study) Confirmations {
	t.Helper()
	all, err := Confirmed(context.Background(), study.db, study.record)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func seedsOf(c *Confirmation) []uint64 {
	var seeds []uint64
	for _, t := range c.Trainings {
		seeds = append(seeds, t.Seed)
	}
	return seeds
}

func TestConfirmTrainsInFullAndStores(t *testing.T) {
	path := writeStudy(t, t.TempDir(), 3)
	study, _ := start(t, path)
	trials := mustRun(t, study)
	full := study.FullFineTuning(5e-5)
	candidates := []evaluator.Candidate{trials[1].Candidate, preset(t, study, "mam"), full}
	ctx := context.Background()
	var last ConfirmEvent
	n, err := confirm(ctx, study, candidates, 3, func(job evaluator.Job) error {
		if !job.Test || job.Budget.Epochs != 10 || job.Budget.TrainRows != 0 || job.Output != "" {
			t.Errorf("job %+v", job)
		}
		return nil
	}, ConfirmOptions{Events: func(e ConfirmEvent) { last = e }})
	if err != nil || n != 9 {
		t.Fatalf("%d trainings, %v", n, err)
	}
	if last.Kind != EventFinished || last.Done != 9 || last.Total != 9 {
		t.Errorf("the last event is %+v", last)
	}
	if n, err := confirm(ctx, study, candidates, 3, nil, ConfirmOptions{}); err != nil || n != 0 {
		t.Errorf("again: %d trainings, %v", n, err)
	}
	if n, err := confirm(ctx, study, candidates[1:], 5, nil, ConfirmOptions{}); err != nil || n != 4 {
		t.Errorf("two more seeds of two plans: %d trainings, %v", n, err)
	}

	reopened, _ := start(t, path)
	all := confirmations(t, reopened)
	if len(all) != 3 {
		t.Fatalf("%d candidates", len(all))
	}
	if diff := cmp.Diff([]uint64{40, 41, 42}, seedsOf(all.Of(trials[1].Candidate))); diff != "" {
		t.Error(diff)
	}
	confirmed := all.Of(full)
	if diff := cmp.Diff([]uint64{40, 41, 42, 43, 44}, seedsOf(confirmed)); diff != "" {
		t.Error(diff)
	}
	if confirmed.Params != study.record.Geometry.BackboneParams {
		t.Errorf("full fine-tuning trains %d parameters", confirmed.Params)
	}
	var sum float64
	for _, training := range confirmed.Trainings {
		sum += training.Result.Test["accuracy"]
	}
	if s := confirmed.Test; s.N != 5 || math.Abs(s.Mean-sum/5) > 1e-15 || !(s.SD > 0) {
		t.Errorf("sample %+v", s)
	}
	if all.Of(preset(t, study, "prefix-30")) != nil {
		t.Error("a plan is confirmed that was not trained")
	}
	if diff := cmp.Diff(trials, trialsOf(t, study)); diff != "" {
		t.Errorf("confirming changed the trials:\n%s", diff)
	}
}

func TestConfirmIsContinuedByTheSameCall(t *testing.T) {
	whole, _ := start(t, writeStudy(t, t.TempDir(), 3))
	candidatesOf := func(s *Study) []evaluator.Candidate {
		return []evaluator.Candidate{preset(t, s, "mam"), preset(t, s, "lora-r8")}
	}
	ctx := context.Background()
	if _, err := confirm(ctx, whole, candidatesOf(whole), 4, nil, ConfirmOptions{}); err != nil {
		t.Fatal(err)
	}
	study, _ := start(t, writeStudy(t, t.TempDir(), 3))
	cancelled, cancel := context.WithCancel(ctx)
	defer cancel()
	n, err := confirm(cancelled, study, candidatesOf(study), 4, func(job evaluator.Job) error {
		if job.Trial == 3 {
			cancel()
			return cancelled.Err()
		}
		return nil
	}, ConfirmOptions{})
	if !errors.Is(err, context.Canceled) || n != 4 {
		t.Fatalf("cancelled: %d trainings, %v", n, err)
	}
	drain := make(chan struct{})
	n, err = confirm(ctx, study, candidatesOf(study), 4, nil, ConfirmOptions{Drain: drain, Events: func(e ConfirmEvent) {
		if e.Kind == EventStarted && e.Done == 4 {
			close(drain)
		}
	}})
	if err != nil || n != 2 {
		t.Fatalf("drained: %d trainings, %v", n, err)
	}
	if n, err = confirm(ctx, study, candidatesOf(study), 4, nil, ConfirmOptions{}); err != nil || n != 3 {
		t.Fatalf("continued: %d trainings, %v", n, err)
	}
	if diff := cmp.Diff(confirmations(t, whole), confirmations(t, study)); diff != "" {
		t.Errorf("interrupted and uninterrupted confirmations differ:\n%s", diff)
	}
}

func TestConfirmWithSeveralWorkers(t *testing.T) {
	one, _ := start(t, writeStudy(t, t.TempDir(), 3))
	path := writeStudy(t, t.TempDir(), 3)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(content), "{analytic: true}",
		"{analytic: true, workers: 3}", 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	three, _ := start(t, path)
	for _, study := range []*Study{one, three} {
		candidates := []evaluator.Candidate{preset(t, study, "mam"),
			preset(t, study, "lora-r8")}
		if err := study.Confirm(context.Background(), func(context.Context, Loading) (evaluator.Evaluator, error) {
			return study.Analytic(), nil
		},
			candidates, 4, ConfirmOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	want, got := confirmations(t, one), confirmations(t, three)
	for _, confirmation := range want {
		if diff := cmp.Diff(confirmation, got.Of(confirmation.Candidate)); diff != "" {
			t.Errorf("with three workers:\n%s", diff)
		}
	}
}

func TestFailedTrainingsAreTriedAgain(t *testing.T) {
	study, _ := start(t, writeStudy(t, t.TempDir(), 3))
	candidates := []evaluator.Candidate{preset(t, study, "mam")}
	n, err := confirm(context.Background(), study, candidates, 3, func(job evaluator.Job) error {
		if job.Seed == 41 {
			return &evaluator.Failure{Kind: evaluator.FailureDiverged, Message: "the loss is NaN"}
		}
		return nil
	}, ConfirmOptions{})
	var failed *ConfirmError
	if !errors.As(err, &failed) || failed.Failed != 1 || failed.Total != 3 || n != 3 ||
		!strings.Contains(err.Error(), "the loss is NaN") {
		t.Fatalf("%d trainings, %v", n, err)
	}
	if diff := cmp.Diff([]uint64{40, 42}, seedsOf(confirmations(t, study)[0])); diff != "" {
		t.Error(diff)
	}
	if n, err := confirm(context.Background(), study, candidates, 3, nil, ConfirmOptions{}); err != nil || n != 1 {
		t.Errorf("again: %d trainings, %v", n, err)
	}
}

func TestConfirmNeedsTestScores(t *testing.T) {
	path := writeStudy(t, t.TempDir(), 3)
	study, _ := start(t, path)
	candidates := []evaluator.Candidate{preset(t, study, "mam")}
	err := study.Confirm(context.Background(), func(context.Context, Loading) (evaluator.Evaluator, error) {
		return &evaluator.Analytic{Geometry: study.inputs.Geometry, Metric: "mcc"}, nil
	}, candidates, 1, ConfirmOptions{})
	if err == nil || !strings.Contains(err.Error(), "no finite test score in accuracy") {
		t.Errorf("%v", err)
	}
	study.inputs.Splits.Test.Rows = 0
	if _, err := confirm(context.Background(), study, candidates, 1, nil, ConfirmOptions{}); !errors.Is(err,
		ErrNoTestRows) {
		t.Errorf("%v", err)
	}
}

// Full trainings of different budgets are never taken together.
func TestConfirmationsUnderOtherConditions(t *testing.T) {
	path := writeStudy(t, t.TempDir(), 3)
	study, _ := start(t, path)
	candidates := []evaluator.Candidate{mustRun(t, study)[1].Candidate}
	ctx := context.Background()
	// As an earlier version has stored it, which always had the study file at the start.
	old := store.Training{Candidate: candidates[0], Seed: 40,
		Result: evaluator.Result{BestStep: 1, Steps: 1, Test: map[string]float64{"accuracy": 0.125}}}
	if err := study.db.AddTraining(ctx, study.record, old); err != nil {
		t.Fatal(err)
	}
	if n, err := confirm(ctx, study, candidates, 2, nil, ConfirmOptions{}); err != nil || n != 1 {
		t.Fatalf("%d trainings beside the old one, %v", n, err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(content), "budget:", "budget:\n  train: {epochs: 2}", 1)),
		0o644); err != nil {
		t.Fatal(err)
	}
	changed, _ := start(t, path)
	if shown := confirmations(t, changed); len(shown) != 1 || shown[0].Test.N != 2 {
		t.Errorf("as long as there are no others: %+v", shown)
	}
	if n, err := confirm(ctx, changed, candidates, 1, func(job evaluator.Job) error {
		if job.Budget.Epochs != 2 {
			t.Errorf("budget %+v", job.Budget)
		}
		return nil
	}, ConfirmOptions{}); err != nil || n != 1 {
		t.Fatalf("%d trainings with another budget, %v", n, err)
	}
	if shown := confirmations(t, changed); len(shown) != 1 || shown[0].Test.N != 1 {
		t.Errorf("with another budget: %+v", shown)
	}
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
	back, _ := start(t, path)
	if n, err := confirm(ctx, back, candidates, 2, nil, ConfirmOptions{}); err != nil || n != 0 {
		t.Errorf("back to the first: %d trainings, %v", n, err)
	}
}
