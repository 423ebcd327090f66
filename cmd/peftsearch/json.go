package main

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"peftsearch/evaluator"
	"peftsearch/peft"
	"peftsearch/search"
	"peftsearch/studies"
	"peftsearch/studies/store"
)

// schemaVersion is that of every --json document; docs/reference/json.md describes them.
const schemaVersion = 1

func writeJSON(w io.Writer, document any) error {
	encoded, err := json.MarshalIndent(document, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding JSON: %w", err)
	}
	_, err = fmt.Fprintf(w, "%s\n", encoded)
	return err
}

// frontDocument is what front --json prints.
type frontDocument struct {
	SchemaVersion int              `json:"schema_version"`
	Study         string           `json:"study"`
	Metric        string           `json:"metric"`
	Hypervolume   float64          `json:"hypervolume"` // of the whole front
	Reference     search.Reference `json:"reference"`
	Front         []frontMember    `json:"front"`
}

type frontMember struct {
	Trial         int64       `json:"trial"`
	Params        int64       `json:"params"`
	ParamsPercent float64     `json:"params_percent"` // of the backbone
	HeadParams    int64       `json:"head_params"`
	Score         float64     `json:"score"`
	Confirmed     *testScores `json:"confirmed"` // null unless it was confirmed
	Knee          bool        `json:"knee"`
	Plan          peft.Plan   `json:"plan"`
}

// testScores is a sample of test scores, one for each seed.
type testScores struct {
	Seeds    int         `json:"seeds"`
	Mean     float64     `json:"mean"`
	SD       *float64    `json:"sd"`       // null for one seed, like interval
	Interval *[2]float64 `json:"interval"` // 95 %, of the mean
}

func newTestScores(s studies.Sample) testScores {
	scores := testScores{Seeds: s.N, Mean: s.Mean}
	if low, high, ok := s.Interval(); ok {
		scores.SD, scores.Interval = &s.SD, &[2]float64{low, high}
	}
	return scores
}

func newFrontDocument(record *store.Record, front studies.Front, confirmed studies.Confirmations) frontDocument {
	return frontDocument{SchemaVersion: schemaVersion, Study: record.Name, Metric: record.Metric,
		Hypervolume: front.Hypervolume, Reference: record.Reference, Front: newFrontMembers(record, front, confirmed)}
}

func newFrontMembers(record *store.Record, front studies.Front, confirmed studies.Confirmations) []frontMember {
	members := []frontMember{}
	for i, m := range front.Members {
		member := frontMember{Trial: m.Number, Params: m.Params, ParamsPercent: percentOf(m.Params, record.Geometry),
			HeadParams: m.Result.Head, Score: m.Result.Score, Knee: i == front.Knee, Plan: m.Candidate.Plan}
		if c := confirmed.Of(m.Candidate); c != nil {
			scores := newTestScores(c.Test)
			member.Confirmed = &scores
		}
		members = append(members, member)
	}
	return members
}

// listDocument is what ls --json prints.
type listDocument struct {
	SchemaVersion int       `json:"schema_version"`
	Studies       []listing `json:"studies"`
}

type listing struct {
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

func newListing(record *store.Record, tally store.Tally, front studies.Front) listing {
	l := listing{Study: record.Name, Created: record.Created.UTC(), Metric: record.Metric, Complete: tally.Complete, Pruned: tally.Pruned,
		Failed: tally.Failed, Running: tally.Running, Waiting: tally.Waiting, FrontSize: len(front.Members), Hypervolume: front.Hypervolume}
	if n := len(front.Members); n > 0 {
		best := front.Members[n-1]
		l.BestTrial, l.BestParams, l.BestScore = &best.Number, &best.Params, &best.Result.Score
	}
	return l
}

// studyDocument is what show STUDY --json prints.
type studyDocument struct {
	SchemaVersion int              `json:"schema_version"`
	Study         string           `json:"study"`
	Created       time.Time        `json:"created"`
	Metric        string           `json:"metric"`
	Seed          uint64           `json:"seed"`
	Geometry      peft.Geometry    `json:"geometry"`
	Reference     search.Reference `json:"reference"`
	Identity      store.Identity   `json:"identity"`
	WarmStart     string           `json:"warm_start,omitempty"` // the study that it learned from
	Hypervolume   float64          `json:"hypervolume"`
	Fronts        []frontAfter     `json:"fronts"` // as they were stored, in the order of the complete trials
	Trials        []trialEntry     `json:"trials"`
}

// frontAfter is a study's front after one of its complete trials.
type frontAfter struct {
	Trial       int64   `json:"trial"`
	Hypervolume float64 `json:"hypervolume"`
	Members     []int64 `json:"members"` // trial numbers, by parameters
}

// trialDocument is what show STUDY --trial N --json prints.
type trialDocument struct {
	SchemaVersion int    `json:"schema_version"`
	Study         string `json:"study"`
	Metric        string `json:"metric"`
	trialEntry
	Methods         peft.LayerCount    `json:"params_by_method"`
	AutoPEFTPercent float64            `json:"autopeft_percent"` // weights only, of the backbone
	Curve           []store.CurvePoint `json:"curve"`
}

type trialEntry struct {
	Trial         int64              `json:"trial"`
	State         store.State        `json:"state"`
	Origin        string             `json:"origin"`
	Reason        string             `json:"reason"`
	Params        int64              `json:"params"`
	ParamsPercent float64            `json:"params_percent"`
	Seed          uint64             `json:"seed"`
	Attempts      int                `json:"attempts"`
	Started       *time.Time         `json:"started"`  // null before
	Finished      *time.Time         `json:"finished"` // null before
	Result        *evaluator.Result  `json:"result"`   // of complete and pruned trials
	Forecast      *search.Forecast   `json:"forecast"` // of pruned trials
	Failure       *evaluator.Failure `json:"failure"`  // of failed trials
	Training      evaluator.Training `json:"training"`
	Plan          peft.Plan          `json:"plan"`
}

func newTrialEntry(record *store.Record, t store.Trial) trialEntry {
	e := trialEntry{Trial: t.Number, State: t.State, Origin: t.Origin, Reason: t.Reason, Params: t.Params,
		ParamsPercent: percentOf(t.Params, record.Geometry), Seed: t.Seed, Attempts: t.Attempts,
		Started: optionalTime(t.Started), Finished: optionalTime(t.Finished), Failure: t.Failure,
		Training: t.Candidate.Training, Plan: t.Candidate.Plan}
	if scored(t) {
		e.Result = &t.Result
	}
	if t.State == store.Pruned {
		e.Forecast = &t.Forecast
	}
	return e
}

func optionalTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// scored reports whether the trial has a result.
func scored(t store.Trial) bool { return t.State == store.Complete || t.State == store.Pruned }
