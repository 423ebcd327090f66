package evaluator_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"peftsearch/evaluator"
	"peftsearch/peft"
)

var mapJob = evaluator.MapJob{Trial: 9, Seed: 4, Training: job.Candidate.Training, Budget: job.Budget, Rows: 30,
	Plans: []peft.Plan{job.Candidate.Plan}, Score: []peft.Plan{job.Candidate.Plan, {Layers: make([]peft.Layer, 2)}}}

// A map over the protocol is what the worker makes, and is told of with the time that is left.
func TestMaps(t *testing.T) {
	p := open(t, options("good"))
	analytic := &evaluator.Analytic{Geometry: geometry, Metric: "accuracy"}
	want, err := analytic.Map(context.Background(), mapJob, func(evaluator.Progress) {})
	if err != nil {
		t.Fatal(err)
	}
	var told []int64
	got, err := evaluator.Mapper(p).Map(context.Background(), mapJob, func(p evaluator.Progress) {
		told = append(told, p.Done)
	})
	if err != nil || !slices.Equal(got.Scores, want.Scores) || got.Steps != want.Steps ||
		!slices.Equal(told, []int64{1, 2}) {
		t.Errorf("%+v, want %+v, %v; told %v", got, want, err, told)
	}
	if _, err := p.Evaluate(context.Background(), job, goOn); err != nil {
		t.Errorf("the next job: %v", err)
	}
}

// A worker that makes no map, or a wrong one, fails the job with the reason, and does the next one.
func TestMapsThatFail(t *testing.T) {
	for mode, words := range map[string]string{
		"no maps":                    "the worker makes no maps",
		"refuses maps":               "the loss is NaN",
		"scores too little":          "1 scores for 2 plans",
		"scores beyond the metric":   "the score 1.5 is no accuracy",
		"takes no step":              "cannot be",
		"answers maps with a result": `"result" where "mapped" was due`,
		"dies in a map":              "exit status 3",
		"hangs in a map":             "silent",
	} {
		o := options(mode)
		if mode == "hangs in a map" {
			o.Stall = 500 * time.Millisecond
		}
		p := open(t, o)
		var failure *evaluator.Failure
		if _, err := p.Map(context.Background(), mapJob, func(evaluator.Progress) {}); !errors.As(err, &failure) ||
			!strings.Contains(failure.Message, words) {
			t.Errorf("%s: %v", mode, err)
		}
		p.Close()
	}
}

func TestACancelledMap(t *testing.T) {
	p := open(t, options("hangs in a map"))
	ctx, cancel := context.WithCancel(context.Background())
	if _, err := p.Map(ctx, mapJob, func(evaluator.Progress) { cancel() }); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if _, err := p.Evaluate(context.Background(), job, goOn); err != nil {
		t.Errorf("the next job: %v", err)
	}
}
