package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"peftsearch/studies/config"
)

func newInit() *cobra.Command {
	return &cobra.Command{
		Use:               "init [FILE]",
		Short:             "Write a study file with every key explained",
		Long:              "Write a study file with every key: meaning, type and default. FILE is study.yaml if left out; - prints it.",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completeFile("yaml", "yml"),
		RunE: func(cmd *cobra.Command, args []string) error {
			path := "study.yaml"
			if len(args) == 1 {
				path = args[0]
			}
			if path == "-" {
				_, err := cmd.OutOrStdout().Write(config.Template())
				return err
			}
			if err := writeNew(path, config.Template()); err != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "wrote %s: name your model and data in it, then\n  %s\n", path, commandLine("peftsearch", "run", path))
			return nil
		},
	}
}
