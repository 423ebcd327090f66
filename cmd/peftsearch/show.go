package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"peftsearch/peft"
	"peftsearch/studies"
	"peftsearch/studies/store"
)

func newShow(g *globals) *cobra.Command {
	var number int64
	var asJSON bool
	cmd := &cobra.Command{
		Use:               "show STUDY",
		Short:             "Show a study with its trials, or one trial in full",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: g.completeStudy,
		RunE: func(cmd *cobra.Command, args []string) error {
			db, record, err := g.viewStudy(cmd, args[0])
			if err != nil {
				return err
			}
			defer db.Close()
			w := cmd.OutOrStdout()
			if cmd.Flags().Changed("trial") {
				trial, err := db.Trial(cmd.Context(), record, number)
				if err != nil {
					return err
				}
				if asJSON {
					return writeJSON(w, newTrialDocument(record, trial))
				}
				printTrial(w, record, trial)
				return nil
			}
			var trials []store.Trial
			var fronts []store.FrontPoint
			if err := db.Snapshot(cmd.Context(), func(at *store.Store) (err error) {
				if trials, err = at.Trials(cmd.Context(), record); err == nil && asJSON {
					fronts, err = at.Fronts(cmd.Context(), record)
				}
				return err
			}); err != nil {
				return err
			}
			if asJSON {
				return writeJSON(w, newStudyDocument(record, trials, fronts))
			}
			printStudy(w, record, trials)
			return nil
		},
	}
	cmd.Flags().Int64Var(&number, "trial", 0, "show this trial in full")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func newStudyDocument(record *store.Record, trials []store.Trial, fronts []store.FrontPoint) studyDocument {
	document := studyDocument{SchemaVersion: schemaVersion, Study: record.Name, Created: record.Created.UTC(), Metric: record.Metric,
		Seed: record.Seed, Geometry: record.Geometry, Reference: record.Reference, Identity: record.Identity,
		Hypervolume: studies.FrontOf(trials, record.Reference).Hypervolume, Fronts: []frontAfter{}, Trials: []trialEntry{}}
	if record.WarmStart != nil {
		document.WarmStart = record.WarmStart.Study
	}
	for _, f := range fronts {
		document.Fronts = append(document.Fronts, frontAfter(f))
	}
	for _, t := range trials {
		document.Trials = append(document.Trials, newTrialEntry(record, t))
	}
	return document
}

func newTrialDocument(record *store.Record, t store.Trial) trialDocument {
	count := t.Candidate.Plan.Params(record.Geometry)
	return trialDocument{SchemaVersion: schemaVersion, Study: record.Name, Metric: record.Metric, trialEntry: newTrialEntry(record, t),
		Methods: count.Methods, AutoPEFTPercent: count.AutoPEFTPercent(record.Geometry),
		Curve: append([]store.CurvePoint{}, t.Curve...)}
}

// field writes a line of a list of names and values.
func field(w io.Writer, name, format string, args ...any) {
	fmt.Fprintf(w, "%-12s %s\n", name, fmt.Sprintf(format, args...))
}

func printStudy(w io.Writer, record *store.Record, trials []store.Trial) {
	g, r := record.Geometry, record.Reference
	front := studies.FrontOf(trials, r)
	field(w, "study", "%s, started %s", record.Name, record.Created.Local().Format("2006-01-02 15:04"))
	field(w, "model", "%s, %d layers, %d wide, %s parameters", g.Architecture, g.Layers, g.Hidden, thousands(g.BackboneParams))
	field(w, "plans", "from %s to %s parameters", thousands(r.MinParams), thousands(r.MaxParams))
	field(w, "score", "%s on dev; the best constant prediction has %s", record.Metric, score(r.Chance))
	if start := record.WarmStart; start != nil {
		field(w, "warm start", "with %d trials of study %s", len(start.Trials), start.Study)
	}
	field(w, "front", "%d plans, hypervolume %s", len(front.Members), score(front.Hypervolume))
	fmt.Fprintln(w)
	t := newTable(w, "trial", "state", "from", "params", "% of model", record.Metric, "plan")
	t.SetColumnConfigs(append(right(1, 4, 5, 6), planColumn(7, 72)))
	for _, trial := range trials {
		value := ""
		if scored(trial) {
			value = score(trial.Result.Score)
		}
		plan := trial.Candidate.Plan.String()
		if trial.Failure != nil {
			plan += ": " + firstLine(trial.Failure.Error())
		}
		t.AppendRow(table.Row{trial.Number, trial.State, trial.Origin, thousands(trial.Params), percent(trial.Params, g), value, plan})
	}
	t.Render()
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

func printTrial(w io.Writer, record *store.Record, t store.Trial) {
	g, plan, training := record.Geometry, t.Candidate.Plan, t.Candidate.Training
	count := plan.Params(g)
	field(w, "trial", "%d of %s, %s", t.Number, record.Name, t.State)
	field(w, "plan", "%s", plan)
	field(w, "from", "%s: %s", t.Origin, cmp.Or(t.Reason, "no reason is stored"))
	field(w, "params", "%s, %s %% of the model (%.3f %% in AutoPEFT's count)", thousands(t.Params), percent(t.Params, g), count.AutoPEFTPercent(g))
	for _, m := range []struct {
		method peft.Method
		count  peft.MethodCount
	}{{peft.MethodSerial, count.Methods.Serial}, {peft.MethodParallel, count.Methods.Parallel},
		{peft.MethodPrefix, count.Methods.Prefix}, {peft.MethodLoRA, count.Methods.LoRA}} {
		if m.count.Total() > 0 {
			field(w, "  "+string(m.method), "%s", thousands(m.count.Total()))
		}
	}
	field(w, "training", "learning rate %g, %s, batch size %d, seed %d", training.LearningRate, training.Schedule, training.BatchSize, t.Seed)
	if t.Failure != nil {
		field(w, "failure", "%s", t.Failure)
	}
	if !scored(t) {
		return
	}
	r := t.Result
	field(w, "head", "%s parameters, not counted above", thousands(r.Head))
	field(w, "dev", "%s", metrics(r.Dev))
	field(w, "best", "%s %s at step %d of %d", record.Metric, score(r.Score), r.BestStep, r.Steps)
	if r.Stopped != "" {
		field(w, "stopped", "%s", r.Stopped)
	}
	field(w, "cost", "%.1f s, %d MiB", r.WallS, r.PeakB>>20)
	if len(t.Curve) == 0 {
		return
	}
	fmt.Fprintln(w)
	curve := newTable(w, "step", "loss", record.Metric)
	curve.SetColumnConfigs(right(1, 2, 3))
	for _, p := range t.Curve {
		curve.AppendRow(table.Row{p.Step, score(p.Loss), score(p.Score)})
	}
	curve.Render()
}

// metrics writes scores by metric in a line.
func metrics(values map[string]float64) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(values)) {
		parts = append(parts, name+" "+score(values[name]))
	}
	return strings.Join(parts, " · ")
}
