package report

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"peftsearch/evaluator"
	"peftsearch/peft"
	"peftsearch/search"
	"peftsearch/studies"
	"peftsearch/studies/store"
)

// overview is a study with trials of these states.
func overview(states ...store.State) *studies.Overview {
	created := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	o := &studies.Overview{Record: &store.Record{Name: "odd", Created: created, Metric: "accuracy",
		Geometry: peft.Geometry{
			Architecture:   "bert",
			Layers:         2,
			Hidden:         128,
			FFN:            512,
			Heads:          2,
			BackboneParams: 4_000_000,
		},
		Reference: search.Reference{Chance: 0.5, MinParams: 256, MaxParams: 90_000}}}
	for i, state := range states {
		layer := peft.Layer{}.With(peft.Prefix{Length: 1 + i})
		t := store.Trial{Number: int64(i), State: state, Origin: "gp", Created: created, Host: "node", Process: "7 77",
			Candidate: evaluator.Candidate{Plan: peft.Plan{Layers: []peft.Layer{nil, layer}}}}
		t.Params = t.Candidate.Plan.Params(o.Record.Geometry).Total()
		switch state {
		case store.Complete:
			t.Started, t.Finished = created, created.Add(time.Minute)
			t.Result = evaluator.Result{Score: 0.7 + 0.01*float64(i), WallS: 3}
		case store.Failed:
			t.Started, t.Finished = created, created.Add(time.Minute)
			t.Failure = &evaluator.Failure{Kind: evaluator.FailureDiverged, Message: "a, \"quoted\"\nmessage"}
		}
		o.Trials = append(o.Trials, t)
		*o.Tally.Of(state)++
	}
	o.Front = studies.FrontOf(o.Trials, o.Record.Reference)
	return o
}

// Studies of different metrics are not drawn on one axis.
func TestFiguresOfDifferentMetrics(t *testing.T) {
	one, other := overview(store.Complete), overview(store.Complete)
	one.Record.Name, one.Record.Metric = "one", "accuracy"
	other.Record.Name, other.Record.Metric = "other", "spearman"
	dir := t.TempDir()
	if err := WriteFigures(dir, NewViews([]*studies.Overview{one, other}, []Insight{{}, {}}, time.Now())); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"front-accuracy", "front-spearman", "hypervolume-one", "hypervolume-other",
		"modules-one"} {
		if _, err := os.Stat(filepath.Join(dir, name+".svg")); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "front.svg")); err == nil {
		t.Error("there is one front of both")
	}
}

// A study can be looked at before there is anything to see.
func TestStudiesWithLittleToSee(t *testing.T) {
	for name, o := range map[string]*studies.Overview{"without trials": overview(), "waiting": overview(store.Waiting),
		"all failed": overview(store.Failed, store.Failed), "one score": overview(store.Complete),
		"a bit of each": overview(store.Complete, store.Failed, store.Waiting, store.Running)} {
		t.Run(name, func(t *testing.T) {
			v := NewViews([]*studies.Overview{o}, []Insight{{}}, time.Now())
			if err := WriteFigures(filepath.Join(t.TempDir(), "figures"), v); err != nil {
				t.Error(err)
			}
			encoded, err := json.Marshal(v)
			if err != nil || strings.Contains(string(encoded), `"number":null`) ||
				len(v.Studies[0].Trials.Number) != len(o.Trials) {
				t.Errorf("%s, %v", encoded, err)
			}
			var csv, journal bytes.Buffer
			if err := WriteCSV(&csv, []Table{{o.Record, o.Front, o.Confirmed, func(yield func(store.Trial, error) bool) {
				for _, t := range o.Trials {
					if !yield(t, nil) {
						return
					}
				}
			}}}); err != nil {
				t.Error(err)
			}
			if err := WriteOptuna(&journal, o); err != nil ||
				strings.Count(journal.String(), "\n") != 2+len(o.Trials) {
				t.Errorf("%s, %v", journal.String(), err)
			}
		})
	}
}

// The columns of trials are what the trials have.
func TestColumns(t *testing.T) {
	o := overview(store.Complete, store.Failed, store.Complete)
	v := NewView(o, Insight{Recommended: new(int64(2))}, []int64{2, 1})
	c := v.Trials
	if *c.Score[0] != 0.72 || c.Score[1] != nil || *c.Finished[0] != 60_000 || c.Lane[0] != "node 7" ||
		c.Params[0] != 3*256 {
		t.Errorf("%+v", c)
	}
	if kind := v.Modules[c.Modules[0][0]]; kind != (Module{peft.MethodPrefix, 3, "prefix 3"}) || c.Modules[0][1] != 1 {
		t.Errorf("%+v in layer %d", kind, c.Modules[0][1])
	}
	if !strings.Contains(c.Failure[1], "quoted") || len(v.Front) != 2 || *v.Recommended != 2 {
		t.Errorf("failures %v, front %v", c.Failure, v.Front)
	}
}
