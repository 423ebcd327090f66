package report

import (
	"context"
	"time"

	"peftsearch/evaluator"
	"peftsearch/peft"
	"peftsearch/search"
	"peftsearch/studies"
	"peftsearch/studies/store"
)

// Study is what show STUDY --json prints before the lists "fronts", of FrontAfter in the order of the complete trials,
// and "trials", of TrialEntry.
type Study struct {
	SchemaVersion int              `json:"schema_version"`
	Study         string           `json:"study"`
	Created       time.Time        `json:"created"`
	Metric        string           `json:"metric"`
	Seed          uint64           `json:"seed"`
	Geometry      peft.Geometry    `json:"geometry"`
	Reference     search.Reference `json:"reference"`
	Identity      store.Identity   `json:"identity"`
	WarmStart     string           `json:"warm_start,omitempty"` // the study that it learned from
	WarmTrials    int              `json:"warm_start_trials,omitempty"`
	SharedWeights *SharedWeights   `json:"shared_weights,omitempty"` // that it learned from in place of others
	Agreement     *Agreement       `json:"warm_start_agreement,omitempty"`
	Calibration   []RateScore      `json:"calibration,omitempty"` // trainings that found the learning rates
	FrontSize     int              `json:"front_size"`
	Hypervolume   float64          `json:"hypervolume"`
}

// SharedWeights is a study's map of its own.
type SharedWeights struct {
	Plans     int     `json:"plans"`     // that were scored with them
	Trainings float64 `json:"trainings"` // of trials that it cost
}

// Agreement is how far what a study knew before its first trial agrees with its complete trials.
type Agreement struct {
	Trials    int     `json:"trials"`
	Rank      float64 `json:"rank_correlation"`
	GivenSize float64 `json:"rank_correlation_given_size"`
	Used      bool    `json:"used"` // false where gp leaves it out
}

// RateScore is a training that calibrated learning rates.
type RateScore struct {
	Method peft.Method `json:"method"`
	Rate   float64     `json:"rate"`
	Score  *float64    `json:"score"` // null of one that failed
}

// FrontAfter is a study's front after one of its complete trials.
type FrontAfter struct {
	Trial       int64   `json:"trial"`
	Hypervolume float64 `json:"hypervolume"`
	Members     []int64 `json:"members"` // trial numbers, by parameters
}

// Trial is what show STUDY --trial N --json prints.
type Trial struct {
	SchemaVersion int    `json:"schema_version"`
	Study         string `json:"study"`
	Metric        string `json:"metric"`
	TrialEntry
	Methods         peft.Counts        `json:"params_by_method"`
	AutoPEFTPercent float64            `json:"autopeft_percent"` // weights only, of the backbone
	Curve           []store.CurvePoint `json:"curve"`
}

// TrialEntry is a trial in a list.
type TrialEntry struct {
	Trial         int64              `json:"trial"`
	State         store.State        `json:"state"`
	Origin        string             `json:"origin"`
	Reason        string             `json:"reason"`
	Params        int64              `json:"params"`
	ParamsPercent float64            `json:"params_percent"`
	Seed          uint64             `json:"seed"`
	Attempts      int                `json:"attempts"`
	Started       *time.Time         `json:"started"`             // null before
	Finished      *time.Time         `json:"finished"`            // null before
	Result        *evaluator.Result  `json:"result"`              // of complete and pruned trials
	Trainings     int                `json:"trainings,omitempty"` // above 1, that score and dev are the means of
	Forecast      *search.Forecast   `json:"forecast"`            // of pruned trials
	Failure       *evaluator.Failure `json:"failure"`             // of failed trials
	Training      evaluator.Training `json:"training"`
	Plan          peft.Plan          `json:"plan"`
}

// NewTrialEntry describes a trial in a list.
func NewTrialEntry(record *store.Record, t store.Trial) TrialEntry {
	e := TrialEntry{Trial: t.Number, State: t.State, Origin: t.Origin, Reason: t.Reason, Params: t.Params,
		ParamsPercent: percentOf(t.Params, record.Geometry), Seed: t.Seed, Attempts: t.Attempts,
		Started: optionalTime(t.Started), Finished: optionalTime(t.Finished), Failure: t.Failure,
		Training: t.Candidate.Training, Plan: t.Candidate.Plan}
	if t.State == store.Complete || t.State == store.Pruned {
		e.Result = &t.Result
	}
	if t.Trainings > 1 {
		e.Trainings = t.Trainings
	}
	if t.State == store.Pruned {
		e.Forecast = &t.Forecast
	}
	return e
}

// NewAgreement describes how what a study knew agrees with its trials; nil where that is not known.
func NewAgreement(k *studies.Known) *Agreement {
	if k == nil || k.Agreement == nil {
		return nil
	}
	a := Agreement(*k.Agreement)
	return &a
}

// ReadStudy describes a study with its front, what it knew before its first trial, and how its learning rates were
// found, if they were.
func ReadStudy(ctx context.Context, at *store.Store, record *store.Record) (Study, error) {
	front, err := studies.ReadFront(ctx, at, record)
	if err != nil {
		return Study{}, err
	}
	calibration, err := studies.Calibration(ctx, at, record)
	if err != nil {
		return Study{}, err
	}
	known, err := studies.ReadKnown(ctx, at, record)
	if err != nil {
		return Study{}, err
	}
	document := Study{SchemaVersion: SchemaVersion, Study: record.Name, Created: record.Created.UTC(),
		Metric: record.Metric,
		Seed:   record.Seed, Geometry: record.Geometry, Reference: record.Reference, Identity: record.Identity,
		FrontSize: len(front.Members), Hypervolume: front.Hypervolume}
	if document.Agreement = NewAgreement(known); known != nil && known.From != "" {
		document.WarmStart, document.WarmTrials = known.From, known.Plans
	} else if known != nil {
		document.SharedWeights = &SharedWeights{Plans: known.Plans, Trainings: known.Trainings}
	}
	for _, c := range calibration {
		point := RateScore{Method: c.Method, Rate: c.Rate}
		if !c.Failed {
			point.Score = &c.Score
		}
		document.Calibration = append(document.Calibration, point)
	}
	return document, nil
}

// NewTrial describes one trial in full.
func NewTrial(record *store.Record, t store.Trial) Trial {
	count := t.Candidate.Plan.Params(record.Geometry)
	return Trial{SchemaVersion: SchemaVersion, Study: record.Name, Metric: record.Metric,
		TrialEntry: NewTrialEntry(record, t),
		Methods:    count.Methods, AutoPEFTPercent: count.AutoPEFTPercent(record.Geometry),
		Curve: append([]store.CurvePoint{}, t.Curve...)}
}
