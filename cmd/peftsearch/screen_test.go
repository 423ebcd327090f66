package main

import (
	"strings"
	"testing"

	"charm.land/lipgloss/v2"

	"peftsearch/evaluator"
	"peftsearch/peft"
	"peftsearch/studies"
	"peftsearch/studies/store"
)

func TestTheIntervalOfAConfirmedPlanIsWhole(t *testing.T) {
	trial := store.Trial{Number: 3, Params: 1234, Result: evaluator.Result{Score: 0.81}}
	trial.Candidate.Plan = peft.Plan{Layers: make([]peft.Layer, 6)}
	o := &studies.Overview{Record: &store.Record{Metric: "accuracy",
		Geometry: peft.Geometry{Layers: 6, BackboneParams: 1e6}},
		Trials: []store.Entry{studies.EntryOf(trial)}, Front: studies.Front{Members: []store.Trial{trial}}}
	o.Confirmed = studies.Confirmations{{Candidate: trial.Candidate, Test: studies.NewSample([]float64{0.79, 0.80, 0.81})}}
	for width := minWidth; width <= 120; width++ {
		s := screen{Overview: o, width: width, height: minHeight}.String()
		if !strings.Contains(s, "on test 0.8000") || !strings.Contains(s, "[0.775, 0.825]") {
			t.Fatalf("in %d columns:\n%s", width, s)
		}
		for line := range strings.Lines(s) {
			if lipgloss.Width(strings.TrimSuffix(line, "\n")) > width {
				t.Fatalf("in %d columns:\n%s", width, s)
			}
		}
	}
}

// What has no room is counted, and messages, such as the answer to Ctrl-C, always have room.
func TestAFullFoot(t *testing.T) {
	o := &studies.Overview{Record: &store.Record{Metric: "accuracy",
		Geometry: peft.Geometry{Layers: 6, BackboneParams: 1e6}}}
	for i := range int64(12) {
		trial := store.Trial{Number: i, State: store.Running}
		trial.Candidate.Plan = peft.Plan{Layers: make([]peft.Layer, 6)}
		o.Trials, o.Running = append(o.Trials, studies.EntryOf(trial)), append(o.Running, trial)
		o.Attempts = append(o.Attempts, store.Attempt{Trial: i})
	}
	s := screen{Overview: o, width: 80, height: 24, messages: []string{"one", "two", "running trials end"}}.String()
	for _, want := range []string{"#0 ", "and 7 more", "\none\n", "\ntwo\n", "\nrunning trials end\n"} {
		if !strings.Contains(s, want) {
			t.Errorf("no %q in\n%s", want, s)
		}
	}
	if lines := strings.Count(s, "\n") + 1; lines != 24 {
		t.Errorf("%d lines", lines)
	}
}
