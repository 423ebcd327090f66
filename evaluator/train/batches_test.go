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
		examples := make([]int, len(lengths))
		for i := range examples {
			examples[i] = i
		}
		batches := trainBatches(lengths, size, 3, 1)
		if want := (len(lengths) + size - 1) / size; len(batches) != want {
			t.Fatalf("%d batches, want %d", len(batches), want)
		}
		for name, all := range map[string][][]int{"train": batches, "eval": evalBatches(lengths, evalTokens)} {
			if seen := slices.Sorted(slices.Values(slices.Concat(all...))); !slices.Equal(seen, examples) {
				t.Fatalf("%s: examples %v", name, seen)
			}
		}
		for _, batch := range evalBatches(lengths, evalTokens) {
			if tokens := len(batch) * lengths[batch[0]]; len(batch) > 1 && tokens > evalTokens {
				t.Fatalf("a batch of %d tokens", tokens)
			}
		}
		if !reflect.DeepEqual(batches, trainBatches(lengths, size, 3, 1)) {
			t.Fatal("the same arguments give other batches")
		}
	})
}

func TestBatchesHaveLittlePaddingAndChangeWithTheEpoch(t *testing.T) {
	rng := newRand(1, "test", 0)
	lengths := make([]int, 4000)
	total := 0
	for i := range lengths {
		lengths[i] = 10 + rng.IntN(60)
		total += lengths[i]
	}
	first, second := trainBatches(lengths, 32, 1, 0), trainBatches(lengths, 32, 1, 1)
	if reflect.DeepEqual(first, second) {
		t.Error("two epochs have the same batches")
	}
	padded := 0
	for _, batch := range first {
		longest := 0
		for _, i := range batch {
			longest = max(longest, lengths[i])
		}
		padded += longest * len(batch)
	}
	if share := float64(padded)/float64(total) - 1; share > 0.05 {
		t.Errorf("%.1f %% padding", 100*share)
	}
}

// The values are those of transformers' schedules for 10 steps with 2 of warm-up.
func TestLearningRateIsTransformersSchedule(t *testing.T) {
	for schedule, want := range map[evaluator.Schedule][]float64{
		evaluator.ScheduleLinear:   {0, 0.5, 1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125},
		evaluator.ScheduleCosine:   {0, 0.5, 1, 0.9619397663, 0.8535533906, 0.6913417162, 0.5, 0.3086582838, 0.1464466094, 0.0380602337},
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
