package train

import (
	"fmt"
	"time"

	"peftsearch/evaluator"
)

// Timing is what some training steps took.
type Timing struct {
	Steps    int
	Examples int
	Tokens   int // of the examples, without padding
	Seconds  float64
}

// Time does the first warmUp+steps steps of a job and times the last steps of them: padding, forward and
// backward pass, optimiser. Making the model and filling the cache comes before; nothing is evaluated
// or written. Errors are *evaluator.Failure.
func (s *Session) Time(job evaluator.Job, warmUp, steps int) (Timing, error) {
	timing, err := s.timeSteps(job, warmUp, steps)
	return timing, asFailure(err)
}

func (s *Session) timeSteps(job evaluator.Job, warmUp, steps int) (Timing, error) {
	r, err := s.newRun(job, Control{Stop: func() (string, bool) { return "", false }})
	if err != nil {
		return Timing{}, err
	}
	defer r.model.Close()
	if warmUp < 0 || steps < 0 || warmUp+steps > r.steps {
		return Timing{}, fmt.Errorf("%d and %d steps of a job that has %d: raise its epochs", warmUp, steps, r.steps)
	}
	if err := r.prepare(); err != nil {
		return Timing{}, err
	}
	timing := Timing{Steps: steps}
	var start time.Time
	for r.Step < warmUp+steps {
		if r.Step == warmUp {
			start = time.Now()
		}
		timed := r.Step >= warmUp
		examples := r.next()
		if err := r.update(examples); err != nil {
			return Timing{}, err
		}
		if timed {
			timing.Examples += len(examples)
			for _, example := range examples {
				timing.Tokens += r.rows.lengths[example]
			}
		}
	}
	if steps > 0 {
		timing.Seconds = time.Since(start).Seconds()
	}
	return timing, nil
}
