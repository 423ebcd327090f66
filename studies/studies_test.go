package studies

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"peftsearch/evaluator"
	"peftsearch/search"
	"peftsearch/studies/config"
	"peftsearch/studies/store"
)

const studyFile = `study: trial-run
model:
  path: %s
task:
  kind: classification
  train: train.tsv
  columns: {text: text, label: label}
  dev_share: 0.3
search: {seed: 11, initial: 4, sampler: tpe}
budget:
  trials: %d
evaluator: {analytic: true}
`

// writeStudy writes a study file on a real two-layer BERT, and its data.
func writeStudy(t testing.TB, dir string, trials int) string {
	t.Helper()
	model, err := filepath.Abs("../models/bert-tiny")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(model); err != nil {
		t.Skip("models/bert-tiny is not there: make models/bert-tiny fetches it")
	}
	var rows strings.Builder
	rows.WriteString("text\tlabel\n")
	for i := range 40 {
		fmt.Fprintf(&rows, "sentence number %d\t%s\n", i, []string{"no", "yes"}[i%2])
	}
	path := filepath.Join(dir, "study.yaml")
	for name, content := range map[string]string{path: fmt.Sprintf(studyFile, model, trials),
		filepath.Join(dir, "train.tsv"): rows.String()} {
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// start opens the study of a file in a database beside it.
func start(t testing.TB, path string) (*Study, *store.Store) {
	t.Helper()
	return startFrom(t, path, "")
}

// startFrom is start for a study that learns from another one of the database.
func startFrom(t testing.TB, path, other string) (*Study, *store.Store) {
	t.Helper()
	file, err := config.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	inputs, err := file.Open()
	if err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(database(t, path))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	study, err := StartFrom(context.Background(), db, file, inputs, other)
	if err != nil {
		t.Fatal(err)
	}
	return study, db
}

// run runs a study to its budget with an evaluator of the given kind.
func run(t testing.TB, study *Study, options RunOptions) (Status, error) {
	t.Helper()
	return study.Run(context.Background(), func(context.Context, Loading) (evaluator.Evaluator, error) {
		return study.Analytic(), nil
	}, options)
}

func mustRun(t testing.TB, study *Study) []store.Trial {
	t.Helper()
	if _, err := run(t, study, RunOptions{}); err != nil {
		t.Fatal(err)
	}
	return trialsOf(t, study)
}

func trialsOf(t testing.TB, study *Study) []store.Trial {
	t.Helper()
	trials, err := study.db.Trials(context.Background(), study.record)
	if err != nil {
		t.Fatal(err)
	}
	return trials
}

// ignoreTimes compares trials by what they are, not by when or how often they ran.
var ignoreTimes = cmp.Options{cmpopts.IgnoreFields(store.Trial{}, "Process", "Created", "Started", "Finished",
	"Attempts", "Crashes"), cmpopts.IgnoreFields(evaluator.Result{}, "WallS", "PeakB")}

func setTrials(t testing.TB, path string, trials int) {
	t.Helper()
	writeStudy(t, filepath.Dir(path), trials)
}

func TestTwiceHalfIsTheWhole(t *testing.T) {
	whole, _ := start(t, writeStudy(t, t.TempDir(), 30))
	want := mustRun(t, whole)

	path := writeStudy(t, t.TempDir(), 15)
	first, _ := start(t, path)
	mustRun(t, first)
	setTrials(t, path, 30)
	second, db := start(t, path)
	if !second.Continued() {
		t.Error("the study is not continued")
	}
	if diff := cmp.Diff(want, mustRun(t, second), ignoreTimes); diff != "" {
		t.Errorf("30 trials and 15 + 15 differ:\n%s", diff)
	}
	volumes, err := db.Fronts(context.Background(), second.record, 1, -1)
	if err != nil {
		t.Fatal(err)
	}
	if len(volumes) != 30 {
		t.Errorf("%d fronts are stored for 30 trials", len(volumes))
	}
	front := FrontOf(want, second.record.Reference)
	if last := volumes[len(volumes)-1]; last.Hypervolume != front.Hypervolume || len(last.Members) != len(front.Members) {
		t.Errorf("the last stored front is %+v, computed: %g with %d members", last, front.Hypervolume, len(front.Members))
	}
	if want[0].Origin != "baseline:head" || want[0].Params != 0 {
		t.Errorf("trial 0 is %s with %d parameters", want[0].Origin, want[0].Params)
	}
	keys := map[string]bool{}
	for _, trial := range want {
		keys[trial.Candidate.Plan.Key()] = true
	}
	if len(keys) != 30 {
		t.Errorf("only %d different plans", len(keys))
	}
}

func TestPruningIsRecordedAndReplayed(t *testing.T) {
	prune := func(trials int) string {
		path := writeStudy(t, t.TempDir(), trials)
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		content = []byte(strings.Replace(string(content), "initial: 4", "pruner: front, initial: 4", 1))
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	whole, db := start(t, prune(60))
	want := mustRun(t, whole)
	pruned := 0
	for _, trial := range want {
		if trial.State != store.Pruned {
			continue
		}
		pruned++
		if trial.Result.Steps >= 300 || !strings.Contains(trial.Result.Stopped, "hypervolume would grow by") {
			t.Errorf("trial %d was pruned after %d steps: %q", trial.Number, trial.Result.Steps, trial.Result.Stopped)
		}
		if trial.Forecast.Score < trial.Result.Score || trial.Forecast.SD <= 0 {
			t.Errorf("trial %d has %g and is predicted to end at %g ± %g", trial.Number, trial.Result.Score,
				trial.Forecast.Score, trial.Forecast.SD)
		}
	}
	if pruned == 0 {
		t.Fatal("no trial was pruned")
	}
	front := FrontOf(want, whole.record.Reference)
	for _, m := range front.Members {
		if m.State != store.Complete {
			t.Errorf("trial %d is on the front and %s", m.Number, m.State)
		}
	}
	if volumes, err := db.Fronts(context.Background(), whole.record, 1, -1); err != nil || len(volumes) != 60-pruned {
		t.Errorf("%d fronts for %d complete trials, %v", len(volumes), 60-pruned, err)
	}

	path := prune(30)
	first, _ := start(t, path)
	mustRun(t, first)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(content), "trials: 30", "trials: 60", 1)),
		0o644); err != nil {
		t.Fatal(err)
	}
	second, _ := start(t, path)
	if diff := cmp.Diff(want, mustRun(t, second), ignoreTimes); diff != "" {
		t.Errorf("60 trials and 30 + 30 differ with pruning:\n%s", diff)
	}
}

// A study that starts from another one continues as it began, though the other has gone on since.
func TestWarmStartIsKept(t *testing.T) {
	path := writeStudy(t, t.TempDir(), 20)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	open := func(name string, trials int, from string) *Study {
		text := strings.NewReplacer("study: trial-run", "study: "+name, "trials: 20", fmt.Sprintf("trials: %d", trials),
			"sampler: tpe", "sampler: gp").Replace(string(content))
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		study, _ := startFrom(t, path, from)
		return study
	}
	mustRun(t, open("source", 12, ""))
	want := mustRun(t, open("whole", 12, "source"))
	mustRun(t, open("halves", 6, "source"))
	mustRun(t, open("source", 20, ""))
	if diff := cmp.Diff(want, mustRun(t, open("halves", 12, "")), ignoreTimes); diff != "" {
		t.Errorf("12 trials and 6 + 6 differ after a warm start:\n%s", diff)
	}
	if cmp.Equal(want, mustRun(t, open("cold", 12, "")), ignoreTimes) {
		t.Error("the warm start changes nothing")
	}
}

func TestTrialsKeepTheirCurves(t *testing.T) {
	study, db := start(t, writeStudy(t, t.TempDir(), 2))
	mustRun(t, study)
	trial, err := db.Trial(context.Background(), study.record, 1)
	if err != nil {
		t.Fatal(err)
	}
	if len(trial.Curve) != 4 || trial.Curve[3].Score != trial.Result.Score {
		t.Errorf("curve %+v of a trial with score %g", trial.Curve, trial.Result.Score)
	}
	if _, err := db.Trial(context.Background(), study.record, 99); !errors.Is(err, store.ErrNoTrial) {
		t.Errorf("trial 99: %v", err)
	}
}

// failing fails the trials that fails names, in the way it says.
type failing struct {
	evaluator.Evaluator
	fails func(job evaluator.Job) error
}

func (f failing) Evaluate(ctx context.Context, job evaluator.Job,
	report func(evaluator.Progress) evaluator.Verdict) (evaluator.Result, error) {
	if err := f.fails(job); err != nil {
		return evaluator.Result{}, err
	}
	return f.Evaluator.Evaluate(ctx, job, report)
}

func runFailing(t *testing.T, study *Study, fails func(job evaluator.Job) error) (Status, error) {
	t.Helper()
	return study.Run(context.Background(), func(context.Context, Loading) (evaluator.Evaluator, error) {
		return failing{study.Analytic(), fails}, nil
	}, RunOptions{})
}

func TestFailuresAreOutcomes(t *testing.T) {
	study, _ := start(t, writeStudy(t, t.TempDir(), 12))
	crashes := 0
	status, err := runFailing(t, study, func(job evaluator.Job) error {
		switch job.Trial {
		case 2:
			return &evaluator.Failure{Kind: evaluator.FailureDiverged, Message: "the loss is NaN"}
		case 8:
			return &evaluator.Failure{Kind: evaluator.FailureProtocol, Message: "garbage"}
		case 3: // once
			if crashes++; crashes == 1 {
				return &evaluator.Failure{Kind: evaluator.FailureCrashed, Message: "killed"}
			}
		case 9: // always
			return &evaluator.Failure{Kind: evaluator.FailureCrashed, Message: "killed"}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if status.Failed != 3 || status.Complete != 9 {
		t.Errorf("%d failed, %d complete", status.Failed, status.Complete)
	}
	trials := trialsOf(t, study)
	if f := trials[2].Failure; trials[2].State != store.Failed || f == nil || f.Kind != evaluator.FailureDiverged ||
		f.Message != "the loss is NaN" {
		t.Errorf("trial 2: %s, %v", trials[2].State, f)
	}
	if f := trials[8].Failure; trials[8].State != store.Failed || f == nil || f.Message != "garbage" ||
		trials[8].Attempts != 1 {
		t.Errorf("trial 8: %s after %d attempts, %v", trials[8].State, trials[8].Attempts, f)
	}
	if trials[3].State != store.Complete || trials[3].Attempts != 2 {
		t.Errorf("trial 3: %s after %d attempts", trials[3].State, trials[3].Attempts)
	}
	if trials[9].State != store.Failed || trials[9].Attempts != maxCrashes ||
		!strings.HasPrefix(trials[9].Failure.Message, "killed (attempt 3") {
		t.Errorf("trial 9: %s after %d attempts, %v", trials[9].State, trials[9].Attempts, trials[9].Failure)
	}
}

func TestTooManyFailuresEndTheRun(t *testing.T) {
	study, _ := start(t, writeStudy(t, t.TempDir(), 30))
	status, err := runFailing(t, study, func(job evaluator.Job) error {
		if job.Trial > 1 {
			return &evaluator.Failure{Kind: evaluator.FailureOutOfMemory, Message: "no memory"}
		}
		return nil
	})
	if !errors.Is(err, ErrTooManyFailures) || status.Finished() != 5 {
		t.Errorf("%v after %d trials", err, status.Finished())
	}
}

func TestNoUsableTrial(t *testing.T) {
	study, _ := start(t, writeStudy(t, t.TempDir(), 3))
	if _, err := runFailing(t, study, func(evaluator.Job) error {
		return &evaluator.Failure{Kind: evaluator.FailureInternal, Message: "no"}
	}); !errors.Is(err, ErrNoUsableTrial) {
		t.Errorf("the error is %v", err)
	}
}

func TestABrokenEvaluatorEndsTheRunAndReturnsTheTrial(t *testing.T) {
	study, _ := start(t, writeStudy(t, t.TempDir(), 3))
	broken := errors.New("no libtorch")
	if _, err := study.Run(context.Background(), func(context.Context, Loading) (evaluator.Evaluator, error) {
		return nil, broken
	}, RunOptions{}); !errors.Is(err, broken) {
		t.Errorf("the error is %v", err)
	}
	if trials := trialsOf(t, study); len(trials) != 1 || trials[0].State != store.Waiting {
		t.Errorf("trials %+v", trials)
	}
}

func TestDrainAndCancel(t *testing.T) {
	study, _ := start(t, writeStudy(t, t.TempDir(), 20))
	drain := make(chan struct{})
	status, err := run(t, study, RunOptions{Drain: drain, Events: func(e Event) {
		if e.Kind == EventStarted && e.Trial.Number == 4 {
			close(drain)
		}
	}})
	if err != nil || status.Complete != 5 || status.Running != 0 {
		t.Errorf("drained: %+v, %v", status, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	slow := &evaluator.Analytic{Geometry: study.inputs.Geometry, Noise: 0.005, Metric: "accuracy",
		Delay: 20 * time.Millisecond}
	_, err = study.Run(ctx, func(context.Context, Loading) (evaluator.Evaluator, error) { return slow, nil },
		RunOptions{Events: func(e Event) {
			if e.Kind == EventProgress && e.Trial.Number == 7 {
				cancel()
			}
		}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	trials := trialsOf(t, study)
	if len(trials) != 8 || trials[7].State != store.Waiting || trials[6].State != store.Complete {
		t.Errorf("after the cancellation trial 7 is %s", trials[7].State)
	}
	whole, _ := start(t, writeStudy(t, t.TempDir(), 20))
	if diff := cmp.Diff(mustRun(t, whole), mustRun(t, study), ignoreTimes); diff != "" {
		t.Errorf("interrupted and uninterrupted studies differ:\n%s", diff)
	}
}

func TestViewersReadWhileAWriterWrites(t *testing.T) {
	path := writeStudy(t, t.TempDir(), 12)
	study, _ := start(t, path)
	viewer, err := store.View(database(t, path))
	if err != nil {
		t.Fatal(err)
	}
	defer viewer.Close()
	seen := 0
	if _, err := run(t, study, RunOptions{Events: func(e Event) {
		record, err := viewer.Study(context.Background(), "trial-run")
		if err != nil {
			t.Error(err)
			return
		}
		trials, err := viewer.Trials(context.Background(), record)
		if err != nil {
			t.Error(err)
		}
		seen = max(seen, len(trials))
	}}); err != nil {
		t.Fatal(err)
	}
	if seen != 12 {
		t.Errorf("the viewer saw %d trials", seen)
	}
}

func TestTheSpaceMayRunOut(t *testing.T) {
	path := writeStudy(t, t.TempDir(), 50)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	small := strings.Replace(string(content), "search:",
		"space: {preset: groups, groups: 1, serial: [0, 4], parallel: [], prefix: [0, 1], lora: {ranks: []}}\nsearch:", 1)
	if err := os.WriteFile(path, []byte(small), 0o644); err != nil {
		t.Fatal(err)
	}
	study, _ := start(t, path)
	status, err := run(t, study, RunOptions{})
	if !errors.Is(err, search.ErrExhausted) || status.Complete != 4 { // head only and three plans
		t.Errorf("%v after %d trials", err, status.Complete)
	}
}

// Where no plan can improve on the best constant there is nothing to search: nothing is stored.
func TestAScaleThatMeansNothingIsRefused(t *testing.T) {
	dir := t.TempDir()
	file, err := config.Read(writeStudy(t, dir, 3))
	if err != nil {
		t.Fatal(err)
	}
	inputs, err := file.Open()
	if err != nil {
		t.Fatal(err)
	}
	for i := range inputs.Dataset.Dev {
		inputs.Dataset.Dev[i].Target = []float64{1}
	}
	db, err := store.Open(database(t, file.File()))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var mistake *config.Error
	if _, err := Start(context.Background(), db, file, inputs); !errors.As(err, &mistake) ||
		!strings.Contains(err.Error(), "chance level is 1") {
		t.Errorf("error %v", err)
	}
	if _, err := db.Study(context.Background(), file.Study); !errors.Is(err, store.ErrNoStudy) {
		t.Errorf("the study is stored: %v", err)
	}
}
