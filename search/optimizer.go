package search

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"

	"github.com/c-bata/goptuna"

	"peftsearch/space"
)

// Options configures an Optimizer.
type Options struct {
	Seed      uint64
	Sampler   string    // one of Samplers
	Initial   int       // trials of the initial design; 0 chooses by the number of dimensions
	Reference Reference // scale of the objectives; Check accepts it
	// Prior is the finished trials of studies on other tasks with the same model, at points of this space. What they
	// promise most is tried first, and gp learns from them.
	Prior [][]Observation
	// TrialSeconds is what a trial takes, by an estimate that comes out alike whenever it is made: a measurement would
	// make the samplers' choices depend on what else the machine does. 0 is unknown, and taken for long.
	TrialSeconds float64
	// PerSecond makes gp look for the largest improvement for each second that a training takes, rather than for each
	// training: for a budget in time.
	PerSecond bool
}

// Suggestion is a proposed point, and where it comes from.
type Suggestion struct {
	Point   space.Point
	Sampler string // "initial", "transfer" or the sampler's name
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

// view is what a sampler sees in one ask. It may change the view, but not the trials, which are the history's.
type view struct {
	*lists
	space        *space.Space
	reference    Reference
	trialSeconds float64 // of the options
	perSecond    bool    // of the options
	rng          *rand.Rand
	history      *History
	candidates   int            // different ones of the history
	prior        *source        // nil for none
	study        *goptuna.Study // with the same trials; pruned ones are complete in it
}

// free reports whether the point may be proposed.
func (v *view) free(p space.Point) bool {
	return v.space.Feasible(p) && !v.history.has(v.space.Key(p), v.candidates)
}

// Optimizer proposes points. It is immutable and safe for concurrent use.
type Optimizer struct {
	space   *space.Space
	options Options
	names   []string
	dists   map[string]any // of goptuna, by dimension name
	prior   func() *source // computed once, when it is needed
}

// NewOptimizer checks the options. The error wraps ErrDamagedHistory if Options.Prior is not of the space.
func NewOptimizer(s *space.Space, options Options) (*Optimizer, error) {
	if samplers[options.Sampler] == nil {
		return nil, fmt.Errorf("sampler %q: must be one of %v", options.Sampler, Samplers())
	}
	if err := options.Reference.Check(); err != nil {
		return nil, err
	}
	if options.Initial == 0 && len(options.Prior) > 0 {
		options.Initial = warmInitial
	} else if options.Initial == 0 {
		options.Initial = min(max(len(s.Dimensions())/3, leastInitial), 20)
	}
	pooled, err := pool(s, options.Prior)
	if err != nil {
		return nil, fmt.Errorf("another study: %w", err)
	}
	prior, err := NewHistory(s, pooled)
	if err != nil {
		return nil, fmt.Errorf("another study: %w", err)
	}
	o := &Optimizer{space: s, options: options, dists: map[string]any{}}
	o.prior = sync.OnceValue(func() *source { return newSource(s, options.Reference, prior.lists) })
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

// Ask proposes the point of trial `number`. It is a pure function of the options, the number and the history as it was
// when Ask began. The point is feasible and its candidate is not in the history; ErrExhausted says that none is left.
func (o *Optimizer) Ask(history *History, number int64) (Suggestion, error) {
	if history.space != o.space {
		return Suggestion{}, fmt.Errorf("asking for trial %d: %w", number, ErrDamagedHistory)
	}
	trials, candidates := history.look()
	defer history.done(trials)
	v := &view{lists: trials, space: o.space, reference: o.options.Reference, trialSeconds: o.options.TrialSeconds,
		perSecond: o.options.PerSecond,
		rng:       newRand(o.options.Seed, number), history: history, candidates: candidates, prior: o.prior()}
	sampling := &relativeSampler{optimizer: o, view: v}
	point, err := o.suggest(sampling)
	if err != nil {
		return Suggestion{}, fmt.Errorf("asking for trial %d: %w", number, err)
	}
	return Suggestion{Point: point, Sampler: sampling.suggestion.Sampler, Reason: sampling.suggestion.Reason}, nil
}

// suggest lets goptuna make a trial with the sampler.
func (o *Optimizer) suggest(sampling *relativeSampler) (space.Point, error) {
	study, err := goptuna.CreateStudy("ask", goptuna.StudyOptionStorage(newStorage(o, sampling.view.lists)),
		goptuna.StudyOptionDirection(goptuna.StudyDirectionMaximize),
		goptuna.StudyOptionDefineSearchSpace(o.dists), goptuna.StudyOptionRelativeSampler(sampling),
		goptuna.StudyOptionSampler(guard{}), goptuna.StudyOptionLogger(nil))
	if err != nil {
		return nil, fmt.Errorf("goptuna: %w", err)
	}
	id, err := study.Storage.CreateNewTrial(study.ID)
	if err != nil {
		return nil, fmt.Errorf("goptuna: %w", err)
	}
	trial := goptuna.Trial{Study: study, ID: id}
	if err := trial.CallRelativeSampler(); err != nil {
		return nil, err
	}
	point := make(space.Point, len(o.names))
	for i, name := range o.names {
		if point[i], err = trial.SuggestInt(name, 0, len(o.space.Dimensions()[i].Levels)-1); err != nil {
			return nil, err
		}
	}
	return point, nil
}

// relativeSampler is the goptuna.RelativeSampler of one ask: it lets a sampler of this package propose.
type relativeSampler struct {
	optimizer  *Optimizer
	view       *view
	suggestion Suggestion
}

func (r *relativeSampler) SampleRelative(study *goptuna.Study, _ goptuna.FrozenTrial, _ map[string]any) (
	params map[string]float64, err error) {
	o, v := r.optimizer, r.view
	v.study = study
	chosen := samplers[o.options.Sampler]
	initial := o.options.Initial + len(v.prior.frontPoints())
	if first := v.untried(); first != nil {
		chosen = transfer{first}
	} else if asked := len(v.finished) + len(v.failed) + len(v.running); asked < initial {
		chosen = initialDesign{size: initial}
	}
	if r.suggestion, err = chosen.propose(v); err != nil {
		return nil, err
	}
	return o.params(r.suggestion.Point), nil
}

// params is a point in goptuna's terms.
func (o *Optimizer) params(p space.Point) map[string]float64 {
	params := make(map[string]float64, len(o.names))
	for i, name := range o.names {
		params[name] = float64(p[i])
	}
	return params
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
