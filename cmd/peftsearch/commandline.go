package main

import (
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"peftsearch/data/quote"
)

// commandLine writes words so that a shell reads them as they are.
func commandLine(words ...string) string {
	quoted := make([]string, len(words))
	for i, word := range words {
		quoted[i] = quote.Shell(word)
	}
	return strings.Join(quoted, " ")
}

// own is how many arguments are for this program; those behind -- are for Slurm's.
func own(cmd *cobra.Command, args []string) int {
	if before := cmd.ArgsLenAtDash(); before >= 0 {
		return before
	}
	return len(args)
}

// command writes a peftsearch command on the same database.
func (g *globals) command(cmd *cobra.Command, words ...string) string {
	words = append([]string{"peftsearch"}, words...)
	if cmd.Flags().Changed("db") {
		words = append(words, "--db", g.db)
	}
	return commandLine(words...)
}

// repeat is the command that is running, with the flags that were given.
func repeat(cmd *cobra.Command, args ...string) string {
	words := append(strings.Fields(cmd.CommandPath()), args...)
	cmd.Flags().Visit(func(f *pflag.Flag) {
		switch values := f.Value.(type) {
		case pflag.SliceValue:
			words = append(words, "--"+f.Name, strings.Join(values.GetSlice(), ","))
		default:
			if f.Value.Type() == "bool" {
				words = append(words, "--"+f.Name)
			} else {
				words = append(words, "--"+f.Name, f.Value.String())
			}
		}
	})
	return commandLine(words...)
}
