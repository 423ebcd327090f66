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
