package studies

import (
	"sort"

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

// Compare compares two studies at quarters of the effort that both have spent. The trials are those with an outcome, in
// the order in which they ended. It takes O(n log n).
func Compare(records [2]*store.Record, trials [2][]store.Outcome) Comparison {
	c := Comparison{References: [2]search.Reference{records[0].Reference, records[1].Reference}}
	var common search.Reference
	if common, c.Common = OneScale(records[:]); c.Common {
		c.References = [2]search.Reference{common, common}
	}
	var spent [2][]float64 // after so many trials
	for i := range trials {
		spent[i] = make([]float64, len(trials[i])+1)
		for n, t := range trials[i] {
			spent[i][n+1] = spent[i][n] + t.Seconds
		}
		c.Trials[i], c.Seconds[i] = len(trials[i]), spent[i][len(trials[i])]
	}
	shorter, quicker := min(c.Trials[0], c.Trials[1]), min(c.Seconds[0], c.Seconds[1])
	for quarter := 1; quarter <= checkpoints; quarter++ {
		n := shorter * quarter / checkpoints
		if n > 0 && n != shorter*(quarter-1)/checkpoints {
			c.ByTrials = append(c.ByTrials, Checkpoint{Trials: [2]int{n, n}})
		}
		if quicker > 0 {
			point := Checkpoint{Seconds: quicker * float64(quarter) / checkpoints}
			for i := range spent { // the trials that end by then
				point.Trials[i] = sort.Search(len(trials[i]), func(n int) bool { return spent[i][n+1] > point.Seconds })
			}
			c.BySeconds = append(c.BySeconds, point)
		}
	}
	for i := range trials {
		volumes := growth(trials[i], c.References[i])
		for _, points := range [][]Checkpoint{c.ByTrials, c.BySeconds} {
			for at := range points {
				points[at].Hypervolumes[i] = volumes[points[at].Trials[i]]
			}
		}
	}
	return c
}

// OneScale is the scale on which the hypervolumes of all studies can be compared: the lowest chance, and the range of
// sizes that covers all. ok is false if the studies differ in metric or in the shape of the model.
func OneScale(records []*store.Record) (scale search.Reference, ok bool) {
	for i, r := range records {
		if i == 0 {
			scale = r.Reference
			continue
		}
		if r.Metric != records[0].Metric || r.Geometry != records[0].Geometry {
			return search.Reference{}, false
		}
		scale = search.Reference{Chance: min(scale.Chance, r.Reference.Chance),
			MinParams: min(scale.MinParams, r.Reference.MinParams), MaxParams: max(scale.MaxParams, r.Reference.MaxParams)}
	}
	return scale, len(records) > 0
}

// growth is the hypervolume after the first n trials with an outcome, for n from 0 on.
func growth(trials []store.Outcome, scale search.Reference) []float64 {
	var front staircase
	volumes := make([]float64, len(trials)+1)
	for i, t := range trials {
		volumes[i+1] = volumes[i]
		if t.Complete && front.add(t.Outcome) {
			volumes[i+1] = search.Hypervolume(front, scale)
		}
	}
	return volumes
}
