package main

import (
	"fmt"
	"io"
	"strconv"

	"peftsearch/search"
)

// raceShares are the shares of the trainings that go to plans which were trained before.
var raceShares = []float64{0, 0.15, 0.3, 0.45}

// race compares searches by gp that spend a share of their trainings on plans which were trained before, by the true
// scores of what they recommend.
func race(problems []string, first, seeds, trainings int, out io.Writer) error {
	fmt.Fprintln(out, "| problem | share | true score of the recommended | more than with none | of the best by "+
		"expectation | more than with none | parameters, of those with none | trainings again |\n"+
		"|---|---|---|---|---|---|---|---|")
	for _, name := range problems {
		var none []raced
		for _, share := range raceShares {
			var scores, gains, bests, bestGains, sizes, again []float64
			for seed := first; seed < first+seeds; seed++ {
				r, err := raceOnce(name, seed, trainings, share)
				if err != nil {
					return err
				}
				if share == 0 {
					none = append(none, r)
				}
				with := none[seed-first]
				scores, gains = append(scores, r.recommended.Score), append(gains, r.recommended.Score-with.recommended.Score)
				bests, bestGains = append(bests, r.best.Score), append(bestGains, r.best.Score-with.best.Score)
				sizes = append(sizes, float64(r.recommended.Params)/float64(with.recommended.Params))
				again = append(again, float64(r.again))
			}
			fmt.Fprintf(out, "| `%s` | %g | %s | %s | %s | %s | %s | %s |\n", name, share, meanError(scores), meanError(gains),
				meanError(bests), meanError(bestGains), meanError(sizes), meanError(again))
		}
	}
	return nil
}

// raced is what a search recommends, without noise, and how many of its trainings were of plans trained before.
type raced struct {
	recommended, best search.Outcome
	again             int
}

func raceOnce(name string, seed, trainings int, share float64) (r raced, err error) {
	e, err := newEpisode(name, seed)
	if err != nil {
		return r, err
	}
	optimizer, err := search.NewOptimizer(e.space, search.Options{Seed: 1<<32 + uint64(seed), Sampler: "gp",
		Reference: e.reference})
	if err != nil {
		return r, err
	}
	history, err := search.NewHistory(e.space, nil)
	if err != nil {
		return r, err
	}
	var trials []search.Observation
	for spent := range trainings {
		if search.Racing(float64(spent)/float64(trainings), share) {
			p, err := search.NewPosterior(e.space, e.reference, trials)
			if err != nil {
				return r, err
			}
			if number, ok := p.Contender(func(int64) bool { return false }); ok {
				o := trials[number].Again(e.again(trials[number].Point, max(1, trials[number].Trainings)))
				trials[number] = o
				if err := history.Set(o); err != nil {
					return r, err
				}
				r.again++
				continue
			}
		}
		number := int64(len(trials))
		suggestion, err := optimizer.Ask(history, number)
		if err != nil {
			return r, err
		}
		o := search.Observation{Number: number, Point: suggestion.Point, Params: e.space.Params(suggestion.Point),
			State: search.Complete, Score: e.evaluate(suggestion.Point)}
		trials = append(trials, o)
		if err := history.Set(o); err != nil {
			return r, err
		}
	}
	p, err := search.NewPosterior(e.space, e.reference, trials)
	if err != nil {
		return r, err
	}
	choice := p.Recommend()
	r.recommended, r.best = e.outcomes[choice.Trial], e.outcomes[choice.Best]
	return r, nil
}

// again scores a point that was evaluated before with other noise.
func (e *episode) again(point []int, training int) float64 {
	return e.outcome(point).Score + e.noise*keyed(e.seed, e.space.Key(point)+"|"+strconv.Itoa(training)).NormFloat64()
}
