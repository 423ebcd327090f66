package studies

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"peftsearch/data/quote"
	"peftsearch/search"
	"peftsearch/space"
	"peftsearch/studies/store"
)

// History is what is known of a study's trials, kept in memory: a trial with an outcome never changes, so each is read
// once. It is safe for concurrent use.
type History struct {
	db     *store.Store
	record *store.Record
	space  *space.Space // nil: nothing is kept for samplers and pruners
	curves bool         // are kept too, for pruners

	mu          sync.Mutex
	version     int64
	past        *search.History // nil before the first Sync
	states      []store.State   // by number
	keys        map[string]int64
	tally       store.Tally
	front       staircase
	hypervolume float64
	seconds     []float64 // of the trainings, ascending
}

// NewHistory begins a history that knows nothing yet.
func NewHistory(db *store.Store, record *store.Record) *History {
	return &History{db: db, record: record, keys: map[string]int64{}}
}

// Sync reads what has changed. The error wraps search.ErrDamagedHistory if a trial cannot be one of the study's space,
// and store.ErrDamaged if it cannot be one of any study.
func (h *History) Sync(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	changed, version, err := h.db.Changes(ctx, h.record, h.version, h.curves)
	if err != nil {
		return err
	}
	next := int64(len(h.states))
	for _, e := range changed {
		if e.Number > next {
			return fmt.Errorf("study %s: %w: trial %d is missing", quote.Text(h.record.Name), store.ErrDamaged, next)
		}
		next = max(next, e.Number+1)
	}
	if err := h.resample(ctx, changed); err != nil {
		return err
	}
	if err := h.remember(changed); err != nil {
		return fmt.Errorf("study %s: %w", quote.Text(h.record.Name), err)
	}
	for _, e := range changed {
		h.count(e)
	}
	h.version = version
	return nil
}

var searchStates = map[store.State]search.State{store.Waiting: search.Running, store.Running: search.Running,
	store.Complete: search.Complete, store.Pruned: search.Pruned, store.Failed: search.Failed}

// observation is what samplers and pruners are told of a trial.
func observation(e store.Entry) search.Observation {
	o := search.Observation{Number: e.Number, Point: e.Point, Params: e.Params, State: searchStates[e.State],
		Score: e.Score, Curve: rungs(e.Curve), Resampled: e.Resampled}
	if e.State == store.Pruned {
		o.Score, o.SD = e.Forecast.Score, e.Forecast.SD
	}
	return o
}

func rungs(curve []store.CurvePoint) []search.Rung {
	var out []search.Rung
	for _, p := range curve {
		out = append(out, search.Rung{Share: float64(p.Step) / float64(p.Steps), Score: p.Score})
	}
	return out
}

// rowTrials is how many trials, the first ones, have their scores on resamples of the dev rows kept in memory: those
// samplers that read them model fewer.
const rowTrials = 1000

// resample reads the scores of changed trials on resamples of the dev rows, for samplers.
func (h *History) resample(ctx context.Context, changed []store.Entry) error {
	if h.space == nil || len(changed) == 0 {
		return nil
	}
	first, last := changed[0].Number, min(changed[len(changed)-1].Number+1, rowTrials)
	if first >= last {
		return nil
	}
	resampled, err := h.db.Resampled(ctx, h.record, first, last)
	for i := range changed {
		changed[i].Resampled = resampled[changed[i].Number]
	}
	return err
}

// remember tells samplers and pruners of the trials.
func (h *History) remember(changed []store.Entry) (err error) {
	switch {
	case h.space == nil:
	case h.past == nil:
		observations := make([]search.Observation, len(changed))
		for i, e := range changed {
			observations[i] = observation(e)
		}
		h.past, err = search.NewHistory(h.space, observations)
	default:
		for _, e := range changed {
			if err := h.past.Set(observation(e)); err != nil {
				return err
			}
		}
	}
	return err
}

func (h *History) count(e store.Entry) {
	if e.Number < int64(len(h.states)) {
		*h.tally.Of(h.states[e.Number])--
	} else {
		h.states = append(h.states, "")
	}
	h.states[e.Number] = e.State
	*h.tally.Of(e.State)++
	if e.Key != "" {
		h.keys[e.Key] = e.Number
	}
	if e.State == store.Complete || e.State == store.Pruned {
		at, _ := slices.BinarySearch(h.seconds, e.Seconds)
		h.seconds = slices.Insert(h.seconds, at, e.Seconds)
	}
	if e.State == store.Complete && h.front.add(search.Outcome{Number: e.Number, Params: e.Params, Score: e.Score}) {
		h.hypervolume = search.Hypervolume(h.front, h.record.Reference)
	}
}

// Find is the trial of a candidate, by its key.
func (h *History) Find(key string) (number int64, found bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	number, found = h.keys[key]
	return number, found
}

// Outcomes is the number of trials with an outcome.
func (h *History) Outcomes() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.tally.Finished()
}

// maxRemaining is the longest time that is told.
const maxRemaining = 100 * 365 * 24 * time.Hour

// Status is where the study stands, with a budget of so many trials and so many running at a time.
func (h *History) Status(budget, workers int) Status {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := Status{Trials: max(budget, h.tally.Total()), Tally: h.tally, Hypervolume: h.hypervolume,
		FrontSize: len(h.front), Version: h.version}
	if n := len(h.front); n > 0 {
		best := h.front[n-1]
		s.Best = &best
	}
	if n := len(h.seconds); n > 0 {
		left := h.seconds[n/2] * float64(s.Trials-s.Finished()) / float64(max(1, workers))
		s.Remaining = time.Duration(min(left, maxRemaining.Seconds()) * float64(time.Second))
	}
	return s
}
