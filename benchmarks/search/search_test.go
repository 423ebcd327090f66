package main

import (
	"bytes"
	"encoding/json"
	"math"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"gonum.org/v1/gonum/stat"

	"peftsearch/search"
	"peftsearch/space"
)

// An archive is the front of what was inserted, in its order.
func TestArchive(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var a archive
		var all []search.Outcome
		for number := range int64(30) {
			o := search.Outcome{Number: number, Params: 1 + rng.Int64N(12), Score: float64(rng.IntN(10))}
			all = append(all, o)
			a.insert(member{Outcome: o})
		}
		front := search.Front(all)
		if len(front) != len(a) {
			t.Fatalf("%d members, the front has %d", len(a), len(front))
		}
		for i, o := range front {
			if a[i].Outcome != o {
				t.Errorf("member %d is %+v, of the front %+v", i, a[i].Outcome, o)
			}
		}
	}
}

// What another program is told is what our samplers see, and another seed sees other noise.
func TestServe(t *testing.T) {
	for _, problem := range problemNames() {
		e, err := newEpisode(problem, 3)
		if err != nil {
			t.Fatal(err)
		}
		other, err := newEpisode(problem, 3+instances) // the same instance
		if err != nil {
			t.Fatal(err)
		}
		initial, err := e.initial()
		if err != nil {
			t.Fatal(err)
		}
		var in, out bytes.Buffer
		encoder := json.NewEncoder(&in)
		for _, p := range initial[:3] {
			encoder.Encode(map[string]space.Point{"evaluate": p})
		}
		encoder.Encode(map[string][]space.Point{"cost": initial})
		if err := serve(problem, 3, &in, &out); err == nil || err.Error() != "EOF" {
			t.Fatalf("%s: %v", problem, err)
		}
		decoder := json.NewDecoder(strings.NewReader(out.String()))
		var greeting struct{ Initial []space.Point }
		if err := decoder.Decode(&greeting); err != nil || len(greeting.Initial) != sharedSize {
			t.Fatalf("%s: %d points, %v", problem, len(greeting.Initial), err)
		}
		for _, p := range initial[:3] {
			var answer struct{ Score, Cost float64 }
			if err := decoder.Decode(&answer); err != nil {
				t.Fatal(err)
			}
			if score := e.evaluate(p); answer.Score != score || answer.Cost != e.cost(p) {
				t.Errorf("%s: served %+v, here %g and %g", problem, answer, score, e.cost(p))
			}
			if other.evaluate(p) == answer.Score {
				t.Errorf("%s: two seeds have the same noise", problem)
			}
		}
		var costs []float64
		if err := decoder.Decode(&costs); err != nil || len(costs) != len(initial) || costs[0] != e.cost(initial[0]) {
			t.Errorf("%s: costs %v, %v", problem, costs, err)
		}
	}
}

// stratified is a problem and points of all costs.
func stratified(t *testing.T, name string) (*problem, []space.Point) {
	t.Helper()
	e, err := newEpisode(name, 0)
	if err != nil {
		t.Fatal(err)
	}
	points, err := e.initial()
	if err != nil {
		t.Fatal(err)
	}
	return e.problem, points
}

// The scaled cost is the one of the hypervolume: a perfect score at cost c dominates 1 - c.
func TestCost(t *testing.T) {
	p, points := stratified(t, "layered")
	for _, point := range points {
		o := search.Outcome{Params: p.space.Params(point), Score: 1}
		want := 1 - p.cost(point)
		if got := search.Hypervolume([]search.Outcome{o}, p.reference); !(got-want < 1e-12 && want-got < 1e-12) {
			t.Errorf("%d parameters: %g, want %g", o.Params, got, want)
		}
	}
}

// The curves of a recorded task rise to scores around those without noise, which err as the recorded trainings did.
func TestCurves(t *testing.T) {
	for _, name := range []string{"captions-minilm", "stsb-tiny", "titles-tiny"} {
		p, points := stratified(t, name)
		rng := rand.New(rand.NewPCG(1, 2))
		var errs []float64
		for _, point := range points {
			for range 50 {
				curve := p.curve(point, rng)
				for i := 1; i < len(curve); i++ {
					if curve[i].Share <= curve[i-1].Share || curve[i].Score < curve[i-1].Score {
						t.Fatalf("%s: a curve %v", name, curve)
					}
				}
				errs = append(errs, curve[len(curve)-1].Score-p.score(point))
			}
		}
		if mean, sd := stat.MeanStdDev(errs, nil); math.Abs(mean) > 0.03 || sd < 0.7*p.noise || sd > 1.7*p.noise {
			t.Errorf("%s: curves end at %.3f ± %.3f from the score, seeds of a plan differ by %.3f", name, mean, sd, p.noise)
		}
	}
}

// A pruned search has more trials of the same training, and is the same when it is run again.
func TestPruned(t *testing.T) {
	const trainings = 25
	play := func(problem, pruner string) (Run, error) {
		return runPruned(Run{Problem: problem, Arm: ours + "random", Pruner: pruner, Seed: 1, Evaluations: trainings})
	}
	without, err := play("titles-tiny", prunerNone)
	if err != nil {
		t.Fatal(err)
	}
	if without.Trials != trainings || without.Stopped != 0 {
		t.Errorf("without pruning: %d trials, %d stopped", without.Trials, without.Stopped)
	}
	with, err := play("titles-tiny", prunerFront)
	if err != nil {
		t.Fatal(err)
	}
	if with.Trials <= trainings || with.Stopped == 0 || with.Trials-with.Stopped > trainings {
		t.Errorf("with pruning: %d trials, %d stopped", with.Trials, with.Stopped)
	}
	again, err := play("titles-tiny", prunerFront)
	if err != nil || !reflect.DeepEqual(with, again) {
		t.Errorf("once %+v, then %+v, %v", with, again, err)
	}
	if _, err := play("layered", prunerFront); err == nil {
		t.Error("a synthetic problem has curves")
	}
}

// What is in the file is not run again, with another pruner it is another run.
func TestRunMissing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "runs.jsonl")
	planned := plan([]string{"a", "b"}, []string{"gp"}, 0, 2, 50, Run{Pruner: prunerNone}, Run{Pruner: prunerFront})
	for _, c := range []struct {
		planned []Run
		played  int
	}{{planned[:3], 3}, {planned, 5}, {planned, 0}} {
		played := 0
		err := runMissing(path, c.planned, func(r Run) (Run, error) {
			played++
			return r, nil
		})
		if err != nil || played != c.played {
			t.Errorf("%d runs of %d, %v; want %d", played, len(c.planned), err, c.played)
		}
	}
}

// A search by many workers on the simulated clock is the same again: nothing in it follows the machine's.
func TestCrowdsAreRepeatable(t *testing.T) {
	r := crowdRun{Problem: "stsb-tiny", Sampler: "gp", Workers: 8, Trials: 60, Ahead: 2, Seconds: 1}
	first, err := runCrowd(r)
	if err != nil {
		t.Fatal(err)
	}
	second, err := runCrowd(r)
	if err != nil || !reflect.DeepEqual(first, second) {
		t.Errorf("%v:\n%+v\n%+v", err, first, second)
	}
	if first.Waited == 0 || first.Volumes["50"] == 0 || first.AtHours["32"] < first.Volumes["50"] {
		t.Errorf("%+v", first)
	}
}
