package report

import (
	"math"

	"peftsearch/data/metric"
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
	// Recommendation is null before the first complete trial. Its trials are members, on the front or not, unless they
	// were not selected.
	Recommendation *Recommendation `json:"recommendation"`
	Front          []FrontMember   `json:"front"`
}

// Recommendation is the smallest plan that is not distinguishably worse than the best one.
type Recommendation struct {
	Trial  int64   `json:"trial"`
	Best   int64   `json:"best"`    // the trial with the highest expected score
	AsGood float64 `json:"as_good"` // probability that Trial's plan is at least as good as Best's
	Rule   float64 `json:"rule"`    // the least such probability that a recommended plan has
	// Behind is how far the score of Trial is behind that of Best on the same dev rows; null for the same trial.
	Behind *Difference `json:"behind"`
}

// Difference is one between two scores.
type Difference struct {
	Mean   float64  `json:"mean"`
	RowSD  *float64 `json:"row_sd"`  // by the choice of the dev rows; null where the worker does not tell
	SD     *float64 `json:"sd"`      // by the rows and by the luck of both trainings; null where it is not known
	PValue *float64 `json:"p_value"` // that plans that are alike differ as much; null where it is not known
}

// FrontMember is a plan of a front.
type FrontMember struct {
	Trial         int64       `json:"trial"`
	Params        int64       `json:"params"`
	ParamsPercent float64     `json:"params_percent"` // of the backbone
	HeadParams    int64       `json:"head_params"`
	Score         float64     `json:"score"`
	Trainings     int         `json:"trainings,omitempty"` // above 1, that the score is the mean of
	Confirmed     *TestScores `json:"confirmed"`           // null unless it was confirmed
	RowSD         *float64    `json:"row_sd"`              // of the score by the choice of dev rows; null where unknown
	Expected      *float64    `json:"expected"`            // score of another training, by all of the study; in range
	ExpectedSD    *float64    `json:"expected_sd"`         // with which that is known
	OnFront       bool        `json:"on_front"`            // false: a smaller plan has as high a score, which may be luck
	WithinNoise   bool        `json:"within_noise"`        // the member before is not distinguishably worse
	Best          bool        `json:"best"`
	Recommended   bool        `json:"recommended"`
	Plan          peft.Plan   `json:"plan"`
}

// TestScores is a sample of test scores, one for each seed.
type TestScores struct {
	Seeds    int         `json:"seeds"`
	Mean     float64     `json:"mean"`
	SD       *float64    `json:"sd"`       // null for one seed, like interval
	Interval *[2]float64 `json:"interval"` // 95 %, of the mean; within the metric's range
}

func newTestScores(s studies.Sample, record *store.Record) TestScores {
	scores := TestScores{Seeds: s.N, Mean: s.Mean}
	if low, high, ok := s.Interval(metric.Name(record.Metric)); ok {
		scores.SD, scores.Interval = &s.SD, &[2]float64{low, high}
	}
	return scores
}

// NewFront describes a front, or what was selected of one.
func NewFront(record *store.Record, front studies.Assessed, confirmed studies.Confirmations) Front {
	document := Front{SchemaVersion: SchemaVersion, Study: record.Name, Metric: record.Metric,
		Hypervolume: front.Hypervolume, Reference: record.Reference, Front: []FrontMember{}}
	if r := front.Recommended; r != nil {
		document.Recommendation = &Recommendation{Trial: r.Trial, Best: r.Best, AsGood: *estimate(r.AsGood),
			Rule: search.Alike}
		if paired, ok := front.Behind(); ok {
			document.Recommendation.Behind = &Difference{Mean: paired.Difference, RowSD: estimate(paired.RowSD),
				SD: estimate(paired.SD), PValue: estimate(paired.PValue)}
		}
	}
	for _, m := range newFrontMembers(record, front.Front, confirmed) {
		m.RowSD, m.OnFront, m.WithinNoise = estimate(front.RowSD(m.Trial)), front.OnFront(m.Trial), front.WithinNoise(m.Trial)
		if mean, sd, ok := front.Expected(m.Trial); ok { // by a process that knows no bounds
			low, high := metric.Name(record.Metric).Range()
			m.Expected, m.ExpectedSD = estimate(min(max(mean, low), high)), estimate(sd)
		}
		if r := front.Recommended; r != nil {
			m.Recommended, m.Best = m.Trial == r.Trial, m.Trial == r.Best
		}
		document.Front = append(document.Front, m)
	}
	return document
}

// estimate is a number to as many digits as can matter; null where it is not known.
func estimate(value float64) *float64 {
	if math.IsNaN(value) {
		return nil
	}
	value = math.Round(1e4*value) / 1e4
	return &value
}

// newFrontMembers describes the members of a front by themselves.
func newFrontMembers(record *store.Record, front studies.Front, confirmed studies.Confirmations) []FrontMember {
	members := []FrontMember{}
	for _, m := range front.Members {
		member := FrontMember{Trial: m.Number, Params: m.Params, ParamsPercent: percentOf(m.Params, record.Geometry),
			HeadParams: m.Result.Head, Score: m.Result.Score, OnFront: true, Plan: m.Candidate.Plan}
		if m.Trainings > 1 {
			member.Trainings = m.Trainings
		}
		if c := confirmed.Of(m.Candidate); c != nil {
			scores := newTestScores(c.Test, record)
			member.Confirmed = &scores
		}
		members = append(members, member)
	}
	return members
}
