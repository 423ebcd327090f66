package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"peftsearch/evaluator"
	"peftsearch/peft"
	"peftsearch/studies"
)

func (a *app) train() *cobra.Command {
	var number int64
	var planFile, configFile, out string
	cmd := &cobra.Command{
		Use:   "train {STUDY --trial N | --plan FILE --config STUDY.yaml} --out DIR",
		Short: "Train one plan in full, and test it",
		Long: `Trains a plan with the budget budget.train of its study file, keeps the weights with the best dev score,
scores them on the test split, and leaves everything needed to use them in DIR. Ctrl-C saves a checkpoint
in DIR; the same command continues from it.`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.studyNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			fromStudy := len(args) == 1 && cmd.Flags().Changed("trial") && planFile == "" && configFile == ""
			fromPlan := len(args) == 0 && !cmd.Flags().Changed("trial") && planFile != "" && configFile != ""
			if out == "" || fromStudy == fromPlan {
				return usage(errors.New("train needs a plan and a directory"),
					"peftsearch train STUDY --trial N --out DIR, or peftsearch train --plan FILE --config STUDY.yaml --out DIR")
			}
			if _, err := os.Stat(filepath.Join(out, "plan.json")); err == nil {
				return usage(fmt.Errorf("%s already holds a trained plan", out), "another --out")
			}
			var config *studies.Config
			var job evaluator.Job
			var err error
			if fromStudy {
				config, job, err = a.jobOfTrial(cmd.Context(), args[0], number)
			} else {
				config, job, err = jobOfPlan(planFile, configFile)
			}
			if err != nil {
				return err
			}
			again := "peftsearch " + strings.Join(os.Args[1:], " ")
			return a.trainJob(cmd.Context(), config, job, out, again)
		},
	}
	cmd.Flags().Int64Var(&number, "trial", 0, "the trial whose plan, settings and seed are used")
	cmd.Flags().StringVar(&planFile, "plan", "", "a plan file instead of a trial")
	cmd.Flags().StringVar(&configFile, "config", "", "the study file that goes with --plan")
	cmd.Flags().StringVar(&out, "out", "", "directory for the result")
	return cmd
}

// jobOfTrial takes plan, settings and seed from a trial, and the rest from its study file as it was.
func (a *app) jobOfTrial(ctx context.Context, name string, number int64) (*studies.Config, evaluator.Job, error) {
	store, record, err := a.view(ctx, name)
	if err != nil {
		return nil, evaluator.Job{}, err
	}
	defer store.Close()
	trial, err := store.Trial(ctx, record, number)
	if err != nil {
		return nil, evaluator.Job{}, err
	}
	config, err := record.ReadConfig()
	if err != nil {
		return nil, evaluator.Job{}, err
	}
	inputs, err := config.Open()
	if err != nil {
		return nil, evaluator.Job{}, err
	}
	if err := record.Check(config, inputs); err != nil {
		return nil, evaluator.Job{}, err
	}
	return config, evaluator.Job{Trial: trial.Number, Candidate: trial.Candidate, Seed: trial.Seed}, nil
}

// jobOfPlan takes the plan from a file, and the rest from a study file.
func jobOfPlan(planFile, configFile string) (*studies.Config, evaluator.Job, error) {
	config, err := studies.ReadConfig(configFile)
	if err != nil {
		return nil, evaluator.Job{}, err
	}
	inputs, err := config.Open()
	if err != nil {
		return nil, evaluator.Job{}, err
	}
	plan, err := readPlan(planFile)
	if err != nil {
		return nil, evaluator.Job{}, err
	}
	if err := plan.Validate(inputs.Geometry); err != nil {
		return nil, evaluator.Job{}, usage(fmt.Errorf("%s: %w", planFile, err), "a plan for this model; docs/reference/plan.md describes it")
	}
	return config, evaluator.Job{Candidate: evaluator.Candidate{Plan: plan, Training: inputs.Training}, Seed: config.Search.Seed}, nil
}

func readPlan(path string) (peft.Plan, error) {
	f, err := os.Open(path)
	if err != nil {
		return peft.Plan{}, usage(err, "peftsearch export STUDY --trial N --to plan writes one")
	}
	defer f.Close()
	plan, err := peft.ReadPlan(f)
	if err != nil {
		return plan, usage(fmt.Errorf("%s: %w", path, err), "docs/reference/plan.md describes plans")
	}
	return plan, nil
}

func (a *app) trainJob(ctx context.Context, config *studies.Config, job evaluator.Job, out, again string) error {
	command, err := workerCommand(config)
	if err != nil {
		return err
	}
	if command == nil {
		return usage(errors.New("evaluator.analytic trains nothing"), "a study file without it")
	}
	if job.Output, err = filepath.Abs(out); err != nil {
		return err
	}
	if err := os.MkdirAll(job.Output, 0o755); err != nil {
		return usage(err, "another --out")
	}
	log, err := os.OpenFile(filepath.Join(job.Output, "worker.log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return usage(err, "another --out")
	}
	defer log.Close()
	job.Budget, job.Test = config.FullBudget(), true

	d := a.display()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer onSignals(cancel, func() { os.Exit(exitInterrupted) })()
	d.event("training "+job.Candidate.Plan.String(), "epochs", fmt.Sprintf("at most %g", job.Budget.Epochs), "into", out)
	hello := config.Hello(cores())
	hello.Settings.Threads = max(hello.Settings.Threads, cores()) // one job has the machine
	process, err := openWorker(ctx, command, hello, log)
	if err != nil {
		return err
	}
	defer process.Close()
	started, first := time.Now(), -1
	best := 0.0
	result, err := process.Evaluate(ctx, job, func(p evaluator.Progress) evaluator.Verdict {
		if first < 0 {
			first = p.Step
		}
		if p.Score != nil {
			best = max(best, *p.Score)
			d.event(fmt.Sprintf("step %d of %d", p.Step, p.Steps), "loss", fmt.Sprintf("%.4f", p.Loss), config.Task.Metric, score(*p.Score))
		}
		eta := ""
		if done := p.Step - first; done > 0 {
			eta = " · ETA " + duration(time.Since(started)/time.Duration(done)*time.Duration(p.Steps-p.Step))
		}
		d.line("step %d/%d · loss %.4f · best %.4f%s", p.Step, p.Steps, p.Loss, best, eta)
		return evaluator.Verdict{}
	})
	d.clear()
	if errors.Is(err, context.Canceled) {
		return interrupted(again + "   continues it")
	}
	if err != nil {
		return err
	}
	if result.Stopped != "" {
		d.event("stopped early: " + result.Stopped)
	}
	fmt.Fprintf(a.stdout, "dev   %s\ntest  %s\n", metricsLine(result.Dev), metricsLine(result.Test))
	if !a.quiet {
		fmt.Fprintf(a.stderr, "\nWritten to %s\nPredict:   peftsearch predict %s --input FILE\n", out, out)
	}
	return nil
}
