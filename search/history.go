package search

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"

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
	// Trainings is how many trainings of the plan the score is the mean of; 0 is 1. Spread is the sum of their squared
	// deviations from it.
	Trainings int
	Spread    float64
	Seconds   float64 // that the training took; 0 if it is not known
	// Resampled is the score on resamples of the dev rows, the same for every trial; nil where it is not known.
	Resampled []float64
}

// Again is the trial after another training of its plan with a score.
func (o Observation) Again(score float64) Observation {
	trainings := max(1, o.Trainings) + 1
	before := o.Score
	o.Score += (score - before) / float64(trainings)
	o.Trainings, o.Spread = trainings, o.Spread+(score-before)*(score-o.Score)
	return o
}

// ErrDamagedHistory says that a trial cannot be one of the space that is searched.
var ErrDamagedHistory = errors.New("the history is damaged or of another search space")

// History is the trials of a study as samplers see them. It is kept in order while trials come and end, so that an ask
// goes through all of them only where its sampler does. It is safe for concurrent use: an ask sees the trials that
// were there when it began, and holds nobody up.
type History struct {
	space *space.Space

	mu    sync.RWMutex
	taken map[string]int // keys of the candidates, with the number of those that were there before
	lists *lists
}

// lists are the trials of a history. Observations never change: another one takes the place of a trial's first.
type lists struct {
	asks int // that look at them: they are copied before they change

	all                       []*Observation // by number, as the next three
	finished, failed, running []*Observation // those at points of the space; finished are complete or pruned
	ranked                    []*Observation // finished, by compareSizes
}

// NewHistory makes the history of trials in any order. The error wraps ErrDamagedHistory.
func NewHistory(s *space.Space, trials []Observation) (*History, error) {
	h := &History{space: s, taken: map[string]int{}, lists: &lists{}}
	sorted := make([]*Observation, len(trials))
	for i := range trials {
		o := trials[i]
		sorted[i] = &o
	}
	slices.SortFunc(sorted, compareNumbers)
	for i, o := range sorted {
		if i > 0 && o.Number == sorted[i-1].Number {
			return nil, fmt.Errorf("%w: there are two trials %d", ErrDamagedHistory, o.Number)
		}
		if err := check(s, o); err != nil {
			return nil, err
		}
		h.take(o)
		if list := h.lists.of(o); list != nil {
			*list = append(*list, o)
		}
	}
	h.lists.all, h.lists.ranked = sorted, bySize(h.lists.finished)
	return h, nil
}

// check reports a trial that cannot be one of the space.
func check(s *space.Space, o *Observation) error {
	damaged := func(format string, args ...any) error {
		return fmt.Errorf("%w: trial %d: "+format, append([]any{ErrDamagedHistory, o.Number}, args...)...)
	}
	if o.Point == nil {
		return nil
	}
	if err := s.Check(o.Point); err != nil {
		return damaged("%w", err)
	}
	switch o.State {
	case Complete, Pruned:
		if math.IsNaN(o.Score) || math.IsInf(o.Score, 0) {
			return damaged("its score %g is not finite", o.Score)
		}
		if !(o.SD >= 0 && o.SD < math.Inf(1)) {
			return damaged("the standard deviation %g of its score is not finite", o.SD)
		}
	case Running, Failed:
	default:
		return damaged("state %d", o.State)
	}
	return nil
}

// Set adds a trial, or says what has become of one: its point stays what it was. The history keeps the point and the
// curve. The error wraps ErrDamagedHistory; the history is then as it was.
func (h *History) Set(o Observation) error {
	if err := check(h.space, &o); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	at, known := slices.BinarySearchFunc(h.lists.all, &o, compareNumbers)
	if known && !slices.Equal(h.lists.all[at].Point, o.Point) {
		before := h.lists.all[at].Point
		return fmt.Errorf("%w: trial %d: its point %v was %v before", ErrDamagedHistory, o.Number, o.Point, before)
	}
	if h.lists.asks > 0 {
		h.lists = h.lists.clone()
	}
	l := h.lists
	if known {
		before := l.all[at]
		l.all[at] = &o
		if list := l.of(before); list != nil {
			remove(list, before, compareNumbers)
			if list == &l.finished {
				remove(&l.ranked, before, compareSizes)
			}
		}
	} else {
		l.all = slices.Insert(l.all, at, &o)
		h.take(&o)
	}
	if list := l.of(&o); list != nil {
		insert(list, &o, compareNumbers)
		if list == &l.finished {
			insert(&l.ranked, &o, compareSizes)
		}
	}
	return nil
}

// Observations lists the trials by number.
func (h *History) Observations() []Observation {
	h.mu.RLock()
	defer h.mu.RUnlock()
	out := make([]Observation, len(h.lists.all))
	for i, o := range h.lists.all {
		out[i] = *o
	}
	return out
}

// look begins an ask: the lists stay as they are until done. candidates is the number of different ones.
func (h *History) look() (l *lists, candidates int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lists.asks++
	return h.lists, len(h.taken)
}

func (h *History) done(l *lists) {
	h.mu.Lock()
	defer h.mu.Unlock()
	l.asks--
}

// Exclude makes a candidate one that no sampler proposes, though no trial says so. The error wraps ErrDamagedHistory.
func (h *History) Exclude(p space.Point) error {
	o := &Observation{Point: p}
	if err := check(h.space, o); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.take(o)
	return nil
}

// take makes the trial's candidate one that is taken.
func (h *History) take(o *Observation) {
	if o.Point == nil {
		return
	}
	if key := h.space.Key(o.Point); !h.among(key, len(h.taken)) {
		h.taken[key] = len(h.taken)
	}
}

// has reports whether the key is one of the first so many candidates.
func (h *History) has(key string, candidates int) bool {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.among(key, candidates)
}

// among is has for one that holds the lock.
func (h *History) among(key string, candidates int) bool {
	before, taken := h.taken[key]
	return taken && before < candidates
}

// of is the list that a trial is in by its state; nil for a plan outside the space.
func (l *lists) of(o *Observation) *[]*Observation {
	switch {
	case o.Point == nil:
		return nil
	case o.State == Running:
		return &l.running
	case o.State == Failed:
		return &l.failed
	default:
		return &l.finished
	}
}

func (l *lists) clone() *lists {
	return &lists{all: slices.Clone(l.all), finished: slices.Clone(l.finished), failed: slices.Clone(l.failed),
		running: slices.Clone(l.running), ranked: slices.Clone(l.ranked)}
}

func compareNumbers(a, b *Observation) int { return cmp.Compare(a.Number, b.Number) }

// compareSizes orders trials as a front does: by ascending parameters, and of one size the best first.
func compareSizes(a, b *Observation) int {
	return cmp.Or(cmp.Compare(a.Params, b.Params), cmp.Compare(b.Score, a.Score), cmp.Compare(a.Number, b.Number))
}

func bySize(trials []*Observation) []*Observation {
	return slices.SortedFunc(slices.Values(trials), compareSizes)
}

// peel parts ranked trials into those that no other dominates, which is the first rank, and the rest.
func peel(ranked []*Observation) (front, rest []*Observation) {
	rest = make([]*Observation, 0, len(ranked))
	for _, o := range ranked {
		if len(front) == 0 || o.Score > front[len(front)-1].Score {
			front = append(front, o)
		} else {
			rest = append(rest, o)
		}
	}
	return front, rest
}

func insert(list *[]*Observation, o *Observation, compare func(a, b *Observation) int) {
	i, _ := slices.BinarySearchFunc(*list, o, compare)
	*list = slices.Insert(*list, i, o)
}

func remove(list *[]*Observation, o *Observation, compare func(a, b *Observation) int) {
	if i, found := slices.BinarySearchFunc(*list, o, compare); found {
		*list = slices.Delete(*list, i, i+1)
	}
}
