package search

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/c-bata/goptuna"

	"peftsearch/space"
)

// State is where a trial of the history stands.
type State int

// The states. Pruned trials count with the score that was forecast when they were stopped.
const (
	Running State = iota
	Complete
	Pruned
	Failed
)

// Observation is one trial of the history.
type Observation struct {
	Number int64
	Point  space.Point // nil for a plan outside the space, which samplers ignore
	Params int64
	State  State
	Score  float64 // of complete trials; of pruned ones the forecast; finite
	SD     float64 // of a pruned trial's forecast, finite and at least 0; 0 for other trials
	Curve  []Rung  // by ascending share; read by pruners only
}

// Options configures an Optimizer.
type Options struct {
	Seed      uint64
	Sampler   string    // one of Samplers
	Initial   int       // trials of the initial design; 0 chooses by the number of dimensions
	Reference Reference // scale of the objectives
	// Prior is the finished trials of a study on another task, at points of this space; gp learns from them.
	Prior []Observation
	// TrialSeconds is what a trial takes, by an estimate that comes out alike whenever it is made: a measurement would
	// make the samplers' choices depend on what else the machine does. 0 is unknown, and taken for long.
	TrialSeconds float64
}

// Suggestion is a proposed point, and where it comes from.
type Suggestion struct {
	Point   space.Point
	Sampler string // "initial" or the sampler's name
	Reason  string // why this sampler, in words
}

// reasonChosen is the reason of a sampler that the options name.
const reasonChosen = "chosen in the study file"

// ErrExhausted says that every feasible candidate of the space is already in the history.
var ErrExhausted = errors.New("every plan of the search space has been tried")

// Samplers lists the names of the samplers.
func Samplers() []string { return slices.Sorted(maps.Keys(samplers)) }

var samplers = map[string]sampler{
	"auto":           autoSampler{},
	"gp":             gpSampler{},
	"nsga2":          nsga2Sampler{},
	"random":         randomSampler{},
	"tpe":            tpeSampler{},
	"tpe-univariate": univariateSampler{},
}

// sampler proposes a point that is feasible and not taken.
type sampler interface {
	propose(v *view) (Suggestion, error)
}

// view is what a sampler sees. It is made for one ask and may be changed freely.
type view struct {
	space        *space.Space
	reference    Reference
	trialSeconds float64 // of the options
	rng          *rand.Rand
	study        *goptuna.Study  // the same history; pruned trials are complete in it
	prior        *source         // nil for none
	finished     []Observation   // by number; pruned trials are complete ones whose score has an SD
	failed       []Observation   // by number
	running      []Observation   // by number
	taken        map[string]bool // keys of all of them
}

// free reports whether the point may be proposed.
func (v *view) free(p space.Point) bool { return !v.taken[v.space.Key(p)] && v.space.Feasible(p) }

// Optimizer proposes points. It is immutable and safe for concurrent use.
type Optimizer struct {
	space   *space.Space
	options Options
	names   []string
	dists   map[string]any // of goptuna, by dimension name
	prior   func() *source // computed once, when it is needed
}

// NewOptimizer checks the options.
func NewOptimizer(s *space.Space, options Options) (*Optimizer, error) {
	if samplers[options.Sampler] == nil {
		return nil, fmt.Errorf("sampler %q: must be one of %v", options.Sampler, Samplers())
	}
	if options.Initial == 0 && len(options.Prior) > 0 {
		options.Initial = warmInitial
	} else if options.Initial == 0 {
		options.Initial = min(max(len(s.Dimensions())/3, warmInitial), 20)
	}
	o := &Optimizer{space: s, options: options, dists: map[string]any{}}
	o.prior = sync.OnceValue(func() *source { return newSource(s, options.Reference, options.Prior) })
	for _, d := range s.Dimensions() {
		o.names = append(o.names, d.Name)
		o.dists[d.Name] = distribution(d)
	}
	return o, nil
}

// distribution is a dimension in goptuna's terms. Nominal dimensions are integers too: goptuna's samplers
// favour the first of categorical choices.
func distribution(d space.Dimension) goptuna.IntUniformDistribution {
	return goptuna.IntUniformDistribution{Low: 0, High: len(d.Levels) - 1}
}

// Ask proposes the point of trial `number`. It is a pure function of the options, the number and the
// history, whose order does not matter. The point is feasible and its candidate is not in the history;
// ErrExhausted says that none is left.
func (o *Optimizer) Ask(history []Observation, number int64) (Suggestion, error) {
	history = slices.Clone(history)
	slices.SortFunc(history, func(a, b Observation) int { return int(a.Number - b.Number) })
	sampling := &relativeSampler{optimizer: o, number: number}
	study, err := o.study(history, sampling)
	if err != nil {
		return Suggestion{}, err
	}
	id, err := study.Storage.CreateNewTrial(study.ID)
	if err != nil {
		return Suggestion{}, fmt.Errorf("asking for trial %d: %w", number, err)
	}
	trial := goptuna.Trial{Study: study, ID: id}
	if err := trial.CallRelativeSampler(); err != nil {
		return Suggestion{}, fmt.Errorf("asking for trial %d: %w", number, err)
	}
	point := make(space.Point, len(o.names))
	for i, name := range o.names {
		point[i], err = trial.SuggestInt(name, 0, len(o.space.Dimensions()[i].Levels)-1)
		if err != nil {
			return Suggestion{}, fmt.Errorf("asking for trial %d: %w", number, err)
		}
	}
	return Suggestion{Point: point, Sampler: sampling.suggestion.Sampler, Reason: sampling.suggestion.Reason}, nil
}

// Attributes of the goptuna trials. goptuna holds one objective: the score is its value, the
// parameters ride along.
const (
	attributeNumber = "number"
	attributeParams = "params"
	attributeSD     = "sd"
)

// goptunaStates has pruned trials as complete ones with the score that was forecast: goptuna ranks what it
// calls pruned below everything that is complete.
var goptunaStates = map[State]goptuna.TrialState{
	Running: goptuna.TrialStateRunning, Complete: goptuna.TrialStateComplete,
	Pruned: goptuna.TrialStateComplete, Failed: goptuna.TrialStateFail,
}

var ourStates = map[goptuna.TrialState]State{
	goptuna.TrialStateRunning: Running, goptuna.TrialStateComplete: Complete, goptuna.TrialStateFail: Failed,
}

// study rebuilds a goptuna study from the history.
func (o *Optimizer) study(history []Observation, sampler goptuna.RelativeSampler) (*goptuna.Study, error) {
	storage := goptuna.NewInMemoryStorage()
	study, err := goptuna.CreateStudy("ask", goptuna.StudyOptionStorage(storage),
		goptuna.StudyOptionDirection(goptuna.StudyDirectionMaximize),
		goptuna.StudyOptionDefineSearchSpace(o.dists), goptuna.StudyOptionRelativeSampler(sampler),
		goptuna.StudyOptionSampler(guard{}), goptuna.StudyOptionLogger(nil))
	if err != nil {
		return nil, fmt.Errorf("goptuna: %w", err)
	}
	for _, observation := range history {
		if observation.Point == nil {
			continue
		}
		if len(observation.Point) != len(o.names) {
			return nil, fmt.Errorf("trial %d: its point has %d coordinates, the space %d dimensions", observation.Number, len(observation.Point), len(o.names))
		}
		finished := observation.State == Complete || observation.State == Pruned
		if s := observation.Score; finished && (math.IsNaN(s) || math.IsInf(s, 0)) {
			return nil, fmt.Errorf("trial %d: its score %g is not finite", observation.Number, s)
		}
		if sd := observation.SD; finished && !(sd >= 0 && sd < math.Inf(1)) {
			return nil, fmt.Errorf("trial %d: the standard deviation %g of its score is not finite", observation.Number, sd)
		}
		params := make(map[string]float64, len(o.names))
		for i, name := range o.names {
			params[name] = float64(observation.Point[i])
		}
		if _, err := storage.CloneTrial(study.ID, goptuna.FrozenTrial{
			State: goptunaStates[observation.State], Value: observation.Score,
			InternalParams: params, Distributions: o.dists, DatetimeStart: time.Unix(0, 0),
			UserAttrs: map[string]string{
				attributeNumber: strconv.FormatInt(observation.Number, 10),
				attributeParams: strconv.FormatInt(observation.Params, 10),
				attributeSD:     strconv.FormatFloat(observation.SD, 'g', -1, 64),
			},
		}); err != nil {
			return nil, fmt.Errorf("goptuna: %w", err)
		}
	}
	return study, nil
}

// relativeSampler is the goptuna.RelativeSampler of one ask: it reads the goptuna study and lets a
// sampler of this package propose.
type relativeSampler struct {
	optimizer  *Optimizer
	number     int64
	suggestion Suggestion
}

func (r *relativeSampler) SampleRelative(study *goptuna.Study, asking goptuna.FrozenTrial, _ map[string]any) (map[string]float64, error) {
	o := r.optimizer
	v := &view{space: o.space, reference: o.options.Reference, trialSeconds: o.options.TrialSeconds, rng: newRand(o.options.Seed, r.number), study: study, prior: o.prior(), taken: map[string]bool{}}
	trials, err := study.GetTrials()
	if err != nil {
		return nil, err
	}
	for _, trial := range trials {
		if trial.ID == asking.ID {
			continue
		}
		observation, err := o.observation(trial)
		if err != nil {
			return nil, err
		}
		v.taken[o.space.Key(observation.Point)] = true
		switch observation.State {
		case Complete:
			v.finished = append(v.finished, observation)
		case Failed:
			v.failed = append(v.failed, observation)
		case Running:
			v.running = append(v.running, observation)
		}
	}
	chosen := samplers[o.options.Sampler]
	if asked := len(trials) - 1; asked < o.options.Initial {
		chosen = initialDesign{size: o.options.Initial}
	}
	if r.suggestion, err = chosen.propose(v); err != nil {
		return nil, err
	}
	params := make(map[string]float64, len(o.names))
	for i, name := range o.names {
		params[name] = float64(r.suggestion.Point[i])
	}
	return params, nil
}

// observation reads a goptuna trial back.
func (o *Optimizer) observation(trial goptuna.FrozenTrial) (Observation, error) {
	number, err := strconv.ParseInt(trial.UserAttrs[attributeNumber], 10, 64)
	if err != nil {
		return Observation{}, err
	}
	params, err := strconv.ParseInt(trial.UserAttrs[attributeParams], 10, 64)
	if err != nil {
		return Observation{}, err
	}
	sd, err := strconv.ParseFloat(trial.UserAttrs[attributeSD], 64)
	if err != nil {
		return Observation{}, err
	}
	observation := Observation{Number: number, Params: params, State: ourStates[trial.State], Score: trial.Value, SD: sd,
		Point: make(space.Point, len(o.names))}
	for i, name := range o.names {
		observation.Point[i] = int(trial.InternalParams[name])
	}
	return observation, nil
}

// guard is the goptuna.Sampler for parameters that the relative sampler did not answer: there are none.
type guard struct{}

func (guard) Sample(_ *goptuna.Study, _ goptuna.FrozenTrial, name string, _ any) (float64, error) {
	return 0, fmt.Errorf("dimension %s was not sampled", name)
}

// newRand makes the generator of one trial.
func newRand(seed uint64, number int64) *rand.Rand {
	hash := fnv.New128a()
	var bytes [16]byte
	binary.LittleEndian.PutUint64(bytes[:8], seed)
	binary.LittleEndian.PutUint64(bytes[8:], uint64(number))
	hash.Write(bytes[:])
	sum := hash.Sum(nil)
	return rand.New(rand.NewPCG(binary.LittleEndian.Uint64(sum), binary.LittleEndian.Uint64(sum[8:])))
}
