package store

import (
	"encoding/binary"
	"hash/fnv"
	"time"

	"peftsearch/evaluator"
	"peftsearch/peft"
	"peftsearch/search"
	"peftsearch/space"
)

// State is where a trial stands.
type State string

// The states. A trial that was interrupted is waiting again and keeps its number, plan and seed.
const (
	Waiting  State = "waiting"
	Running  State = "running"
	Complete State = "complete"
	Pruned   State = "pruned"
	Failed   State = "failed"
)

// Trial is one trial as it is stored.
type Trial struct {
	Number    int64
	State     State
	Origin    string      // the sampler; or "baseline:" and a preset; or "enqueued:" and a name
	Reason    string      // why the sampler proposed it
	Point     space.Point // nil for a plan outside the space
	Candidate evaluator.Candidate
	Params    int64 // trainable parameters, without the head
	Seed      uint64
	Attempts  int // how often it was started
	Created   time.Time
	Started   time.Time // zero before
	Finished  time.Time // zero before

	Result  evaluator.Result   // of complete and pruned trials
	Failure *evaluator.Failure // of failed trials
	Curve   []CurvePoint       // filled by Store.Trial only
	// Forecast is the predicted final score of a pruned trial, with which the samplers count it.
	Forecast search.Forecast
}

// CurvePoint is a dev score at a rung.
type CurvePoint struct {
	Step  int     `json:"step"`
	Steps int     `json:"steps"` // of the whole budget
	Loss  float64 `json:"loss"`
	Score float64 `json:"score"`
}

// Identity is what a study's scores depend on, by the key of the study file that decides it.
type Identity map[string]string

// WarmStart is what a study knew of another one when it started. It is kept as it was, so that the study
// continues in the same way whatever becomes of the other.
type WarmStart struct {
	Study  string      `json:"study"`
	Trials []WarmTrial `json:"trials"`
}

// WarmTrial is a finished trial of the other study, at a point of this one's space.
type WarmTrial struct {
	Point  space.Point `json:"point"`
	Params int64       `json:"params"`
	Score  float64     `json:"score"` // of a pruned trial its forecast, as for samplers
	SD     float64     `json:"sd"`
}

// Training is one full training of a candidate. It is no trial: the search never sees it.
type Training struct {
	Candidate evaluator.Candidate
	Seed      uint64
	Result    evaluator.Result // with test scores
}

// Record is a study as it is stored.
type Record struct {
	id        int64
	Name      string
	Created   time.Time
	Path      string // of the study file, absolute
	Config    string // the study file at the start
	Identity  Identity
	Metric    string
	Geometry  peft.Geometry
	Reference search.Reference
	Seed      uint64
	WarmStart *WarmStart // nil for none
}

// TrialSeed is the seed of a trial's training, below 2^53 so that any JSON reader keeps it exact.
func TrialSeed(study uint64, number int64) uint64 {
	hash := fnv.New64a()
	hash.Write(binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64([]byte("trial"), study), uint64(number)))
	return hash.Sum64() >> 11
}
