package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"iter"
	"math"
	"os"
	"path/filepath"
	"reflect"
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
func overview(states ...store.State) (*studies.Overview, []store.Trial) {
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
	var trials []store.Trial
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
		o.Trials, trials = append(o.Trials, studies.EntryOf(t)), append(trials, t)
		*o.Tally.Of(state)++
	}
	o.Front = studies.FrontOf(trials, o.Record.Reference)
	return o, trials
}

// seen is an overview as views take it.
func seen(o *studies.Overview, trials []store.Trial) Seen {
	columns := NewColumns(o.Record)
	for _, t := range trials {
		columns.Put(t)
	}
	return Seen{Overview: o, Columns: columns}
}

// walk goes through trials as a store does.
func walk(trials []store.Trial) iter.Seq2[store.Trial, error] {
	return func(yield func(store.Trial, error) bool) {
		for _, t := range trials {
			if !yield(t, nil) {
				return
			}
		}
	}
}

// A study with something of everything has every figure of the page that needs no pointer.
func TestEveryFigure(t *testing.T) {
	o, trials := overview(store.Complete, store.Complete, store.Complete, store.Failed, store.Complete)
	for i := range trials[:3] {
		trials[i].Curve = []store.CurvePoint{{Step: 1, Steps: 2, Score: 0.6}, {Step: 2, Steps: 2, Score: 0.7}}
	}
	for _, scores := range [][]float64{{0.71, 0.99}, {0.8}, {0.7, 0.72, 0.74}} { // the first has an interval of 0 to 1
		c := &studies.Confirmation{Candidate: trials[len(o.Confirmed)].Candidate, Params: 256,
			Test: studies.NewSample(scores)}
		for _, score := range scores {
			c.Trainings = append(c.Trainings,
				store.Training{Result: evaluator.Result{Test: map[string]float64{"accuracy": score}}})
		}
		o.Confirmed = append(o.Confirmed, c)
	}
	effects := []studies.Effect{{Method: peft.MethodPrefix, Effect: search.Effect{Plans: 3, Mean: 0.1, SD: 0.02}},
		{Layers: []int{1}, Effect: search.Effect{Plans: 3, Mean: -0.01, SD: 0.02}},
		{Method: peft.MethodPrefix, Layers: []int{1}, Effect: search.Effect{Plans: 3, Mean: 0.1, SD: 0.02}}}
	dir := t.TempDir()
	s := seen(o, trials)
	s.Insight.Effects = effects
	if err := WriteFigures(dir, NewViews([]Seen{s}, time.Now())); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"front", "hypervolume", "confirmed-odd", "curves-odd", "modules-odd", "effects-odd"} {
		for _, format := range figureFormats {
			if info, err := os.Stat(filepath.Join(dir, name+"."+format)); err != nil || info.Size() < 1000 {
				t.Errorf("%s as %s: %v, %v", name, format, info, err)
			}
		}
	}
	for name, wants := range map[string][]string{"confirmed-odd": {"accuracy on test", "trial 0, 256"},
		"curves-odd": {"accuracy on dev", "front"}, "modules-odd": {"L1 prefix"},
		"effects-odd": {"what accuracy loses", "L1 prefix"}} {
		svg, err := os.ReadFile(filepath.Join(dir, name+".svg"))
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range wants {
			if !strings.Contains(string(svg), want) {
				t.Errorf("%s does not say %q", name, want)
			}
		}
	}
}

// An interval that two seeds leave open does not press the scores together.
func TestAxesKeepToTheScores(t *testing.T) {
	wide := Confirmed{Test: TestScores{Seeds: 2, Mean: 0.85, Interval: &[2]float64{0, 1}}}
	if low, high := reach([]float64{0.8, 0.9}, []Confirmed{wide}); math.Abs(low-0.775) > 1e-12 ||
		math.Abs(high-0.925) > 1e-12 {
		t.Errorf("from %g to %g", low, high)
	}
	narrow := Confirmed{Test: TestScores{Seeds: 5, Mean: 0.85, Interval: &[2]float64{0.79, 0.92}}}
	if low, high := reach([]float64{0.8, 0.9}, []Confirmed{narrow}); low != 0.79 || high != 0.92 {
		t.Errorf("from %g to %g", low, high)
	}
}

// Studies of different metrics are not drawn on one axis.
func TestFiguresOfDifferentMetrics(t *testing.T) {
	one, other := seen(overview(store.Complete)), seen(overview(store.Complete))
	one.Record.Name, one.Record.Metric = "one", "accuracy"
	other.Record.Name, other.Record.Metric = "other", "spearman"
	dir := t.TempDir()
	if err := WriteFigures(dir, NewViews([]Seen{one, other}, time.Now())); err != nil {
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
	for name, states := range map[string][]store.State{"without trials": {}, "waiting": {store.Waiting},
		"all failed": {store.Failed, store.Failed}, "one score": {store.Complete},
		"a bit of each": {store.Complete, store.Failed, store.Waiting, store.Running}} {
		t.Run(name, func(t *testing.T) {
			o, trials := overview(states...)
			v := NewViews([]Seen{seen(o, trials)}, time.Now())
			if err := WriteFigures(filepath.Join(t.TempDir(), "figures"), v); err != nil {
				t.Error(err)
			}
			encoded, err := json.Marshal(v)
			if err != nil || strings.Contains(string(encoded), `"number":null`) ||
				len(v.Studies[0].Trials.Number) != len(o.Trials) {
				t.Errorf("%s, %v", encoded, err)
			}
			var piecewise, compact bytes.Buffer
			if err := errors.Join(WriteViews(&piecewise, v), json.Compact(&compact, piecewise.Bytes())); err != nil {
				t.Fatalf("%v in %s", err, piecewise.String())
			}
			var one, other any
			if err := errors.Join(json.Unmarshal(encoded, &one), json.Unmarshal(compact.Bytes(), &other)); err != nil ||
				!reflect.DeepEqual(one, other) {
				t.Errorf("%v; as one: %s\nin pieces: %s", err, encoded, compact.String())
			}
			var csv, journal bytes.Buffer
			if err := WriteCSV(&csv, []Table{{o.Record, o.Front, o.Confirmed, walk(trials)}}); err != nil {
				t.Error(err)
			}
			if err := WriteOptuna(&journal, o.Record, walk(trials)); err != nil ||
				strings.Count(journal.String(), "\n") != 2+len(o.Trials) {
				t.Errorf("%s, %v", journal.String(), err)
			}
		})
	}
}

// The columns of trials are what the trials have.
func TestColumns(t *testing.T) {
	s := seen(overview(store.Complete, store.Failed, store.Complete))
	s.Recommended = new(int64(2))
	v := NewView(s, []int64{2, 1})
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
