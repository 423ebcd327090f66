package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"

	"peftsearch/data"
	"peftsearch/data/tokenizer"
	"peftsearch/peft"
	"peftsearch/studies"
	"peftsearch/studies/report"
)

// scoreGiven scores a trained directory on the study's test split as it is, whoever trained it.
func (g *globals) scoreGiven(ctx context.Context, study *studies.Study, dir string, stderr io.Writer) (
	model report.GivenModel, err error) {
	const try = "peftsearch import makes a directory for the study's model and task of another one"
	trained, err := peft.ReadTrained(dir)
	if err != nil {
		return model, usage(try, "%w", err)
	}
	inputs, info := study.Inputs(), trained.Info
	dataset := inputs.Dataset
	switch {
	case info.ModelFingerprint != inputs.Fingerprint.Model:
		return model, usage(try, "%s was trained on another model than the study's", dir)
	case info.Task.Kind != dataset.Task.Kind || !slices.Equal(info.Labels, dataset.Labels):
		return model, usage(try, "%s is for %s with the labels %q, the study for %s with %q", dir, info.Task.Kind,
			info.Labels, dataset.Task.Kind, dataset.Labels)
	case info.Task.Kind.Writes():
		return model, usage("peftsearch predict writes the texts", "--given does not score texts")
	case len(dataset.Test) == 0:
		return model, usage("give the study file a task.test or a task.test_share", "the study has no test rows")
	}
	tok, err := tokenizer.Load(inputs.Model)
	if err != nil {
		return model, err
	}
	var rows []data.Row
	for _, example := range dataset.Test {
		rows = append(rows, example.Row)
	}
	absolute, err := filepath.Abs(dir)
	if err != nil {
		return model, fmt.Errorf("%s: %w", dir, err)
	}
	options, err := g.predictOptions(info, inputs.Model, study.Precision(), stderr)
	if err != nil {
		return model, err
	}
	all, err := predictions(ctx, options, absolute, rows)
	if err != nil {
		return model, err
	}
	if len(all) != len(rows) {
		return model, errors.New("the worker did not answer every row")
	}
	answers := make([][]float64, len(rows))
	for i, p := range all {
		answers[i] = info.Task.Answer(info.Task.Encode(tok, data.Example{Row: rows[i]}), p.Logits, info.Labels)
	}
	return report.GivenModel{Directory: dir, Plan: trained.Plan, Params: trained.Plan.Params(info.Geometry).Total(),
		Test: dataset.Scores(answers, dataset.Test)}, nil
}

// printGiven writes what models that were given score.
func printGiven(w io.Writer, metric string, given []report.GivenModel) {
	for _, m := range given {
		field(w, "given", "%s: %s", m.Directory, m.Plan)
		field(w, "params", "%s", thousands(m.Params))
		field(w, "test "+metric, "%s, of one training", score(m.Test[metric]))
	}
}
