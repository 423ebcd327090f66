package train

import (
	"math"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"peftsearch/evaluator"
)

func TestBatchesHoldEveryExampleOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lengths := rapid.SliceOfN(rapid.IntRange(3, 128), 1, 400).Draw(t, "lengths")
		size := rapid.IntRange(1, 40).Draw(t, "size")
		limit := rapid.IntRange(1, 4000).Draw(t, "tokens")
		examples := make([]int, len(lengths))
		for i := range examples {
			examples[i] = i
		}
		batches, evals := trainBatches(len(lengths), size, 3, 1), evalBatches(lengths, limit)
		for name, all := range map[string][][]int{"train": batches, "eval": evals} {
			if seen := slices.Sorted(slices.Values(slices.Concat(all...))); !slices.Equal(seen, examples) {
				t.Fatalf("%s: examples %v", name, seen)
			}
		}
		for i, batch := range batches {
			if want := min(size, len(lengths)-i*size); len(batch) != want {
				t.Fatalf("batch %d of %d has %d examples, want %d", i, len(batches), len(batch), want)
			}
		}
		for _, batch := range evals {
			tokens := 0
			for _, example := range batch {
				tokens += lengths[example]
			}
			if len(batch) > 1 && tokens > limit {
				t.Fatalf("a batch of %d tokens, at most %d", tokens, limit)
			}
		}
		if !reflect.DeepEqual(batches, trainBatches(len(lengths), size, 3, 1)) {
			t.Fatal("the same arguments give other batches")
		}
	})
}

// Batch mates of one epoch are mates again in the next as often as chance has it.
func TestBatchesAreDealtAnewInEveryEpoch(t *testing.T) {
	const rows, size, epochs = 1000, 32, 20
	mates := func(epoch int) map[[2]int]bool {
		pairs := map[[2]int]bool{}
		for _, batch := range trainBatches(rows, size, 1, epoch) {
			for _, a := range batch {
				for _, b := range batch {
					if a < b {
						pairs[[2]int{a, b}] = true
					}
				}
			}
		}
		return pairs
	}
	again, all, before := 0, 0, mates(0)
	for epoch := 1; epoch < epochs; epoch++ {
		now := mates(epoch)
		for pair := range now {
			all++
			if before[pair] {
				again++
			}
		}
		before = now
	}
	if share, chance := float64(again)/float64(all), (size-1.)/(rows-1.); share < 0.9*chance || share > 1.1*chance {
		t.Errorf("%.2f %% of a batch's pairs were together in the epoch before; by chance it would be %.2f %%", 100*share,
			100*chance)
	}
}

// The values are those of transformers' schedules for 10 steps with 2 of warm-up.
func TestLearningRateIsTransformersSchedule(t *testing.T) {
	for schedule, want := range map[evaluator.Schedule][]float64{
		evaluator.ScheduleLinear: {0, 0.5, 1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125},
		evaluator.ScheduleCosine: {0, 0.5, 1, 0.9619397663, 0.8535533906, 0.6913417162, 0.5, 0.3086582838, 0.1464466094,
			0.0380602337},
		evaluator.ScheduleConstant: {0, 0.5, 1, 1, 1, 1, 1, 1, 1, 1},
	} {
		training := evaluator.Training{LearningRate: 1, Schedule: schedule, WarmupRatio: 0.2}
		for step, rate := range want {
			if got := learningRate(training, step, 10); math.Abs(got-rate) > 1e-9 {
				t.Errorf("%s, step %d: %g, want %g", schedule, step, got, rate)
			}
		}
	}
}
