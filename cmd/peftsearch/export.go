package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"peftsearch/peft"
)

func (a *app) export() *cobra.Command {
	var number int64
	var to, out string
	cmd := &cobra.Command{
		Use:               "export STUDY --trial N --to plan [--out FILE]",
		Short:             "Write a trial's plan for use elsewhere",
		Long:              "Writes the plan as JSON, to stdout or to a file. peftsearch train --plan trains it.",
		Args:              exactly(1, "a study"),
		ValidArgsFunction: a.studyNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !cmd.Flags().Changed("trial") {
				return usage(errors.New("export needs a trial"), "peftsearch front "+args[0]+" lists the best")
			}
			if to != "plan" {
				return usage(fmt.Errorf("--to %q: must be plan", to), "--to plan")
			}
			store, record, err := a.view(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			defer store.Close()
			trial, err := store.Trial(cmd.Context(), record, number)
			if err != nil {
				return err
			}
			if out == "" {
				return writeJSON(a.stdout, trial.Candidate.Plan)
			}
			return writePlan(out, trial.Candidate.Plan)
		},
	}
	cmd.Flags().Int64Var(&number, "trial", 0, "the trial to export")
	cmd.Flags().StringVar(&to, "to", "plan", "the form: plan")
	cmd.Flags().StringVar(&out, "out", "", "file to write; stdout if it is not given")
	return cmd
}

func writePlan(path string, plan peft.Plan) error {
	if _, err := os.Stat(path); err == nil {
		return usage(fmt.Errorf("%s is there already, it is left as it is", path), "another --out")
	}
	content, err := json.MarshalIndent(plan, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return usage(err, "another --out")
	}
	if err := os.WriteFile(path, append(content, '\n'), 0o644); err != nil {
		return usage(err, "another --out")
	}
	return nil
}
