package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"peftsearch/data"
	"peftsearch/evaluator"
	"peftsearch/peft"
)

func metricsLine(metrics map[string]float64) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(metrics)) {
		parts = append(parts, fmt.Sprintf("%s %.4f", name, metrics[name]))
	}
	return strings.Join(parts, "  ")
}

func (a *app) predict() *cobra.Command {
	var input, model string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "predict DIR --input FILE",
		Short: "Score new rows with a trained plan",
		Long: `Reads rows (.tsv, .csv or .jsonl, with the text columns of the training files; a label is not needed) and
prints one prediction a line, in the order of the rows. --json prints the logits too.`,
		Args: exactly(1, "a directory that peftsearch train wrote"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if input == "" {
				return usage(fmt.Errorf("predict needs rows"), "peftsearch predict "+args[0]+" --input FILE")
			}
			trained, err := peft.ReadTrained(args[0])
			if err != nil {
				return usage(err, "a directory that peftsearch train wrote")
			}
			rows, err := data.ReadRows(input, trained.Info.Task.Columns)
			if err != nil {
				return usage(err, "a file with the columns of the training rows")
			}
			if model == "" {
				model = trained.Info.Model
			}
			worker, err := findWorker()
			if err != nil {
				return err
			}
			process, err := openWorker(cmd.Context(), []string{worker}, evaluator.Hello{Model: model, Head: evaluator.Head(trained.Info.Head),
				Settings: evaluator.Settings{Device: "cpu", Precision: "float32", Threads: cores()}}, nil)
			if err != nil {
				return err
			}
			defer process.Close()
			predictions, err := process.Predict(cmd.Context(), evaluator.PredictRequest{Dir: args[0], Rows: rows})
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(a.stdout, struct {
					SchemaVersion int                    `json:"schema_version"`
					Labels        []string               `json:"labels"` // by logit; null for regression
					Predictions   []evaluator.Prediction `json:"predictions"`
				}{schemaVersion, trained.Info.Labels, predictions})
			}
			for _, p := range predictions {
				fmt.Fprintln(a.stdout, p.Label)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&input, "input", "", "file with the rows")
	cmd.Flags().StringVar(&model, "model", "", "the backbone's directory, if it has moved since the training")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
