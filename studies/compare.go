package studies

import (
	"cmp"
	"slices"

	"peftsearch/search"
	"peftsearch/studies/store"
)

// Comparison sets two studies side by side after equal effort.
type Comparison struct {
	// Common reports whether both have the same metric and backbone geometry. Their hypervolumes are then
	// on one scale: the lower chance and the range of sizes that covers both. Otherwise each is on its own
	// study's scale, and only its growth can be compared.
	Common     bool
	References [2]search.Reference
	Trials     [2]int     // with an outcome
	Seconds    [2]float64 // of training, summed over them
	ByTrials   []Checkpoint
	BySeconds  []Checkpoint // empty if a study has no training time
}

// Checkpoint is two hypervolumes after equal effort.
type Checkpoint struct {
	Seconds      float64 // of BySeconds: time that each study had, summed over its trials
	Trials       [2]int  // with an outcome by then
	Hypervolumes [2]float64
}

// checkpoints is how often the shorter study's effort is divided.
const checkpoints = 4

// Compare compares two studies at quarters of the effort that both have spent. Trials count in the order
// in which they finished.
func Compare(records [2]*store.Record, trials [2][]store.Trial) Comparison {
	a, b := records[0], records[1]
	c := Comparison{Common: a.Metric == b.Metric && a.Geometry == b.Geometry, References: [2]search.Reference{a.Reference, b.Reference}}
	if c.Common {
		common := search.Reference{Chance: min(a.Reference.Chance, b.Reference.Chance),
			MinParams: min(a.Reference.MinParams, b.Reference.MinParams), MaxParams: max(a.Reference.MaxParams, b.Reference.MaxParams)}
		c.References = [2]search.Reference{common, common}
	}
	var finished [2][]store.Trial
	for i := range trials {
		finished[i] = inOrder(trials[i])
		c.Trials[i] = len(finished[i])
		c.Seconds[i] = seconds(finished[i])
	}
	at := func(counts [2]int, seconds float64) Checkpoint {
		point := Checkpoint{Seconds: seconds, Trials: counts}
		for i, n := range counts {
			point.Hypervolumes[i] = search.Hypervolume(outcomes(finished[i][:n]), c.References[i])
		}
		return point
	}
	shorter, quicker := min(c.Trials[0], c.Trials[1]), min(c.Seconds[0], c.Seconds[1])
	for quarter := 1; quarter <= checkpoints; quarter++ {
		n := shorter * quarter / checkpoints
		if n > 0 && n != shorter*(quarter-1)/checkpoints {
			c.ByTrials = append(c.ByTrials, at([2]int{n, n}, 0))
		}
		if quicker > 0 {
			limit := quicker * float64(quarter) / checkpoints
			c.BySeconds = append(c.BySeconds, at([2]int{within(finished[0], limit), within(finished[1], limit)}, limit))
		}
	}
	return c
}

// inOrder lists the trials with an outcome as they finished.
func inOrder(trials []store.Trial) []store.Trial {
	var finished []store.Trial
	for _, t := range trials {
		if t.State == store.Complete || t.State == store.Pruned || t.State == store.Failed {
			finished = append(finished, t)
		}
	}
	slices.SortFunc(finished, func(a, b store.Trial) int {
		return cmp.Or(a.Finished.Compare(b.Finished), cmp.Compare(a.Number, b.Number))
	})
	return finished
}

// seconds sums what trials took; for failed ones only the time between start and end is known.
func seconds(trials []store.Trial) float64 {
	var sum float64
	for _, t := range trials {
		if t.State == store.Failed {
			sum += t.Finished.Sub(t.Started).Seconds()
		} else {
			sum += t.Result.WallS
		}
	}
	return sum
}

// within is how many of the trials, one after another, end within the seconds.
func within(trials []store.Trial, limit float64) int {
	n := 0
	for n < len(trials) && seconds(trials[:n+1]) <= limit {
		n++
	}
	return n
}
