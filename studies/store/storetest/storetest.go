// Package storetest is the conformance suite of store.Store on any of its databases.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp/cmpopts"

	"peftsearch/evaluator"
	"peftsearch/peft"
	"peftsearch/search"
	"peftsearch/space"
	"peftsearch/studies/store"
)

// Run checks the contract of a Store. database makes a new database; what it returns opens that database, as often as
// it is called.
func Run(t *testing.T, database func(t *testing.T) (open func() *store.Store)) {
	for name, test := range map[string]func(*testing.T, func() *store.Store){
		"a study is created once":                    ensure,
		"a trial's life":                             life,
		"outcomes are stored once":                   idempotent,
		"a trial that was returned keeps what it is": released,
		"trials of processes that ended run again":   ended,
		"leases end by the database's clock":         late,
		"one process proposes at a time":             proposals,
		"a candidate is tried once":                  candidates,
		"changes are read once":                      changes,
		"running trials show how far they are":       progress,
		"fronts follow from all complete trials":     fronts,
		"full trainings are kept apart":              trainings,
		"jobs are run once":                          jobs,
		"maps leave estimates, and no trials":        maps,
		"replicates make scores means":               replicates,
		"many processes share a study":               crowd,
		"a snapshot is of one moment":                snapshot,
	} {
		t.Run(name, func(t *testing.T) { test(t, database(t)) })
	}
}

var ctx = context.Background()

// Record is a new study.
func Record() *store.Record {
	return &store.Record{Name: "s", Path: "/s.yaml", Config: "study: s", Metric: "accuracy",
		Identity: store.Identity{"search.seed": "7"}, Geometry: peft.Geometry{Layers: 1, Hidden: 4, FFN: 8},
		Reference: search.Reference{Chance: 0.5, MinParams: 1, MaxParams: 1000}, Seed: 7}
}

// study stores a new study.
func study(t *testing.T, s *store.Store) *store.Record {
	t.Helper()
	r, created, err := s.Ensure(ctx, Record())
	if err != nil || !created {
		t.Fatalf("created %v, %v", created, err)
	}
	return r
}

// Proposal makes a candidate of its own for each size.
func Proposal(size int) store.Proposal {
	plan := peft.Plan{Layers: []peft.Layer{{peft.Prefix{Length: size}}}}
	return store.Proposal{Origin: "test", Reason: fmt.Sprint("size ", size), Point: space.Point{size},
		Candidate: evaluator.Candidate{Plan: plan}, Params: int64(size)}
}

// add makes a new trial run.
func add(t *testing.T, s *store.Store, r *store.Record, size int, me store.Owner) (store.Trial, store.Lease) {
	t.Helper()
	right, err := s.Propose(ctx, r, 1<<40, me)
	if err != nil {
		t.Fatal(err)
	}
	trial, err := s.Add(ctx, r, right, Proposal(size), me)
	if err != nil {
		t.Fatal(err)
	}
	return trial, right
}

// finished is a trial with an outcome.
func finished(trial store.Trial, state store.State, score float64) store.Trial {
	trial.State, trial.Trainings, trial.First = state, 1, score
	trial.Result = evaluator.Result{Score: score, BestStep: 2, Steps: 3,
		Dev: map[string]float64{"accuracy": score}, WallS: 1.5, PeakB: 4, Head: 5}
	trial.Curve = []store.CurvePoint{{Step: 1, Steps: 3, Loss: 0.5, Score: score / 2}, {Step: 3, Steps: 3,
		Loss: 0.25, Score: score}}
	if state == store.Pruned {
		trial.Result.Stopped, trial.Forecast = "a reason", search.Forecast{Score: score + 0.1, SD: 0.01}
	}
	return trial
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func is(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("the error is %v, want: %v", err, want)
	}
}

// elsewhere is a process of another machine, another one of this machine that has ended.
var (
	elsewhere = store.Owner{Host: "elsewhere", Boot: "another boot", Namespace: "pid:[1]", Process: "1 1"}
	gone      = func() store.Owner {
		o := store.ThisProcess()
		o.Process = "4194304 1" // the kernel gives no such id
		return o
	}()
)

var times = cmpopts.IgnoreFields(store.Trial{}, "Created", "Started", "Finished")
