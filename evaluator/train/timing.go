package train

import (
	"fmt"
	"time"

	"peftsearch/evaluator"
)

// Timing is what some training steps, or an evaluation, took.
type Timing struct {
	Examples int
	Tokens   int // of the examples
	Seconds  float64
}

// Time does one step of a job for each of the batches of training rows, and times all but the first warmUp:
// gathering a batch, forward and backward pass, optimiser. Making the model and filling the cache comes
// before; nothing is evaluated or written. Errors are *evaluator.Failure.
func (s *Session) Time(job evaluator.Job, warmUp int, batches [][]int) (Timing, error) {
	timing, err := s.timeSteps(job, warmUp, batches)
	return timing, asFailure(err)
}

// unwatched is the control of a job that nobody stops or follows.
var unwatched = Control{Stop: func() (string, bool) { return "", false }, Report: func(evaluator.Progress) {}}

func (s *Session) timeSteps(job evaluator.Job, warmUp int, batches [][]int) (Timing, error) {
	r, err := s.newRun(job, unwatched)
	if err != nil {
		return Timing{}, err
	}
	defer r.model.Close()
	if warmUp < 0 || warmUp >= len(batches) || len(batches) > r.steps {
		return Timing{}, fmt.Errorf("%d batches, %d of them to warm up, of a job of %d steps", len(batches), warmUp, r.steps)
	}
	for _, batch := range batches {
		for _, example := range batch {
			if example < 0 || example >= len(r.rows.lengths) {
				return Timing{}, fmt.Errorf("row %d of %d", example, len(r.rows.lengths))
			}
		}
		if len(batch) == 0 || len(batch) > job.Candidate.Training.BatchSize {
			return Timing{}, fmt.Errorf("a batch of %d rows: 1 to the job's %d", len(batch), job.Candidate.Training.BatchSize)
		}
	}
	if err := r.prepare(); err != nil {
		return Timing{}, err
	}
	var timing Timing
	var start time.Time
	for i, batch := range batches {
		if i == warmUp {
			start = time.Now()
		}
		if err := r.update(batch); err != nil {
			return Timing{}, err
		}
		if i >= warmUp {
			timing.Examples += len(batch)
			for _, example := range batch {
				timing.Tokens += r.rows.lengths[example]
			}
		}
	}
	timing.Seconds = time.Since(start).Seconds()
	return timing, nil
}

// Fill computes the hidden states that a job reads, unless they are there, and returns how many seconds that
// took. Errors are *evaluator.Failure.
func (s *Session) Fill(job evaluator.Job) (seconds float64, err error) {
	r, err := s.newRun(job, unwatched)
	if err != nil {
		return 0, asFailure(err)
	}
	defer r.model.Close()
	start := time.Now()
	err = r.prepare()
	return time.Since(start).Seconds(), asFailure(err)
}

// TimeEvaluation times the scoring of the dev split for a job, after one that warms up. Errors are
// *evaluator.Failure.
func (s *Session) TimeEvaluation(job evaluator.Job) (Timing, error) {
	r, err := s.newRun(job, unwatched)
	if err != nil {
		return Timing{}, asFailure(err)
	}
	defer r.model.Close()
	timing := Timing{Examples: len(r.dev.lengths)}
	for _, length := range r.dev.lengths {
		timing.Tokens += length
	}
	if err := r.prepare(); err != nil {
		return Timing{}, asFailure(err)
	}
	for range 2 {
		start := time.Now()
		if _, _, _, err := r.evaluate(r.model, r.dev, 0); err != nil {
			return Timing{}, asFailure(err)
		}
		timing.Seconds = time.Since(start).Seconds()
	}
	return timing, nil
}
