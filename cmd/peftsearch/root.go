package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/spf13/cobra"

	"peftsearch/studies"
)

// app is what the verbs share.
type app struct {
	stdout, stderr io.Writer
	db             string
	quiet          bool
}

const defaultDB = "studies.db"

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "peftsearch",
		Short: "Search how wide each adapter, how long each prefix and what LoRA rank each layer should get",
		Long: `peftsearch finds, for your own pretrained model and task, the best hybrid ways of parameter-efficient
fine-tuning: the Pareto front of score against trainable parameters, over serial and parallel adapters,
prefixes and LoRA of any size in every layer.

  peftsearch init                       write a study file
  peftsearch run study.yaml             start the search, or continue it
  peftsearch front STUDY                the best score at each size
  peftsearch train STUDY --trial N --out DIR`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.PersistentFlags().StringVar(&a.db, "db", defaultDB, "database of the studies")
	root.PersistentFlags().BoolVarP(&a.quiet, "quiet", "q", false, "no progress, only results and errors")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usage(err, cmd.CommandPath()+" --help")
	})
	root.AddCommand(a.init(), a.run(), a.ls(), a.show(), a.front(), a.export(), a.train(), a.predict(), a.doctor(), a.version())
	return root
}

// exactly wants a number of arguments.
func exactly(n int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != n {
			return usage(fmt.Errorf("%s takes %s, not %d arguments", cmd.CommandPath(), what, len(args)), cmd.UseLine())
		}
		return nil
	}
}

// dbFlag repeats --db in commands that are suggested to the user.
func (a *app) dbFlag() string {
	if a.db == defaultDB {
		return ""
	}
	return " --db " + a.db
}

// view opens a study for reading.
func (a *app) view(ctx context.Context, name string) (*studies.Store, *studies.Record, error) {
	store, err := studies.ViewStore(a.db)
	if err != nil {
		return nil, nil, usage(err, "peftsearch run study.yaml"+a.dbFlag())
	}
	record, err := store.Study(ctx, name)
	if err != nil {
		store.Close()
		return nil, nil, err
	}
	return store, record, nil
}

// studyNames completes a study's name.
func (a *app) studyNames(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	store, err := studies.ViewStore(a.db)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer store.Close()
	records, err := store.Studies(cmd.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, r := range records {
		names = append(names, r.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// workerName is the program that trains.
const workerName = "peftsearch-worker"

// findWorker looks for the worker beside this program, then in PATH.
func findWorker() (string, error) {
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), workerName)
		if info, err := os.Stat(beside); err == nil && !info.IsDir() {
			return beside, nil
		}
	}
	path, err := exec.LookPath(workerName)
	if err != nil {
		return "", environment(fmt.Errorf("%s is neither beside peftsearch nor in PATH", workerName), "make build, which builds it into bin/")
	}
	return path, nil
}
