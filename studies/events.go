package studies

import (
	"time"

	"peftsearch/evaluator"
	"peftsearch/search"
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
	EventTaken    EventKind = "taken"    // another process has taken it over; what becomes of it here does not count
	EventWaiting  EventKind = "waiting"  // nothing is left to do but trials that other processes run
	EventDelayed  EventKind = "delayed"  // the database is busy or away; what is to be stored is kept until it is stored
)

// Event tells a listener what happened and where the study stands. Numbers of a study never go back from one event to
// the next.
type Event struct {
	Kind      EventKind
	Trial     store.Trial        // of all but waiting and delayed
	Progress  evaluator.Progress // of progress
	Elsewhere int                // of waiting: how many trials other processes run
	Err       error              // of delayed
	Status    Status             // of all but progress
}

// Status is where a study stands.
type Status struct {
	Trials int // the study's budget
	store.Tally
	Best        *search.Outcome // with the highest score; nil before the first
	Hypervolume float64
	FrontSize   int
	Remaining   time.Duration // until the budget is used, judging by the trials so far; 0 if unknown
	Version     int64         // of the changes to the study that it knows
}
