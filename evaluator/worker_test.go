package evaluator_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"peftsearch/data"
	"peftsearch/data/metric"
	"peftsearch/evaluator"
	"peftsearch/peft"
)

var (
	geometry = peft.Geometry{Architecture: "bert", Layers: 2, Hidden: 128, FFN: 512, Heads: 2, BackboneParams: 4_000_000}
	job      = evaluator.Job{Trial: 7, Seed: 1, Budget: evaluator.Budget{Epochs: 1, Rungs: []float64{0.25, 0.5, 1}},
		Candidate: evaluator.Candidate{Plan: peft.Plan{Layers: []peft.Layer{{}, {peft.Serial{Width: 8}}}},
			Training: evaluator.Training{LearningRate: 1e-3, Schedule: evaluator.ScheduleLinear, BatchSize: 8}}}
	hello = evaluator.Hello{Task: data.Task{Metric: metric.Accuracy}}
)

// strange is the number of the trial in which a worker does what its mode says.
const strange = 13

// TestMain makes the test binary double as a worker: worker MODE FILE…, and as a supervisor that gets killed.
func TestMain(m *testing.M) {
	switch {
	case len(os.Args) > 2 && os.Args[1] == "worker":
		testWorker(os.Args[2], os.Args[3:])
	case len(os.Args) > 2 && os.Args[1] == "supervisor":
		testSupervisor(os.Args[2:])
	default:
		flag.Parse()
		flag.Set("test.parallel", "16") // tests of silent workers wait
		os.Exit(m.Run())
	}
}

// request is any message of a supervisor.
type request struct {
	Type   string     `json:"type"`
	Reason string     `json:"reason"`
	Rows   []data.Row `json:"rows"`
	evaluator.Job
	line []byte
}

// workerProgram serves an Analytic over the protocol.
type workerProgram struct {
	mode string
	args []string
	in   chan request
	out  *json.Encoder
	free bool
}

// forever sleeps: the runtime would take a program that only waits for stuck, and end it.
func forever() {
	for {
		time.Sleep(time.Hour)
	}
}

func testWorker(mode string, args []string) {
	w := &workerProgram{mode: mode, args: args, in: make(chan request), out: json.NewEncoder(os.Stdout),
		free: mode == "free"}
	if deafness[mode] {
		forever()
	}
	go func() {
		lines := bufio.NewReader(os.Stdin)
		for {
			line, err := lines.ReadBytes('\n')
			if err != nil {
				os.Exit(0)
			}
			var message request
			if err := json.Unmarshal(line, &message); err != nil {
				panic(err)
			}
			message.line = line
			w.in <- message
			if mode == "closes stdin" && message.Trial == strange {
				return
			}
		}
	}()
	<-w.in
	w.hello()
	for r := range w.in {
		switch r.Type {
		case evaluator.TypePredict:
			w.predict(r)
		case evaluator.TypeMap:
			w.makeMap(r)
		case evaluator.TypeEvaluate:
			act := misbehaviour[mode]
			if act == nil {
				act = further[mode]
			}
			if act != nil && r.Trial == strange {
				act(w)
			} else {
				w.evaluate(r.Job)
			}
		}
	}
}

// starts counts how often workers with the same directory have started.
func (w *workerProgram) starts() int {
	if len(w.args) == 0 {
		return 1
	}
	path := filepath.Join(w.args[0], "starts")
	before, _ := os.ReadFile(path)
	if err := os.WriteFile(path, append(before, '.'), 0o644); err != nil {
		panic(err)
	}
	return len(before) + 1
}

func (w *workerProgram) ready() evaluator.Ready {
	rungs := ""
	if w.free {
		rungs = evaluator.RungsFree
	}
	return evaluator.Ready{Type: evaluator.TypeReady, Protocol: evaluator.ProtocolVersion, Rungs: rungs,
		Geometry:    geometry,
		Fingerprint: evaluator.Fingerprint{Model: strings.Repeat("a", 64), Data: strings.Repeat("b", 64)},
		Precision:   "float32", Maps: w.mode != "no maps"}
}

func (w *workerProgram) hello() {
	if act := greetings[w.mode]; act != nil {
		act(w)
		return
	}
	if act := returns[w.mode]; act != nil && w.starts() == 2 {
		act(w)
		return
	}
	w.out.Encode(w.ready())
}

func (w *workerProgram) progress(step int, score any) {
	w.out.Encode(map[string]any{"type": "progress", "trial": strange, "step": step, "steps": 100, "loss": 0.5,
		"score": score})
}

// line writes a line as it is.
func (w *workerProgram) line(text string) { fmt.Println(text) }

func (w *workerProgram) fail(trial int64, failure evaluator.Failure) {
	w.out.Encode(evaluator.FailedReport{Type: evaluator.TypeFailed, Trial: trial, Failure: failure})
}

// evaluate is a job done well.
func (w *workerProgram) evaluate(job evaluator.Job) {
	if w.mode == "endless" {
		w.endless(job)
		return
	}
	analytic := &evaluator.Analytic{Geometry: geometry, Noise: 0.01, Metric: "accuracy"}
	result, err := analytic.Evaluate(context.Background(), job, func(p evaluator.Progress) evaluator.Verdict {
		w.out.Encode(evaluator.ProgressReport{Type: evaluator.TypeProgress, Trial: job.Trial}) // a sign of life
		w.out.Encode(evaluator.ProgressReport{Type: evaluator.TypeProgress, Trial: job.Trial, Progress: p})
		if w.free {
			if p.Step == p.Steps {
				return evaluator.Verdict{}
			}
			select { // the time of a step
			case r := <-w.in:
				return evaluator.Verdict{Stop: true, Reason: r.Reason}
			case <-time.After(20 * time.Millisecond):
				return evaluator.Verdict{}
			}
		}
		r := <-w.in
		return evaluator.Verdict{Stop: r.Type == evaluator.TypeStop, Reason: r.Reason}
	})
	var failure *evaluator.Failure
	if errors.As(err, &failure) {
		w.fail(job.Trial, *failure)
	} else {
		w.out.Encode(evaluator.ResultReport{Type: evaluator.TypeResult, Trial: job.Trial, Result: result})
	}
}

// endless trains until it is stopped, without a rung.
func (w *workerProgram) endless(job evaluator.Job) {
	for step := 1; ; step++ {
		w.out.Encode(evaluator.ProgressReport{Type: evaluator.TypeProgress, Trial: job.Trial,
			Progress: evaluator.Progress{Step: step, Steps: 1e9}})
		select {
		case <-w.in:
			w.fail(job.Trial, evaluator.Failure{Kind: evaluator.FailureInternal, Message: "stopped"})
			return
		case <-time.After(time.Millisecond):
		}
	}
}

// predict answers with the lengths of the texts, in two messages where it can.
func (w *workerProgram) predict(r request) {
	var all []evaluator.Prediction
	for _, row := range r.Rows {
		all = append(all, evaluator.Prediction{Logits: []float64{float64(len(row.Text))}, Label: row.Text[:1]})
	}
	switch w.mode {
	case "predicts too much":
		all = append(all, all...)
	case "predicts nothing":
		all = nil
	case "refuses to predict":
		w.fail(0, evaluator.Failure{Kind: evaluator.FailureInternal, Message: "no weights there"})
		return
	case "hangs in a prediction":
		return
	}
	if half := len(all) / 2; half > 0 && w.mode == "good" {
		w.out.Encode(evaluator.PredictionsReport{Type: evaluator.TypeScores, Predictions: all[:half]})
		all = all[half:]
	}
	w.out.Encode(evaluator.ProgressReport{Type: evaluator.TypeProgress})
	w.out.Encode(evaluator.PredictionsReport{Type: evaluator.TypeScores, Predictions: all})
}

// makeMap scores plans with the analytic surface, or does what its mode says.
func (w *workerProgram) makeMap(r request) {
	var m evaluator.MapRequest
	if err := json.Unmarshal(r.line, &m); err != nil {
		panic(err)
	}
	analytic := &evaluator.Analytic{Geometry: geometry, Metric: "accuracy"}
	result, err := analytic.Map(context.Background(), m.MapJob, func(p evaluator.Progress) {
		w.out.Encode(evaluator.ProgressReport{Type: evaluator.TypeProgress, Trial: m.Trial, Progress: p})
	})
	if err != nil {
		panic(err)
	}
	switch w.mode {
	case "refuses maps":
		w.fail(m.Trial, evaluator.Failure{Kind: evaluator.FailureDiverged, Message: "the loss is NaN"})
		return
	case "scores too little":
		result.Scores = result.Scores[1:]
	case "scores beyond the metric":
		result.Scores[0] = 1.5
	case "takes no step":
		result.Steps = 0
	case "answers maps with a result":
		w.line(`{"type":"result","trial":9,"score":1}`)
		return
	case "dies in a map":
		os.Exit(3)
	case "hangs in a map":
		forever()
	}
	w.out.Encode(evaluator.MappedReport{Type: evaluator.TypeMapped, Trial: m.Trial, MapResult: result})
}

func options(mode string, args ...string) evaluator.ProcessOptions {
	return evaluator.ProcessOptions{Command: append([]string{os.Args[0], "worker", mode}, args...), Hello: hello}
}

func open(t *testing.T, options evaluator.ProcessOptions) *evaluator.Process {
	t.Helper()
	p, err := evaluator.NewProcess(context.Background(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func goOn(evaluator.Progress) evaluator.Verdict { return evaluator.Verdict{} }
