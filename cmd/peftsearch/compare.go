package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"peftsearch/studies"
	"peftsearch/studies/report"
	"peftsearch/studies/store"
)

func newCompare(g *globals) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "compare STUDY STUDY",
		Short: "Compare two studies after equal numbers of trials and equal time",
		Long: `Show the fronts of two studies, and their hypervolumes after equal numbers of trials and after equal
training time (the sum over the trials), at quarters of what both have spent. Studies with the same metric and
the same shape of model are put on one scale; otherwise each hypervolume is on its own study's scale.`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: g.completeStudies,
		RunE:              func(cmd *cobra.Command, args []string) error { return g.compare(cmd, [2]string(args), asJSON) },
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (g *globals) compare(cmd *cobra.Command, names [2]string, asJSON bool) error {
	db, err := g.view()
	if err != nil {
		return err
	}
	defer db.Close()
	var records [2]*store.Record
	var trials [2][]store.Outcome
	var fronts [2]studies.Front
	var confirmed [2]studies.Confirmations
	for i, name := range names {
		if records[i], err = db.Study(cmd.Context(), name); err != nil {
			return err
		}
		if trials[i], err = db.Outcomes(cmd.Context(), records[i]); err != nil {
			return err
		}
		if confirmed[i], err = studies.Confirmed(cmd.Context(), db, records[i]); err != nil {
			return err
		}
		if fronts[i], err = studies.ReadFront(cmd.Context(), db, records[i]); err != nil {
			return err
		}
	}
	comparison := report.NewComparison(records, fronts, confirmed, studies.Compare(records, trials))
	w := cmd.OutOrStdout()
	if asJSON {
		return report.WriteJSON(w, comparison)
	}
	for _, s := range comparison.Studies {
		fmt.Fprintf(w, "%s: %d trials, %s of training\n", s.Study, s.Trials, seconds(s.Seconds))
		printFront(w, terminalWidth(os.Stdout), s.Metric, s.Front)
		fmt.Fprintln(w)
	}
	printCheckpoints(w, comparison)
	if !comparison.CommonReference && !g.quiet {
		fmt.Fprintln(cmd.ErrOrStderr(),
			"\nThe studies differ in metric or model: each hypervolume is on its own study's scale.")
	}
	return nil
}

// printCheckpoints writes the hypervolumes as a table.
func printCheckpoints(w io.Writer, c report.Comparison) {
	t := newTable(w, "hypervolume after", c.Studies[0].Study, c.Studies[1].Study)
	t.SetColumnConfigs(right(2, 3))
	row := func(after string, hypervolume [2]float64) {
		t.AppendRow(table.Row{after, score(hypervolume[0]), score(hypervolume[1])})
	}
	for _, p := range c.ByTrials {
		unit := "trials"
		if p.Trials == 1 {
			unit = "trial"
		}
		row(fmt.Sprintf("%d %s", p.Trials, unit), p.Hypervolume)
	}
	for _, p := range c.BySeconds {
		row(fmt.Sprintf("%s (%d and %d trials)", seconds(p.Seconds), p.Trials[0], p.Trials[1]), p.Hypervolume)
	}
	t.Render()
}

func seconds(s float64) string { return duration(time.Duration(s * float64(time.Second))) }
