package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"

	"github.com/spf13/cobra"

	"peftsearch/search"
	"peftsearch/studies"
	"peftsearch/studies/report"
	"peftsearch/studies/store"
)

func newRun(g *globals) *cobra.Command {
	var warmStart string
	cmd := &cobra.Command{
		Use:   "run STUDY.yaml",
		Short: "Start a study, or continue it",
		Long: `Start the study of a study file, or continue it where it stopped.

Ctrl-C lets running trials end and stores them; a second Ctrl-C interrupts them, and they run again with the
same seeds when the study continues. A finished trial is never lost. To go on after the last trial, raise
budget.trials in the study file.

With --warm-start a new study learns from the finished trials of another one, of a model of the same shape: if the
tasks turn out to be related, it finds good plans sooner. What is learned is kept with the study.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeFile("yaml", "yml"),
		RunE:              func(cmd *cobra.Command, args []string) error { return g.run(cmd, args[0], warmStart) },
	}
	cmd.Flags().StringVar(&warmStart, "warm-start", "", "start a new study with what this study of the database found")
	cmd.RegisterFlagCompletionFunc("warm-start", g.completeStudies)
	return cmd
}

func (g *globals) run(cmd *cobra.Command, path, warmStart string) (err error) {
	file, err := g.read(cmd, path)
	if err != nil {
		return err
	}
	if !file.Evaluator.Analytic { // before the inputs are read
		if _, err := workerCommand(file.Evaluator.Command); err != nil {
			return err
		}
	}
	inputs, err := g.openInputs(cmd.Context(), file, cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	db, err := g.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	study, err := studies.StartFrom(cmd.Context(), db, file, inputs, warmStart)
	if err != nil {
		return err
	}
	stderr := cmd.ErrOrStderr()
	status, err := study.Status(cmd.Context())
	if err != nil {
		return err
	}
	if status.Finished() < status.Trials {
		g.warnMixed(cmd, study)
		if err := g.chooseWorkers(cmd.Context(), study, stderr); err != nil {
			return err
		}
	}
	progress := &searchProgress{display: g.newDisplay(stderr), status: status}
	if study.Continued() {
		progress.note(slog.LevelInfo, "the study continues", "done", status.Finished(), "of", status.Trials)
	}
	if status.Finished() < status.Trials {
		rows := inputs.Dataset.Report()
		for _, line := range rows.Lines() {
			progress.note(slog.LevelInfo, line)
		}
		for _, note := range rows.Notes {
			progress.note(slog.LevelWarn, note)
		}
	}
	progress.show("")
	ctx, signals := watchInterrupts(cmd.Context(), func() {
		progress.note(slog.LevelInfo, "running trials end and are stored; interrupt again to stop at once")
	})
	defer signals.stop()
	status, err = study.Run(ctx, g.evaluators(study, progress.writer(stderr)), studies.RunOptions{Events: progress.event, Drain: signals.drain})
	progress.close()

	again := g.command(cmd, "run", path)
	switch {
	case signals.interrupted() && (err == nil || errors.Is(err, context.Canceled)) && status.Finished() < status.Trials:
		return &failure{exitInterrupted, fmt.Errorf("interrupted; %d of %d trials are stored", status.Finished(), status.Trials), again}
	case errors.Is(err, search.ErrExhausted) && !errors.Is(err, studies.ErrNoUsableTrial):
		fmt.Fprintln(stderr, "every plan of the search space has been tried")
	case err != nil:
		return err
	}
	return g.conclude(cmd, db, study.Record(), again)
}

// conclude prints the front, and on stderr what can be done with it.
func (g *globals) conclude(cmd *cobra.Command, db *store.Store, record *store.Record, again string) error {
	front, err := studies.ReadAssessed(cmd.Context(), db, record)
	if err != nil {
		return err
	}
	confirmed, err := studies.Confirmed(cmd.Context(), db, record)
	if err != nil {
		return err
	}
	document := report.NewFront(record, front, confirmed)
	printFront(cmd.OutOrStdout(), document.Metric, document.Front)
	if r := document.Recommendation; r != nil && !g.quiet {
		printRecommendation(cmd.ErrOrStderr(), document)
		g.printNext(cmd, record.Name, r.Trial, again)
	}
	return nil
}

func (g *globals) printNext(cmd *cobra.Command, study string, trial int64, again string) {
	number := strconv.FormatInt(trial, 10)
	fmt.Fprintf(cmd.ErrOrStderr(), `
continue  raise budget.trials, then %s
inspect   %s
confirm   %s
train     %s
export    %s
`, again, g.command(cmd, "show", study, "--trial", number), g.command(cmd, "confirm", study, "--front"),
		g.command(cmd, "train", study, "--trial", number, "--out", "trained"),
		g.command(cmd, "export", study, "--trial", number, "--to", "plan"))
}
