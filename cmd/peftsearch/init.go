package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"peftsearch/studies"
)

func (a *app) init() *cobra.Command {
	return &cobra.Command{
		Use:   "init [FILE]",
		Short: "Write a commented study file (study.yaml)",
		Long:  "Writes a study file with every key, its meaning and its default. Fill in the keys without a comment sign.",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			path := "study.yaml"
			if len(args) == 1 {
				path = args[0]
			}
			f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
			if errors.Is(err, fs.ErrExist) {
				return usage(fmt.Errorf("%s is there already, it is left as it is", path), "peftsearch init OTHER.yaml")
			}
			if err != nil {
				return usage(err, "peftsearch init OTHER.yaml")
			}
			_, err = f.Write(studies.Template())
			if err := errors.Join(err, f.Close()); err != nil {
				return err
			}
			fmt.Fprintln(a.stdout, path)
			return nil
		},
	}
}
