package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"peftsearch/studies"
)

func newMap(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "map",
		Short: "Carry what is known of a model's plans to other databases",
		Long: `A map is the scores of plans of one pretrained model on some tasks. Which plans are good is a matter of the
model and of how plans are trained far more than of the task, so a new study starts with what maps and other studies of
its database say about its model (search.warm_start: auto). To record a map, run a study for each of some short tasks,
with search.sampler random or auto and the training of your studies, and export them together.`,
	}
	cmd.AddCommand(newMapExport(g), newMapImport())
	return cmd
}

func newMapExport(g *globals) *cobra.Command {
	var name, out string
	cmd := &cobra.Command{
		Use:               "export STUDY...",
		Short:             "Write the trials of studies on one model to a map",
		Example:           "  peftsearch map export topics sentiment --name my-model --out my-model.json",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: g.completeStudies,
		RunE: func(cmd *cobra.Command, args []string) error {
			db, err := g.view()
			if err != nil {
				return err
			}
			defer db.Close()
			m, err := studies.NewMap(cmd.Context(), db, name, args)
			if err != nil {
				return err
			}
			return writeFile(out, func(w io.Writer) error { return m.Write(w) })
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "what people call the model")
	cmd.Flags().StringVar(&out, "out", "", "file for the map")
	cmd.MarkFlagRequired("name")
	cmd.MarkFlagRequired("out")
	cmd.MarkFlagFilename("out", "json")
	return cmd
}

func newMapImport() *cobra.Command {
	return &cobra.Command{
		Use:               "import FILE.json",
		Short:             "Keep a map for your studies of its model",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeFile("json"),
		RunE: func(cmd *cobra.Command, args []string) error {
			file, err := os.Open(args[0])
			if err != nil {
				return usage("give the path of a map that peftsearch map export wrote", "%v", err)
			}
			defer file.Close()
			m, err := studies.ReadMap(file)
			if err != nil {
				return usage("give a map that peftsearch map export wrote", "%s: %v", args[0], err)
			}
			path, err := m.Import()
			if err != nil {
				return environment("make the directory writable, or set XDG_CONFIG_HOME", err)
			}
			fmt.Fprintln(cmd.OutOrStdout(), path)
			return nil
		},
	}
}
