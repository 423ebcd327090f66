package main

import (
	"fmt"
	"math"
	"os"
	"strings"

	"github.com/charmbracelet/colorprofile"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"peftsearch/studies"
	"peftsearch/studies/report"
)

// selection picks members of a front.
type selection struct {
	maxParams count
	minScore  float64
	knee      bool
}

// of keeps the hypervolume, which is the whole front's.
func (s selection) of(front studies.Front) studies.Front {
	knee, _ := front.KneeMember()
	selected := front
	selected.Members = nil
	for _, m := range front.Members {
		if m.Params > int64(s.maxParams) || m.Result.Score < s.minScore || s.knee && m.Number != knee.Number {
			continue
		}
		selected.Members = append(selected.Members, m)
	}
	return selected
}

func newFront(g *globals) *cobra.Command {
	pick := selection{maxParams: math.MaxInt64, minScore: math.Inf(-1)}
	var asJSON, plot bool
	cmd := &cobra.Command{
		Use:   "front STUDY",
		Short: "Show the best score at each size",
		Long: `Show the Pareto front of a study: the plans that no other plan beats in both score and number of
trainable parameters. The knee is where more parameters begin to buy little. Test scores of plans that were
confirmed stand beside the search score.`,
		Example:           "  peftsearch front my-study --max-params 100k\n  peftsearch front my-study --knee --json",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: g.completeStudy,
		RunE: func(cmd *cobra.Command, args []string) error {
			db, record, err := g.viewStudy(cmd, args[0])
			if err != nil {
				return err
			}
			defer db.Close()
			members, err := studies.ReadFront(cmd.Context(), db, record)
			if err != nil {
				return err
			}
			confirmed, err := studies.Confirmed(cmd.Context(), db, record)
			if err != nil {
				return err
			}
			front := report.NewFront(record, pick.of(members), confirmed)
			if asJSON {
				return report.WriteJSON(cmd.OutOrStdout(), front)
			}
			if len(front.Front) == 0 {
				fmt.Fprintln(cmd.ErrOrStderr(), "no plan of the front matches")
				return nil
			}
			if plot {
				if err := g.printChart(cmd, record.Name); err != nil {
					return err
				}
			}
			printFront(cmd.OutOrStdout(), front.Metric, front.Front)
			return nil
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&asJSON, "json", false, "print JSON")
	flags.Var(&pick.maxParams, "max-params", "only plans with at most so many parameters, such as 500k or 1M")
	flags.Lookup("max-params").DefValue = "none"
	flags.Float64Var(&pick.minScore, "min-score", pick.minScore, "only plans with at least this score")
	flags.Lookup("min-score").DefValue = "none"
	flags.BoolVar(&pick.knee, "knee", false, "only the knee")
	flags.BoolVar(&plot, "plot", false, "draw every score against the size above the table")
	cmd.MarkFlagsMutuallyExclusive("plot", "json")
	return cmd
}

// printChart draws the scores of a study, with the front.
func (g *globals) printChart(cmd *cobra.Command, study string) error {
	overviews, err := g.overviews(cmd.Context(), []string{study})
	if err != nil {
		return err
	}
	const usual, rows = 80, 20
	width := usual
	if columns, _, err := term.GetSize(int(os.Stdout.Fd())); err == nil {
		width = min(max(columns, minWidth), 2*usual)
	}
	w := colorprofile.Writer{Forward: cmd.OutOrStdout(), Profile: colorprofile.Detect(os.Stdout, os.Environ())}
	if g.noColor {
		w.Profile = colorprofile.NoTTY
	}
	for _, line := range (screen{Overview: overviews[0], cursor: -1}).chart(width, rows) {
		fmt.Fprintln(&w, strings.TrimRight(line, " "))
	}
	fmt.Fprintln(&w)
	return nil
}
