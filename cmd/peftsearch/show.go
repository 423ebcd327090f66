package main

import (
	"fmt"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"peftsearch/evaluator"
	"peftsearch/peft"
	"peftsearch/studies"
)

// trialJSON is a trial in JSON documents.
type trialJSON struct {
	Trial           int64                `json:"trial"`
	State           studies.State        `json:"state"`
	Origin          string               `json:"origin"`
	Reason          string               `json:"reason"`
	Params          int64                `json:"params"`
	ParamsPercent   float64              `json:"params_percent"`
	AutoPEFTPercent float64              `json:"autopeft_percent"` // weights only, as the paper counts
	Methods         peft.LayerCount      `json:"methods"`
	Score           *float64             `json:"score"`
	Dev             map[string]float64   `json:"dev"`
	BestStep        int                  `json:"best_step"`
	Steps           int                  `json:"steps"`
	HeadParams      int64                `json:"head_params"`
	WallS           float64              `json:"wall_s"`
	PeakBytes       int64                `json:"peak_bytes"`
	Stopped         string               `json:"stopped"`
	Failure         *evaluator.Failure   `json:"failure"`
	Seed            uint64               `json:"seed"`
	Attempts        int                  `json:"attempts"`
	Created         time.Time            `json:"created"`
	Finished        *time.Time           `json:"finished"`
	Candidate       evaluator.Candidate  `json:"candidate"`
	Curve           []studies.CurvePoint `json:"curve,omitempty"`
}

func trialDocument(r *studies.Record, t studies.Trial) trialJSON {
	params := t.Candidate.Plan.Params(r.Geometry)
	d := trialJSON{Trial: t.Number, State: t.State, Origin: t.Origin, Reason: t.Reason, Params: t.Params,
		ParamsPercent: params.Percent(r.Geometry), AutoPEFTPercent: params.AutoPEFTPercent(r.Geometry), Methods: params.Methods,
		Dev: t.Result.Dev, BestStep: t.Result.BestStep, Steps: t.Result.Steps, HeadParams: t.Result.Head, WallS: t.Result.WallS,
		PeakBytes: t.Result.PeakB, Stopped: t.Result.Stopped, Failure: t.Failure, Seed: t.Seed, Attempts: t.Attempts,
		Created: t.Created.UTC(), Candidate: t.Candidate, Curve: t.Curve}
	if t.State == studies.Complete || t.State == studies.Pruned {
		d.Score = &t.Result.Score
	}
	if !t.Finished.IsZero() {
		finished := t.Finished.UTC()
		d.Finished = &finished
	}
	return d
}

func (a *app) show() *cobra.Command {
	var asJSON bool
	var number int64
	cmd := &cobra.Command{
		Use:               "show STUDY [--trial N]",
		Short:             "Show the trials of a study, or one trial in full",
		Args:              exactly(1, "a study"),
		ValidArgsFunction: a.studyNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			store, record, err := a.view(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			defer store.Close()
			if cmd.Flags().Changed("trial") {
				trial, err := store.Trial(cmd.Context(), record, number)
				if err != nil {
					return err
				}
				if asJSON {
					return writeJSON(a.stdout, struct {
						SchemaVersion int    `json:"schema_version"`
						Study         string `json:"study"`
						trialJSON
					}{schemaVersion, record.Name, trialDocument(record, trial)})
				}
				a.showTrial(record, trial)
				return nil
			}
			trials, err := store.Trials(cmd.Context(), record)
			if err != nil {
				return err
			}
			if asJSON {
				list := []trialJSON{}
				for _, t := range trials {
					list = append(list, trialDocument(record, t))
				}
				return writeJSON(a.stdout, struct {
					SchemaVersion int `json:"schema_version"`
					studyJSON
					List []trialJSON `json:"list"`
				}{schemaVersion, summary(record, trials), list})
			}
			a.showStudy(record, trials)
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().Int64Var(&number, "trial", 0, "the trial to show")
	return cmd
}

func (a *app) showStudy(r *studies.Record, trials []studies.Trial) {
	front := studies.FrontOf(trials, r.Reference)
	onFront := map[int64]bool{}
	for _, m := range front.Members {
		onFront[m.Number] = true
	}
	t := newTable(a.stdout, table.Row{"trial", "state", "params", r.Metric, "", "origin", "plan"}, "trial", "params", r.Metric)
	for _, trial := range trials {
		value, mark := "-", ""
		if trial.State == studies.Complete || trial.State == studies.Pruned {
			value = score(trial.Result.Score)
		}
		if onFront[trial.Number] {
			mark = "front"
		}
		t.AppendRow(table.Row{trial.Number, trial.State, count(trial.Params), value, mark, trial.Origin, trial.Candidate.Plan.String()})
	}
	t.Render()
	fmt.Fprintf(a.stdout, "\nhypervolume %.4f; scores from chance (%.3f) to 1, sizes from %s to %s parameters\n",
		front.Hypervolume, r.Reference.Chance, count(r.Reference.MinParams), count(r.Reference.MaxParams))
}

func (a *app) showTrial(r *studies.Record, t studies.Trial) {
	line := func(label, format string, args ...any) {
		fmt.Fprintf(a.stdout, "%-10s %s\n", label, fmt.Sprintf(format, args...))
	}
	line("trial", "%d of %s, %s", t.Number, r.Name, t.State)
	line("origin", "%s (%s)", t.Origin, t.Reason)
	params := t.Candidate.Plan.Params(r.Geometry)
	m := params.Methods
	line("params", "%d, %.4f %% of the model: serial %d, parallel %d, prefix %d, lora %d", params.Total(), params.Percent(r.Geometry),
		m.Serial.Total(), m.Parallel.Total(), m.Prefix.Total(), m.LoRA.Total())
	line("", "AutoPEFT's count %.4f %% (weights only)", params.AutoPEFTPercent(r.Geometry))
	training := t.Candidate.Training
	line("training", "learning rate %g, %s, warm-up %g, batch %d, seed %d", training.LearningRate, training.Schedule, training.WarmupRatio, training.BatchSize, t.Seed)
	if t.Failure != nil {
		line("failure", "%s: %s", t.Failure.Kind, t.Failure.Message)
	}
	if t.State == studies.Complete || t.State == studies.Pruned {
		line("score", "%.4f %s at step %d of %d", t.Result.Score, r.Metric, t.Result.BestStep, t.Result.Steps)
		line("head", "%d parameters, not counted above", t.Result.Head)
		line("cost", "%s, at most %d MiB", duration(time.Duration(t.Result.WallS*float64(time.Second))), t.Result.PeakB>>20)
	}
	if t.Result.Stopped != "" {
		line("stopped", "%s", t.Result.Stopped)
	}
	if len(t.Curve) > 0 {
		fmt.Fprintln(a.stdout)
		curve := newTable(a.stdout, table.Row{"step", "loss", r.Metric}, "step", "loss", r.Metric)
		for _, p := range t.Curve {
			curve.AppendRow(table.Row{p.Step, fmt.Sprintf("%.4f", p.Loss), score(p.Score)})
		}
		curve.Render()
	}
	fmt.Fprintln(a.stdout)
	layers := newTable(a.stdout, table.Row{"layer", "serial", "parallel", "prefix", "lora", "params"}, "layer", "serial", "parallel", "prefix", "lora", "params")
	for i, l := range t.Candidate.Plan.Layers {
		cell := func(present bool, size func() int) any {
			if !present {
				return "·"
			}
			return size()
		}
		layers.AppendRow(table.Row{i, cell(l.Serial != nil, func() int { return l.Serial.Width }), cell(l.Parallel != nil, func() int { return l.Parallel.Width }),
			cell(l.Prefix != nil, func() int { return l.Prefix.Length }), cell(l.LoRA != nil, func() int { return l.LoRA.Rank }), params.Layers[i].Total()})
	}
	layers.Render()
}
