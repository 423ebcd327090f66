package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"peftsearch/studies"
	"peftsearch/studies/config"
)

// What a calibration found is words for people, and an object for machines.
func TestNotesOnRates(t *testing.T) {
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
	if words := loggedRate(config.AutoRate).String(); words != "0.001 for all" {
		t.Errorf("without a calibration: %s", words)
	}
}
