package main

import (
	"fmt"
	"math"
	"os"
	"slices"
	"strings"

	"github.com/charmbracelet/colorprofile"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"peftsearch/studies"
	"peftsearch/studies/report"
	"peftsearch/studies/store"
)

// selection picks members of a front.
type selection struct {
	maxParams count
	minScore  float64
	recommend bool
}

func (s selection) of(members []report.FrontMember) []report.FrontMember {
	return slices.DeleteFunc(members, func(m report.FrontMember) bool {
		return m.Params > int64(s.maxParams) || m.Score < s.minScore || s.recommend && !m.Recommended
	})
}

func newFront(g *globals) *cobra.Command {
	pick := selection{maxParams: math.MaxInt64, minScore: math.Inf(-1)}
	var asJSON, plot bool
	cmd := &cobra.Command{
		Use:   "front STUDY",
		Short: "Show the best score at each size",
		Long: `Show the Pareto front of a study: the plans that no other plan beats in both score and number of
trainable parameters. ± is what other dev rows would have changed. The expected score is that of another training, by
all trials of the study: of many scores the highest is partly luck. Recommended is the smallest plan that is not
distinguishably worse than the best one: it has at least one chance in five of being as good. A step of the front that
is "within noise" is no better than the plan before it, as far as can be told. Test scores of plans that were confirmed
stand beside these.`,
		Example:           "  peftsearch front my-study --max-params 100k\n  peftsearch front my-study --recommend --json",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: g.completeStudy,
		RunE: func(cmd *cobra.Command, args []string) error {
			db, record, err := g.viewStudy(cmd, args[0])
			if err != nil {
				return err
			}
			defer db.Close()
			assessed, err := studies.ReadAssessed(cmd.Context(), db, record)
			if err != nil {
				return err
			}
			confirmed, err := studies.Confirmed(cmd.Context(), db, record)
			if err != nil {
				return err
			}
			front := report.NewFront(record, assessed, confirmed)
			front.Front = pick.of(front.Front)
			if asJSON {
				return report.WriteJSON(cmd.OutOrStdout(), front)
			}
			if len(front.Front) == 0 {
				fmt.Fprintln(cmd.ErrOrStderr(), "no plan of the front matches")
				return nil
			}
			if plot {
				if err := g.printChart(cmd, db, record); err != nil {
					return err
				}
			}
			printFront(cmd.OutOrStdout(), terminalWidth(os.Stdout), front.Metric, front.Front)
			if !g.quiet {
				printRecommendation(cmd.ErrOrStderr(), front)
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&asJSON, "json", false, "print JSON")
	flags.Var(&pick.maxParams, "max-params", "only plans with at most so many parameters, such as 500k or 1M")
	flags.Lookup("max-params").DefValue = "none"
	flags.Float64Var(&pick.minScore, "min-score", pick.minScore, "only plans with at least this score")
	flags.Lookup("min-score").DefValue = "none"
	flags.BoolVar(&pick.recommend, "recommend", false, "only the recommended plan")
	flags.BoolVar(&plot, "plot", false, "draw every score against the size above the table")
	cmd.MarkFlagsMutuallyExclusive("plot", "json")
	return cmd
}

// printChart draws the scores of a study, with the front.
func (g *globals) printChart(cmd *cobra.Command, db *store.Store, record *store.Record) error {
	overview, err := studies.Watch(db, record, nil).Look(cmd.Context())
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
	for _, line := range (screen{Overview: overview, cursor: -1}).chart(width, rows) {
		fmt.Fprintln(&w, strings.TrimRight(line, " "))
	}
	fmt.Fprintln(&w)
	return nil
}
