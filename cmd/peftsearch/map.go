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
its database say about its model (search.warm_start: auto). To make one, record some short tasks with the training of
your studies, or export studies that there are.`,
	}
	cmd.AddCommand(newMapRecord(g), newMapExport(g), newMapImport())
	return cmd
}

// leastPlans is the least that a map is recorded of: fewer tell a new study little.
const leastPlans = 30

func newMapRecord(g *globals) *cobra.Command {
	var name, out string
	flags := runFlags{format: string(logText)}
	cmd := &cobra.Command{
		Use:   "record STUDY.yaml...",
		Short: "Train plans of every size on some tasks, and write the map",
		Long: `Train plans of one model on the tasks of study files, and write their scores to a map. The files have one
section model and one section training; how they search is left out of account: plans of every size are drawn at
random, the same for all tasks, each trained once. A night for 150 plans of three short tasks is well spent on a
model that many studies will use. After an interruption the same command goes on.`,
		Example:           "  peftsearch map record topics.yaml sentiment.yaml --name my-model --out my-model.json",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: completeFile("yaml", "yml"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if flags.plans < leastPlans {
				return usage("", "--plans %d: must be at least %d", flags.plans, leastPlans)
			}
			var names []string
			for _, path := range args {
				file, err := g.read(cmd, path)
				if err != nil {
					return err
				}
				if !file.Builtin() {
					return usage("leave out evaluator.analytic and evaluator.command",
						"%s: a map is of plans that peftsearch-worker has trained", path)
				}
				names = append(names, file.Study)
			}
			for _, path := range args {
				if err := g.search(cmd, path, flags, func() {}); err != nil {
					return err
				}
			}
			return g.exportMap(cmd, name, out, names)
		},
	}
	cmd.Flags().IntVar(&flags.plans, "plans", 150, "trainings of each task, those that calibrate rates included")
	addMapFlags(cmd, &name, &out)
	return cmd
}

// addMapFlags adds what every command that writes a map has.
func addMapFlags(cmd *cobra.Command, name, out *string) {
	cmd.Flags().StringVar(name, "name", "", "what people call the model")
	cmd.Flags().StringVar(out, "out", "", "file for the map")
	cmd.MarkFlagRequired("name")
	cmd.MarkFlagRequired("out")
	cmd.MarkFlagFilename("out", "json")
}

// exportMap writes the map of some studies.
func (g *globals) exportMap(cmd *cobra.Command, name, out string, names []string) error {
	db, err := g.view()
	if err != nil {
		return err
	}
	defer db.Close()
	m, err := studies.NewMap(cmd.Context(), db, name, names)
	if err != nil {
		return err
	}
	return writeFile(out, func(w io.Writer) error { return m.Write(w) })
}

func newMapExport(g *globals) *cobra.Command {
	var name, out string
	cmd := &cobra.Command{
		Use:               "export STUDY...",
		Short:             "Write the trials of studies on one model to a map",
		Example:           "  peftsearch map export topics sentiment --name my-model --out my-model.json",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: g.completeStudies,
		RunE:              func(cmd *cobra.Command, args []string) error { return g.exportMap(cmd, name, out, args) },
	}
	addMapFlags(cmd, &name, &out)
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
