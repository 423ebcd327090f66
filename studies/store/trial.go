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

// Finished reports whether a trial of the state has an outcome, which never changes but by further trainings.
func (s State) Finished() bool { return s == Complete || s == Pruned || s == Failed }

// scored reports whether a trial of the state has a score.
func (s State) scored() bool { return s == Complete || s == Pruned }

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
	Crashes   int // how many of these attempts ended with their worker
	Created   time.Time
	Started   time.Time // zero before
	Finished  time.Time // zero before
	Host      string    // of the process that ran it last; "" before, and of trials of older versions
	Process   string    // its process id and start time

	// Result is of complete and pruned trials; its Resampled is read by Store.Resampled. Its Score and its Dev are the
	// means of so many trainings, the rest is of the first one.
	Result    evaluator.Result
	Trainings int                // 0 before the first
	Spread    float64            // of their scores: the sum of the squared deviations from the mean
	First     float64            // score of the first training, to which the curve belongs
	Failure   *evaluator.Failure // of failed trials
	Curve     []CurvePoint       // where it was asked for
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

// Progress is how far a running trial is.
type Progress struct {
	Step  int
	Steps int     // of the whole budget; 0 before the first report
	Loss  float64 // since the last rung
	evaluator.Doing
}

// Entry is what a history keeps of a trial: a fraction of it, so that all trials of a long study are read in
// less than a second.
type Entry struct {
	Number   int64
	State    State
	Key      string // of its candidate, as KeyOf; "" for one that another trial has too
	Point    space.Point
	Params   int64
	Score    float64         // of complete and pruned trials: the mean of their trainings
	Forecast search.Forecast // of pruned trials
	Seconds  float64         // of training; of failed trials from start to end
	Finished time.Time       // zero before
	Curve    []CurvePoint    // of complete and pruned trials, where it was asked for
	// Resampled is for those who read it by Store.Resampled.
	Resampled []float64

	Trainings int     // that the score is the mean of
	Spread    float64 // of their scores, as in Trial
	First     float64 // score of the first
}

// Outcome is what a comparison of studies needs of a trial with an outcome.
type Outcome struct {
	search.Outcome
	Complete bool    // not pruned or failed
	Seconds  float64 // of training; of failed trials from start to end
}

// Tally counts a study's trials by state.
type Tally struct{ Waiting, Running, Complete, Pruned, Failed int }

// Of is the count of a state.
func (t *Tally) Of(s State) *int {
	switch s {
	case Running:
		return &t.Running
	case Complete:
		return &t.Complete
	case Pruned:
		return &t.Pruned
	case Failed:
		return &t.Failed
	}
	return &t.Waiting
}

// Finished is the number of trials with an outcome.
func (t Tally) Finished() int { return t.Complete + t.Pruned + t.Failed }

// Total is the number of all trials.
func (t Tally) Total() int { return t.Finished() + t.Waiting + t.Running }

// FrontPoint is a study's front after one of its complete trials.
type FrontPoint struct {
	Trial       int64 // the last of them
	Hypervolume float64
	Members     []int64 // trial numbers, by ascending parameters
}

// Attempt is a running trial: who runs it, and how far it is.
type Attempt struct {
	Trial    int64
	Owner    Owner
	Started  time.Time
	Reported time.Time // of the last sign of life
	Progress Progress
}

// Identity is what a study's scores depend on, by the key of the study file that decides it.
type Identity map[string]string

// WarmStart is what a study knew before its first trial: of others when it started, or what a map of its own estimates.
// It is kept as it was, so that the study continues in the same way whatever becomes of the others.
type WarmStart struct {
	Study  string      `json:"study"` // its name; of several those of all; "" of estimates
	Trials []WarmTrial `json:"trials"`
}

// Estimates reports whether the scores are no trainings' but what a map of the study's own estimates.
func (w *WarmStart) Estimates() bool { return w != nil && w.Study == "" }

// WarmTrial is a finished trial of another study, or a plan with its estimated score, at a point of this one's space.
type WarmTrial struct {
	Source int         `json:"source,omitempty"` // which of the others; scores are compared within one only
	Point  space.Point `json:"point"`
	Params int64       `json:"params"`
	Score  float64     `json:"score"` // of a pruned trial its forecast, as for samplers
	SD     float64     `json:"sd"`
}

// Training is one full training of a candidate. It is no trial: the search never sees it.
type Training struct {
	Candidate  evaluator.Candidate
	Seed       uint64
	Conditions string           // what the result depends on beside the candidate and the seed; "" of old ones
	Result     evaluator.Result // with test scores
}

// Record is a study as it is stored.
type Record struct {
	id        int64
	Name      string
	Created   time.Time
	Path      string // of the study file as it was last used, absolute
	Config    string // the study file as it was last used
	First     string // the study file as the study was started with it
	Identity  Identity
	Metric    string
	Geometry  peft.Geometry
	Reference search.Reference
	Seed      uint64
	WarmStart *WarmStart // nil for none
}

// Proposal is a new trial before it has a number.
type Proposal struct {
	Origin, Reason string
	Point          space.Point // nil for a plan outside the space
	Candidate      evaluator.Candidate
	Params         int64
}

// TrialSeed is the seed of a trial's training, below 2^53 so that any JSON reader keeps it exact.
func TrialSeed(study uint64, number int64) uint64 {
	hash := fnv.New64a()
	hash.Write(binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64([]byte("trial"), study), uint64(number)))
	return hash.Sum64() >> 11
}
