package studies

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"peftsearch/data/quote"
	"peftsearch/search"
	"peftsearch/space"
	"peftsearch/studies/config"
	"peftsearch/studies/store"
)

// History is what is known of a study's trials and jobs, kept in memory: a trial with an outcome changes only when its
// plan is trained again, so each is read once or a few times. It is safe for concurrent use.
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
	complete    map[int64]search.Outcome
	jobs        []store.Job // by number
	tally       store.Tally
	front       staircase
	hypervolume float64
	seconds     []float64 // of the trials' first trainings, ascending
	trained     float64   // their sum, failed trials included
}

// NewHistory begins a history that knows nothing yet.
func NewHistory(db *store.Store, record *store.Record) *History {
	return &History{db: db, record: record, keys: map[string]int64{}, complete: map[int64]search.Outcome{}}
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
	jobs, err := h.db.Jobs(ctx, h.record, h.version)
	if err != nil {
		return err
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
	h.jobs = merged(h.jobs, jobs)
	h.version = version
	return nil
}

var searchStates = map[store.State]search.State{store.Waiting: search.Running, store.Running: search.Running,
	store.Complete: search.Complete, store.Pruned: search.Pruned, store.Failed: search.Failed}

// observation is what samplers and pruners are told of a trial.
func observation(e store.Entry) search.Observation {
	o := search.Observation{Number: e.Number, Point: e.Point, Params: e.Params, State: searchStates[e.State],
		Score: e.Score, Curve: rungs(e.Curve), Trainings: e.Trainings, Spread: e.Spread, Seconds: e.Seconds,
		Resampled: e.Resampled}
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
	trained := false // before: this is another training of its plan
	if e.Number < int64(len(h.states)) {
		trained = h.states[e.Number].Finished()
		*h.tally.Of(h.states[e.Number])--
	} else {
		h.states = append(h.states, "")
	}
	h.states[e.Number] = e.State
	*h.tally.Of(e.State)++
	if e.Key != "" {
		h.keys[e.Key] = e.Number
	}
	if e.State.Finished() && !trained {
		h.trained += e.Seconds
	}
	if (e.State == store.Complete || e.State == store.Pruned) && !trained {
		at, _ := slices.BinarySearch(h.seconds, e.Seconds)
		h.seconds = slices.Insert(h.seconds, at, e.Seconds)
	}
	if e.State != store.Complete {
		return
	}
	outcome := search.Outcome{Number: e.Number, Params: e.Params, Score: e.Score}
	h.complete[e.Number] = outcome
	if trained { // the score may have fallen, so that others are on the front
		h.front = staircase(search.Front(slices.Collect(maps.Values(h.complete))))
	} else if !h.front.add(outcome) {
		return
	}
	h.hypervolume = search.Hypervolume(h.front, h.record.Reference)
}

// Find is the trial of a candidate, by its key.
func (h *History) Find(key string) (number int64, found bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	number, found = h.keys[key]
	return number, found
}

// Jobs are the jobs by number.
func (h *History) Jobs() []store.Job {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.jobs)
}

// beside is how many trainings of the budget are no trials: those of calibrations and maps by how many trials they
// cost, and replicates. Of these so many have ended.
func beside(jobs []store.Job) (all, ended int) {
	shares, done := 0.0, 0.0
	for _, j := range jobs {
		finished := j.State.Finished()
		switch {
		case j.Kind == store.JobMap && j.State == store.Failed: // at once, where the worker makes none
		case j.Kind != store.JobReplicate:
			if shares += j.Share; finished {
				done += j.Share
			}
		case finished:
			all, ended = all+1, ended+1
		default:
			all++
		}
	}
	whole := func(trainings float64) int { return int(math.Ceil(trainings - 1e-9)) }
	return all + whole(shares), ended + whole(done)
}

// Outcomes is the number of trials with an outcome.
func (h *History) Outcomes() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.tally.Finished()
}

// maxRemaining is the longest time that is told.
const maxRemaining = 100 * 365 * 24 * time.Hour

// Status is where the study stands, with a budget and so many workers.
func (h *History) Status(budget config.BudgetConfig, workers int) Status {
	h.mu.Lock()
	defer h.mu.Unlock()
	all, ended := beside(h.jobs)
	s := Status{Trials: max(budget.Trials, h.tally.Total()+all), Beside: ended, Tally: h.tally,
		Hours: seconds(3600 * budget.Hours), Hypervolume: h.hypervolume, FrontSize: len(h.front), Version: h.version}
	trained := h.trained
	for _, j := range h.jobs {
		trained += j.Result.WallS
	}
	s.Used = seconds(trained / float64(max(1, workers)))
	if n := len(h.front); n > 0 {
		best := h.front[n-1]
		s.Best = &best
	}
	s.Remaining = seconds(h.typical() * float64(s.Trials-s.Done()) / float64(max(1, workers)))
	if left := max(0, s.Hours-s.Used); s.Hours > 0 && (s.Trials == config.MaxTrials || left < s.Remaining) {
		s.Remaining = left
	}
	return s
}

// seconds is a time of at most maxRemaining.
func seconds(s float64) time.Duration {
	return time.Duration(min(s, maxRemaining.Seconds()) * float64(time.Second))
}

// typical is what a training takes, in seconds; 0 before the first.
func (h *History) typical() float64 {
	if n := len(h.seconds); n > 0 {
		return h.seconds[n/2]
	}
	return 0
}

// Progress is the share of a budget that is used by what has ended and what runs; 1 where no further training would end
// at least half within it.
func (h *History) Progress(budget config.BudgetConfig, workers int) float64 {
	status := h.Status(budget, workers)
	h.mu.Lock()
	defer h.mu.Unlock()
	all, ended := beside(h.jobs)
	progress := float64(h.tally.Total()+all) / float64(budget.Trials)
	if status.Hours > 0 {
		running := float64(h.tally.Running+h.tally.Waiting+all-ended) * h.typical() / float64(max(1, workers))
		used, hours := status.Used.Seconds()+running, status.Hours.Seconds()
		if used+h.typical()/2 >= hours {
			used = hours
		}
		progress = max(progress, used/hours)
	}
	return progress
}
