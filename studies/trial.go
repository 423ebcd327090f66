package studies

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

// Front is the non-dominated complete trials of a study, by ascending parameters.
type Front struct {
	Members     []Trial
	Hypervolume float64
	Knee        int // index into Members; -1 for an empty front
}

// outcomes lists the complete trials for package search.
func outcomes(trials []Trial) []search.Outcome {
	var out []search.Outcome
	for _, t := range trials {
		if t.State == Complete {
			out = append(out, search.Outcome{Number: t.Number, Params: t.Params, Score: t.Result.Score})
		}
	}
	return out
}

// FrontOf computes the front of trials.
func FrontOf(trials []Trial, ref search.Reference) Front {
	all := outcomes(trials)
	members := search.Front(all)
	byNumber := make(map[int64]Trial, len(trials))
	for _, t := range trials {
		byNumber[t.Number] = t
	}
	f := Front{Hypervolume: search.Hypervolume(members, ref), Knee: -1}
	for _, m := range members {
		f.Members = append(f.Members, byNumber[m.Number])
	}
	if len(members) > 0 {
		f.Knee = search.Knee(members, ref)
	}
	return f
}

// trialSeed is the seed of a trial's training, below 2^53 so that any JSON reader keeps it exact.
func trialSeed(study uint64, number int64) uint64 {
	hash := fnv.New64a()
	hash.Write(binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64([]byte("trial"), study), uint64(number)))
	return hash.Sum64() >> 11
}
