package search_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"peftsearch/search"
)

var rungs = []float64{0.1, 0.2, 0.4, 0.6, 0.8, 1}

// simulate makes trials whose scores grow with size, saturate at different speeds and are noisy.
func simulate(seed uint64, n int) []search.Observation {
	rng := rand.New(rand.NewPCG(seed, 0))
	trials := make([]search.Observation, n)
	for i := range trials {
		size := rng.Float64() // from 1,000 to 1,000,000 parameters
		params := int64(1000 * math.Pow(1000, size))
		final := 0.6 + 0.2*size + 0.08*rng.NormFloat64()
		speed := 3 + 2*rng.Float64()
		o := search.Observation{Number: int64(i), Params: params, State: search.Complete, Score: math.Inf(-1)}
		for _, share := range rungs {
			score := final - (final-0.4)*math.Exp(-speed*share) + 0.004*rng.NormFloat64()
			o.Curve = append(o.Curve, search.Rung{Share: share, Score: score})
			o.Score = max(o.Score, score)
		}
		trials[i] = o
	}
	return trials
}

// at is the trial while it stands at its rung.
func at(trial search.Observation, rung int) search.Observation {
	trial.State, trial.Score, trial.Curve = search.Running, 0, trial.Curve[:rung+1]
	return trial
}

func TestPruningSavesTrainingAndKeepsTheFront(t *testing.T) {
	pruner := search.FrontPruner{Risk: 0.05}
	ref := search.Reference{Chance: 0.4, MinParams: 1000, MaxParams: 1_000_000}
	var used, total, wrong, stopped, whole, pruned float64
	const seeds, trials = 20, 100
	for seed := range uint64(seeds) {
		all := simulate(seed, trials)
		var history []search.Observation
		var kept []search.Outcome
		for _, trial := range all {
			total++
			for i, share := range rungs {
				verdict, forecast := pruner.Decide(at(trial, i), history)
				if verdict.Stop {
					used, stopped = used+share, stopped+1
					enters := !slices.ContainsFunc(history, func(o search.Observation) bool {
						return o.State == search.Complete && o.Params <= trial.Params && o.Score >= trial.Score
					})
					if enters {
						wrong++
					}
					trial.State, trial.Score, trial.Curve = search.Pruned, forecast.Score, trial.Curve[:i+1]
					break
				}
			}
			if trial.State == search.Complete {
				used++
				kept = append(kept, search.Outcome{Number: trial.Number, Params: trial.Params, Score: trial.Score})
			}
			history = append(history, trial)
		}
		whole += search.Hypervolume(outcomes(all), ref) / seeds
		pruned += search.Hypervolume(kept, ref) / seeds
	}
	t.Logf("%.0f%% of the training used, %.0f of %.0f trials stopped, %.0f of them wrongly; hypervolume %.4f, unpruned %.4f",
		100*used/total, stopped, total, wrong, pruned, whole)
	if used > total/2 {
		t.Errorf("%.0f%% of the training is used", 100*used/total)
	}
	if wrong > 0.02*stopped {
		t.Errorf("%.0f of %.0f stopped trials would have entered the front", wrong, stopped)
	}
	if pruned < 0.99*whole {
		t.Errorf("hypervolume %.4f, without pruning %.4f", pruned, whole)
	}
}

func TestForecastsAreHonest(t *testing.T) {
	pruner := search.FrontPruner{Risk: 0.05}
	var inside, all float64
	for seed := range uint64(20) {
		trials := simulate(seed, 60)
		for _, trial := range trials[30:] {
			_, forecast := pruner.Decide(at(trial, 1), trials[:30])
			all++
			if math.Abs(trial.Score-forecast.Score) < 1.7*forecast.SD { // 90 % of Student's t with 27 degrees
				inside++
			}
		}
	}
	if share := inside / all; share < 0.85 || share > 0.95 {
		t.Errorf("%.1f%% of the final scores lie in the 90%% interval", 100*share)
	}
}

func TestWhenNothingIsStopped(t *testing.T) {
	pruner := search.FrontPruner{Risk: 0.05}
	history := simulate(1, 40)
	weak := search.Observation{Number: 99, Params: 500_000, State: search.Running,
		Curve: []search.Rung{{Share: 0.1, Score: 0.4}, {Share: 0.2, Score: 0.4}}}
	verdict, _ := pruner.Decide(weak, history)
	if !verdict.Stop || !strings.Contains(verdict.Reason, "score 0.4000 after 20% of the budget; by the curves of 40 complete trials") {
		t.Fatalf("a hopeless trial: %+v", verdict)
	}
	reversed := slices.Clone(history)
	slices.Reverse(reversed)
	if again, _ := pruner.Decide(weak, reversed); again != verdict {
		t.Errorf("the order of the history matters: %q, %q", verdict.Reason, again.Reason)
	}
	change := func(f func(*search.Observation)) search.Observation {
		trial := weak
		trial.Curve = slices.Clone(weak.Curve)
		f(&trial)
		return trial
	}
	for name, c := range map[string]struct {
		trial   search.Observation
		history []search.Observation
	}{
		"few complete trials":            {weak, history[:7]},
		"smaller than every trial":       {change(func(o *search.Observation) { o.Params = 10 }), history},
		"best at its size already":       {change(func(o *search.Observation) { o.Curve[1].Score = 0.99 }), history},
		"at the end":                     {change(func(o *search.Observation) { o.Curve[1].Share = 1 }), history},
		"a rung that no other trial has": {change(func(o *search.Observation) { o.Curve[1].Share = 0.3 }), history},
		"before the first rung":          {change(func(o *search.Observation) { o.Curve = nil }), history},
	} {
		if verdict, _ := pruner.Decide(c.trial, c.history); verdict.Stop {
			t.Errorf("%s: stopped, %s", name, verdict.Reason)
		}
	}
}
