package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"peftsearch/data/quote"
	"peftsearch/studies/config"
)

func newInit() *cobra.Command {
	var rows, model string
	cmd := &cobra.Command{
		Use:   "init [FILE]",
		Short: "Write a study file with every key explained, or one for your data",
		Long: `Write a study file with every key: meaning, type and default. FILE is study.yaml if left out; - prints it.

With --data it looks at a file of labelled rows (.tsv, .csv, .jsonl, .conll) and writes a study file for it: kind of
task, columns, labels, splits and, with --model, the lengths in tokens. What it saw, and what it is unsure of, stands in
the file as comments. Files beside it that are called dev or test instead of train become these splits.`,
		Example: "  peftsearch init --data reviews.tsv --model models/all-MiniLM-L6-v2\n" +
			"  peftsearch run study.yaml",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completeFile("yaml", "yml"),
		RunE: func(cmd *cobra.Command, args []string) error {
			path := "study.yaml"
			if len(args) == 1 {
				path = args[0]
			}
			if model != "" && rows == "" {
				return usage("give --data too", "--model is of no use without --data")
			}
			content, next := config.Template(), "name your model and data in it, then"
			if rows != "" {
				draft, err := draftFor(path, rows, model, cmd.ErrOrStderr())
				if err != nil {
					return err
				}
				if content, next = draft, "look at its comments, then"; model == "" {
					next = "name your model in it, then"
				}
			}
			if path == "-" {
				_, err := cmd.OutOrStdout().Write(content)
				return err
			}
			if err := writeNew(path, content); err != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "wrote %s: %s\n  %s\n", path, next, commandLine("peftsearch", "run", path))
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&rows, "data", "", "file of labelled rows to write the study file for")
	flags.StringVar(&model, "model", "", "directory or name of the pretrained model")
	cmd.MarkFlagFilename("data", "tsv", "csv", "jsonl", "conll")
	cmd.MarkFlagDirname("model")
	return cmd
}

// draftFor writes the study file for rows and says what it is unsure of.
func draftFor(path, rows, model string, stderr io.Writer) ([]byte, error) {
	draft, err := config.NewDraft(path, rows, model)
	if err != nil {
		return nil, usage("correct the file, or write the study file by hand: peftsearch init - prints every key", "%w", err)
	}
	for _, s := range draft.Unsure {
		fmt.Fprintln(stderr, "Note:", quote.Line(s))
	}
	return draft.Content, nil
}
