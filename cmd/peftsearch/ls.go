package main

import (
	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"peftsearch/studies"
	"peftsearch/studies/report"
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
			records, err := db.Studies(cmd.Context())
			if err != nil {
				return err
			}
			document := report.List{SchemaVersion: report.SchemaVersion, Studies: []report.Listing{}}
			for _, record := range records {
				tally, err := db.Tally(cmd.Context(), record)
				if err != nil {
					return err
				}
				front, err := studies.ReadFront(cmd.Context(), db, record)
				if err != nil {
					return err
				}
				document.Studies = append(document.Studies, report.NewListing(record, tally, front))
			}
			if asJSON {
				return report.WriteJSON(cmd.OutOrStdout(), document)
			}
			t := newTable(cmd.OutOrStdout(), "study", "started", "complete", "pruned", "running", "failed", "front", "hypervolume", "best", "")
			t.SetColumnConfigs(right(3, 4, 5, 6, 7, 8, 9))
			for _, l := range document.Studies {
				best, metric := "", ""
				if l.BestScore != nil {
					best, metric = score(*l.BestScore), l.Metric+" @ "+brief(*l.BestParams)
				}
				t.AppendRow(table.Row{l.Study, l.Created.Local().Format("2006-01-02 15:04"), l.Complete, l.Pruned,
					l.Running, l.Failed, l.FrontSize, score(l.Hypervolume), best, metric})
			}
			t.Render()
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
