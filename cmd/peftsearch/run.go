package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"peftsearch/evaluator"
	"peftsearch/search"
	"peftsearch/studies"
)

func (a *app) run() *cobra.Command {
	return &cobra.Command{
		Use:   "run STUDY.yaml",
		Short: "Start a search, or continue it",
		Long: `Runs trials until the study has its budget (budget.trials), and prints the front. A study that is in the
database is continued. Ctrl-C lets running trials end and stops; a second Ctrl-C stops at once. Whatever
happens, finished trials are stored, and a trial that was cut off runs again with the same seed.`,
		Args: exactly(1, "a study file"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.search(cmd.Context(), args[0]) },
	}
}

func (a *app) search(ctx context.Context, path string) error {
	config, err := studies.ReadConfig(path)
	if err != nil {
		return err
	}
	inputs, err := config.Open()
	if err != nil {
		return err
	}
	if _, err := workerCommand(config); err != nil {
		return err
	}
	store, err := studies.OpenStore(a.db)
	if err != nil {
		return usage(err, "")
	}
	defer store.Close()
	study, err := studies.Start(ctx, store, config, inputs)
	if err != nil {
		return err
	}
	d := a.display()
	a.announce(d, study, config, inputs)

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	drain := make(chan struct{})
	defer onSignals(func() {
		close(drain)
		d.event("finishing the running trials; press Ctrl-C again to stop at once")
	}, cancel)()

	open := func(ctx context.Context) (evaluator.Evaluator, error) {
		if config.Evaluator.Analytic {
			return study.Analytic(), nil
		}
		return a.startWorker(ctx, config)
	}
	status, err := study.Run(ctx, open, studies.RunOptions{Drain: drain, Events: func(e studies.Event) { show(d, config.Study, e) }})
	d.clear()
	again := fmt.Sprintf("peftsearch run %s%s   continues it", path, a.dbFlag())
	var canceled = errors.Is(err, context.Canceled)
	if err != nil && !canceled && !errors.Is(err, search.ErrExhausted) {
		return err
	}
	trials, viewErr := store.Trials(context.WithoutCancel(ctx), study.Record())
	if viewErr != nil {
		return viewErr
	}
	if err := a.frontTable(study.Record(), studies.FrontOf(trials, study.Record().Reference)); err != nil {
		return err
	}
	if canceled || isClosed(drain) {
		return interrupted(again)
	}
	a.next(path, study.Record(), status, errors.Is(err, search.ErrExhausted))
	return nil
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// onSignals calls first at the first Ctrl-C, and second at the second or at SIGTERM. The returned
// function ends it.
func onSignals(first, second func()) func() {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		asked := false
		for {
			select {
			case <-done:
				return
			case s := <-signals:
				if asked || s == syscall.SIGTERM {
					second()
					continue
				}
				asked = true
				first()
			}
		}
	}()
	return func() {
		signal.Stop(signals)
		close(done)
	}
}

// workerCommand is the worker of a study file.
func workerCommand(config *studies.Config) ([]string, error) {
	if config.Evaluator.Analytic {
		return nil, nil
	}
	if command := config.Evaluator.Command; len(command) > 0 {
		return command, nil
	}
	worker, err := findWorker()
	return []string{worker}, err
}

// startWorker starts a worker for a study; its log is appended to STUDY.worker.log beside the database.
func (a *app) startWorker(ctx context.Context, config *studies.Config) (*evaluator.Process, error) {
	command, err := workerCommand(config)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(filepath.Dir(a.db), config.Study+".worker.log")
	log, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return nil, environment(err, "make the database's directory writable")
	}
	return openWorker(ctx, command, config.Hello(cores()), log)
}

func openWorker(ctx context.Context, command []string, hello evaluator.Hello, log io.Writer) (*evaluator.Process, error) {
	process, err := evaluator.NewProcess(ctx, evaluator.ProcessOptions{Command: command, Hello: hello, Log: log})
	if err != nil && ctx.Err() == nil {
		return nil, environment(err, "peftsearch doctor")
	}
	return process, err
}

// announce says what is about to run.
func (a *app) announce(d *display, study *studies.Study, config *studies.Config, inputs *studies.Inputs) {
	what := "new study"
	if study.Continued() {
		what = "continuing study"
	}
	smallest, largest := inputs.Space.ParamRange()
	ref := study.Record().Reference
	d.event(fmt.Sprintf("%s %s", what, config.Study),
		"model", fmt.Sprintf("%s (%d layers, %d wide)", filepath.Base(inputs.Model), inputs.Geometry.Layers, inputs.Geometry.Hidden),
		"rows", fmt.Sprintf("%d train, %d dev, %d test", len(inputs.Dataset.Train), len(inputs.Dataset.Dev), len(inputs.Dataset.Test)),
		"plans", fmt.Sprintf("%.2g of %s to %s parameters", asFloat(inputs), count(smallest), count(largest)),
		"score", fmt.Sprintf("%s, by chance %.3f", config.Task.Metric, ref.Chance))
}

func asFloat(inputs *studies.Inputs) float64 {
	size, _ := inputs.Space.Size().Float64()
	return size
}

// show displays an event of the search.
func show(d *display, name string, e studies.Event) {
	t := e.Trial
	switch e.Kind {
	case studies.EventFinished:
		d.event(fmt.Sprintf("trial %d", t.Number), "score", fmt.Sprintf("%.4f", t.Result.Score), "params", count(t.Params),
			"seconds", fmt.Sprintf("%.0f", t.Result.WallS), "plan", t.Candidate.Plan.String())
	case studies.EventFailed:
		d.event(fmt.Sprintf("trial %d failed", t.Number), "why", t.Failure, "plan", t.Candidate.Plan.String())
	case studies.EventRetried:
		d.event(fmt.Sprintf("trial %d runs again", t.Number), "why", t.Failure.Message)
	case studies.EventProgress:
		d.progress = fmt.Sprintf("trial %d step %d/%d loss %.3f", t.Number, e.Progress.Step, e.Progress.Steps, e.Progress.Loss)
	}
	if e.Kind != studies.EventProgress {
		d.status = statusLine(name, e.Status)
	}
	d.line("%s · %s", d.status, d.progress)
}

func statusLine(name string, s studies.Status) string {
	parts := []string{fmt.Sprintf("%s %d/%d done, %d running, %d failed", name, s.Finished(), s.Trials, s.Running, s.Failed)}
	if s.Best != nil {
		parts = append(parts, fmt.Sprintf("best %.4f at %s", s.Best.Result.Score, count(s.Best.Params)),
			fmt.Sprintf("hypervolume %.4f", s.Hypervolume), fmt.Sprintf("front %d", s.FrontSize))
	}
	if s.Remaining > 0 {
		parts = append(parts, "ETA "+duration(s.Remaining))
	}
	return strings.Join(parts, " · ")
}

// next says what can be done with a finished study.
func (a *app) next(path string, r *studies.Record, s studies.Status, exhausted bool) {
	if a.quiet || s.Best == nil {
		return
	}
	best, db := s.Best.Number, a.dbFlag()
	fmt.Fprintf(a.stderr, "\n%d trials, hypervolume %.4f.\n", s.Finished(), s.Hypervolume)
	if exhausted {
		fmt.Fprintln(a.stderr, "Every plan of the space has been tried.")
	} else {
		fmt.Fprintf(a.stderr, "Continue:  raise budget.trials in %s, then peftsearch run %s%s\n", path, path, db)
	}
	fmt.Fprintf(a.stderr, "Inspect:   peftsearch show %s --trial %d%s\n", r.Name, best, db)
	fmt.Fprintf(a.stderr, "Export:    peftsearch export %s --trial %d --to plan%s\n", r.Name, best, db)
	fmt.Fprintf(a.stderr, "Train:     peftsearch train %s --trial %d --out %s-%d%s\n", r.Name, best, r.Name, best, db)
}
