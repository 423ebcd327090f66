package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"

	"github.com/spf13/cobra"

	"peftsearch/data"
	"peftsearch/data/quote"
	"peftsearch/evaluator"
	"peftsearch/peft"
	"peftsearch/studies/config"
	"peftsearch/studies/report"
)

func newPredict(g *globals) *cobra.Command {
	var input, model string
	var precision precisionFlag
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "predict DIR --input FILE",
		Short: "Score new rows with a trained plan",
		Long: `Score the rows of a .tsv, .csv or .jsonl file with a directory that train wrote: one prediction a line. The
file has the columns of the training data; it needs no labels.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			document, err := g.predict(cmd.Context(), cmd.ErrOrStderr(), args[0], input, model, precision)
			if err != nil {
				return err
			}
			w := cmd.OutOrStdout()
			if asJSON {
				return report.WriteJSON(w, document)
			}
			for _, p := range document.Predictions {
				fmt.Fprintln(w, quote.Line(p.Label))
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&input, "input", "", "file with the rows")
	flags.StringVar(&model, "model", "", "directory of the pretrained model, if it has moved since training")
	precision.add(cmd, "the one that was trained in")
	flags.BoolVar(&asJSON, "json", false, "print JSON, with the logits")
	cmd.MarkFlagRequired("input")
	return cmd
}

func (g *globals) predict(ctx context.Context, stderr io.Writer, dir, input, model string, precision precisionFlag) (report.Predictions, error) {
	document := report.Predictions{SchemaVersion: report.SchemaVersion}
	trained, err := peft.ReadTrained(dir)
	if err != nil {
		return document, usage("peftsearch train writes such a directory", "%w", err)
	}
	info := trained.Info
	document.Labels = info.Labels
	rows, err := info.Task.ReadRows(input)
	if err != nil {
		return document, usage("give the file the columns of the training data", "%w", err)
	}
	if model, err = filepath.Abs(cmp.Or(model, info.Model)); err != nil {
		return document, fmt.Errorf("--model: %w", err)
	}
	if _, err := os.Stat(model); err != nil {
		return document, usage("--model names the directory of the pretrained model", "the pretrained model: %w", err)
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return document, fmt.Errorf("%s: %w", dir, err)
	}
	command, err := workerCommand(nil)
	if err != nil {
		return document, err
	}
	options := evaluator.ProcessOptions{Command: command, Hello: evaluator.Hello{Model: model, Head: evaluator.Head(info.Head),
		Settings: evaluator.Settings{Device: "cpu", Precision: cmp.Or(string(precision), config.AutoPrecision), Threads: cores()}}}
	if g.verbose {
		options.Log = stderr
	}
	// Until here a signal ends the program as usual: there is nothing to clean up.
	ctx, stop := signal.NotifyContext(ctx, endings()...)
	defer stop()
	context.AfterFunc(ctx, stop) // the next signal does so again
	document.Predictions, err = predictions(ctx, options, dir, rows)
	if ctx.Err() != nil {
		return document, &failure{exitInterrupted, errors.New("interrupted; predict stores nothing"), "run the same command again"}
	}
	return document, err
}

// predictions scores rows in a worker of their own.
func predictions(ctx context.Context, options evaluator.ProcessOptions, dir string, rows []data.Row) ([]evaluator.Prediction, error) {
	worker, err := evaluator.NewProcess(ctx, options)
	if err != nil {
		return nil, err
	}
	answers, err := worker.Predict(ctx, dir, rows)
	return answers, errors.Join(err, worker.Close())
}
