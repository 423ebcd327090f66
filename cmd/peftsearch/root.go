package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"

	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"peftsearch/data/quote"
	"peftsearch/studies/store"
)

// globals are the flags of every verb.
type globals struct {
	db      string
	quiet   bool
	verbose bool
	noColor bool
}

func newRoot() *cobra.Command {
	g := &globals{}
	root := &cobra.Command{
		Use:   "peftsearch",
		Short: "Find the best small fine-tuning configurations for your model and task",
		Long: `peftsearch searches, for a pretrained model and a labelled data set, how wide a serial and a parallel
adapter, how long a prefix and what LoRA rank each layer should get, and keeps the Pareto front of score
against trainable parameters.

  peftsearch init                    write a study file and fill it in
  peftsearch run study.yaml          search; Ctrl-C stops, the same command continues
  peftsearch front STUDY             the best score at each size
  peftsearch train STUDY --trial N --out DIR`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if g.noColor || os.Getenv("NO_COLOR") != "" || !isTerminal(os.Stdout) {
				text.DisableColors()
			}
			if err := cmp.Or(cmd.ValidateRequiredFlags(), cmd.ValidateFlagGroups()); err != nil {
				return usage(cmd.CommandPath()+" --help", "%w", err)
			}
			return store.CheckName(g.db)
		},
	}
	flags := root.PersistentFlags()
	flags.StringVar(&g.db, "db", "studies.db",
		"database of the studies: a file, postgres://USER@HOST/NAME, or the directory of peftsearch db")
	flags.BoolVarP(&g.quiet, "quiet", "q", false, "no progress, errors only")
	flags.BoolVarP(&g.verbose, "verbose", "v", false, "show the worker's log and every step that it reports")
	flags.BoolVar(&g.noColor, "no-color", false, "no colours (so does NO_COLOR)")
	root.AddCommand(newInit(), newRun(g), newSubmit(g), newDB(g), newList(g), newShow(g), newFront(g), newReport(g),
		newServe(g), newWatch(g), newEnqueue(g), newConfirm(g), newCompare(g), newTransfer(g), newCopy(g), newMap(g),
		newExport(g), newImport(g), newTrain(g), newPredict(g),
		newDoctor(g), newPull(g), newVersion())
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		var invalid *pflag.InvalidValueError
		var number *strconv.NumError
		if errors.As(err, &invalid) && errors.As(err, &number) {
			err = fmt.Errorf("--%s %s: must be a number, and not too large", invalid.GetFlag().Name,
				quote.Text(invalid.GetValue()))
		}
		return usage(cmd.CommandPath()+" --help", "%w", err)
	})
	refuseAsUsage(root)
	return root
}

// refuseAsUsage makes wrong arguments of every verb errors of usage, before any of them is shown that has a password.
func refuseAsUsage(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			for _, arg := range args {
				if !store.IsServer(arg) {
					continue
				}
				if err := store.CheckName(arg); err != nil {
					return err
				}
			}
			if err := check(cmd, args); err != nil {
				return usage(cmd.CommandPath()+" --help", "%w", err)
			}
			return nil
		}
	}
	for _, verb := range cmd.Commands() {
		refuseAsUsage(verb)
	}
}

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// mustExist refuses a database that is not there.
func (g *globals) mustExist() error {
	if store.IsServer(g.db) {
		return nil
	}
	if _, err := os.Stat(g.db); g.db != "" && errors.Is(err, fs.ErrNotExist) {
		return usage("peftsearch run STUDY.yaml makes it; --db names another", "there is no database %s", g.db)
	}
	return nil
}

// view opens the database for reading.
func (g *globals) view() (*store.Store, error) {
	if err := g.mustExist(); err != nil {
		return nil, err
	}
	db, err := store.View(g.db)
	if err == nil {
		g.warn(db)
	}
	return db, err
}

// viewStudy opens the database for reading and finds a study in it. The caller closes the store.
func (g *globals) viewStudy(cmd *cobra.Command, name string) (*store.Store, *store.Record, error) {
	db, err := g.view()
	if err != nil {
		return nil, nil, err
	}
	record, err := db.Study(cmd.Context(), name)
	if err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	return db, record, nil
}

// open opens the database for writing and makes it if it is not there.
func (g *globals) open() (*store.Store, error) {
	db, err := store.Open(g.db)
	if err == nil {
		g.warn(db)
	}
	return db, err
}

// warn says what is wrong with a database that can be used nevertheless.
func (g *globals) warn(db *store.Store) {
	if warning := db.Warning(); warning != "" {
		fmt.Fprintf(os.Stderr, "Warning: %s: %s\n", g.db, warning)
	}
}

// completeStudy offers the names of the database's studies as the first argument.
func (g *globals) completeStudy(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return g.completeStudies(cmd, args, prefix)
}

// completeStudies offers the names of the database's studies.
func (g *globals) completeStudies(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	db, err := g.view()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	defer db.Close()
	records, err := db.Studies(cmd.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	names := make([]string, len(records))
	for i, r := range records {
		names[i] = r.Name
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeFile offers files with the extensions.
func completeFile(extensions ...string) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return extensions, cobra.ShellCompDirectiveFilterFileExt
	}
}
