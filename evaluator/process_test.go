package evaluator_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"peftsearch/data"
	"peftsearch/evaluator"
	"peftsearch/evaluator/evaluatortest"
)

func TestAnalyticConforms(t *testing.T) {
	evaluatortest.Run(t, func(*testing.T) evaluator.Evaluator {
		return &evaluator.Analytic{Geometry: geometry, Noise: 0.01}
	}, job)
}

func TestProcessConforms(t *testing.T) {
	for _, mode := range []string{"good", "free"} {
		t.Run(mode, func(t *testing.T) {
			evaluatortest.Run(t, func(t *testing.T) evaluator.Evaluator {
				p := open(t, options(mode))
				if p.Ready().Geometry != geometry || p.Ready().Waits() != (mode == "good") {
					t.Errorf("ready %+v", p.Ready())
				}
				return p
			}, job)
		})
	}
}

// A waiting worker is stopped exactly where the verdict says; at the last rung there is nothing to stop.
func TestVerdictsOfWaitingWorkers(t *testing.T) {
	p := open(t, options("good"))
	for rung, step := range []int{25, 50, 100} {
		reports := 0
		result, err := p.Evaluate(context.Background(), job, func(progress evaluator.Progress) evaluator.Verdict {
			reports++
			return evaluator.Verdict{Stop: reports == rung+1}
		})
		if err != nil {
			t.Fatal(err)
		}
		if result.Steps != step || reports != rung+1 || (result.Stopped == "stopped") != (step < 100) {
			t.Errorf("stopped at rung %d: %d reports, %d steps, stopped %q", rung, reports, result.Steps, result.Stopped)
		}
	}
}

func TestDescribe(t *testing.T) {
	ready, err := evaluator.Describe(context.Background(), options("good"))
	if err != nil || ready.Geometry != geometry || ready.Precision != "float32" {
		t.Errorf("%+v, %v", ready, err)
	}
	if _, err := evaluator.Describe(context.Background(), options("refuses")); !errors.Is(err, evaluator.ErrWorker) {
		t.Errorf("the error is %v", err)
	}
}

func TestExpectations(t *testing.T) {
	other := geometry
	other.Layers = 3
	for name, test := range map[string]struct {
		expect evaluator.Expect
		words  string
	}{
		"nothing":            {evaluator.Expect{}, ""},
		"the same":           {evaluator.Expect{Geometry: geometry, Precision: "float32"}, ""},
		"another geometry":   {evaluator.Expect{Geometry: other}, "another model"},
		"another checkpoint": {evaluator.Expect{Fingerprint: evaluator.Fingerprint{Model: "c"}}, "another model"},
		"other rows":         {evaluator.Expect{Fingerprint: evaluator.Fingerprint{Data: "c"}}, "another data set"},
		"another precision":  {evaluator.Expect{Precision: "bfloat16"}, "another precision"},
	} {
		o := options("good")
		o.Expect = test.expect
		p, err := evaluator.NewProcess(context.Background(), o)
		if test.words == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			} else if err := p.Close(); err != nil {
				t.Error(err)
			}
		} else if !errors.Is(err, evaluator.ErrWorker) || !strings.Contains(err.Error(), test.words) {
			t.Errorf("%s: the error is %v", name, err)
		}
	}
}

func TestPredictions(t *testing.T) {
	p := open(t, options("good"))
	var rows []data.Row
	for i := range 1000 {
		rows = append(rows, data.Row{Text: strings.Repeat(string(rune('a'+i%26)), 1+i)})
	}
	rows[7].Text = strings.Repeat("h", 1<<20) // more than goes into one request with others
	predictions, err := p.Predict(context.Background(), "dir", rows)
	if err != nil {
		t.Fatal(err)
	}
	if len(predictions) != len(rows) {
		t.Fatalf("%d predictions for %d rows", len(predictions), len(rows))
	}
	for i, row := range rows {
		if predictions[i].Logits[0] != float64(len(row.Text)) || predictions[i].Label != row.Text[:1] {
			t.Fatalf("row %d: %+v", i, predictions[i])
		}
	}
	if none, err := p.Predict(context.Background(), "dir", nil); err != nil || len(none) != 0 {
		t.Errorf("no rows: %v, %v", none, err)
	}
	rows = []data.Row{{Text: "short"}, {Text: strings.Repeat("x", 17<<20)}}
	if _, err := p.Predict(context.Background(), "dir", rows); err == nil ||
		!strings.Contains(err.Error(), "row 2 has 17 MiB") {
		t.Errorf("a row of 17 MiB: %v", err)
	}
}

func TestPredictionsThatFail(t *testing.T) {
	for mode, words := range map[string]string{"predicts too much": "4 predictions for 2 rows",
		"predicts nothing":   "0 predictions for 2 rows",
		"refuses to predict": "no weights there"} {
		p := open(t, options(mode))
		if _, err := p.Predict(context.Background(), "dir", []data.Row{{Text: "a"}, {Text: "b"}}); err == nil ||
			!strings.Contains(err.Error(), words) {
			t.Errorf("%s: %v", mode, err)
		}
		if _, err := p.Evaluate(context.Background(), job, goOn); err != nil {
			t.Errorf("%s: the next job: %v", mode, err)
		}
	}
}

// Whatever a worker does or leaves, a cancelled context ends the call.
func TestCancelling(t *testing.T) {
	long := []data.Row{{Text: strings.Repeat("x", 1<<20)}}
	for mode, call := range map[string]func(ctx context.Context, p *evaluator.Process) error{
		"hangs in a prediction": func(ctx context.Context, p *evaluator.Process) error {
			_, err := p.Predict(ctx, "dir", long)
			return err
		},
		"reads no more": func(ctx context.Context, p *evaluator.Process) error {
			_, err := p.Predict(ctx, "dir", slices.Repeat(long, 3))
			return err
		},
	} {
		p := open(t, options(mode))
		ctx, cancel := context.WithCancel(context.Background())
		time.AfterFunc(50*time.Millisecond, cancel)
		if err := call(ctx, p); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", mode, err)
		}
		cancel()
	}
	for mode := range deafness {
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		if _, err := evaluator.NewProcess(ctx, options(mode)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", mode, err)
		}
		cancel()
	}
}

// A job ends with its context even if the worker does not see the stop, and the next one succeeds.
func TestCancellingAJobThatHangs(t *testing.T) {
	for _, mode := range []string{"hangs in a step", "hangs after a rung", "stops itself"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			o := options(mode)
			o.Stall = stallTime
			p := open(t, o)
			odd := job
			odd.Trial = strange
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			time.AfterFunc(100*time.Millisecond, cancel)
			if _, err := p.Evaluate(ctx, odd, goOn); !errors.Is(err, context.Canceled) {
				t.Errorf("the error is %v", err)
			}
			if _, err := p.Evaluate(context.Background(), job, goOn); err != nil {
				t.Errorf("the next job: %v", err)
			}
		})
	}
}

func TestWorkerEnvironment(t *testing.T) {
	env := evaluator.WorkerEnv([]string{"OMP_WAIT_POLICY=active", "HOME=/h"}, 3)
	if !slices.Contains(env, "OMP_NUM_THREADS=3") || !slices.Contains(env, "OMP_WAIT_POLICY=active") ||
		slices.Contains(env, "OMP_WAIT_POLICY=passive") {
		t.Errorf("%q", env)
	}
}

func TestThroughputOfSeveralWorkers(t *testing.T) {
	measure := func(mode string, while time.Duration) (evaluator.Throughput, error) {
		return evaluator.MeasureThroughput(context.Background(), options(mode), job, 2, 3, while)
	}
	got, err := measure("endless", 0)
	if err != nil {
		t.Fatal(err)
	}
	if got.Workers != 2 || got.Threads != 3 || got.StepsPerS <= 0 || got.PeakB <= 0 {
		t.Errorf("measured %+v", got)
	}
	for _, mode := range []string{"good", "refuses"} { // the job ends early; there is no worker
		if got, err := measure(mode, time.Hour); err == nil {
			t.Errorf("a worker that is %s is measured as %+v", mode, got)
		}
	}
}

func TestFastestNumberOfWorkers(t *testing.T) {
	alone := evaluator.Throughput{Workers: 1, Threads: 4, StepsPerS: 10, PeakB: 600}
	for name, test := range map[string]struct {
		two, four float64
		want      int
	}{
		"more are slower":        {9, 8, 1},
		"more are hardly faster": {10.4, 10.3, 1},
		"two are faster":         {11, 11.4, 2},
		"four are the fastest":   {11, 13, 4},
		"only four are worth it": {10.4, 10.6, 4},
	} {
		measured := []evaluator.Throughput{alone, {Workers: 2, StepsPerS: test.two}, {Workers: 4, StepsPerS: test.four}}
		if got := evaluator.Fastest(measured); got.Workers != test.want {
			t.Errorf("%s: %d workers", name, got.Workers)
		}
	}
	if !alone.Fits(1000, 400) || alone.Fits(999, 400) {
		t.Error("a worker of 600 bytes that may grow by 400 needs 1000")
	}
}

// BenchmarkRung is what a rung costs beside the training: a report, its answer, and the wait for it.
func BenchmarkRung(b *testing.B) {
	p, err := evaluator.NewProcess(context.Background(), options("good"))
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	long := job
	long.Budget.Epochs = 1e4
	long.Budget.Rungs = nil
	for i := range b.N {
		long.Budget.Rungs = append(long.Budget.Rungs, float64(i+1)/float64(b.N))
	}
	b.ResetTimer()
	if _, err := p.Evaluate(context.Background(), long, goOn); err != nil {
		b.Fatal(err)
	}
}

// brokenLog fails from the second write on.
type brokenLog struct{ writes int }

func (b *brokenLog) Write(p []byte) (int, error) {
	if b.writes++; b.writes > 1 {
		return 0, fmt.Errorf("the log is full: %w", os.ErrClosed)
	}
	return len(p), nil
}

func TestALogThatCannotBeWritten(t *testing.T) {
	o := options("much on stderr")
	o.Log = &brokenLog{}
	p := open(t, o)
	strangeJob := job
	strangeJob.Trial = strange
	if _, err := p.Evaluate(context.Background(), strangeJob, goOn); err != nil {
		t.Error(err)
	}
}
