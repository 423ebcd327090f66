package main

import (
	"fmt"
	"io"

	"peftsearch/search"
	"peftsearch/space"
)

// timed compares searches by gp that look for the largest improvement a second with those that look for that of a
// training, by what both have found after the time of so many trainings of the average plan.
func timed(problems []string, first, seeds, trainings int, out io.Writer) error {
	fmt.Fprintln(out, "| problem | looks for | trials | share of the best known hypervolume | more than by training |\n"+
		"|---|---|---|---|---|")
	for _, name := range problems {
		best, err := bestKnown(name)
		if err != nil {
			return err
		}
		var before []float64
		for _, perSecond := range []bool{false, true} {
			var shares, gains, trials []float64
			for seed := first; seed < first+seeds; seed++ {
				e, err := newEpisode(name, seed)
				if err != nil {
					return err
				}
				n, err := e.playFor(float64(trainings), perSecond)
				if err != nil {
					return err
				}
				share := search.Hypervolume(e.outcomes, e.reference) / best
				if !perSecond {
					before = append(before, share)
				}
				shares, trials = append(shares, share), append(trials, float64(n))
				gains = append(gains, share-before[seed-first])
			}
			what := "training"
			if perSecond {
				what = "second"
			}
			fmt.Fprintf(out, "| `%s` | %s | %s | %s | %s |\n", name, what, meanError(trials), meanError(shares),
				meanError(gains))
		}
	}
	return nil
}

// playFor lets gp play until a time is used, and counts its trials.
func (e *episode) playFor(seconds float64, perSecond bool) (trials int64, err error) {
	optimizer, err := search.NewOptimizer(e.space, search.Options{Seed: 1<<32 + uint64(e.seed), Sampler: "gp",
		Reference: e.reference, PerSecond: perSecond})
	if err != nil {
		return 0, err
	}
	history, err := search.NewHistory(e.space, nil)
	if err != nil {
		return 0, err
	}
	for ; ; trials++ {
		suggestion, err := optimizer.Ask(history, trials)
		if err != nil {
			return trials, err
		}
		took := duration(e.space, suggestion.Point)
		if seconds -= took; seconds < 0 {
			return trials, nil
		}
		if err := history.Set(search.Observation{Number: trials, Point: suggestion.Point,
			Params: e.space.Params(suggestion.Point), State: search.Complete, Score: e.evaluate(suggestion.Point),
			Seconds: took}); err != nil {
			return trials, err
		}
	}
}

// duration is what a training takes: 1 for one that goes through all layers, a quarter for the last layer alone of
// many. Frozen layers below the lowest module are computed once for all trials.
func duration(s *space.Space, p space.Point) float64 {
	layers := s.Geometry().Layers
	lowest, _ := s.Reach(p)
	return 0.25 + 0.75*float64(layers-lowest)/float64(layers)
}
