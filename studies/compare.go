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
	var efforts [2]effort
	var byTrials, bySeconds [2]growth
	for i := range trials {
		efforts[i] = newEffort(trials[i])
		c.Trials[i], c.Seconds[i] = len(efforts[i].trials), efforts[i].total()
		byTrials[i] = growth{trials: efforts[i].trials, reference: c.References[i]}
		bySeconds[i] = byTrials[i]
	}
	at := func(of *[2]growth, counts [2]int, seconds float64) Checkpoint {
		return Checkpoint{Seconds: seconds, Trials: counts, Hypervolumes: [2]float64{of[0].after(counts[0]), of[1].after(counts[1])}}
	}
	shorter, quicker := min(c.Trials[0], c.Trials[1]), min(c.Seconds[0], c.Seconds[1])
	for quarter := 1; quarter <= checkpoints; quarter++ {
		n := shorter * quarter / checkpoints
		if n > 0 && n != shorter*(quarter-1)/checkpoints {
			c.ByTrials = append(c.ByTrials, at(&byTrials, [2]int{n, n}, 0))
		}
		if quicker > 0 {
			limit := quicker * float64(quarter) / checkpoints
			c.BySeconds = append(c.BySeconds, at(&bySeconds, [2]int{efforts[0].within(limit), efforts[1].within(limit)}, limit))
		}
	}
	return c
}

// effort is the trials of a study with an outcome, in the order in which they finished.
type effort struct {
	trials  []*store.Trial
	seconds []float64 // that were spent when each of them ended, one after another
}

func newEffort(trials []store.Trial) effort {
	var e effort
	for i := range trials {
		if state := trials[i].State; state == store.Complete || state == store.Pruned || state == store.Failed {
			e.trials = append(e.trials, &trials[i])
		}
	}
	slices.SortFunc(e.trials, func(a, b *store.Trial) int {
		return cmp.Or(a.Finished.Compare(b.Finished), cmp.Compare(a.Number, b.Number))
	})
	spent := 0.0
	for _, t := range e.trials {
		if t.State == store.Failed { // only the time between start and end is known
			spent += max(t.Finished.Sub(t.Started).Seconds(), 0)
		} else {
			spent += t.Result.WallS
		}
		e.seconds = append(e.seconds, spent)
	}
	return e
}

// total is the seconds of all trials.
func (e effort) total() float64 {
	if len(e.seconds) == 0 {
		return 0
	}
	return e.seconds[len(e.seconds)-1]
}

// within is how many of the trials end within the seconds.
func (e effort) within(limit float64) int {
	for i, spent := range e.seconds {
		if spent > limit {
			return i
		}
	}
	return len(e.seconds)
}

// growth is the hypervolume of more and more trials.
type growth struct {
	trials    []*store.Trial
	reference search.Reference
	n         int
	front     []search.Outcome // of the first n
}

// after is the hypervolume of the first n trials, n being no less than before.
func (g *growth) after(n int) float64 {
	for _, t := range g.trials[g.n:n] {
		if t.State == store.Complete {
			g.front = append(g.front, search.Outcome{Number: t.Number, Params: t.Params, Score: t.Result.Score})
		}
	}
	g.front, g.n = search.Front(g.front), n
	return search.Hypervolume(g.front, g.reference)
}
