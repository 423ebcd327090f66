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
	from      string
	full      fullFlags
	file      fileFlags
	precision precisionFlag
	json      bool
}

func newTrain(g *globals) *cobra.Command {
	var flags trainFlags
	cmd := &cobra.Command{
		Use:   "train {STUDY --trial N | {--plan FILE | --from DIR | --full} --config STUDY.yaml} --out DIR",
		Short: "Train a plan in full and score it on the test split",
		Long: `Train the plan of a trial, or of a file, with the study file's full budget (budget.train), keep the weights
of the best dev score, and score them on the test split. The directory holds all that predict needs. With --full every
weight of the model is trained, as transformers' Trainer does: with dropout, and with the pooler and head of its class
for the task. With --from, training goes on from the weights of such a directory.
Ctrl-C leaves a checkpoint; the same command continues.`,
		Example: "  peftsearch train my-study --trial 17 --out trained\n" +
			"  peftsearch train --plan plan.json --config study.yaml --out trained\n" +
			"  peftsearch train --from trained --config more.yaml --out trained-on\n" +
			"  peftsearch train --full --config study.yaml --out trained",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: g.completeStudy,
		RunE: func(cmd *cobra.Command, args []string) error {
			plans := 0 // that are named
			for _, named := range []bool{cmd.Flags().Changed("trial"), flags.plan != "", flags.from != "", flags.full.full} {
				if named {
					plans++
				}
			}
			fromStudy := len(args) == 1 && cmd.Flags().Changed("trial")
			fromFile := len(args) == 0 && !cmd.Flags().Changed("trial") && flags.file.config != ""
			if plans != 1 || !fromStudy && !fromFile {
				return usage("peftsearch train --help",
					"name either STUDY with --trial, or one of --plan, --from and --full with --config")
			}
			if err := flags.full.check(); err != nil {
				return err
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
	set.StringVar(&flags.from, "from", "", "train on from this trained directory, with its plan")
	flags.full.add(cmd)
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
	job := evaluator.Job{Seed: file.Search.Seed}
	switch {
	case flags.full.full:
		job.Candidate = studies.FullFineTuning(file, inputs, flags.full.rate)
	case flags.from != "":
		trained, err := peft.ReadTrained(flags.from)
		if err != nil {
			return usage("peftsearch train and import write such a directory", "%w", err)
		}
		if job.From, err = filepath.Abs(flags.from); err != nil {
			return fmt.Errorf("--from: %w", err)
		}
		training := inputs.Training // what is stored is trained as it is, without what may have generated it
		training.PrefixMLP, training.Methods.Prompt.Encoder = 0, evaluator.PromptDirect
		job.Candidate = evaluator.Candidate{Plan: trained.Plan, Training: training}
	default:
		plan, err := readPlan(flags.plan)
		if err != nil {
			return err
		}
		if err := plan.Validate(inputs.Geometry); err != nil {
			return usage(planAdvice, "%s: %w", flags.plan, err)
		}
		job.Candidate = evaluator.Candidate{Plan: plan, Training: inputs.Training}
	}
	return g.train(cmd, file, inputs, job, flags, repeat(cmd))
}

// fullFlags ask for full fine-tuning.
type fullFlags struct {
	full bool
	rate float64
}

func (f *fullFlags) add(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.full, "full", false, "full fine-tuning of the backbone")
	cmd.Flags().Float64Var(&f.rate, "full-rate", 5e-5,
		"peak learning rate of --full; the default is that of transformers' Trainer")
}

func (f *fullFlags) check() error {
	if !(f.rate > 0 && f.rate <= 1) {
		return usage("", "--full-rate %g: must be above 0 and at most 1", f.rate)
	}
	return nil
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

	origin := peft.Origin{Program: version(), Study: file.Study}
	if cmd.Flags().Changed("trial") {
		origin.Trial = &job.Trial
	}
	if err := peft.WriteOrigin(output, origin); err != nil {
		return err
	}
	plan := job.Candidate.Plan
	what := plan.String()
	if job.Candidate.Training.Backbone {
		what = "full fine-tuning"
	}
	document := report.Training{SchemaVersion: report.SchemaVersion, Directory: output, HeadParams: result.Head,
		BestStep: result.BestStep,
		Dev:      result.Dev, Test: result.Test, TestDropped: result.TestDropped, Plan: plan}
	trained, err := peft.ReadTrained(output)
	if err != nil {
		return fmt.Errorf("reading back what was trained: %w", err)
	}
	document.Params = plan.Params(trained.Info.Geometry).Total()
	if job.Candidate.Training.Backbone {
		document.Params += trained.Info.Geometry.BackboneParams
	}
	if flags.json {
		return report.WriteJSON(cmd.OutOrStdout(), document)
	}
	w := cmd.OutOrStdout()
	field(w, "plan", "%s", what)
	field(w, "params", "%s, and %s of the head", thousands(document.Params), thousands(document.HeadParams))
	field(w, "dev", "%s", metrics(result.Dev))
	field(w, "test", "%s", metrics(result.Test))
	for i, score := range result.TestDropped {
		field(w, "", "%s with %d of the lowest layers bare", metrics(map[string]float64{string(file.Task.Metric): score}),
			i+1)
	}
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
