package report

import (
	"peftsearch/search"
	"peftsearch/studies"
	"peftsearch/studies/store"
)

// Comparison is what compare --json prints; pairs are in the order of the arguments.
type Comparison struct {
	SchemaVersion   int                 `json:"schema_version"`
	CommonReference bool                `json:"common_reference"`
	Studies         [2]ComparedStudy    `json:"studies"`
	ByTrials        []TrialsCheckpoint  `json:"by_trials"`
	BySeconds       []SecondsCheckpoint `json:"by_seconds"`
}

// ComparedStudy is one of the two studies.
type ComparedStudy struct {
	Study     string           `json:"study"`
	Metric    string           `json:"metric"`
	Reference search.Reference `json:"reference"` // of the hypervolumes below
	Trials    int              `json:"trials"`    // with an outcome
	Seconds   float64          `json:"seconds"`   // summed over them
	Front     []FrontMember    `json:"front"`
}

// TrialsCheckpoint is two hypervolumes after equal numbers of trials.
type TrialsCheckpoint struct {
	Trials      int        `json:"trials"`
	Hypervolume [2]float64 `json:"hypervolume"`
}

// SecondsCheckpoint is two hypervolumes after equal training time.
type SecondsCheckpoint struct {
	Seconds     float64    `json:"seconds"`
	Trials      [2]int     `json:"trials"`
	Hypervolume [2]float64 `json:"hypervolume"`
}

// NewComparison describes a comparison of two studies with their fronts.
func NewComparison(records [2]*store.Record, fronts [2]studies.Front, confirmed [2]studies.Confirmations,
	c studies.Comparison) Comparison {
	document := Comparison{SchemaVersion: SchemaVersion, CommonReference: c.Common,
		ByTrials: []TrialsCheckpoint{}, BySeconds: []SecondsCheckpoint{}}
	for i, record := range records {
		document.Studies[i] = ComparedStudy{Study: record.Name, Metric: record.Metric, Reference: c.References[i],
			Trials: c.Trials[i], Seconds: c.Seconds[i], Front: newFrontMembers(record, fronts[i], confirmed[i])}
	}
	for _, p := range c.ByTrials {
		document.ByTrials = append(document.ByTrials, TrialsCheckpoint{Trials: p.Trials[0], Hypervolume: p.Hypervolumes})
	}
	for _, p := range c.BySeconds {
		document.BySeconds = append(document.BySeconds, SecondsCheckpoint{p.Seconds, p.Trials, p.Hypervolumes})
	}
	return document
}
