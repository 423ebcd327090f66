package report

import (
	"peftsearch/peft"
	"peftsearch/search"
	"peftsearch/studies"
	"peftsearch/studies/store"
)

// Front is what front --json prints.
type Front struct {
	SchemaVersion int              `json:"schema_version"`
	Study         string           `json:"study"`
	Metric        string           `json:"metric"`
	Hypervolume   float64          `json:"hypervolume"` // of the whole front
	Reference     search.Reference `json:"reference"`
	Front         []FrontMember    `json:"front"`
}

// FrontMember is a plan of a front.
type FrontMember struct {
	Trial         int64       `json:"trial"`
	Params        int64       `json:"params"`
	ParamsPercent float64     `json:"params_percent"` // of the backbone
	HeadParams    int64       `json:"head_params"`
	Score         float64     `json:"score"`
	Confirmed     *TestScores `json:"confirmed"` // null unless it was confirmed
	Knee          bool        `json:"knee"`
	Plan          peft.Plan   `json:"plan"`
}

// TestScores is a sample of test scores, one for each seed.
type TestScores struct {
	Seeds    int         `json:"seeds"`
	Mean     float64     `json:"mean"`
	SD       *float64    `json:"sd"`       // null for one seed, like interval
	Interval *[2]float64 `json:"interval"` // 95 %, of the mean
}

func newTestScores(s studies.Sample) TestScores {
	scores := TestScores{Seeds: s.N, Mean: s.Mean}
	if low, high, ok := s.Interval(); ok {
		scores.SD, scores.Interval = &s.SD, &[2]float64{low, high}
	}
	return scores
}

// NewFront describes a front, or what was selected of one.
func NewFront(record *store.Record, front studies.Front, confirmed studies.Confirmations) Front {
	return Front{SchemaVersion: SchemaVersion, Study: record.Name, Metric: record.Metric,
		Hypervolume: front.Hypervolume, Reference: record.Reference, Front: newFrontMembers(record, front, confirmed)}
}

func newFrontMembers(record *store.Record, front studies.Front, confirmed studies.Confirmations) []FrontMember {
	members := []FrontMember{}
	knee, ok := front.KneeMember()
	for _, m := range front.Members {
		member := FrontMember{Trial: m.Number, Params: m.Params, ParamsPercent: percentOf(m.Params, record.Geometry),
			HeadParams: m.Result.Head, Score: m.Result.Score, Knee: ok && m.Number == knee.Number, Plan: m.Candidate.Plan}
		if c := confirmed.Of(m.Candidate); c != nil {
			scores := newTestScores(c.Test)
			member.Confirmed = &scores
		}
		members = append(members, member)
	}
	return members
}
