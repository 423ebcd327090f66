package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"peftsearch/evaluator"
	"peftsearch/peft"
	"peftsearch/studies"
	"peftsearch/studies/report"
	"peftsearch/studies/store"
)

type confirmFlags struct {
	given   []string
	file    fileFlags
	front   bool
	trials  []int64
	presets []string
	full    fullFlags
	seeds   int
	json    bool
}

func newConfirm(g *globals) *cobra.Command {
	var flags confirmFlags
	cmd := &cobra.Command{
		Use:   "confirm STUDY",
		Short: "Train plans in full on several seeds and compare their test scores",
		Long: `Train plans with the study's full budget (budget.train) on several seeds, score them on the test split, and
say which differences from the best are larger than noise: those with p < 0.05 by the studentised range (Games
and Howell), which allows for every pair of the plans and for unequal noise. Trainings are stored, front shows
them, and none is done twice: after an interruption the same command does what is missing.`,
		Example: `  peftsearch confirm my-study --front --seeds 5
  peftsearch confirm my-study --trial 17,23 --preset lora-r8,mam --full`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: g.completeStudy,
		RunE: func(cmd *cobra.Command, args []string) error {
			if flags.seeds < 1 || flags.seeds > 1000 {
				return usage("", "--seeds %d: must be between 1 and 1000", flags.seeds)
			}
			if err := flags.full.check(); err != nil {
				return err
			}
			return g.confirm(cmd, args[0], flags)
		},
	}
	set := cmd.Flags()
	set.BoolVar(&flags.front, "front", false, "the plans of the front")
	set.Int64SliceVar(&flags.trials, "trial", nil, "the plans of these trials")
	set.StringSliceVar(&flags.presets, "preset", nil, "plans from the literature, as under baselines in the study file")
	flags.full.add(cmd)
	set.IntVar(&flags.seeds, "seeds", 5, "trainings of each plan, with seeds 40, 41, …")
	set.BoolVar(&flags.json, "json", false, "print JSON")
	flags.file.add(cmd, true)
	set.StringArrayVar(&flags.given, "given", nil,
		"score this trained directory too, as it is: one that train or import wrote")
	cmd.MarkFlagsOneRequired("front", "trial", "preset", "full", "given")
	cmd.MarkFlagDirname("given")
	cmd.RegisterFlagCompletionFunc("preset", cobra.FixedCompletions(peft.Presets(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// namedCandidate is something to confirm.
type namedCandidate struct {
	name      string
	candidate evaluator.Candidate
}

// candidates lists what the flags select, each once: under its first name and, in brackets, its others.
func (f confirmFlags) candidates(cmd *cobra.Command, db *store.Store, study *studies.Study) ([]namedCandidate, error) {
	var selected []namedCandidate
	add := func(name string, c evaluator.Candidate) {
		i := slices.IndexFunc(selected, func(s namedCandidate) bool { return s.candidate.Key() == c.Key() })
		switch {
		case i < 0:
			selected = append(selected, namedCandidate{name, c})
		case selected[i].name != name:
			selected[i].name += " (" + name + ")"
		}
	}
	record := study.Record()
	if f.front {
		front, err := studies.ReadFront(cmd.Context(), db, record)
		if err != nil {
			return nil, err
		}
		for _, m := range front.Members {
			add(fmt.Sprintf("trial %d", m.Number), m.Candidate)
		}
		if len(selected) == 0 {
			return nil, usage(commandLine("peftsearch", "show", record.Name),
				"the study has no complete trial yet, and so no front")
		}
	}
	for _, number := range f.trials {
		trial, err := db.Trial(cmd.Context(), record, number)
		if err != nil {
			return nil, err
		}
		add(fmt.Sprintf("trial %d", number), trial.Candidate)
	}
	for _, name := range f.presets {
		preset, err := namedPreset(name, record.Geometry)
		if err != nil {
			return nil, err
		}
		add(name, study.Baseline(preset))
	}
	if f.full.full {
		add(fmt.Sprintf("full fine-tuning, rate %g", f.full.rate), study.FullFineTuning(f.full.rate))
	}
	return selected, nil
}

func (g *globals) confirm(cmd *cobra.Command, name string, flags confirmFlags) (err error) {
	db, study, err := g.openStudy(cmd, name, flags.file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := flags.file.mayRun(study.Record(), study.Config()); err != nil {
		return err
	}
	selected, err := flags.candidates(cmd, db, study)
	if err != nil {
		return err
	}
	candidates, names := make([]evaluator.Candidate, len(selected)), map[string]string{}
	for i, s := range selected {
		candidates[i], names[s.candidate.Key()] = s.candidate, s.name
	}

	stderr := cmd.ErrOrStderr()
	stored, err := study.Confirmed(cmd.Context())
	if err != nil {
		return err
	}
	g.warnMixed(cmd, study)
	if trained(stored, candidates, flags.seeds) < len(candidates)*flags.seeds {
		if err := g.chooseWorkers(cmd.Context(), study, stderr); err != nil {
			return err
		}
	}
	progress := &confirmProgress{display: g.newDisplay(stderr, logText), names: names}
	ctx, signals := watchInterrupts(cmd.Context(), heedSchedulers(), func() {
		progress.note(slog.LevelInfo, "running trainings end and are stored; interrupt again to stop at once")
	}, progress.leave)
	defer signals.stop()
	if len(candidates) > 0 {
		err = study.Confirm(ctx, g.evaluators(study, progress.writer(stderr)), candidates, flags.seeds,
			studies.ConfirmOptions{Events: progress.event, Drain: signals.drain})
	}
	progress.close()

	again := repeat(cmd, name)
	var failed *studies.ConfirmError
	confirmed, readErr := study.Confirmed(cmd.Context())
	switch {
	case readErr != nil:
		return errors.Join(err, readErr)
	case errors.As(err, &failed):
		err = &failure{exitNoTrial, err, again + " tries them again; -v shows the worker's log"}
	case signals.interrupted() && (err == nil || errors.Is(err, context.Canceled)):
		if done, total := trained(confirmed, candidates, flags.seeds), len(candidates)*flags.seeds; done < total {
			return &failure{exitInterrupted, fmt.Errorf("interrupted; %d of %d trainings are stored", done, total), again}
		}
		err = nil
	case err != nil:
		return err
	}

	var selectedConfirmations []*studies.Confirmation
	for _, c := range candidates {
		if confirmation := confirmed.Of(c); confirmation != nil {
			selectedConfirmations = append(selectedConfirmations, confirmation)
		}
	}
	confirmation := report.NewConfirmation(study.Record(), studies.Rank(selectedConfirmations), names)
	for _, dir := range flags.given {
		given, failed := g.scoreGiven(cmd.Context(), study, dir, stderr)
		if failed != nil {
			return errors.Join(err, failed)
		}
		confirmation.Given = append(confirmation.Given, given)
	}
	if flags.json {
		return errors.Join(err, report.WriteJSON(cmd.OutOrStdout(), confirmation))
	}
	if len(confirmation.Plans) > 0 {
		printConfirmed(cmd.OutOrStdout(), confirmation)
	}
	printGiven(cmd.OutOrStdout(), confirmation.Metric, confirmation.Given)
	printDropped(cmd.OutOrStdout(), confirmation)
	if !g.quiet && len(confirmation.Plans) > 1 {
		fmt.Fprintln(stderr, "\nworse: p < 0.05 by the studentised range, which allows for the number of plans and for "+
			"unequal noise")
	}
	return err
}

// trained counts the stored trainings of the candidates, at most so many of each.
func trained(confirmed studies.Confirmations, candidates []evaluator.Candidate, seeds int) int {
	n := 0
	for _, c := range candidates {
		if confirmation := confirmed.Of(c); confirmation != nil {
			n += min(seeds, len(confirmation.Trainings))
		}
	}
	return n
}

// printConfirmed writes the comparison as a table.
func printConfirmed(w io.Writer, c report.Confirmation) {
	t := newTable(w, "plan", "params", "% of model", "seeds", "test "+c.Metric, "sd", "95 % interval", "behind", "p", "")
	for i, p := range c.Plans {
		row := table.Row{p.Name, thousands(p.Params), percent(p.ParamsPercent), p.Test.Seeds, score(p.Test.Mean), "", "",
			"", "", ""}
		if interval := p.Test.Interval; interval != nil {
			row[5], row[6] = score(*p.Test.SD), score(interval[0])+"–"+score(interval[1])
		}
		switch {
		case i == 0:
			row[9] = green("best")
		case p.LargerThanNoise:
			row[9] = "worse"
		case p.PValue != nil:
			row[9] = "within noise"
		}
		if i > 0 {
			row[7] = score(p.Behind)
			if p.PValue != nil {
				row[8] = pValue(*p.PValue)
			}
		}
		t.AppendRow(row)
	}
	t.renderIn(terminalWidth(os.Stdout), right(2, 3, 4, 5, 6, 7, 8, 9), 3, 6, 4, 9)
}

// printDropped writes the mean test scores of plans that were trained to do without modules in the lowest layers.
func printDropped(w io.Writer, c report.Confirmation) {
	for _, p := range c.Plans {
		if len(p.Dropped) == 0 {
			continue
		}
		fmt.Fprintf(w, "\n%s without the modules of its lowest layers, test %s\n", p.Name, c.Metric)
		t := newTable(w, "layers", "params", "test "+c.Metric)
		for _, d := range p.Dropped {
			t.AppendRow(table.Row{d.Layers, thousands(d.Params), score(d.Mean)})
		}
		t.renderIn(terminalWidth(os.Stdout), right(1, 2, 3))
	}
}

func pValue(p float64) string {
	if p < 0.0001 {
		return "<0.0001"
	}
	return score(p)
}
