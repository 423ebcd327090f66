package search

import (
	"cmp"
	"math"
	"slices"

	"peftsearch/space"
)

// nsga2Sampler is the evolutionary algorithm NSGA-II (Deb et al. 2002, "A Fast and Elitist Multiobjective
// Genetic Algorithm: NSGA-II"), one child at a time: the parents of each trial are the best of all
// finished trials by non-domination and crowding distance, so that nothing but the history is needed to
// go on, and no worker waits for a generation to end. With n trials and D dimensions it takes
// O(n + D).
type nsga2Sampler struct{}

const (
	nsga2Population = 20  // parents; larger ones hardly begin to evolve in a few hundred trials
	nsga2Crossover  = 0.9 // probability; otherwise the child is the first parent, mutated
	nsga2Swap       = 0.5 // probability that a crossed coordinate is the second parent's
	nsga2Children   = 100 // tried for one that is free
)

func (nsga2Sampler) propose(v *view) (Suggestion, error) {
	suggestion := Suggestion{Sampler: "nsga2", Reason: reasonChosen}
	var err error
	if len(v.finished) == 0 {
		suggestion.Point, err = v.stratified(v.candidates)
		return suggestion, err
	}
	parents := v.fittest(nsga2Population)
	for range nsga2Children {
		if child := v.child(parents); v.free(child) {
			suggestion.Point = child
			return suggestion, nil
		}
	}
	suggestion.Point, err = v.anyFree()
	return suggestion, err
}

// fittest sorts the finished trials by non-domination and, within a rank, by falling crowding distance, and
// returns the first n.
func (v *view) fittest(n int) []*Observation {
	var out []*Observation
	for rank, rest := peel(v.ranked); len(rank) > 0 && len(out) < n; rank, rest = peel(rest) {
		distance := v.crowding(rank)
		order := make([]int, len(rank))
		for i := range order {
			order[i] = i
		}
		slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(distance[b], distance[a]) })
		for _, i := range order {
			out = append(out, rank[i])
		}
	}
	return out[:min(n, len(out))]
}

// crowding is half the perimeter of the rectangle between the two neighbours of each member of a rank,
// which is sorted by parameters and score; infinite at the ends.
func (v *view) crowding(rank []*Observation) []float64 {
	out := make([]float64, len(rank))
	last := len(rank) - 1
	out[0], out[last] = math.Inf(1), math.Inf(1)
	width := v.reference.cost(rank[last].Params) - v.reference.cost(rank[0].Params)
	height := rank[last].Score - rank[0].Score
	for i := 1; i < last; i++ {
		if width > 0 {
			out[i] += (v.reference.cost(rank[i+1].Params) - v.reference.cost(rank[i-1].Params)) / width
		}
		if height > 0 {
			out[i] += (rank[i+1].Score - rank[i-1].Score) / height
		}
	}
	return out
}

// child crosses the winners of two binary tournaments among parents sorted by fitness, and mutates each
// coordinate with probability 1/D.
func (v *view) child(parents []*Observation) space.Point {
	tournament := func() space.Point {
		return parents[min(v.rng.IntN(len(parents)), v.rng.IntN(len(parents)))].Point
	}
	child := slices.Clone(tournament())
	if v.rng.Float64() < nsga2Crossover {
		for i, level := range tournament() {
			if v.rng.Float64() < nsga2Swap {
				child[i] = level
			}
		}
	}
	for i, d := range v.space.Dimensions() {
		if v.rng.IntN(len(child)) == 0 {
			child[i] = v.rng.IntN(len(d.Levels))
		}
	}
	return child
}
