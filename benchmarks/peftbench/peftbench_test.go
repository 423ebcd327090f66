package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"peftsearch/evaluator"
	"peftsearch/peft"
	"peftsearch/search"
	"peftsearch/space"
)

// A record that was torn in the middle of a line goes on after the last whole one; one of another study is refused.
func TestOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r.jsonl")
	r := &recorder{table: Table{Study: "a"}}
	if err := r.open(path); err != nil {
		t.Fatal(err)
	}
	for plan := range 3 {
		if err := r.append(Trial{Plan: plan, Score: 0.5}); err != nil {
			t.Fatal(err)
		}
	}
	r.file.Close()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content[:len(content)-10], 0o644); err != nil {
		t.Fatal(err)
	}
	again := &recorder{table: r.table}
	if err := again.open(path); err != nil || len(again.trials) != 2 {
		t.Fatalf("%d trials, %v; want 2", len(again.trials), err)
	}
	if err := again.append(Trial{Plan: 2}); err != nil {
		t.Fatal(err)
	}
	if err := again.close(); err != nil {
		t.Fatal(err)
	}
	packed := &recorder{table: r.table}
	if err := packed.open(path); err != nil || len(packed.trials) != 3 {
		t.Fatalf("%d trials from the compressed record, %v; want 3", len(packed.trials), err)
	}
	packed.file.Close()
	other := &recorder{table: Table{Study: "b"}}
	if err := other.open(path); err == nil || !strings.Contains(err.Error(), "another study") {
		t.Errorf("a record of another study is opened: %v", err)
	}
}

// Where the first rung tells the final score exactly, plans that the front dominates are stopped there, and
// the front keeps its hypervolume.
func TestReplay(t *testing.T) {
	table := Table{Reference: search.Reference{MinParams: 256, MaxParams: 90_000},
		Budget:   evaluator.Budget{Rungs: []float64{0.25, 1}},
		Training: evaluator.Training{LearningRate: 1e-3}, Geometry: peft.Geometry{Architecture: "bert", Layers: 2,
			Hidden: 128, FFN: 512, Heads: 2}}
	plans, err := space.New(space.Config{}, table.Training, table.Geometry)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := table.space(); err == nil {
		t.Error("a record without dimensions is taken for one of the default space")
	}
	var trials []Trial
	for plan := range 40 {
		point := make(space.Point, len(plans.Dimensions()))
		for d := range 1 + plan%7 {
			point[d] = 1 + 5*plan%6
		}
		params := plans.Params(point)
		score := 0.2 + 0.001*float64(plan%10) + 1e-6*float64(params)
		if plan%2 == 1 {
			score -= 0.15
		}
		trials = append(trials, Trial{Plan: plan, Point: point, Params: params, Curve: []float64{score - 0.1, score},
			Score: score})
	}
	for name, c := range map[string]struct {
		pruner  search.Pruner
		stopped int // at least
		volume  float64
	}{"front": {frontPruner(table, plans, 0.5), 20, 0.99}, "oracle": {oracle{trials}, 20, 1}} {
		r := replay(table, trials, c.pruner)
		if r.Pruned < c.stopped || r.Pruned > 36 {
			t.Errorf("%s: %d of 40 are stopped", name, r.Pruned)
		}
		if want := (40 - 0.75*float64(r.Pruned)) / 40; r.Spent-want > 1e-9 || want-r.Spent > 1e-9 {
			t.Errorf("%s: %g of the training is spent, want %g", name, r.Spent, want)
		}
		if r.Volume < c.volume || r.Volume > 1 {
			t.Errorf("%s: the hypervolume is %g of the whole search's", name, r.Volume)
		}
		if r.Faster[0] < 1 {
			t.Errorf("%s: pruning makes the search %g times faster", name, r.Faster[0])
		}
	}
}
