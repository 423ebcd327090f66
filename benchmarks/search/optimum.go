package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"slices"

	"peftsearch/search"
	"peftsearch/space"
)

// Optimum is the best hypervolume that is known of a problem.
type Optimum struct {
	Hypervolume float64   `json:"hypervolume"` // of the members of all searches
	Searches    []float64 `json:"searches"`    // of each alone: how far they agree
	Evaluations int       `json:"evaluations"` // of each search
}

func (p *problem) id() string { return fmt.Sprintf("%s/%d", p.name, p.instance) }

// findOptima writes the best hypervolumes of the problems that have none in the file yet.
func findOptima(path string, problems []string, first int) error {
	const searches, evaluations = 3, 1_000_000
	optima := map[string]Optimum{}
	content, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(content, &optima)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w", path, err)
	}
	for _, name := range problems {
		for seed := first; seed < first+instances; seed++ {
			p, err := newProblem(name, seed)
			if err != nil {
				return err
			}
			if _, known := optima[p.id()]; known {
				continue
			}
			found := Optimum{Evaluations: evaluations}
			var all archive
			for s := range searches {
				one := p.explore(rand.New(rand.NewPCG(uint64(s), 0)), evaluations)
				found.Searches = append(found.Searches, one.hypervolume(p.reference))
				for _, m := range one {
					all.insert(m)
				}
			}
			found.Hypervolume = all.hypervolume(p.reference)
			optima[p.id()] = found
			content, err := json.MarshalIndent(optima, "", " ")
			if err != nil {
				return err
			}
			if err := os.WriteFile(path, append(content, '\n'), 0o644); err != nil {
				return err
			}
			fmt.Fprintln(os.Stderr, p.id(), found.Hypervolume, found.Searches, len(all))
		}
	}
	return nil
}

// member is a point that no other of its archive dominates.
type member struct {
	point space.Point
	search.Outcome
}

// archive is a front, by ascending parameters and so ascending score.
type archive []member

func (a archive) hypervolume(reference search.Reference) float64 {
	outcomes := make([]search.Outcome, len(a))
	for i, m := range a {
		outcomes[i] = m.Outcome
	}
	return search.Hypervolume(outcomes, reference)
}

// insert adds a member unless it is dominated, and drops those that it dominates.
func (a *archive) insert(m member) {
	at, _ := slices.BinarySearchFunc(*a, m, func(x, y member) int { return int(x.Params - y.Params) })
	if at < len(*a) && (*a)[at].Params == m.Params && (*a)[at].Score >= m.Score || at > 0 && (*a)[at-1].Score >= m.Score {
		return
	}
	end := at
	for end < len(*a) && (*a)[end].Score <= m.Score {
		end++
	}
	*a = slices.Replace(*a, at, end, m)
}

// explore is the evolutionary search SEMO (Laumanns et al. 2004) with crossover: its population is the front.
func (p *problem) explore(rng *rand.Rand, evaluations int) archive {
	dimensions := p.space.Dimensions()
	point := make(space.Point, len(dimensions))
	var front archive
	for range evaluations {
		if len(front) > 0 {
			at := rng.IntN(len(front))
			copy(point, front[at].point)
			if rng.IntN(2) == 0 { // with a member of nearly its size
				other := front[min(max(at+rng.IntN(41)-20, 0), len(front)-1)].point
				for i := range point {
					if rng.IntN(2) == 0 {
						point[i] = other[i]
					}
				}
			}
		}
		for again := true; again; again = rng.IntN(2) == 0 {
			i := rng.IntN(len(point))
			point[i] = rng.IntN(len(dimensions[i].Levels))
		}
		if !p.space.Feasible(point) {
			continue
		}
		front.insert(member{slices.Clone(point), p.outcome(point)})
	}
	return front
}
