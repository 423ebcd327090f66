package main

import (
	"fmt"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"peftsearch/peft"
	"peftsearch/studies"
)

// frontJSON is the document of front --json.
type frontJSON struct {
	SchemaVersion int           `json:"schema_version"`
	Study         string        `json:"study"`
	Metric        string        `json:"metric"`
	Hypervolume   float64       `json:"hypervolume"`
	Reference     referenceJSON `json:"reference"`
	Front         []memberJSON  `json:"front"`
}

// referenceJSON fixes the scale of the hypervolume.
type referenceJSON struct {
	Chance    float64 `json:"chance"`
	MinParams int64   `json:"min_params"`
	MaxParams int64   `json:"max_params"`
}

type memberJSON struct {
	Trial         int64     `json:"trial"`
	Params        int64     `json:"params"`
	ParamsPercent float64   `json:"params_percent"` // of the backbone
	HeadParams    int64     `json:"head_params"`
	Score         float64   `json:"score"`
	Origin        string    `json:"origin"`
	Knee          bool      `json:"knee"`
	Plan          peft.Plan `json:"plan"`
}

func score(s float64) string { return fmt.Sprintf("%.4f", s) }

func percent(params int64, g peft.Geometry) float64 {
	return 100 * float64(params) / float64(g.BackboneParams)
}

func (a *app) front() *cobra.Command {
	var asJSON, knee bool
	var maxParams string
	var minScore float64
	cmd := &cobra.Command{
		Use:   "front STUDY",
		Short: "Show the best score at each size",
		Long: `Shows the Pareto front: the trials of which no other has fewer parameters and at least the same score.
The knee is the member beyond which score becomes expensive: it lies farthest above the line between the
front's ends. The hypervolume is the share that the front dominates of all sizes (on a logarithmic scale)
and scores (from chance to 1).`,
		Args:              exactly(1, "a study"),
		ValidArgsFunction: a.studyNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			limit := int64(-1)
			if maxParams != "" {
				var err error
				if limit, err = parseCount(maxParams); err != nil {
					return usage(err, "--max-params 500k, 1.5M or a plain number")
				}
			}
			store, record, err := a.view(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			defer store.Close()
			trials, err := store.Trials(cmd.Context(), record)
			if err != nil {
				return err
			}
			front := studies.FrontOf(trials, record.Reference)
			front = filter(front, func(i int, t studies.Trial) bool {
				return (limit < 0 || t.Params <= limit) && (!cmd.Flags().Changed("min-score") || t.Result.Score >= minScore) && (!knee || i == front.Knee)
			})
			if asJSON {
				return writeJSON(a.stdout, frontDocument(record, front))
			}
			return a.frontTable(record, front)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVar(&knee, "knee", false, "only the knee")
	cmd.Flags().StringVar(&maxParams, "max-params", "", "only members with at most so many parameters, e.g. 500k")
	cmd.Flags().Float64Var(&minScore, "min-score", 0, "only members with at least this score")
	return cmd
}

// filter keeps members; the hypervolume remains that of the whole front.
func filter(front studies.Front, keep func(i int, t studies.Trial) bool) studies.Front {
	out := studies.Front{Hypervolume: front.Hypervolume, Knee: -1}
	for i, t := range front.Members {
		if !keep(i, t) {
			continue
		}
		if i == front.Knee {
			out.Knee = len(out.Members)
		}
		out.Members = append(out.Members, t)
	}
	return out
}

func frontDocument(r *studies.Record, front studies.Front) frontJSON {
	document := frontJSON{SchemaVersion: schemaVersion, Study: r.Name, Metric: r.Metric, Hypervolume: front.Hypervolume,
		Reference: referenceJSON(r.Reference), Front: []memberJSON{}}
	for i, t := range front.Members {
		document.Front = append(document.Front, memberJSON{Trial: t.Number, Params: t.Params, ParamsPercent: percent(t.Params, r.Geometry),
			HeadParams: t.Result.Head, Score: t.Result.Score, Origin: t.Origin, Knee: i == front.Knee, Plan: t.Candidate.Plan})
	}
	return document
}

// frontTable prints the front for people.
func (a *app) frontTable(r *studies.Record, front studies.Front) error {
	t := newTable(a.stdout, table.Row{"trial", "params", "% of model", r.Metric, "", "plan"}, "trial", "params", "% of model", r.Metric)
	for i, m := range front.Members {
		mark := ""
		if i == front.Knee && len(front.Members) > 2 {
			mark = "knee"
		}
		t.AppendRow(table.Row{m.Number, count(m.Params), fmt.Sprintf("%.3f", percent(m.Params, r.Geometry)), score(m.Result.Score), mark, m.Candidate.Plan.String()})
	}
	t.Render()
	return nil
}
