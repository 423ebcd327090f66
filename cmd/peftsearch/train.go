package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"peftsearch/evaluator"
	"peftsearch/peft"
	"peftsearch/studies"
	"peftsearch/studies/config"
	"peftsearch/studies/report"
)

type trainFlags struct {
	trial             int64
	plan, config, out string
	json              bool
}

func newTrain(g *globals) *cobra.Command {
	var flags trainFlags
	cmd := &cobra.Command{
		Use:   "train STUDY --trial N --out DIR",
		Short: "Train a plan in full and score it on the test split",
		Long: `Train the plan of a trial, or of a file, with the study file's full budget (budget.train), keep the weights
of the best dev score, and score them on the test split. The directory holds all that predict needs.
Ctrl-C leaves a checkpoint; the same command continues.`,
		Example:           "  peftsearch train my-study --trial 17 --out trained\n  peftsearch train --plan plan.json --config study.yaml --out trained",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: g.completeStudy,
		RunE: func(cmd *cobra.Command, args []string) error {
			fromStudy := len(args) == 1 && cmd.Flags().Changed("trial") && flags.plan == "" && flags.config == ""
			fromFile := len(args) == 0 && !cmd.Flags().Changed("trial") && flags.plan != "" && flags.config != ""
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
	set.StringVar(&flags.config, "config", "", "study file with model, data and settings, for --plan")
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
	file, err := studies.StudyFile(record)
	if err != nil {
		return err
	}
	inputs, err := file.Open()
	if err != nil {
		return err
	}
	if err := studies.Check(record, file, inputs); err != nil {
		return err
	}
	job := evaluator.Job{Trial: trial.Number, Candidate: trial.Candidate, Seed: trial.Seed}
	again := g.command(cmd, "train", name, "--trial", strconv.FormatInt(flags.trial, 10), "--out", flags.out)
	return g.train(cmd, file, job, flags, again)
}

func (g *globals) trainFile(cmd *cobra.Command, flags trainFlags) error {
	file, err := config.Read(flags.config)
	if err != nil {
		return err
	}
	inputs, err := file.Open()
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
	again := commandLine("peftsearch", "train", "--plan", flags.plan, "--config", flags.config, "--out", flags.out)
	return g.train(cmd, file, job, flags, again)
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
func (g *globals) train(cmd *cobra.Command, file *config.Config, job evaluator.Job, flags trainFlags, again string) error {
	if file.Evaluator.Analytic {
		return usage("set evaluator.analytic to false", "the study scores plans by a formula: there is nothing to train")
	}
	if _, err := os.Stat(filepath.Join(flags.out, "plan.json")); err == nil {
		return usage("choose another --out, or remove the directory first", "%s holds a trained plan already", flags.out)
	}
	output, err := filepath.Abs(flags.out)
	if err != nil {
		return fmt.Errorf("--out: %w", err)
	}
	job.Output, job.Budget, job.Test = output, file.FullBudget(), true

	ctx, stop := signal.NotifyContext(cmd.Context(), endings()...)
	defer stop()
	context.AfterFunc(ctx, stop) // the next signal ends the program
	stderr := cmd.ErrOrStderr()
	progress := &trainProgress{display: g.newDisplay(stderr)}
	result, err := g.evaluate(ctx, file, job, progress, stderr)
	progress.close()
	var failed *evaluator.Failure
	switch {
	case ctx.Err() != nil:
		return &failure{exitInterrupted, fmt.Errorf("interrupted; %s holds a checkpoint if a step was done", flags.out), again}
	case errors.As(err, &failed):
		return &failure{exitNoTrial, fmt.Errorf("training failed: %w", err), again + " goes on from the last checkpoint; -v shows the worker's log"}
	case err != nil:
		return err
	}

	plan := job.Candidate.Plan
	document := report.Training{SchemaVersion: report.SchemaVersion, Directory: output, HeadParams: result.Head, BestStep: result.BestStep,
		Dev: result.Dev, Test: result.Test, Plan: plan}
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
func (g *globals) evaluate(ctx context.Context, file *config.Config, job evaluator.Job, progress *trainProgress,
	stderr io.Writer) (evaluator.Result, error) {
	hello := file.Hello(cores() * max(1, int(file.Evaluator.Workers))) // one worker gets all cores
	worker, err := g.startWorker(ctx, file.Evaluator.Command, hello, progress.writer(stderr))
	if err != nil {
		return evaluator.Result{}, err
	}
	result, err := worker.Evaluate(ctx, job, progress.report)
	return result, errors.Join(err, worker.Close())
}
