package report

import (
	"math"

	"peftsearch/evaluator"
	"peftsearch/peft"
	"peftsearch/studies"
	"peftsearch/studies/store"
)

// Confirmation is what confirm --json prints.
type Confirmation struct {
	SchemaVersion int             `json:"schema_version"`
	Study         string          `json:"study"`
	Metric        string          `json:"metric"`
	Plans         []ConfirmedPlan `json:"plans"` // by mean test score, best first
	Given         []GivenModel    `json:"given,omitempty"`
}

// GivenModel is a trained directory that was scored as it is.
type GivenModel struct {
	Directory string             `json:"directory"`
	Plan      peft.Plan          `json:"plan"`
	Params    int64              `json:"params"`
	Test      map[string]float64 `json:"test"` // every metric of the task's kind
}

// ConfirmedPlan is a plan with its full trainings.
type ConfirmedPlan struct {
	Name            string             `json:"name"`
	Params          int64              `json:"params"`
	ParamsPercent   float64            `json:"params_percent"`
	HeadParams      int64              `json:"head_params"`
	Test            TestScores         `json:"test"`
	Dropped         []Dropped          `json:"dropped,omitempty"` // of plans that are trained with AdapterDrop
	Behind          float64            `json:"behind"`            // the best mean minus this one
	PValue          *float64           `json:"p_value"`           // null for the best, for one seed and without spread
	LargerThanNoise bool               `json:"larger_than_noise"`
	Trainings       []ConfirmedSeed    `json:"trainings"`
	Training        evaluator.Training `json:"training"`
	Plan            peft.Plan          `json:"plan"`
}

// Dropped is the mean test score of a plan without the modules of its lowest layers.
type Dropped struct {
	Layers int     `json:"layers"`
	Params int64   `json:"params"`
	Mean   float64 `json:"mean"`
}

func dropped(c *studies.Confirmation, g peft.Geometry) (list []Dropped) {
	for n := range c.Trainings[0].Result.TestDropped {
		d := Dropped{Layers: n + 1, Params: c.Candidate.Plan.Without(n + 1).Params(g).Total()}
		for _, t := range c.Trainings {
			if len(t.Result.TestDropped) <= n { // of another version of the worker
				return list
			}
			d.Mean += t.Result.TestDropped[n] / float64(len(c.Trainings))
		}
		list = append(list, d)
	}
	return list
}

// ConfirmedSeed is one full training.
type ConfirmedSeed struct {
	Seed   uint64           `json:"seed"`
	Result evaluator.Result `json:"result"`
}

// NewConfirmation describes confirmed plans; names are by the candidate's key.
func NewConfirmation(record *store.Record, ranked []studies.Ranked, names map[string]string) Confirmation {
	document := Confirmation{SchemaVersion: SchemaVersion, Study: record.Name, Metric: record.Metric,
		Plans: []ConfirmedPlan{}}
	for _, r := range ranked {
		plan := ConfirmedPlan{Name: names[r.Candidate.Key()], Params: r.Params,
			ParamsPercent: percentOf(r.Params, record.Geometry),
			HeadParams:    r.Trainings[0].Result.Head, Test: newTestScores(r.Test, record),
			Dropped: dropped(r.Confirmation, record.Geometry), Behind: r.Behind,
			LargerThanNoise: r.LargerThanNoise(), Training: r.Candidate.Training, Plan: r.Candidate.Plan}
		if !math.IsNaN(r.PValue) {
			plan.PValue = &r.PValue
		}
		for _, t := range r.Trainings {
			plan.Trainings = append(plan.Trainings, ConfirmedSeed{t.Seed, t.Result})
		}
		document.Plans = append(document.Plans, plan)
	}
	return document
}
