package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
)

// exportTargets are the values of --to.
var exportTargets = []string{"plan"}

func newExport(g *globals) *cobra.Command {
	var number int64
	var to, out string
	cmd := &cobra.Command{
		Use:   "export STUDY --trial N",
		Short: "Write a trial's plan for use elsewhere",
		Long: `Write the plan of a trial as JSON, as docs/reference/plan.md describes it: to stdout, or with --out to
plan.json in a directory.`,
		Example:           "  peftsearch export my-study --trial 17 > plan.json\n  peftsearch train --plan plan.json --config study.yaml --out trained",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: g.completeStudy,
		RunE: func(cmd *cobra.Command, args []string) error {
			if to != "plan" {
				return usage("peftsearch export --help", "--to %q: must be one of %v", to, exportTargets)
			}
			store, record, err := g.viewStudy(cmd, args[0])
			if err != nil {
				return err
			}
			defer store.Close()
			trial, err := store.Trial(cmd.Context(), record, number)
			if err != nil {
				return err
			}
			content, err := json.MarshalIndent(trial.Candidate.Plan, "", "  ")
			if err != nil {
				return fmt.Errorf("encoding the plan: %w", err)
			}
			content = append(content, '\n')
			if out == "" {
				_, err := cmd.OutOrStdout().Write(content)
				return err
			}
			return writeNew(filepath.Join(out, "plan.json"), content)
		},
	}
	flags := cmd.Flags()
	flags.Int64Var(&number, "trial", 0, "number of the trial")
	flags.StringVar(&to, "to", "plan", "format: plan")
	flags.StringVar(&out, "out", "", "directory to write to; stdout if left out")
	cmd.MarkFlagRequired("trial")
	cmd.RegisterFlagCompletionFunc("to", cobra.FixedCompletions(exportTargets, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// writeNew writes a file that must not be there yet, with the directories above it.
func writeNew(path string, content []byte) error {
	const try = "choose a directory that can be written to"
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return environment(try, err)
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return usage("name another place, or remove it first", "%s is there already", path)
	}
	if err != nil {
		return environment(try, err)
	}
	_, err = file.Write(content)
	if err := errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}
