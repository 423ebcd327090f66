package studies

import (
	"context"
	"strings"
	"testing"

	"peftsearch/evaluator"
	"peftsearch/peft"
	"peftsearch/studies/store"
)

func preset(t testing.TB, study *Study, name string) evaluator.Candidate {
	t.Helper()
	preset, err := peft.NewPreset(name, study.inputs.Geometry)
	if err != nil {
		t.Fatal(err)
	}
	return study.Baseline(preset)
}

func TestBaselinesBringTheirTraining(t *testing.T) {
	study, _ := start(t, writeStudy(t, t.TempDir(), 1))
	for name, mlp := range map[string]int{"lora-r8": 0, "prefix-30": 512, "mam": 800, "unipelt": 512} {
		if got := preset(t, study, name).Training.PrefixMLP; got != mlp {
			t.Errorf("%s is trained with an MLP of %d, want %d", name, got, mlp)
		}
	}
}

func TestEnqueuedPlansRunNextAndCount(t *testing.T) {
	study, _ := start(t, writeStudy(t, t.TempDir(), 4))
	ctx := context.Background()
	first, added, err := study.Enqueue(ctx, "mam", "a known good plan", preset(t, study, "mam"))
	if err != nil || !added || first.Number != 0 || first.State != store.Waiting || first.Origin != "enqueued:mam" ||
		first.Reason != "a known good plan" {
		t.Fatalf("%+v, %v", first, err)
	}
	if _, added, err := study.Enqueue(ctx, "head", "", preset(t, study, "head")); err != nil || !added {
		t.Fatal(err)
	}
	again, added, err := study.Enqueue(ctx, "another name", "", preset(t, study, "mam"))
	if err != nil || added || again.Number != 0 {
		t.Errorf("the same plan again: added %v as trial %d, %v", added, again.Number, err)
	}
	trials := mustRun(t, study)
	if len(trials) != 4 || trials[0].State != store.Complete || trials[0].Seed != store.TrialSeed(11, 0) {
		t.Errorf("%d trials, the first %+v", len(trials), trials[0])
	}
	keys := map[string]bool{}
	for _, trial := range trials {
		keys[trial.Candidate.Key()] = true
		if strings.HasPrefix(trial.Origin, "baseline:") {
			t.Errorf("trial %d repeats an enqueued plan as %s", trial.Number, trial.Origin)
		}
	}
	if len(keys) != 4 {
		t.Errorf("%d candidates in 4 trials", len(keys))
	}
	// Beyond the budget: what was enqueued runs, and no more.
	if _, _, err := study.Enqueue(ctx, "prefix-30", "", preset(t, study, "prefix-30")); err != nil {
		t.Fatal(err)
	}
	if trials = mustRun(t, study); len(trials) != 5 || trials[4].State != store.Complete {
		t.Errorf("%d trials after enqueueing a fifth", len(trials))
	}
}

func TestEnqueuedPlansInTheSpaceAreNotProposedAgain(t *testing.T) {
	study, _ := start(t, writeStudy(t, t.TempDir(), 30))
	plan := peft.Plan{Layers: []peft.Layer{{peft.Prefix{Length: 1}}, {}}}
	trial, _, err := study.Enqueue(context.Background(), "p", "", study.Candidate(plan))
	if err != nil || trial.Point == nil {
		t.Fatalf("point %v, %v", trial.Point, err)
	}
	for _, other := range mustRun(t, study)[1:] {
		if other.Candidate.Plan.Key() == plan.Key() {
			t.Errorf("trial %d is the enqueued plan again", other.Number)
		}
	}
}

func TestPlansForAnotherBackboneAreRefused(t *testing.T) {
	study, _ := start(t, writeStudy(t, t.TempDir(), 4))
	plan := peft.Plan{Layers: make([]peft.Layer, 3)}
	if _, _, err := study.Enqueue(context.Background(), "p", "", study.Candidate(plan)); err == nil ||
		!strings.Contains(err.Error(), "3 layers") {
		t.Errorf("%v", err)
	}
	if n := len(trialsOf(t, study)); n != 0 {
		t.Errorf("%d trials are stored", n)
	}
}
