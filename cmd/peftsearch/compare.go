package main

import (
	"fmt"
	"io"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"peftsearch/search"
	"peftsearch/studies"
	"peftsearch/studies/store"
)

// compareDocument is what compare --json prints; pairs are in the order of the arguments.
type compareDocument struct {
	SchemaVersion   int                 `json:"schema_version"`
	CommonReference bool                `json:"common_reference"`
	Studies         [2]comparedStudy    `json:"studies"`
	ByTrials        []trialsCheckpoint  `json:"by_trials"`
	BySeconds       []secondsCheckpoint `json:"by_seconds"`
}

type comparedStudy struct {
	Study     string           `json:"study"`
	Metric    string           `json:"metric"`
	Reference search.Reference `json:"reference"` // of the hypervolumes below
	Trials    int              `json:"trials"`    // with an outcome
	Seconds   float64          `json:"seconds"`   // summed over them
	Front     []frontMember    `json:"front"`
}

type trialsCheckpoint struct {
	Trials      int        `json:"trials"`
	Hypervolume [2]float64 `json:"hypervolume"`
}

type secondsCheckpoint struct {
	Seconds     float64    `json:"seconds"`
	Trials      [2]int     `json:"trials"`
	Hypervolume [2]float64 `json:"hypervolume"`
}

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
	var trials [2][]store.Trial
	var fronts [2]studies.Front
	var confirmed [2]studies.Confirmations
	for i, name := range names {
		if records[i], err = db.Study(cmd.Context(), name); err != nil {
			return err
		}
		if trials[i], err = db.Trials(cmd.Context(), records[i]); err != nil {
			return err
		}
		if confirmed[i], err = studies.Confirmed(cmd.Context(), db, records[i]); err != nil {
			return err
		}
		fronts[i] = studies.FrontOf(trials[i], records[i].Reference)
	}
	comparison := studies.Compare(records, trials)
	w := cmd.OutOrStdout()
	if asJSON {
		return writeJSON(w, newCompareDocument(records, fronts, confirmed, comparison))
	}
	for i, record := range records {
		fmt.Fprintf(w, "%s: %d trials, %s of training\n", record.Name, comparison.Trials[i], seconds(comparison.Seconds[i]))
		printFront(w, record, fronts[i], confirmed[i])
		fmt.Fprintln(w)
	}
	printCheckpoints(w, names, comparison)
	if !comparison.Common && !g.quiet {
		fmt.Fprintln(cmd.ErrOrStderr(), "\nThe studies differ in metric or model: each hypervolume is on its own study's scale.")
	}
	return nil
}

func newCompareDocument(records [2]*store.Record, fronts [2]studies.Front, confirmed [2]studies.Confirmations, c studies.Comparison) compareDocument {
	document := compareDocument{SchemaVersion: schemaVersion, CommonReference: c.Common, ByTrials: []trialsCheckpoint{}, BySeconds: []secondsCheckpoint{}}
	for i, record := range records {
		document.Studies[i] = comparedStudy{Study: record.Name, Metric: record.Metric, Reference: c.References[i],
			Trials: c.Trials[i], Seconds: c.Seconds[i], Front: newFrontMembers(record, fronts[i], confirmed[i])}
	}
	for _, p := range c.ByTrials {
		document.ByTrials = append(document.ByTrials, trialsCheckpoint{Trials: p.Trials[0], Hypervolume: p.Hypervolumes})
	}
	for _, p := range c.BySeconds {
		document.BySeconds = append(document.BySeconds, secondsCheckpoint{Seconds: p.Seconds, Trials: p.Trials, Hypervolume: p.Hypervolumes})
	}
	return document
}

// printCheckpoints writes the hypervolumes as a table.
func printCheckpoints(w io.Writer, names [2]string, c studies.Comparison) {
	t := newTable(w, "hypervolume after", names[0], names[1])
	t.SetColumnConfigs(right(2, 3))
	row := func(after string, p studies.Checkpoint) {
		t.AppendRow(table.Row{after, score(p.Hypervolumes[0]), score(p.Hypervolumes[1])})
	}
	for _, p := range c.ByTrials {
		unit := "trials"
		if p.Trials[0] == 1 {
			unit = "trial"
		}
		row(fmt.Sprintf("%d %s", p.Trials[0], unit), p)
	}
	for _, p := range c.BySeconds {
		row(fmt.Sprintf("%s (%d and %d trials)", seconds(p.Seconds), p.Trials[0], p.Trials[1]), p)
	}
	t.Render()
}

func seconds(s float64) string { return duration(time.Duration(s * float64(time.Second))) }
