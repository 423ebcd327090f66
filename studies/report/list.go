package report

import (
	"time"

	"peftsearch/studies"
	"peftsearch/studies/store"
)

// List is what ls --json prints.
type List struct {
	SchemaVersion int       `json:"schema_version"`
	Studies       []Listing `json:"studies"`
}

// Listing is a study in a list.
type Listing struct {
	Study       string    `json:"study"`
	Created     time.Time `json:"created"`
	Metric      string    `json:"metric"`
	Complete    int       `json:"complete"`
	Pruned      int       `json:"pruned"`
	Failed      int       `json:"failed"`
	Running     int       `json:"running"`
	Waiting     int       `json:"waiting"`
	FrontSize   int       `json:"front_size"`
	BestTrial   *int64    `json:"best_trial"` // null before the first score, like the next two
	BestParams  *int64    `json:"best_params"`
	BestScore   *float64  `json:"best_score"`
	Hypervolume float64   `json:"hypervolume"`
}

// NewListing describes a study in brief.
func NewListing(record *store.Record, trials []store.Trial) Listing {
	front := studies.FrontOf(trials, record.Reference)
	l := Listing{Study: record.Name, Created: record.Created.UTC(), Metric: record.Metric, FrontSize: len(front.Members),
		Hypervolume: front.Hypervolume}
	for _, t := range trials {
		switch t.State {
		case store.Complete:
			l.Complete++
		case store.Pruned:
			l.Pruned++
		case store.Failed:
			l.Failed++
		case store.Running:
			l.Running++
		case store.Waiting:
			l.Waiting++
		}
	}
	if n := len(front.Members); n > 0 {
		best := front.Members[n-1]
		l.BestTrial, l.BestParams, l.BestScore = &best.Number, &best.Params, &best.Result.Score
	}
	return l
}
