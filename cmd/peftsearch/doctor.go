package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"

	"peftsearch/data/quote"
	"peftsearch/evaluator"
	"peftsearch/studies/config"
	"peftsearch/studies/store"
)

// check is one line of doctor.
type check struct {
	name   string
	detail string
	err    error
	try    string   // what to do about err
	more   []string // lines below
}

func newDoctor(g *globals) *cobra.Command {
	var slurm bool
	cmd := &cobra.Command{
		Use:   "doctor [STUDY.yaml]",
		Short: "Check that everything needed is there",
		Long: `Check the worker, memory and the database. With a study file, also check its model and data, and start a
worker with them. With --slurm, do so in a job of a minute too: a node may see other disks, and no database.`,
		Example: "  peftsearch doctor study.yaml\n  peftsearch doctor study.yaml --db ~/peft-db --slurm -- " +
			"--partition=gpu --gres=gpu:1",
		Args: func(cmd *cobra.Command, args []string) error {
			return cobra.MaximumNArgs(1)(cmd, args[:own(cmd, args)])
		},
		ValidArgsFunction: completeFile("yaml", "yml"),
		RunE: func(cmd *cobra.Command, args []string) error {
			args, options := args[:own(cmd, args)], args[own(cmd, args):]
			checks := []check{checkMemory(), checkDatabase(cmd.Context(), g.db)}
			if len(args) == 0 {
				checks = append(checks, g.checkDisks(""), checkWorker(cmd.Context()))
			} else {
				checks = append(checks, g.checkStudy(cmd, args[0])...)
			}
			if slurm {
				checks = append(checks, g.checkJob(cmd.Context(), args, options))
			} else if len(options) > 0 {
				return usage("", "what follows -- is for --slurm")
			}
			failed := 0
			for _, c := range checks {
				if c.err == nil {
					fmt.Fprintf(cmd.OutOrStdout(), "%s %-9s %s\n", text.FgGreen.Sprint("✓"), c.name, quote.Message(c.detail))
				} else {
					failed++
					fmt.Fprintf(cmd.OutOrStdout(), "%s %-9s %s\n            Try: %s\n", text.FgRed.Sprint("✗"), c.name,
						quote.Message(c.err.Error()), c.try)
				}
				for _, line := range c.more {
					fmt.Fprintf(cmd.OutOrStdout(), "            %s\n", quote.Line(line))
				}
			}
			if failed > 0 {
				return environment("", fmt.Errorf("%d of %d checks failed", failed, len(checks)))
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&slurm, "slurm", false, "check from a Slurm job too; what follows -- goes to srun")
	return cmd
}

// minMemory is what a worker with a small model needs.
const minMemory = 1 << 30

func checkMemory() check {
	c := check{name: "machine", try: "end other programs"}
	available, err := availableMemory()
	switch {
	case err != nil:
		c.detail = fmt.Sprintf("%d cores, memory unknown: %v", cores(), err)
	case available < minMemory:
		c.err = fmt.Errorf("only %d MiB of memory are free, a worker needs at least %d", available>>20, minMemory>>20)
	default:
		c.detail = fmt.Sprintf("%d cores, %.1f GiB of memory free", cores(), float64(available)/(1<<30))
	}
	return c
}

// checkDatabase changes nothing.
func checkDatabase(ctx context.Context, name string) check {
	if store.IsServer(name) {
		return checkServer(ctx, name)
	}
	return checkFile(name)
}

func checkFile(path string) check {
	c := check{name: "database", try: "make the file and its directory writable, or choose another with --db"}
	switch _, err := os.Stat(path); {
	case errors.Is(err, fs.ErrNotExist):
		c.detail = path + ", new"
	case err != nil:
		c.err = err
		return c
	default:
		db, err := store.View(path)
		if err != nil {
			c.err = err
			return c
		}
		records, err := db.Studies(context.Background())
		if c.err = errors.Join(err, db.Close()); c.err != nil {
			return c
		}
		file, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			c.err = err
			return c
		}
		file.Close()
		c.detail = fmt.Sprintf("%s, %d studies", path, len(records))
	}
	probe, err := os.CreateTemp(filepath.Dir(path), ".peftsearch-*")
	if err != nil {
		c.err = err
		return c
	}
	probe.Close()
	c.err = os.Remove(probe.Name())
	return c
}

// checkWorker runs peftsearch-worker's version, which loads libtorch.
func checkWorker(ctx context.Context) check {
	c := check{name: "worker", try: "make build builds it and fetches libtorch"}
	command, err := workerCommand(nil)
	if err != nil {
		c.err = errNoWorker
		return c
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	output, err := exec.CommandContext(ctx, command[0], "version").CombinedOutput()
	c.detail = strings.TrimSpace(string(output))
	if err != nil {
		c.err = fmt.Errorf("%s does not start: %w: %s", command[0], err, c.detail)
	}
	return c
}

// checkStudy opens what a study file names and starts a worker with it.
func (g *globals) checkStudy(cmd *cobra.Command, path string) []check {
	study := check{name: "study", try: "peftsearch init - prints every key with its meaning and default"}
	file, err := config.Read(path)
	if err != nil {
		study.err = err
		return []check{study}
	}
	worker := check{name: "worker", try: "make build; -v shows the worker's log"}
	inputs, err := g.openInputs(cmd.Context(), file, cmd.ErrOrStderr())
	switch {
	case errors.Is(err, evaluator.ErrWorker):
		worker.err = err
		return []check{worker}
	case err != nil:
		study.err, study.try = err, "name the right files in the study file"
		return []check{study}
	}
	s := inputs.Splits
	study.detail = fmt.Sprintf("%s on %d rows, %d dev, %d test; %s plans", inputs.Geometry.Architecture, s.Train.Rows,
		s.Dev.Rows, s.Test.Rows, inputs.Space.Size())
	rows := inputs.Dataset.Report()
	study.more = rows.Lines()
	for _, note := range rows.Notes {
		study.more = append(study.more, "Note: "+note)
	}
	if file.Evaluator.Analytic {
		return []check{study, g.checkDisks(inputs.Model), {name: "worker",
			detail: "none: evaluator.analytic scores by a formula"}}
	}
	options, err := g.workerOptions(file, cores(), cmd.ErrOrStderr())
	if err != nil {
		worker.err = err
		return []check{study, g.checkDisks(inputs.Model), worker}
	}
	options.Expect = file.Expect(inputs)
	ready, err := evaluator.Describe(cmd.Context(), options)
	worker.err = err
	worker.detail = fmt.Sprintf("ready on %s in %s", file.Evaluator.Device, ready.Precision)
	if s := ready.Splits; s.Train.Truncated+s.Dev.Truncated+s.Test.Truncated > 0 {
		worker.detail += fmt.Sprintf("; task.max_length cuts %d of %d rows, %d dev, %d test", s.Train.Truncated,
			s.Train.Rows, s.Dev.Truncated, s.Test.Truncated)
	}
	return []check{study, g.checkDisks(inputs.Model), worker}
}
