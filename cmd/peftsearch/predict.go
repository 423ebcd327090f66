package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"
	"gonum.org/v1/gonum/stat"

	"peftsearch/data"
	"peftsearch/data/quote"
	"peftsearch/evaluator"
	"peftsearch/peft"
	"peftsearch/studies/config"
	"peftsearch/studies/report"
)

// The formats of predictions.
const (
	formatLines    = "lines"
	formatSloBENCH = "slobench"
)

type predictFlags struct {
	input       []string
	model       string
	precision   precisionFlag
	format, out string
	gates, json bool
}

func newPredict(g *globals) *cobra.Command {
	var flags predictFlags
	cmd := &cobra.Command{
		Use:   "predict DIR --input FILE",
		Short: "Score new rows with a trained plan",
		Long: `Score the rows of a file with a directory that train wrote: one prediction a line; of a token classification
the words with their tags, as columns. The file has the columns of the training data; it needs no labels.

With --format slobench it writes the zip file that SloBENCH takes: of SI-NLI (board 9) for a classification, of named
entities (board 12) for a token classification, with a file for each --input.`,
		Example: "  peftsearch predict trained --input new.tsv\n" +
			"  peftsearch predict trained --input test_without_labels.tsv --format slobench --out submission.zip",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if slobench := flags.format == formatSloBENCH; !slobench && flags.format != formatLines {
				return usage("give lines or slobench", "--format %s: there is no such format", quote.Text(flags.format))
			} else if slobench != (flags.out != "") || slobench && flags.json {
				return usage("give --format slobench --out FILE.zip, or neither",
					"--out is of use with --format slobench, which needs it, and not with --json")
			}
			return g.predict(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), args[0], flags)
		},
	}
	set := cmd.Flags()
	set.StringArrayVar(&flags.input, "input", nil, "file with the rows; may be given several times")
	set.StringVar(&flags.model, "model", "", "directory of the pretrained model, if it has moved since training")
	flags.precision.add(cmd, "the one that was trained in")
	set.StringVar(&flags.format, "format", formatLines, "lines, or slobench")
	set.StringVar(&flags.out, "out", "", "the zip file of --format slobench")
	set.BoolVar(&flags.gates, "gates", false, "print the values of the plan's gates over the rows, and no predictions")
	set.BoolVar(&flags.json, "json", false, "print JSON, with the logits and the gates of each row")
	cmd.MarkFlagRequired("input")
	return cmd
}

func (g *globals) predict(ctx context.Context, stdout, stderr io.Writer, dir string, flags predictFlags) error {
	trained, err := peft.ReadTrained(dir)
	if err != nil {
		return usage("peftsearch train writes such a directory", "%w", err)
	}
	info := trained.Info
	if flags.gates && len(trained.Plan.Gates(info.Geometry)) == 0 {
		return usage("gates are part of a plan: docs/reference/plan.md", "the plan of %s has no gates: %s", dir, trained.Plan)
	}
	var answered []data.Answered
	var rows []data.Row
	for _, path := range flags.input {
		read, err := info.Task.ReadRows(path)
		if err != nil {
			return usage("give the file the columns of the training data", "%w", err)
		}
		answered = append(answered, data.Answered{Path: path, Rows: read})
		rows = append(rows, read...)
	}
	model, err := filepath.Abs(cmp.Or(flags.model, info.Model))
	if err != nil {
		return fmt.Errorf("--model: %w", err)
	}
	if _, err := os.Stat(model); err != nil {
		return usage("--model names the directory of the pretrained model", "the pretrained model: %w", err)
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	options, err := g.predictOptions(info, model, string(flags.precision), stderr)
	if err != nil {
		return err
	}
	// Until here a signal ends the program as usual: there is nothing to clean up.
	ctx, stop := signal.NotifyContext(ctx, endings()...)
	defer stop()
	context.AfterFunc(ctx, stop) // the next signal does so again
	all, err := predictions(ctx, options, dir, rows)
	if ctx.Err() != nil {
		return &failure{exitInterrupted, errors.New("interrupted; predict stores nothing"), "run the same command again"}
	}
	if err != nil {
		return err
	}
	if flags.json {
		return report.WriteJSON(stdout, report.Predictions{SchemaVersion: report.SchemaVersion, Labels: info.Labels,
			Predictions: all})
	}
	if flags.gates {
		printGates(stdout, trained.Plan.Gates(info.Geometry), all)
		return nil
	}
	for i, a := range answered {
		for range a.Rows {
			answered[i].Said = append(answered[i].Said, all[0].Said())
			all = all[1:]
		}
	}
	if flags.format == formatSloBENCH {
		return writeSubmission(flags.out, info.Task, answered, stderr)
	}
	for _, a := range answered {
		for i, row := range a.Rows {
			for _, line := range info.Task.Lines(row, a.Said[i]) {
				fmt.Fprintln(stdout, quote.Columns(line))
			}
		}
	}
	return nil
}

// printGates writes what each gate is over the rows.
func printGates(w io.Writer, gates []string, all []evaluator.Prediction) {
	values := map[string][]float64{}
	for _, p := range all {
		for name, value := range p.Gates {
			values[name] = append(values[name], value)
		}
	}
	t := newTable(w, "gate", "mean", "sd", "least", "most")
	for _, name := range gates {
		if of := values[name]; len(of) > 0 {
			mean, sd := stat.PopMeanStdDev(of, nil)
			t.AppendRow(table.Row{name, score(mean), score(sd), score(slices.Min(of)), score(slices.Max(of))})
		}
	}
	t.renderIn(terminalWidth(os.Stdout), right(2, 3, 4, 5))
}

// writeSubmission writes a zip file that must not be there yet, if the board takes it.
func writeSubmission(path string, task data.Task, answered []data.Answered, stderr io.Writer) error {
	var archive bytes.Buffer
	if err := task.WriteSloBENCH(&archive, answered); err != nil {
		return usage("train on the board's data and give its test file", "%w", err)
	}
	if err := writeNew(path, archive.Bytes()); err != nil {
		return err
	}
	fmt.Fprintf(stderr, "wrote %s\n", path)
	return nil
}

// predictOptions are those of a worker that scores rows with a model.
func (g *globals) predictOptions(info peft.Info, model, precision string, stderr io.Writer) (evaluator.ProcessOptions,
	error) {
	command, err := workerCommand(nil)
	options := evaluator.ProcessOptions{Command: command, Hello: evaluator.Hello{Model: model,
		Head: evaluator.Head(info.Head),
		Settings: evaluator.Settings{Device: "cpu", Precision: cmp.Or(precision, config.AutoPrecision),
			Threads: cores()}}}
	if g.verbose {
		options.Log = stderr
	}
	return options, err
}

// predictions scores rows in a worker of their own.
func predictions(ctx context.Context, options evaluator.ProcessOptions, dir string,
	rows []data.Row) ([]evaluator.Prediction, error) {
	worker, err := evaluator.NewProcess(ctx, options)
	if err != nil {
		return nil, err
	}
	answers, err := worker.Predict(ctx, dir, rows)
	return answers, errors.Join(err, worker.Close())
}
