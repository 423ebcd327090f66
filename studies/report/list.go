package report

import (
	"time"

	"peftsearch/data/quote"
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
	Damaged     string    `json:"damaged,omitempty"` // why the front cannot be read
}

// NewListing describes a study in brief; damaged is why its front cannot be read, or nil.
func NewListing(record *store.Record, tally store.Tally, front studies.Front, damaged error) Listing {
	l := Listing{Study: record.Name, Created: record.Created.UTC(), Metric: record.Metric, Complete: tally.Complete,
		Pruned: tally.Pruned,
		Failed: tally.Failed, Running: tally.Running, Waiting: tally.Waiting, FrontSize: len(front.Members),
		Hypervolume: front.Hypervolume}
	if damaged != nil {
		l.Damaged = quote.Message(damaged.Error())
		return l
	}
	if n := len(front.Members); n > 0 {
		best := front.Members[n-1]
		l.BestTrial, l.BestParams, l.BestScore = &best.Number, &best.Params, &best.Result.Score
	}
	return l
}
