package main

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"peftsearch/data"
	"peftsearch/data/checkpoint"
	"peftsearch/evaluator"
	"peftsearch/peft"
	"peftsearch/search"
	"peftsearch/studies"
	"peftsearch/studies/report"
	"peftsearch/studies/server"
	"peftsearch/studies/store"
	"peftsearch/studies/store/storetest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"peftsearch": main, "peftsearch-worker": fakeWorker})
}

// TestScripts runs the command line as a user does. UPDATE_SCRIPTS=1 rewrites the golden files in the
// scripts.
func TestScripts(t *testing.T) {
	model, err := filepath.Abs("../../models/bert-tiny")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(model); err != nil {
		t.Skip("models/bert-tiny is not there: make models/bert-tiny fetches it")
	}
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/script",
		UpdateScripts: os.Getenv("UPDATE_SCRIPTS") != "",
		Setup: func(env *testscript.Env) error {
			if err := os.CopyFS(env.WorkDir, os.DirFS("testdata/study")); err != nil {
				return err
			}
			return os.Symlink(model, filepath.Join(env.WorkDir, "model"))
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"scrub":    scrub,
			"shorten":  shorten,
			"waitfor":  waitFor,
			"code":     code,
			"replace":  replace,
			"terminal": terminal,
			"sees":     sees,
			"keys":     keys,
			"resize":   resize,
			"postgres": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Setenv(args[0], storetest.Postgres(t))
				ts.Setenv("PGPASSWORD", os.Getenv("PGPASSWORD"))
			},
		},
		Condition: func(condition string) (bool, error) {
			if condition != "postgres" {
				return false, fmt.Errorf("unknown condition %q", condition)
			}
			_, err := server.Binaries()
			return err == nil, nil
		},
	})
}

var (
	timestamps = regexp.MustCompile(`\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?Z)?`)
	hashes     = regexp.MustCompile(`[0-9a-f]{64}`)
)

// scrub replaces times and hashes in the file: scrub FILE.
func scrub(ts *testscript.TestScript, _ bool, args []string) {
	path := ts.MkAbs(args[0])
	content := timestamps.ReplaceAllString(ts.ReadFile(args[0]), "TIME")
	ts.Check(os.WriteFile(path, []byte(hashes.ReplaceAllString(content, "HASH")), 0o644))
}

// shorten copies the first bytes of a file: shorten FROM TO BYTES.
func shorten(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.Atoi(args[2])
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(ts.ReadFile(args[0]))[:n], 0o644))
}

// replace changes every occurrence of a text in a file: replace OLD NEW FILE.
func replace(ts *testscript.TestScript, _ bool, args []string) {
	content := ts.ReadFile(args[2])
	if !strings.Contains(content, args[0]) {
		ts.Fatalf("%s has no %q", args[2], args[0])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[2]), []byte(strings.ReplaceAll(content, args[0], args[1])), 0o644))
}

// waitFor waits until the file has the text: waitfor FILE TEXT.
func waitFor(ts *testscript.TestScript, _ bool, args []string) {
	for deadline := time.Now().Add(3 * time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if content, err := os.ReadFile(ts.MkAbs(args[0])); err == nil && bytes.Contains(content, []byte(args[1])) {
			return
		}
	}
	ts.Fatalf("%s never had %q", args[0], args[1])
}

// code runs peftsearch and wants an exit code: code N ARGS….
func code(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec("peftsearch", args[1:]...)
	got := 0
	if exit, ok := err.(interface{ ExitCode() int }); ok {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if strconv.Itoa(got) != args[0] {
		ts.Fatalf("exit code %d, want %s", got, args[0])
	}
}

// fakeWorker speaks the worker protocol without training. FAKE_FAIL makes every trial fail; FAKE_BLOCK names a
// trial that says so in the file "blocked" and waits until the file "go" is there or it is stopped. FAKE_SECONDS is
// what a trial takes.
func fakeWorker() {
	if len(os.Args) == 2 && os.Args[1] == "version" {
		fmt.Println("peftsearch-worker protocol 2, for tests")
		return
	}
	lines := make(chan []byte)
	go func() {
		defer close(lines)
		scanner := bufio.NewScanner(os.Stdin)
		scanner.Buffer(nil, 1<<24)
		for scanner.Scan() {
			lines <- bytes.Clone(scanner.Bytes())
		}
	}()
	if err := fakeSession(lines, json.NewEncoder(os.Stdout)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func fakeSession(lines <-chan []byte, out *json.Encoder) error {
	var hello evaluator.Hello
	if err := json.Unmarshal(<-lines, &hello); err != nil {
		return err
	}
	ready, err := fakeReady(hello)
	if err != nil {
		return err
	}
	geometry := ready.Geometry
	if err := out.Encode(ready); err != nil {
		return err
	}
	for line := range lines {
		var request struct {
			Type string
			Dir  string
			Rows []data.Row
			evaluator.Job
		}
		if err := json.Unmarshal(line, &request); err != nil {
			return err
		}
		var answer any
		switch request.Type {
		case evaluator.TypePredict:
			predictions := evaluator.PredictionsReport{Type: evaluator.TypeScores}
			for _, row := range request.Rows {
				predictions.Predictions = append(predictions.Predictions,
					evaluator.Prediction{Logits: []float64{float64(len(row.Text)), 0.5}, Label: "long"})
			}
			answer = predictions
		case evaluator.TypeEvaluate:
			if answer, err = fakeTrial(request.Job, hello, geometry, lines, out); err != nil {
				return err
			}
		}
		if err := out.Encode(answer); err != nil {
			return err
		}
	}
	return nil
}

// fakeReady describes a model by its checkpoint or, if there is one, by its file ready.json. FAKE_PRECISION is what is
// fast on its machine.
func fakeReady(hello evaluator.Hello) (evaluator.Ready, error) {
	ready := evaluator.Ready{Type: evaluator.TypeReady, Protocol: evaluator.ProtocolVersion,
		Precision: hello.Settings.Precision}
	if ready.Precision == "auto" {
		ready.Precision = cmp.Or(os.Getenv("FAKE_PRECISION"), "float32")
	}
	fmt.Fprintln(os.Stderr, "computing in", ready.Precision)
	if known, err := os.ReadFile(filepath.Join(hello.Model, "ready.json")); err == nil {
		return ready, json.Unmarshal(known, &ready)
	}
	c, err := checkpoint.Open(hello.Model)
	if err == nil {
		ready.Geometry = peft.GeometryOf(c)
	}
	return ready, err
}

func fakeTrial(job evaluator.Job, hello evaluator.Hello, geometry peft.Geometry, lines <-chan []byte,
	out *json.Encoder) (any, error) {
	if os.Getenv("FAKE_FAIL") != "" {
		return evaluator.FailedReport{Type: evaluator.TypeFailed, Trial: job.Trial,
			Failure: evaluator.Failure{Kind: evaluator.FailureDiverged, Message: "the loss is not finite"}}, nil
	}
	if os.Getenv("FAKE_BLOCK") == strconv.FormatInt(job.Trial, 10) {
		if err := os.WriteFile("blocked", []byte("yes"), 0o644); err != nil {
			return nil, err
		}
		for released := false; !released; {
			select {
			case <-lines: // a stop
				return evaluator.FailedReport{Type: evaluator.TypeFailed, Trial: job.Trial,
					Failure: evaluator.Failure{Kind: evaluator.FailureInternal, Message: "stopped"}}, nil
			case <-time.After(5 * time.Millisecond):
				_, err := os.Stat("go")
				released = err == nil
			}
		}
	}
	if seconds, err := time.ParseDuration(os.Getenv("FAKE_SECONDS") + "s"); err == nil {
		select {
		case <-lines: // a stop
			return evaluator.FailedReport{Type: evaluator.TypeFailed, Trial: job.Trial,
				Failure: evaluator.Failure{Kind: evaluator.FailureInternal, Message: "stopped"}}, nil
		case <-time.After(seconds):
		}
	}
	result := evaluator.Result{Score: 0.6 + float64(job.Trial)/100, BestStep: 10, Steps: 10, Head: 258, WallS: 2,
		Dev: map[string]float64{"accuracy": 0.6}}
	rung := evaluator.Progress{Step: 10, Steps: 10, Loss: 0.5, Score: &result.Score}
	if err := out.Encode(evaluator.ProgressReport{Type: evaluator.TypeProgress, Trial: job.Trial,
		Progress: rung}); err != nil {
		return nil, err
	}
	<-lines // go or stop
	if job.Test {
		result.Test = map[string]float64{"accuracy": 0.59}
	}
	if job.Output != "" {
		zeros := func(shapes map[string][]int) map[string]checkpoint.Tensor {
			tensors := map[string]checkpoint.Tensor{}
			for name, shape := range shapes {
				n := 1
				for _, size := range shape {
					n *= size
				}
				tensors[name] = checkpoint.NewTensor(make([]float32, n), shape...)
			}
			return tensors
		}
		plan := job.Candidate.Plan
		info := peft.Info{Version: peft.TrainedVersion, Model: hello.Model, Geometry: geometry, Head: "linear",
			Task:   hello.Task,
			Labels: []string{"short", "long"}, Training: json.RawMessage("{}")}
		err := peft.WriteTrained(job.Output, peft.Trained{Plan: plan, Info: info, Modules: zeros(plan.TensorShapes(geometry)),
			Head: zeros(info.HeadShapes()), Metrics: peft.Metrics{Dev: result.Dev, Test: result.Test}})
		if err != nil {
			return nil, err
		}
	}
	return evaluator.ResultReport{Type: evaluator.TypeResult, Trial: job.Trial, Result: result}, nil
}

// The score of a pruned trial stands beside what the whole training was predicted to reach.
func TestPrunedTrialsAreTold(t *testing.T) {
	trial := store.Trial{Number: 7, State: store.Pruned, Params: 512, Result: evaluator.Result{Score: 0.25},
		Forecast: search.Forecast{Score: 0.5, SD: 0.125}}
	var log bytes.Buffer
	progress := searchProgress{display: &display{log: slog.New(slog.NewTextHandler(&log, nil))}}
	progress.event(studies.Event{Kind: studies.EventFinished, Trial: trial,
		Status: studies.Status{Trials: 9, Tally: store.Tally{Pruned: 1}}})
	if want := "msg=pruned trial=7 score=0.2500 forecast=0.5000 params=512 done=1 of=9"; !strings.Contains(log.String(),
		want) {
		t.Errorf("%s\nwant %s", log.String(), want)
	}
	var document bytes.Buffer
	if err := report.WriteJSON(&document,
		report.NewTrialEntry(&store.Record{Geometry: peft.Geometry{BackboneParams: 4096}}, trial)); err != nil {
		t.Fatal(err)
	}
	var entry struct{ Forecast struct{ Score, SD float64 } }
	if err := json.Unmarshal(document.Bytes(), &entry); err != nil || entry.Forecast.Score != 0.5 ||
		entry.Forecast.SD != 0.125 {
		t.Errorf("%v in %s", err, document.String())
	}
}

func TestCount(t *testing.T) {
	for text, want := range map[string]int64{"0": 0, "123": 123, "500k": 500_000, "1M": 1_000_000, "1.5M": 1_500_000} {
		var c count
		if err := c.Set(text); err != nil || int64(c) != want {
			t.Errorf("%s: %d, %v", text, c, err)
		}
	}
	for _, text := range []string{"", "-1", "1G", "k", "NaN", "Inf", "1e300"} {
		if err := new(count).Set(text); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
}

func TestNumbers(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567"} {
		if got := thousands(n); got != want {
			t.Errorf("thousands(%d) = %s", n, got)
		}
	}
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1k", 73728: "73.7k", 999_499: "999k", 999_500: "1M",
		1_234_567: "1.23M"} {
		if got := brief(n); got != want {
			t.Errorf("brief(%d) = %s", n, got)
		}
	}
	for d, want := range map[time.Duration]string{0: "0s", 1500 * time.Millisecond: "2s", 90 * time.Second: "1m30s",
		2*time.Hour + 51*time.Minute: "2h51m"} {
		if got := duration(d); got != want {
			t.Errorf("duration(%v) = %s", d, got)
		}
	}
}
