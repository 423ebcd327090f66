package train

import (
	"math"

	"peftsearch/evaluator"
)

// learningRate is the rate of a step (from 0) of a run of `steps` steps: a linear rise over the warm-up,
// then the schedule, as transformers' get_linear_schedule_with_warmup, get_cosine_schedule_with_warmup
// and get_constant_schedule_with_warmup compute it. The warm-up has ceil(ratio·steps) steps.
func learningRate(t evaluator.Training, step, steps int) float64 {
	warmup := int(math.Ceil(t.WarmupRatio * float64(steps)))
	if step < warmup {
		return t.LearningRate * float64(step) / float64(warmup)
	}
	share := float64(step-warmup) / float64(max(1, steps-warmup))
	switch t.Schedule {
	case evaluator.ScheduleLinear:
		return t.LearningRate * max(0, 1-share)
	case evaluator.ScheduleCosine:
		return t.LearningRate * max(0, 0.5*(1+math.Cos(math.Pi*share)))
	default:
		return t.LearningRate
	}
}
