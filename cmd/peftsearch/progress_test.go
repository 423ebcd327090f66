package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"peftsearch/studies"
	"peftsearch/studies/config"
)

// Messages are sentences for people, in which rates are words; for machines these are an object.
func TestNotes(t *testing.T) {
	found := studies.Event{Kind: studies.EventCalibrated,
		Rate: config.CalibratedRate(map[string]float64{"lora": 2e-3, "serial": 5e-4})}
	var text, encoded bytes.Buffer
	for _, log := range []*slog.Logger{
		slog.New(slog.NewTextHandler(&text, nil)),
		slog.New(slog.NewJSONHandler(&encoded, nil)),
	} {
		display := &display{log: log}
		(&searchProgress{display: display, waits: map[string]*waits{}}).event(found)
	}
	if want := `rates="lora 0.002, serial 0.0005, others 0.001"`; !strings.Contains(text.String(), want) {
		t.Errorf("%s, want %s", text.String(), want)
	}
	if want := `"rates":{"lora":0.002,"others":0.001,"serial":0.0005}`; !strings.Contains(encoded.String(), want) {
		t.Errorf("%s, want %s", encoded.String(), want)
	}
	for _, c := range []struct {
		message    string
		attributes []any
		want       string
	}{
		{"failed", []any{"trial", 7, "reason", "the loss is NaN"}, "trial 7 failed: the loss is NaN"},
		{"finished", []any{"plan", "mam", "seed", 40, "test", loggedScore(0.5), "done", 1, "of", 3},
			"plan mam seed 40 finished (test 0.5000, done 1, of 3)"},
		{"learning rates are calibrated", []any{"rates", loggedRate(found.Rate)},
			"learning rates are calibrated: lora 0.002, serial 0.0005, others 0.001"},
		{"learning rates are not calibrated", []any{"reason", "too few", "rates", loggedRate(config.AutoRate)},
			"learning rates are not calibrated: too few; 0.001 for all"},
		{"failed", []any{"map", 0, "reason", "out of memory"}, "map 0 failed: out of memory"},
	} {
		if got := sentence(c.message, c.attributes); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
	if words := loggedRate(config.AutoRate).String(); words != "0.001 for all" {
		t.Errorf("without a calibration: %s", words)
	}
}
