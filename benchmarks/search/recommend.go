package main

import (
	"fmt"
	"io"
	"math"

	"peftsearch/search"
)

// advice is a rule that picks a trial.
type advice struct {
	name string
	pick func(f *found) int64
}

// found is what a search has found.
type found struct {
	front     []search.Outcome // by the scores that the search saw
	reference search.Reference
	posterior *search.Posterior
	params    []int64 // of the trials
}

var advices = []advice{
	{"knee of the front", func(f *found) int64 { return knee(f.front, f.reference) }},
	{"highest score", func(f *found) int64 { return f.front[len(f.front)-1].Number }},
	{"highest expected score", func(f *found) int64 { return f.posterior.Recommend().Best }},
	{"smallest, as good with p ≥ 0.5", atLeast(0.5)},
	{"smallest, as good with p ≥ 0.1", atLeast(0.1)},
	{"smallest, as good with p ≥ 0.05", atLeast(0.05)},
	{"recommended: as good with p ≥ 0.2", func(f *found) int64 { return f.posterior.Recommend().Trial }},
}

// atLeast is the smallest plan that is as good as the best with a probability.
func atLeast(p float64) func(f *found) int64 {
	return func(f *found) int64 {
		best := f.posterior.Recommend().Best
		chosen := best
		for number := range f.params {
			asGood, ok := f.posterior.AsGood(int64(number), best)
			if ok && asGood >= p && f.params[number] < f.params[chosen] {
				chosen = int64(number)
			}
		}
		return chosen
	}
}

// recommend compares rules of picking a plan after searches by gp, by the true scores of what they pick, and how often
// plans are as good as the best that said so with some probability.
func recommend(problems []string, first, seeds, evaluations int, out io.Writer) error {
	fmt.Fprintln(out, "| problem | rule | behind the best trial | behind by more than the noise | parameters, of the "+
		"best trial's |\n|---|---|---|---|---|")
	const bins = 5
	var said, held [bins]float64
	for _, name := range problems {
		behind, noisy, sizes := make([][]float64, len(advices)), make([]float64, len(advices)),
			make([][]float64, len(advices))
		for seed := first; seed < first+seeds; seed++ {
			e, f, err := searched(name, seed, evaluations)
			if err != nil {
				return err
			}
			best := 0
			for i, o := range e.outcomes {
				if o.Score > e.outcomes[best].Score {
					best = i
				}
			}
			for i, a := range advices {
				picked := e.outcomes[a.pick(f)]
				loss := e.outcomes[best].Score - picked.Score
				behind[i] = append(behind[i], loss)
				sizes[i] = append(sizes[i], float64(picked.Params)/float64(e.outcomes[best].Params))
				if loss > e.noise {
					noisy[i] += 1 / float64(seeds)
				}
			}
			expected := f.posterior.Recommend().Best
			for i, o := range e.outcomes {
				p, ok := f.posterior.AsGood(int64(i), expected)
				if bin := min(int(p*bins), bins-1); ok && int64(i) != expected {
					said[bin]++
					if o.Score >= e.outcomes[expected].Score {
						held[bin]++
					}
				}
			}
		}
		for i, a := range advices {
			fmt.Fprintf(out, "| `%s` | %s | %s | %.0f %% | %s |\n", name, a.name, meanError(behind[i]), 100*noisy[i],
				meanError(sizes[i]))
		}
	}
	fmt.Fprintln(out, "\n| said to be as good as the best with probability | trials | it is |\n|---|---|---|")
	for bin := range bins {
		if said[bin] > 0 {
			fmt.Fprintf(out, "| %.1f to %.1f | %.0f | %.2f |\n", float64(bin)/bins, float64(bin+1)/bins, said[bin],
				held[bin]/said[bin])
		}
	}
	return nil
}

// searched plays a search by gp.
func searched(name string, seed, evaluations int) (*episode, *found, error) {
	e, err := newEpisode(name, seed)
	if err != nil {
		return nil, nil, err
	}
	history, err := e.play(search.Options{Seed: 1<<32 + uint64(seed), Sampler: "gp", Reference: e.reference}, evaluations)
	if err != nil {
		return nil, nil, err
	}
	f := &found{reference: e.reference}
	for _, o := range history.Observations() {
		f.front = append(f.front, search.Outcome{Number: o.Number, Params: o.Params, Score: o.Score})
		f.params = append(f.params, o.Params)
	}
	f.front = search.Front(f.front)
	f.posterior, err = search.NewPosterior(e.space, e.reference, history.Observations())
	return e, f, err
}

// knee is the front's member that lies farthest above the straight line between its ends, on the scales of the
// hypervolume; with fewer than three members it is the last.
func knee(front []search.Outcome, ref search.Reference) int64 {
	last := len(front) - 1
	at := func(o search.Outcome) (x, y float64) {
		return math.Log(max(1,
				float64(o.Params)/float64(ref.MinParams))) / math.Log(float64(ref.MaxParams)/float64(ref.MinParams)),
			(o.Score - ref.Chance) / (1 - ref.Chance)
	}
	x0, y0 := at(front[0])
	x1, y1 := at(front[last])
	best, farthest := front[last].Number, 0.0
	for _, o := range front[:last] {
		x, y := at(o)
		if above := (y-y0)*(x1-x0) - (x-x0)*(y1-y0); above > farthest {
			best, farthest = o.Number, above
		}
	}
	return best
}
