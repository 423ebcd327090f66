// Package worker_test checks the example of a worker in Python.
package worker_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"peftsearch/data"
	"peftsearch/data/metric"
	"peftsearch/evaluator"
	"peftsearch/evaluator/evaluatortest"
	"peftsearch/peft"
)

// TestConforms needs the Python of an environment with torch, transformers, peft, scikit-learn and scipy in
// PEFTSEARCH_PYTHON: make check-worker makes one.
func TestConforms(t *testing.T) {
	python := os.Getenv("PEFTSEARCH_PYTHON")
	if python == "" {
		t.Skip("PEFTSEARCH_PYTHON names no Python with transformers and peft")
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	stsb := filepath.Join(root, "examples", "data", "stsb")
	options := evaluator.ProcessOptions{Command: []string{python, "worker.py"}, Log: os.Stderr, Stall: 5 * time.Minute,
		Hello: evaluator.Hello{Model: filepath.Join(root, "models", "bert-tiny"), Head: evaluator.HeadLinear,
			Task: data.Task{Kind: data.KindRegression, Metric: metric.Spearman, MaxLength: 32,
				Train: filepath.Join(stsb, "train.tsv"), Dev: filepath.Join(stsb, "dev.tsv"), Test: filepath.Join(stsb, "test.tsv"),
				Columns: data.Columns{Text: "sentence1", TextPair: "sentence2", Label: "score"}},
			Settings: evaluator.Settings{Device: "cpu", Precision: "auto", Threads: 1}}}
	lora := func(rank int, targets ...peft.Target) peft.Layer {
		return peft.Layer{peft.LoRA{Rank: rank, Alpha: float64(rank), Targets: targets}}
	}
	job := evaluator.Job{Trial: 3, Seed: 5, Test: true,
		Candidate: evaluator.Candidate{
			Plan: peft.Plan{Layers: []peft.Layer{lora(8, peft.TargetQuery, peft.TargetValue, peft.TargetFFNOut),
				lora(4, peft.TargetValue)}},
			Training: evaluator.Training{LearningRate: 5e-3, Schedule: evaluator.ScheduleLinear, WarmupRatio: 0.1, BatchSize: 16,
				MaxGradNorm: 1}},
		Budget: evaluator.Budget{Epochs: 1, TrainRows: 1600, Rungs: []float64{0.3, 0.6, 1}}}
	evaluatortest.Run(t, func(t *testing.T) evaluator.Evaluator {
		p, err := evaluator.NewProcess(context.Background(), options)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { p.Close() })
		g, s := p.Ready().Geometry, p.Ready().Splits
		if g.Layers != 2 || g.Hidden != 128 || g.FFN != 512 || s.Train.Rows < 1000 || s.Train.Truncated == 0 ||
			s.Train.Truncated > s.Train.Rows/2 {
			t.Errorf("ready %+v", p.Ready())
		}
		return p
	}, job)

	p, err := evaluator.NewProcess(context.Background(), options)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	result, err := p.Evaluate(context.Background(), job,
		func(evaluator.Progress) evaluator.Verdict { return evaluator.Verdict{} })
	if err != nil || result.Score < 0.3 || result.Test["spearman"] < 0.3 {
		t.Errorf("trained to %+v (%v)", result, err)
	}
}
