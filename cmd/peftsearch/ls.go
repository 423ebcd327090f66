package main

import (
	"cmp"
	"errors"
	"os"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"peftsearch/studies"
	"peftsearch/studies/report"
	"peftsearch/studies/store"
)

func newList(g *globals) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List the studies",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			db, err := g.view()
			if err != nil {
				return err
			}
			defer db.Close()
			records, damaged := db.Studies(cmd.Context())
			if damaged != nil && !errors.Is(damaged, store.ErrDamaged) {
				return damaged
			}
			document := report.List{SchemaVersion: report.SchemaVersion, Studies: []report.Listing{}}
			for _, record := range records {
				tally, err := db.Tally(cmd.Context(), record)
				if err != nil {
					return err
				}
				front, err := studies.ReadFront(cmd.Context(), db, record)
				if err != nil && !errors.Is(err, store.ErrDamaged) {
					return err
				}
				damaged = cmp.Or(damaged, err)
				document.Studies = append(document.Studies, report.NewListing(record, tally, front, err))
			}
			if asJSON {
				return cmp.Or(report.WriteJSON(cmd.OutOrStdout(), document), damaged)
			}
			t := newTable(cmd.OutOrStdout(), "study", "started", "complete", "pruned", "running", "failed", "front",
				"hypervolume", "best", "")
			for _, l := range document.Studies {
				best, metric, front, hypervolume := "", "", any(l.FrontSize), score(l.Hypervolume)
				if l.Damaged != "" {
					best, metric, front, hypervolume = "", "damaged", "", ""
				}
				if l.BestScore != nil {
					best, metric = score(*l.BestScore), l.Metric+" @ "+brief(*l.BestParams)
				}
				t.AppendRow(table.Row{l.Study, l.Created.Local().Format("2006-01-02 15:04"), l.Complete, l.Pruned,
					l.Running, l.Failed, front, hypervolume, best, metric})
			}
			t.renderIn(terminalWidth(os.Stdout), right(3, 4, 5, 6, 7, 8, 9), 2, 8, 7, 4, 6, 5)
			return damaged
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
