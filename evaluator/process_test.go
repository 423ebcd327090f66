package evaluator_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"peftsearch/evaluator"
	"peftsearch/evaluator/evaluatortest"
	"peftsearch/peft"
)

var (
	geometry = peft.Geometry{Architecture: "bert", Layers: 2, Hidden: 128, FFN: 512, Heads: 2, BackboneParams: 4_000_000}
	job      = evaluator.Job{Trial: 7, Seed: 1, Budget: evaluator.Budget{Epochs: 1, Rungs: []float64{0.25, 0.5, 1}},
		Candidate: evaluator.Candidate{Plan: peft.Plan{Layers: []peft.Layer{{}, {Serial: &peft.Adapter{Width: 8}}}},
			Training: evaluator.Training{LearningRate: 1e-3, Schedule: evaluator.ScheduleLinear, BatchSize: 8}}}
)

// TestMain makes the test binary double as a worker in the language of the protocol.
func TestMain(m *testing.M) {
	if mode := os.Getenv("PEFTSEARCH_TEST_WORKER"); mode != "" {
		testWorker(mode)
		return
	}
	os.Exit(m.Run())
}

// testWorker serves an Analytic over the protocol. Its modes misbehave in one way each.
func testWorker(mode string) {
	out := json.NewEncoder(os.Stdout)
	in := make(chan map[string]json.RawMessage)
	go func() {
		scanner := bufio.NewScanner(os.Stdin)
		for scanner.Scan() {
			var message map[string]json.RawMessage
			if err := json.Unmarshal(scanner.Bytes(), &message); err != nil {
				panic(err)
			}
			in <- message
		}
		os.Exit(0)
	}()
	<-in
	switch mode {
	case "refuse":
		out.Encode(evaluator.FailedReport{Type: evaluator.TypeFailed, Failure: evaluator.Failure{Kind: evaluator.FailureInternal, Message: "no such model"}})
	case "old":
		out.Encode(evaluator.Ready{Type: evaluator.TypeReady, Protocol: 0})
	case "chatter":
		fmt.Println("Hello from a library!")
	default:
		out.Encode(evaluator.Ready{Type: evaluator.TypeReady, Protocol: evaluator.ProtocolVersion, Geometry: geometry})
	}
	for message := range in {
		raw, _ := json.Marshal(message)
		var request evaluator.EvaluateRequest
		if err := json.Unmarshal(raw, &request); err != nil {
			panic(err)
		}
		if request.Type == evaluator.TypeStop { // of a job that has just ended
			continue
		}
		if mode == "crash" && request.Trial == 13 {
			fmt.Fprintln(os.Stderr, "terminate called after throwing an instance of c10::Error")
			os.Exit(134)
		}
		if mode == "crash" && request.Trial == 14 {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
		if mode == "endless" {
			for step, going := 1, true; going; step++ {
				out.Encode(evaluator.ProgressReport{Type: evaluator.TypeProgress, Trial: request.Trial, Progress: evaluator.Progress{Step: step, Steps: 1e9}})
				select {
				case <-in:
					going = false
				case <-time.After(time.Millisecond):
				}
			}
			out.Encode(evaluator.FailedReport{Type: evaluator.TypeFailed, Trial: request.Trial, Failure: evaluator.Failure{Kind: evaluator.FailureInternal, Message: "stopped"}})
			continue
		}
		analytic := &evaluator.Analytic{Geometry: geometry}
		result, err := analytic.Evaluate(context.Background(), request.Job, func(p evaluator.Progress) evaluator.Verdict {
			out.Encode(evaluator.ProgressReport{Type: evaluator.TypeProgress, Trial: request.Trial, Progress: p})
			if request.Trial == 7 && p.Step < p.Steps { // give the supervisor the time of a step
				select {
				case stop := <-in:
					var reason string
					json.Unmarshal(stop["reason"], &reason)
					return evaluator.Verdict{Stop: true, Reason: reason}
				case <-time.After(50 * time.Millisecond):
				}
			}
			return evaluator.Verdict{}
		})
		var failure *evaluator.Failure
		if errors.As(err, &failure) {
			out.Encode(evaluator.FailedReport{Type: evaluator.TypeFailed, Trial: request.Trial, Failure: *failure})
		} else {
			out.Encode(evaluator.ResultReport{Type: evaluator.TypeResult, Trial: request.Trial, Result: result})
		}
	}
}

func openProcess(t *testing.T, mode string) (*evaluator.Process, error) {
	t.Helper()
	t.Setenv("PEFTSEARCH_TEST_WORKER", mode)
	p, err := evaluator.NewProcess(context.Background(), evaluator.ProcessOptions{Command: []string{os.Args[0]}})
	if err == nil {
		t.Cleanup(func() { p.Close() })
	}
	return p, err
}

func TestAnalyticConforms(t *testing.T) {
	evaluatortest.Run(t, func(*testing.T) evaluator.Evaluator { return &evaluator.Analytic{Geometry: geometry, Noise: 0.01} }, job)
}

func TestProcessConforms(t *testing.T) {
	t.Setenv("PEFTSEARCH_TEST_WORKER", "good")
	evaluatortest.Run(t, func(t *testing.T) evaluator.Evaluator {
		p, err := openProcess(t, "good")
		if err != nil {
			t.Fatal(err)
		}
		if p.Ready().Geometry != geometry {
			t.Errorf("geometry %+v", p.Ready().Geometry)
		}
		return p
	}, job)
}

func TestACrashIsAFailureOfOneJob(t *testing.T) {
	p, err := openProcess(t, "crash")
	if err != nil {
		t.Fatal(err)
	}
	goOn := func(evaluator.Progress) evaluator.Verdict { return evaluator.Verdict{} }
	for trial, words := range map[int64]string{13: "c10::Error", 14: "was killed"} {
		crashing := job
		crashing.Trial = trial
		_, err = p.Evaluate(context.Background(), crashing, goOn)
		var failure *evaluator.Failure
		if !errors.As(err, &failure) || failure.Kind != evaluator.FailureCrashed || !strings.Contains(failure.Message, words) {
			t.Errorf("trial %d: %v", trial, err)
		}
		if _, err := p.Evaluate(context.Background(), job, goOn); err != nil {
			t.Errorf("the job after the crash: %v", err)
		}
	}
}

func TestWorkersThatCannotBeUsed(t *testing.T) {
	for mode, words := range map[string]string{"refuse": "no such model", "old": "protocol 0", "chatter": "Hello from a library!"} {
		_, err := openProcess(t, mode)
		var failure *evaluator.Failure
		if err == nil || errors.As(err, &failure) || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %v", mode, err)
		}
	}
	if _, err := evaluator.NewProcess(context.Background(), evaluator.ProcessOptions{Command: []string{"/no/such/worker"}}); err == nil {
		t.Error("a worker that does not exist starts")
	}
}

func TestThroughputOfSeveralWorkers(t *testing.T) {
	measure := func(mode string, while time.Duration) (evaluator.Throughput, error) {
		t.Setenv("PEFTSEARCH_TEST_WORKER", mode)
		return evaluator.MeasureThroughput(context.Background(), evaluator.ProcessOptions{Command: []string{os.Args[0]}}, job, 2, 3, while)
	}
	got, err := measure("endless", 0)
	if err != nil {
		t.Fatal(err)
	}
	if got.Workers != 2 || got.Threads != 3 || got.StepsPerS <= 0 || got.PeakB <= 0 {
		t.Errorf("measured %+v", got)
	}
	for _, mode := range []string{"good", "refuse"} { // the job ends early; there is no worker
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
