package studies

import (
	"time"

	"peftsearch/evaluator"
	"peftsearch/search"
	"peftsearch/studies/config"
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
	// another process has taken it over; what becomes of it here does not count
	EventTaken        EventKind = "taken"
	EventWaiting      EventKind = "waiting"      // nothing is left to do but trials that other processes run
	EventCalibrated   EventKind = "calibrated"   // the learning rates are known
	EventUncalibrated EventKind = "uncalibrated" // they were left at the standard rate
	EventMapped       EventKind = "mapped"       // a map of shared weights is there
	EventUnmapped     EventKind = "unmapped"     // the study goes on without one
	// the database is busy or away; what is to be stored is kept until it is stored
	EventDelayed EventKind = "delayed"
)

// Event tells a listener what happened and where the study stands. Numbers of a study never go back from one event to
// the next.
type Event struct {
	Kind      EventKind
	Trial     store.Trial        // of a trial
	Job       *store.Job         // in place of a trial, a training beside the trials
	Rate      config.Rate        // of calibrated and uncalibrated
	Progress  evaluator.Progress // of progress
	Elsewhere int                // of waiting: how many trials other processes run
	Err       error              // of delayed, uncalibrated and unmapped
	Status    Status             // of all but progress
}

// crashes is how many attempts ended with their worker before.
func (e Event) crashes() int {
	if e.Job != nil {
		return e.Job.Crashes
	}
	return e.Trial.Crashes
}

// failed is the event of one attempt more that failed.
func (e Event) failed(failure *evaluator.Failure) Event {
	if e.Job != nil {
		job := *e.Job
		job.State, job.Failure, job.Crashes = store.Failed, failure, 1+e.Job.Crashes
		e.Job = &job
	} else {
		e.Trial.State, e.Trial.Failure = store.Failed, failure
		e.Trial.Crashes++
	}
	return e
}

// Status is where a study stands.
type Status struct {
	Trials int           // trainings that the study may have; config.MaxTrials for no limit
	Hours  time.Duration // that its workers may train; 0 for no limit
	Used   time.Duration // that they have trained
	Beside int           // trainings that have ended and are no trials
	store.Tally
	Best        *search.Outcome // with the highest score; nil before the first
	Hypervolume float64
	FrontSize   int
	Remaining   time.Duration // until the budget is used, judging by the trials so far; 0 if unknown
	Version     int64         // of the changes to the study that it knows
}

// Done is how many trainings have ended.
func (s Status) Done() int { return s.Finished() + s.Beside }

// Over reports whether the budget is used.
func (s Status) Over() bool { return s.Done() >= s.Trials || s.Hours > 0 && s.Used >= s.Hours }
