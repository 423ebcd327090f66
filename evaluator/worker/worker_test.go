package worker_test

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"peftsearch/data"
	"peftsearch/data/metric"
	"peftsearch/evaluator"
	"peftsearch/evaluator/evaluatortest"
	"peftsearch/evaluator/worker"
	"peftsearch/peft"
)

// TestMain makes the test binary double as the worker program.
func TestMain(m *testing.M) {
	if os.Getenv("PEFTSEARCH_TEST_WORKER") != "" {
		if err := worker.Serve(os.Stdin, os.Stdout); err != nil {
			panic(err)
		}
		return
	}
	os.Exit(m.Run())
}

const root = "../.."

func hello(t *testing.T) evaluator.Hello {
	t.Helper()
	model := filepath.Join(root, "models", "bert-tiny")
	if _, err := os.Stat(model); err != nil {
		t.Skip("models/bert-tiny is not there: make models/bert-tiny fetches it")
	}
	stsb := filepath.Join(root, "examples", "data", "stsb")
	return evaluator.Hello{Model: model, Head: evaluator.HeadLinear,
		Task: data.Task{Kind: data.KindRegression, Metric: metric.Spearman, MaxLength: 64,
			Train: filepath.Join(stsb, "train.tsv"), Dev: filepath.Join(stsb, "dev.tsv"), Test: filepath.Join(stsb, "test.tsv"),
			Columns: data.Columns{Text: "sentence1", TextPair: "sentence2", Label: "score"}},
		Settings: evaluator.Settings{Device: "cpu", Precision: "float32", Threads: 1, CacheMemory: 1 << 30}}
}

func open(t *testing.T, hello evaluator.Hello) (*evaluator.Process, error) {
	t.Helper()
	t.Setenv("PEFTSEARCH_TEST_WORKER", "1")
	p, err := evaluator.NewProcess(context.Background(), evaluator.ProcessOptions{Command: []string{os.Args[0]},
		Hello: hello, Log: os.Stderr})
	if err == nil {
		t.Cleanup(func() { p.Close() })
	}
	return p, err
}

func job() evaluator.Job {
	return evaluator.Job{Trial: 3, Seed: 5, Test: true,
		Candidate: evaluator.Candidate{
			Plan: peft.Plan{Layers: []peft.Layer{{}, {peft.Serial{Width: 8}, peft.Prefix{Length: 2},
				peft.LoRA{Rank: 2, Alpha: 2, Targets: []peft.Target{peft.TargetQuery}}}}},
			Training: evaluator.Training{LearningRate: 1e-3, Schedule: evaluator.ScheduleLinear, WarmupRatio: 0.1,
				BatchSize: 16}},
		Budget: evaluator.Budget{Epochs: 1, TrainRows: 960, Rungs: []float64{0.3, 0.6, 1}}}
}

func TestWorkerConforms(t *testing.T) {
	h := hello(t)
	evaluatortest.Run(t, func(t *testing.T) evaluator.Evaluator {
		p, err := open(t, h)
		if err != nil {
			t.Fatal(err)
		}
		if r := p.Ready(); r.Geometry.Layers != 2 || r.Geometry.Hidden != 128 || r.Precision != "float32" ||
			r.Fingerprint.Data == "" {
			t.Errorf("ready %+v", r)
		}
		return p
	}, job())
}

// The counts of truncated rows are those of transformers' tokenizer.
func TestReadyDescribesTheTask(t *testing.T) {
	p, err := open(t, hello(t))
	if err != nil {
		t.Fatal(err)
	}
	want := evaluator.Splits{Train: evaluator.Split{Rows: 5749, Truncated: 195},
		Dev:  evaluator.Split{Rows: 1500, Truncated: 43},
		Test: evaluator.Split{Rows: 1379, Truncated: 47}}
	if r := p.Ready(); r.Splits != want || !r.Waits() || *r.Metric != (evaluator.Metric{Name: metric.Spearman, Low: -1,
		High: 1}) {
		t.Errorf("splits %+v, metric %+v", r.Splits, r.Metric)
	}
}

// Rows go to the worker in several requests, and have the predictions that they have alone.
func TestPredictions(t *testing.T) {
	h := hello(t)
	p, err := open(t, h)
	if err != nil {
		t.Fatal(err)
	}
	trained := job()
	trained.Output = filepath.Join(t.TempDir(), "trained")
	trained.Budget.TrainRows = 160
	if _, err := p.Evaluate(context.Background(), trained,
		func(evaluator.Progress) evaluator.Verdict { return evaluator.Verdict{} }); err != nil {
		t.Fatal(err)
	}
	rows, err := h.Task.ReadRows(h.Task.Dev)
	if err != nil {
		t.Fatal(err)
	}
	rows = rows[:600]
	all, err := p.Predict(context.Background(), trained.Output, rows)
	if err != nil || len(all) != len(rows) {
		t.Fatalf("%d predictions: %v", len(all), err)
	}
	for _, i := range []int{0, 255, 256, 599} {
		alone, err := p.Predict(context.Background(), trained.Output, rows[i:i+1])
		if err != nil || math.Abs(alone[0].Logits[0]-all[i].Logits[0]) > 1e-4 {
			t.Errorf("row %d alone: %+v (%v), among others %+v", i, alone, err, all[i])
		}
	}
	if _, err := p.Predict(context.Background(), "no/such/directory", rows[:1]); err == nil ||
		!strings.Contains(err.Error(), "no/such/directory") {
		t.Errorf("a directory that is not there: %v", err)
	}
}

func TestKilledWorkerLosesOneJob(t *testing.T) {
	p, err := open(t, hello(t))
	if err != nil {
		t.Fatal(err)
	}
	goOn := func(evaluator.Progress) evaluator.Verdict { return evaluator.Verdict{} }
	want, err := p.Evaluate(context.Background(), job(), goOn)
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.Evaluate(context.Background(), job(), func(evaluator.Progress) evaluator.Verdict {
		syscall.Kill(p.Pid(), syscall.SIGKILL)
		return evaluator.Verdict{}
	})
	var failure *evaluator.Failure
	if !errors.As(err, &failure) || failure.Kind != evaluator.FailureCrashed {
		t.Fatalf("the error is %v", err)
	}
	got, err := p.Evaluate(context.Background(), job(), goOn)
	if err != nil || got.Score != want.Score {
		t.Errorf("after the crash the job gives %g (%v), before it %g", got.Score, err, want.Score)
	}
}

func TestHellosThatCannotBeServed(t *testing.T) {
	for name, test := range map[string]struct {
		change func(h *evaluator.Hello)
		words  string
	}{
		"no model":      {func(h *evaluator.Hello) { h.Model = "no/such/model" }, "no/such/model"},
		"no column":     {func(h *evaluator.Hello) { h.Task.Columns.Label = "rating" }, "score"},
		"no data":       {func(h *evaluator.Hello) { h.Task.Train = "no/such/file.tsv" }, "no/such/file.tsv"},
		"no GPU":        {func(h *evaluator.Hello) { h.Settings.Device = "cuda:7" }, "cuda:7"},
		"too long":      {func(h *evaluator.Hello) { h.Task.MaxLength = 5000 }, "512"},
		"no such float": {func(h *evaluator.Hello) { h.Settings.Precision = "float8" }, "float8"},
	} {
		h := hello(t)
		test.change(&h)
		if _, err := open(t, h); err == nil || !strings.Contains(err.Error(), test.words) {
			t.Errorf("%s: the error is %v", name, err)
		}
	}
}

// What takes long before the first step is told: all rows that are read, and all hidden states that are computed.
func TestTheWorkerTellsWhatItDoes(t *testing.T) {
	t.Setenv("PEFTSEARCH_TEST_WORKER", "1")
	done := map[string]evaluator.Doing{}
	tell := func(p evaluator.Progress) { done[p.What] = p.Doing }
	p, err := evaluator.NewProcess(t.Context(), evaluator.ProcessOptions{Command: []string{os.Args[0]}, Hello: hello(t),
		Log: os.Stderr, Loading: tell})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if _, ok := done["reading the model"]; !ok || done["tokenising"].Of != 5749+1500+1379 {
		t.Errorf("%+v", done)
	}
	trial := job()
	trial.Candidate.Plan.Layers[1] = peft.Layer{peft.Serial{Width: 8}}
	if _, err := p.Evaluate(t.Context(), trial, func(p evaluator.Progress) evaluator.Verdict {
		tell(p)
		return evaluator.Verdict{}
	}); err != nil {
		t.Fatal(err)
	}
	if done["computing hidden states"].Of == 0 {
		t.Errorf("%+v", done)
	}
}

// A map comes over the protocol as it is made, and other jobs after it.
func TestMaps(t *testing.T) {
	p, err := open(t, hello(t))
	if err != nil {
		t.Fatal(err)
	}
	plain := job()
	larger := plain.Candidate.Plan
	larger.Layers = []peft.Layer{{peft.Serial{Width: 16}}, {peft.Serial{Width: 16}}}
	m := evaluator.MapJob{Trial: 1 << 40, Seed: 5, Training: plain.Candidate.Training, Rows: 100,
		Budget: evaluator.Budget{Epochs: 0.3, TrainRows: 320, Rungs: []float64{1}},
		Plans:  []peft.Plan{plain.Candidate.Plan, larger}, Score: []peft.Plan{larger, plain.Candidate.Plan}}
	told := map[string]bool{}
	one, err := p.Map(context.Background(), m, func(p evaluator.Progress) { told[p.What] = true })
	if err != nil || len(one.Scores) != 2 || one.Steps != 6 || one.WallS <= 0 || len(told) != 2 {
		t.Errorf("%+v, %v, told of %v", one, err, told)
	}
	two, err := p.Map(context.Background(), m, func(evaluator.Progress) {})
	if err != nil || one.Scores[0] != two.Scores[0] || one.Scores[1] != two.Scores[1] {
		t.Errorf("%v, then %v, %v", one.Scores, two.Scores, err)
	}
	plain.Budget.Epochs, plain.Test = 0.2, false
	if _, err := p.Evaluate(context.Background(), plain, func(evaluator.Progress) evaluator.Verdict {
		return evaluator.Verdict{}
	}); err != nil {
		t.Error(err)
	}
}
