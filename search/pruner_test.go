package search_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"peftsearch/evaluator"
	"peftsearch/search"
	"peftsearch/space"
)

var rungs = []float64{0.1, 0.2, 0.4, 0.6, 0.8, 1}

func newPruner(t testing.TB) search.FrontPruner {
	s := newSpace(t, space.Config{}, tiny)
	return search.FrontPruner{Space: s, Reference: search.Reference{Chance: 0.4, MinParams: 256, MaxParams: 90_000},
		Growth: search.DefaultGrowth}
}

// simulate makes trials of all sizes whose scores grow with the size, saturate at different speeds and are noisy.
func simulate(s *space.Space, seed uint64, n int) []search.Observation {
	rng := rand.New(rand.NewPCG(seed, 0))
	trials := make([]search.Observation, n)
	for i := range trials {
		point := make(space.Point, len(s.Dimensions()))
		most := rng.IntN(len(point)) // all sizes of the smallest plans and the largest ones
		for range 1 + most {
			point[rng.IntN(len(point))] = 1 + rng.IntN(min(most+1, 6))
		}
		params := s.Params(point)
		final := 0.6 + 0.2*math.Log(float64(params)/256)/math.Log(90_000./256) + 0.08*rng.NormFloat64()
		speed := 3 + 2*rng.Float64()
		o := search.Observation{Number: int64(i), Point: point, Params: params, State: search.Complete, Score: math.Inf(-1)}
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

// decide asks about a trial at its last rung.
func decide(pruner search.Pruner, trial search.Observation, history []search.Observation) (evaluator.Verdict,
	search.Forecast) {
	share := 0.1
	if len(trial.Curve) > 0 {
		share = trial.Curve[len(trial.Curve)-1].Share
	}
	return pruner.Outlook(history, share).Decide(trial)
}

// prune plays trials in their order and stops them where the pruner says so.
func prune(pruner search.Pruner, all []search.Observation) (history []search.Observation, used float64) {
	for _, trial := range all {
		for i, share := range rungs {
			if verdict, forecast := decide(pruner, at(trial, i), history); verdict.Stop {
				used += share
				trial.State, trial.Score, trial.SD, trial.Curve = search.Pruned, forecast.Score, forecast.SD, trial.Curve[:i+1]
				break
			}
		}
		if trial.State == search.Complete {
			used++
		}
		history = append(history, trial)
	}
	return history, used
}

func complete(o search.Observation) bool { return o.State == search.Complete }

func TestPruningSavesTrainingAndKeepsTheFront(t *testing.T) {
	if testing.Short() {
		t.Skip("slow")
	}
	const seeds, trials = 20, 100
	for _, c := range []struct{ growth, kept float64 }{{search.DefaultGrowth / 2, 0.99}, {search.DefaultGrowth, 0.98}} {
		pruner := newPruner(t)
		pruner.Growth = c.growth
		var spent, whole, pruned float64
		for seed := range uint64(seeds) {
			all := simulate(pruner.Space, seed, trials)
			history, used := prune(pruner, all)
			spent += used / trials / seeds
			whole += search.Hypervolume(outcomes(all), pruner.Reference) / seeds
			pruned += search.Hypervolume(outcomes(slices.DeleteFunc(history,
				func(o search.Observation) bool { return !complete(o) })), pruner.Reference) / seeds
		}
		t.Logf("growth %g: %.0f%% of the training used; hypervolume %.4f, unpruned %.4f", c.growth, 100*spent, pruned, whole)
		if spent > 0.35 {
			t.Errorf("growth %g: %.0f%% of the training is used", c.growth, 100*spent)
		}
		if pruned < c.kept*whole {
			t.Errorf("growth %g: hypervolume %.4f, without pruning %.4f", c.growth, pruned, whole)
		}
	}
}

// late stops nothing at the first two rungs.
type late struct{ search.Pruner }

func (l late) Outlook(history []search.Observation, share float64) search.Outlook {
	if share <= rungs[1] {
		history = nil
	}
	return l.Pruner.Outlook(history, share)
}

// Trials that were stopped later take part in the forecast: complete ones alone are those that did well.
func TestStoppedTrialsCount(t *testing.T) {
	if testing.Short() {
		t.Skip("slow")
	}
	pruner := newPruner(t)
	const seeds = 4
	var with, without float64
	for seed := range uint64(seeds) {
		all := simulate(pruner.Space, seed, 110)
		history, _ := prune(late{pruner}, all[:60])
		chosen := slices.DeleteFunc(slices.Clone(history), func(o search.Observation) bool { return !complete(o) })
		for _, trial := range all[60:] {
			_, forecast := decide(pruner, at(trial, 0), history)
			_, selected := decide(pruner, at(trial, 0), chosen)
			with, without = with+(forecast.Score-trial.Score)/50/seeds, without+(selected.Score-trial.Score)/50/seeds
		}
	}
	t.Logf("forecasts are %.4f too high, from complete trials alone %.4f", with, without)
	if math.Abs(with) > 0.6*without {
		t.Errorf("forecasts are %.4f too high, from complete trials alone %.4f", with, without)
	}
}

// Where early scores say nothing, the forecast follows from the plan, and is the less sure the farther that is from
// the others.
func TestForecastKnowsPlans(t *testing.T) {
	pruner := newPruner(t)
	rng := rand.New(rand.NewPCG(1, 0))
	var history []search.Observation
	for i := range 40 {
		point := make(space.Point, 8)
		point[0], point[1] = rng.IntN(7), (1+rng.IntN(6))*(i%2)
		score := 0.5 + 0.02*rng.NormFloat64()
		if point[1] > 0 {
			score += 0.3
		}
		history = append(history, search.Observation{Number: int64(i), Point: point, Params: pruner.Space.Params(point),
			State: search.Complete, Score: score,
			Curve: []search.Rung{{Share: 0.1, Score: 0.4 + 0.02*rng.NormFloat64()}, {Share: 1, Score: score}}})
	}
	forecast := func(point space.Point) search.Forecast {
		_, forecast := decide(pruner, search.Observation{Number: 40, Point: point, Params: pruner.Space.Params(point),
			Curve: []search.Rung{{Share: 0.1, Score: 0.4}}}, history)
		return forecast
	}
	for _, c := range []struct {
		point space.Point
		score float64
	}{{space.Point{3, 6, 0, 0, 0, 0, 0, 0}, 0.8}, {space.Point{3, 1, 0, 0, 0, 0, 0, 0}, 0.8},
		{space.Point{3, 0, 0, 0, 0, 0, 0, 0}, 0.5}} {
		if f := forecast(c.point); math.Abs(f.Score-c.score) > 0.05 {
			t.Errorf("%v is predicted to end at %.3f, want %.2f", c.point, f.Score, c.score)
		}
	}
	near, far := forecast(space.Point{3, 4, 0, 0, 0, 0, 0, 0}), forecast(space.Point{6, 6, 6, 6, 6, 6, 6, 6})
	if far.SD < 1.2*near.SD {
		t.Errorf("a plan like the others is forecast to ± %.3f, one unlike all of them to ± %.3f", near.SD, far.SD)
	}
}

// Half of the hypervolume's n-th part for a whole training, of which 90 % are left.
func TestLessIsAskedAsTheSearchGoesOn(t *testing.T) {
	pruner := newPruner(t)
	all := simulate(pruner.Space, 1, 100)
	for n, asked := range map[int]string{25: "less than the 1.8% that is asked",
		100: "less than the 0.45% that is asked"} {
		hopeless := search.Observation{Number: 100, Point: all[0].Point, Params: 85_000,
			Curve: []search.Rung{{Share: 0.1, Score: 0.1}}}
		if verdict, _ := decide(pruner, hopeless, all[:n]); !verdict.Stop || !strings.Contains(verdict.Reason, asked) {
			t.Errorf("after %d trials: %v %q, want %q", n, verdict.Stop, verdict.Reason, asked)
		}
	}
}

func TestForecastsAreHonest(t *testing.T) {
	if testing.Short() {
		t.Skip("slow")
	}
	pruner := newPruner(t)
	var inside, all float64
	for seed := range uint64(20) {
		trials := simulate(pruner.Space, seed, 60)
		for _, trial := range trials[30:] {
			_, forecast := decide(pruner, at(trial, 1), trials[:30])
			all++
			if math.Abs(trial.Score-forecast.Score) < 1.64*forecast.SD { // 90 % of Student's t with 30 degrees
				inside++
			}
		}
	}
	if share := inside / all; share < 0.85 || share > 0.95 {
		t.Errorf("%.1f%% of the final scores lie in the 90%% interval", 100*share)
	}
}

func TestWhenNothingIsStopped(t *testing.T) {
	pruner := newPruner(t)
	history := simulate(pruner.Space, 1, 40)
	for i := range history {
		history[i].Point = slices.Clone(history[i].Point)
		history[i].Point[7] = 0
	}
	weak := search.Observation{Number: 99, Point: history[3].Point, Params: 50_000, State: search.Running,
		Curve: []search.Rung{{Share: 0.1, Score: 0.45}, {Share: 0.2, Score: 0.45}}}
	verdict, _ := decide(pruner, weak, history)
	if !verdict.Stop || !strings.Contains(verdict.Reason,
		"score 0.4500 after 20% of the budget; by the plans and curves of 40 trials") {
		t.Fatalf("a hopeless trial: %+v", verdict)
	}
	reversed := slices.Clone(history)
	slices.Reverse(reversed)
	if again, _ := decide(pruner, weak, reversed); again != verdict {
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
		"few trials":               {weak, history[:5]},
		"outside the space":        {change(func(o *search.Observation) { o.Point = nil }), history},
		"smaller than every trial": {change(func(o *search.Observation) { o.Params = 10 }), history},
		"a module that no other trial has": {change(func(o *search.Observation) {
			o.Point = space.Point{1, 0, 0, 0, 0, 0, 0,
				1}
		}), history},
		"best at its size already":       {change(func(o *search.Observation) { o.Curve[1].Score = 0.99 }), history},
		"at the end":                     {change(func(o *search.Observation) { o.Curve[1].Share = 1 }), history},
		"a rung that no other trial has": {change(func(o *search.Observation) { o.Curve[1].Share = 0.3 }), history},
		"before the first rung":          {change(func(o *search.Observation) { o.Curve = nil }), history},
	} {
		if verdict, _ := decide(pruner, c.trial, c.history); verdict.Stop {
			t.Errorf("%s: stopped, %s", name, verdict.Reason)
		}
	}
}

// After a dozen trials of a size that were stopped, one goes on, and those of other sizes do not count.
func TestStoppedTrialsAreChecked(t *testing.T) {
	pruner := newPruner(t)
	history := simulate(pruner.Space, 1, 40)
	weak := search.Observation{Number: 99, Point: history[3].Point, Params: 50_000,
		Curve: []search.Rung{{Share: 0.1, Score: 0.1}}}
	for stopped := range 13 {
		for _, c := range []struct {
			params int64
			stop   bool
		}{{50_000, stopped < 12}, {45_000, stopped < 12}, {20_000, true}} {
			weak.Params = c.params
			if verdict, _ := decide(pruner, weak, history); verdict.Stop != c.stop {
				t.Errorf("after %d trials with 50,000 parameters were stopped, one with %d: stopped %v", stopped, c.params,
					verdict.Stop)
			}
		}
		history = append(history, search.Observation{Number: int64(40 + stopped), Point: history[3].Point, Params: 50_000,
			State: search.Pruned, Score: 0.5, SD: 0.1, Curve: weak.Curve})
	}
}

// An outlook may be asked by several workers at once, and says the same however often it is asked.
func TestOutlooksAreSafeForConcurrentUse(t *testing.T) {
	pruner := newPruner(t)
	all := simulate(pruner.Space, 3, 40)
	outlook := pruner.Outlook(all[:30], 0.1)
	type judgement struct {
		verdict  evaluator.Verdict
		forecast search.Forecast
	}
	judge := func() (out []judgement) {
		for _, trial := range all[30:] {
			verdict, forecast := outlook.Decide(at(trial, 0))
			out = append(out, judgement{verdict, forecast})
		}
		return out
	}
	want := judge()
	var workers sync.WaitGroup
	for range 4 {
		workers.Go(func() {
			if !slices.Equal(judge(), want) {
				t.Error("verdicts differ")
			}
		})
	}
	workers.Wait()
}

// Trials of another space say nothing, and are not stopped.
func TestPrunerLeavesForeignPointsOut(t *testing.T) {
	pruner := newPruner(t)
	history := simulate(pruner.Space, 1, 40)
	weak := search.Observation{Number: 99, Point: history[3].Point, Params: 50_000,
		Curve: []search.Rung{{Share: 0.1, Score: 0.1}}}
	foreign := []space.Point{{1}, {1, 2, 3, 4, 5, 6, 6, 6, 6}, {99, 0, 0, 0, 0, 0, 0, 0}, {-1, 0, 0, 0, 0, 0, 0, 0}, {}}
	with := slices.Clone(history)
	for i, point := range foreign {
		with = append(with, search.Observation{Number: int64(1000 + i), Point: point, State: search.Complete, Score: 0.3,
			Curve: history[0].Curve},
			search.Observation{Number: int64(2000 + i), Point: point, State: search.Pruned, Score: 0.3})
		weak := weak
		weak.Point = point
		if verdict, _ := decide(pruner, weak, history); verdict.Stop {
			t.Errorf("a trial at %v is stopped: %s", point, verdict.Reason)
		}
	}
	if verdict, _ := decide(pruner, weak, with); !strings.Contains(verdict.Reason, "curves of 40 trials") {
		t.Errorf("with foreign points in the history: %q", verdict.Reason)
	}
}

// BenchmarkPruner is the time of what a rung waits for, beside that of what can be ready before.
func BenchmarkPruner(b *testing.B) {
	s := newSpace(b, space.Config{}, bertBase)
	smallest, largest := s.ParamRange()
	pruner := search.FrontPruner{Space: s, Growth: search.DefaultGrowth,
		Reference: search.Reference{Chance: 0.4, MinParams: smallest, MaxParams: largest}}
	for _, n := range []int{50, 200, 10_000} {
		history := simulate(s, 1, n+1)
		trial := at(history[n], 2)
		b.Run(fmt.Sprintf("outlook/%d", n), func(b *testing.B) {
			for b.Loop() {
				pruner.Outlook(history[:n], rungs[2])
			}
		})
		outlook := pruner.Outlook(history[:n], rungs[2])
		b.Run(fmt.Sprintf("decide/%d", n), func(b *testing.B) {
			for b.Loop() {
				outlook.Decide(trial)
			}
		})
	}
}
