package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"path/filepath"

	"github.com/spf13/cobra"

	"peftsearch/evaluator"
	"peftsearch/peft"
	"peftsearch/studies"
	"peftsearch/studies/config"
	"peftsearch/studies/report"
)

type trainFlags struct {
	trial     int64
	plan, out string
	file      fileFlags
	precision precisionFlag
	json      bool
}

func newTrain(g *globals) *cobra.Command {
	var flags trainFlags
	cmd := &cobra.Command{
		Use:   "train STUDY --trial N --out DIR",
		Short: "Train a plan in full and score it on the test split",
		Long: `Train the plan of a trial, or of a file, with the study file's full budget (budget.train), keep the weights
of the best dev score, and score them on the test split. The directory holds all that predict needs.
Ctrl-C leaves a checkpoint; the same command continues.`,
		Example: "  peftsearch train my-study --trial 17 --out trained\n" +
			"  peftsearch train --plan plan.json --config study.yaml --out trained",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: g.completeStudy,
		RunE: func(cmd *cobra.Command, args []string) error {
			fromStudy := len(args) == 1 && cmd.Flags().Changed("trial") && flags.plan == ""
			fromFile := len(args) == 0 && !cmd.Flags().Changed("trial") && flags.plan != "" && flags.file.config != ""
			if !fromStudy && !fromFile {
				return usage("peftsearch train --help", "name either STUDY with --trial, or --plan with --config")
			}
			if fromFile {
				return g.trainFile(cmd, flags)
			}
			return g.trainTrial(cmd, args[0], flags)
		},
	}
	set := cmd.Flags()
	set.Int64Var(&flags.trial, "trial", 0, "train the plan of this trial")
	set.StringVar(&flags.plan, "plan", "", "train the plan in this file")
	flags.file.add(cmd, true)
	flags.precision.add(cmd, "the study's")
	set.StringVar(&flags.out, "out", "", "directory for the trained weights")
	set.BoolVar(&flags.json, "json", false, "print JSON")
	cmd.MarkFlagRequired("out")
	return cmd
}

func (g *globals) trainTrial(cmd *cobra.Command, name string, flags trainFlags) error {
	db, record, err := g.viewStudy(cmd, name)
	if err != nil {
		return err
	}
	trial, err := db.Trial(cmd.Context(), record, flags.trial)
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	file, inputs, err := flags.file.open(record, g.notes(cmd))
	if err != nil {
		return err
	}
	if err := flags.file.mayRun(record, file); err != nil {
		return err
	}
	if err := studies.Check(record, file, inputs); err != nil {
		return err
	}
	job := evaluator.Job{Trial: trial.Number, Candidate: trial.Candidate, Seed: trial.Seed}
	return g.train(cmd, file, inputs, job, flags, repeat(cmd, name))
}

func (g *globals) trainFile(cmd *cobra.Command, flags trainFlags) error {
	file, err := config.Read(flags.file.config)
	if err != nil {
		return err
	}
	inputs, err := g.openInputs(cmd.Context(), file, cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	plan, err := readPlan(flags.plan)
	if err != nil {
		return err
	}
	if err := plan.Validate(inputs.Geometry); err != nil {
		return usage(planAdvice, "%s: %w", flags.plan, err)
	}
	job := evaluator.Job{Candidate: evaluator.Candidate{Plan: plan, Training: inputs.Training}, Seed: file.Search.Seed}
	return g.train(cmd, file, inputs, job, flags, repeat(cmd))
}

const planAdvice = "docs/reference/plan.md describes plans; peftsearch export writes them"

func readPlan(path string) (peft.Plan, error) {
	plan, err := peft.ReadPlan(path)
	if err != nil {
		return plan, usage(planAdvice, "%w", err)
	}
	return plan, nil
}

// train runs the job with the full budget; again is the command that continues it.
func (g *globals) train(cmd *cobra.Command, file *config.Config, inputs *config.Inputs, job evaluator.Job,
	flags trainFlags,
	again string) error {
	if file.Evaluator.Analytic {
		return usage("set evaluator.analytic to false", "the study scores plans by a formula: there is nothing to train")
	}
	if peft.Finished(flags.out) {
		return usage("choose another --out, or remove the directory first", "%s holds a trained plan already", flags.out)
	}
	output, err := filepath.Abs(flags.out)
	if err != nil {
		return fmt.Errorf("--out: %w", err)
	}
	job.Output, job.Budget, job.Test = output, file.FullBudget(), true
	file.Evaluator.Precision = cmp.Or(string(flags.precision), file.Evaluator.Precision)

	ctx, stop := signal.NotifyContext(cmd.Context(), endings()...)
	defer stop()
	context.AfterFunc(ctx, stop) // the next signal ends the program
	stderr := cmd.ErrOrStderr()
	progress := &trainProgress{display: g.newDisplay(stderr, logText)}
	result, err := g.evaluate(ctx, file, inputs, job, progress, stderr)
	progress.close()
	var failed *evaluator.Failure
	switch {
	case ctx.Err() != nil:
		return &failure{exitInterrupted, fmt.Errorf("interrupted; %s holds a checkpoint if a step was done", flags.out),
			again}
	case errors.As(err, &failed):
		try := "-v shows the worker's log"
		if !progress.start.IsZero() { // a step was done: what failed was not the checkpoint of an earlier run
			try = again + " goes on from the last checkpoint; " + try
		}
		return &failure{exitNoTrial, fmt.Errorf("training failed: %w", err), try}
	case err != nil:
		return err
	}

	plan := job.Candidate.Plan
	document := report.Training{SchemaVersion: report.SchemaVersion, Directory: output, HeadParams: result.Head,
		BestStep: result.BestStep,
		Dev:      result.Dev, Test: result.Test, Plan: plan}
	trained, err := peft.ReadTrained(output)
	if err != nil {
		return fmt.Errorf("reading back what was trained: %w", err)
	}
	document.Params = plan.Params(trained.Info.Geometry).Total()
	if flags.json {
		return report.WriteJSON(cmd.OutOrStdout(), document)
	}
	w := cmd.OutOrStdout()
	field(w, "plan", "%s", plan)
	field(w, "params", "%s, and %s of the head", thousands(document.Params), thousands(document.HeadParams))
	field(w, "dev", "%s", metrics(result.Dev))
	field(w, "test", "%s", metrics(result.Test))
	field(w, "best step", "%d of %d", result.BestStep, result.Steps)
	field(w, "directory", "%s", flags.out)
	if !g.quiet {
		fmt.Fprintf(stderr, "\npredict   %s --input FILE\n", commandLine("peftsearch", "predict", flags.out))
	}
	return nil
}

// evaluate runs one job in a worker of its own.
func (g *globals) evaluate(ctx context.Context, file *config.Config, inputs *config.Inputs, job evaluator.Job,
	progress *trainProgress, stderr io.Writer) (evaluator.Result, error) {
	all := cores() * max(1, int(file.Evaluator.Workers)) // one worker gets all cores
	options, err := g.workerOptions(file, all, progress.writer(stderr))
	if err != nil {
		return evaluator.Result{}, err
	}
	options.Expect, options.Loading = file.Expect(inputs), progress.loading
	worker, err := evaluator.NewProcess(ctx, options)
	if err != nil {
		return evaluator.Result{}, err
	}
	result, err := worker.Evaluate(ctx, job, progress.report)
	return result, errors.Join(err, worker.Close())
}
