package train

import (
	"errors"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"
)

func TestLanesDoEveryPartOnce(t *testing.T) {
	l := newLanes(3, 3)
	defer l.close()
	for _, parts := range []int{0, 1, 2, 3, 40} {
		done := make([]int, parts)
		if err := l.run(parts, func(part int) error { done[part]++; return nil }); err != nil {
			t.Fatal(err)
		}
		if want := slices.Repeat([]int{1}, parts); !slices.Equal(done, want) {
			t.Errorf("%d parts were done %v times", parts, done)
		}
	}
}

func TestLanesReportFailuresAndPanics(t *testing.T) {
	l := newLanes(2, 2)
	defer l.close()
	broken := errors.New("broken")
	var done atomic.Int64
	err := l.run(1000, func(part int) error {
		done.Add(1)
		if part == 3 {
			return broken
		}
		return nil
	})
	if !errors.Is(err, broken) || done.Load() == 1000 {
		t.Errorf("%v after %d parts", err, done.Load())
	}
	for part := range 2 { // on the caller's goroutine and on another one
		err := l.run(2, func(p int) error {
			if p == part {
				panic("no such row")
			}
			return nil
		})
		if err == nil || !strings.Contains(err.Error(), "no such row") {
			t.Errorf("a panic becomes %v", err)
		}
	}
}

func TestPartsOfABatchHaveTheSameWork(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lengths := rapid.SliceOfN(rapid.IntRange(3, 128), 1, 100).Draw(t, "lengths")
		lanes := rapid.IntRange(1, 8).Draw(t, "lanes")
		batch := make([]int, len(lengths))
		for i := range batch {
			batch[i] = i
		}
		parts := splitBatch(batch, lengths, lanes)
		if want := max(1, min(lanes, len(batch)/partRows)); len(parts) != want {
			t.Fatalf("%d parts of %d rows for %d lanes, want %d", len(parts), len(batch), lanes, want)
		}
		if seen := slices.Sorted(slices.Values(slices.Concat(parts...))); !slices.Equal(seen, batch) {
			t.Fatalf("examples %v", seen)
		}
		tokens := make([]int, len(parts))
		for i, part := range parts {
			for _, example := range part {
				tokens[i] += lengths[example]
			}
		}
		if slices.Max(tokens)-slices.Min(tokens) > slices.Max(lengths) {
			t.Fatalf("parts of %v tokens", tokens)
		}
	})
}

// Parts of a batch have the gradient of the whole, whatever the number of lanes.
func TestLanesChangeOnlyTheRounding(t *testing.T) {
	one, three := openSmall(t, 1<<20), openSmall(t, 1<<20)
	three.lanes.close()
	three.lanes = newLanes(3, 3)
	three.cache.lanes = three.lanes
	job := upperLayer()
	job.Budget.TrainRows, job.Budget.Epochs = 170, 2 // the last batch has another size
	for _, lowest := range []int{0, 1} {
		job.Candidate.Plan.Layers[0] = job.Candidate.Plan.Layers[1]
		if lowest == 1 { // cached
			job.Candidate.Plan.Layers[0] = nil
		}
		want, got := score(t, one, job), score(t, three, job)
		if math.Abs(got-want) > 1e-4 {
			t.Errorf("modules from layer %d: %g with three lanes, %g with one", lowest, got, want)
		}
		if again := score(t, three, job); again != got {
			t.Errorf("modules from layer %d: the same job gives %g and %g", lowest, got, again)
		}
	}
}
