package studies

import (
	"slices"
	"time"

	"peftsearch/evaluator"
	"peftsearch/studies/store"
)

// EventKind says what happened.
type EventKind string

// The kinds of event.
const (
	EventStarted  EventKind = "started"  // a trial runs
	EventProgress EventKind = "progress" // of a running trial
	EventFinished EventKind = "finished" // complete or pruned, stored
	EventFailed   EventKind = "failed"   // stored
	EventRetried  EventKind = "retried"  // its worker ended; it waits to run again
	EventReturned EventKind = "returned" // interrupted; it waits to run again
	EventDraining EventKind = "draining" // no new trial starts, running ones end
)

// Event tells a listener what happened and where the study stands.
type Event struct {
	Kind     EventKind
	Trial    store.Trial        // of all but draining
	Progress evaluator.Progress // of progress
	Status   Status
}

// Status is where a study stands.
type Status struct {
	Trials      int // the study's budget
	Complete    int
	Pruned      int
	Failed      int
	Running     int
	Best        *store.Trial // with the highest score; nil before the first
	Hypervolume float64
	FrontSize   int
	Remaining   time.Duration // until the budget is used, judging by the trials so far; 0 if unknown
}

// Finished is the number of trials with an outcome.
func (s Status) Finished() int { return s.Complete + s.Pruned + s.Failed }

// statusOf counts trials. workers is how many run at the same time.
func statusOf(trials []store.Trial, front Front, budget, workers int) Status {
	s := Status{Trials: max(budget, len(trials)), Hypervolume: front.Hypervolume, FrontSize: len(front.Members)}
	var seconds []float64
	for _, t := range trials {
		switch t.State {
		case store.Complete:
			s.Complete++
		case store.Pruned:
			s.Pruned++
		case store.Failed:
			s.Failed++
		case store.Running:
			s.Running++
		}
		if t.Result.WallS > 0 {
			seconds = append(seconds, t.Result.WallS)
		}
	}
	if n := len(front.Members); n > 0 {
		s.Best = &front.Members[n-1]
	}
	if len(seconds) > 0 {
		slices.Sort(seconds)
		median := seconds[len(seconds)/2]
		s.Remaining = time.Duration(median * float64(s.Trials-s.Finished()) / float64(max(1, workers)) * float64(time.Second))
	}
	return s
}
