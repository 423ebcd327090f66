package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"peftsearch/studies/store"
)

func newCopy(g *globals) *cobra.Command {
	var to string
	cmd := &cobra.Command{
		Use:   "copy STUDY --to DB",
		Short: "Copy a study to another database",
		Long: `Copy a study with everything that is known of it, as it is at this moment, to another database of any kind:
from a server to a file, to look at it offline, or back. An earlier state of the same study is replaced there;
a study of that name that has gone another way is left as it is. Trials that run wait in the copy.`,
		Example: "  peftsearch copy my-study --db postgres://me@server/peft --to studies.db\n" +
			"  peftsearch front my-study --db studies.db",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: g.completeStudy,
		RunE:              func(cmd *cobra.Command, args []string) error { return g.copy(cmd, args[0], to) },
	}
	cmd.Flags().StringVar(&to, "to", "", "the other database, named as with --db")
	cmd.MarkFlagRequired("to")
	cmd.MarkFlagFilename("to", "db")
	return cmd
}

func (g *globals) copy(cmd *cobra.Command, name, path string) (err error) {
	if path == g.db {
		return usage("name another database with --to", "%s is the database that the study is in", path)
	}
	if err := store.CheckName(path); err != nil {
		return err
	}
	from, record, err := g.viewStudy(cmd, name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	to, err := store.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	if err := from.Copy(cmd.Context(), record.Name, to); err != nil {
		return fmt.Errorf("copying study %s to %s: %w", name, path, err)
	}
	return nil
}
