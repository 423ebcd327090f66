package main

import (
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"peftsearch/studies"
)

// studyJSON is a study in JSON documents.
type studyJSON struct {
	Study       string         `json:"study"`
	Created     time.Time      `json:"created"`
	Metric      string         `json:"metric"`
	Trials      map[string]int `json:"trials"` // by state
	BestScore   *float64       `json:"best_score"`
	BestTrial   *int64         `json:"best_trial"`
	Hypervolume float64        `json:"hypervolume"`
}

func summary(r *studies.Record, trials []studies.Trial) studyJSON {
	s := studyJSON{Study: r.Name, Created: r.Created.UTC(), Metric: r.Metric, Trials: map[string]int{}}
	for _, t := range trials {
		s.Trials[string(t.State)]++
	}
	front := studies.FrontOf(trials, r.Reference)
	s.Hypervolume = front.Hypervolume
	if n := len(front.Members); n > 0 {
		best := front.Members[n-1]
		s.BestScore, s.BestTrial = &best.Result.Score, &best.Number
	}
	return s
}

func (a *app) ls() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List the studies of the database",
		Args:  exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			store, err := studies.ViewStore(a.db)
			if err != nil {
				return usage(err, "")
			}
			defer store.Close()
			records, err := store.Studies(cmd.Context())
			if err != nil {
				return err
			}
			list := []studyJSON{}
			for _, r := range records {
				trials, err := store.Trials(cmd.Context(), r)
				if err != nil {
					return err
				}
				list = append(list, summary(r, trials))
			}
			if asJSON {
				return writeJSON(a.stdout, struct {
					SchemaVersion int         `json:"schema_version"`
					Studies       []studyJSON `json:"studies"`
				}{schemaVersion, list})
			}
			t := newTable(a.stdout, table.Row{"study", "complete", "failed", "open", "best", "hypervolume", "created"}, "complete", "failed", "open", "best", "hypervolume")
			for _, s := range list {
				best := "-"
				if s.BestScore != nil {
					best = score(*s.BestScore)
				}
				t.AppendRow(table.Row{s.Study, s.Trials["complete"], s.Trials["failed"], s.Trials["running"] + s.Trials["waiting"],
					best, score(s.Hypervolume), s.Created.Local().Format("2006-01-02 15:04")})
			}
			t.Render()
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
