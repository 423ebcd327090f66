package search_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"testing"

	"peftsearch/evaluator"
	"peftsearch/peft"
	"peftsearch/search"
	"peftsearch/space"
)

// A suggestion is a function of seed, number and history, in every version of the program: a study that goes on with
// a later one proposes what it would have proposed. testdata/asks.json and testdata/decisions.json were recorded at
// 748ce4b. Other processors round other last digits.
var update = flag.Bool("update", false, "record testdata anew")

func golden[T any](t *testing.T, file string, got T) (want T) {
	t.Helper()
	if runtime.GOARCH != "amd64" {
		t.Skip("recorded on amd64")
	}
	if *update {
		data, err := json.MarshalIndent(got, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, append(data, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &want); err != nil {
		t.Fatal(err)
	}
	return want
}

// digits writes a point with one character for each level.
func digits(p space.Point) string {
	var b strings.Builder
	for _, level := range p {
		b.WriteByte("0123456789abcdefghijklmnopqrstuvwxyz"[level])
	}
	return b.String()
}

var (
	miniLM = peft.Geometry{Architecture: "bert", Layers: 6, Hidden: 384, FFN: 1536, Heads: 12,
		BackboneParams: 22_565_376}
	bertBase = peft.Geometry{Architecture: "bert", Layers: 12, Hidden: 768, FFN: 3072, Heads: 12,
		BackboneParams: 108_891_648}
)

func goldenSpaces(t testing.TB) map[string]*space.Space {
	return map[string]*space.Space{
		"mixed": newSpace(t, space.Config{LearningRate: []float64{1e-4, 3e-4, 1e-3}, Schedule: evaluator.Schedules}, tiny),
		"groups": newSpace(t, space.Config{Preset: space.PresetGroups, Groups: 2, MaxParams: 200_000,
			LoRA: space.LoRAConfig{Targets: peft.Targets}}, miniLM),
		"autopeft": newSpace(t, space.Config{Preset: space.PresetAutoPEFT,
			LoRA: space.LoRAConfig{Ranks: []int{0, 1, 2, 4, 8}}}, bertBase),
		"per-layer": newSpace(t, space.Config{}, miniLM),
		"without 0": newSpace(t, space.Config{Sizes: space.Sizes{"serial": []int{24, 48, 96}, "parallel": []int{},
			"prefix": []int{0, 5, 10}}}, miniLM),
	}
}

// played asks for n trials, each while the one before it is running. Some fail, some are pruned, and some plans are
// not of the space.
func played(t *testing.T, s *space.Space, opts search.Options, n int) []string {
	t.Helper()
	o, err := search.NewOptimizer(s, opts)
	if err != nil {
		t.Fatal(err)
	}
	history := newHistory(t, s, nil)
	var running search.Observation
	var asked []string
	for number := range int64(n) {
		suggestion, err := o.Ask(history, number)
		if err != nil {
			t.Fatal(err)
		}
		asked = append(asked, digits(suggestion.Point)+" "+suggestion.Sampler)
		if number > 0 {
			set(t, history, finished(s, running))
		}
		running = search.Observation{Number: number, Point: suggestion.Point, Params: s.Params(suggestion.Point)}
		if number%11 == 10 {
			running.Point = nil
		}
		set(t, history, running)
	}
	return asked
}

func finished(s *space.Space, o search.Observation) search.Observation {
	switch {
	case o.Number%7 == 3:
		o.State = search.Failed
	case o.Point == nil:
		o.State, o.Score = search.Complete, 0.6
	case o.Number%5 == 4:
		o.State, o.Score, o.SD = search.Pruned, surface(s, o.Point), 0.02
	default:
		o.State, o.Score = search.Complete, surface(s, o.Point)
	}
	return o
}

func set(t testing.TB, history *search.History, o search.Observation) {
	t.Helper()
	if err := history.Set(o); err != nil {
		t.Fatal(err)
	}
}

// scattered are n finished trials at random points of every density, with noise.
func scattered(s *space.Space, n int) []search.Observation {
	rng := rand.New(rand.NewPCG(1, 2))
	history := make([]search.Observation, n)
	for i := range history {
		p := make(space.Point, len(s.Dimensions()))
		density := rng.Float64()
		for d, dimension := range s.Dimensions() {
			if rng.Float64() < density {
				p[d] = rng.IntN(len(dimension.Levels))
			}
		}
		history[i] = search.Observation{Number: int64(i), Point: p, Params: s.Params(p), State: search.Complete,
			Score: surface(s, p) + 0.02*rng.NormFloat64()}
		if i%9 == 5 {
			history[i].State, history[i].SD = search.Pruned, 0.01
		}
	}
	return history
}

func TestSuggestionsAreThoseOfEarlierVersions(t *testing.T) {
	if testing.Short() {
		t.Skip("slow")
	}
	got := map[string][]string{}
	for name, s := range goldenSpaces(t) {
		for _, sampler := range search.Samplers() {
			opts := options(s, sampler, 11)
			opts.Initial = 8
			if name == "without 0" {
				opts.Reference.MinParams = 1536
			}
			n := 40
			if sampler == "auto" { // that of gp, and of tpe where a suggestion takes longer than a training
				n, opts.TrialSeconds = 24, 0.02
			}
			got[name+" "+sampler] = played(t, s, opts, n)
		}
	}

	s := goldenSpaces(t)["per-layer"]
	warm := options(s, "gp", 3)
	warm.Prior = [][]search.Observation{scattered(s, 320)}
	for i := range warm.Prior[0] {
		warm.Prior[0][i].Score = 0.3 + 0.5*warm.Prior[0][i].Score
	}
	got["warm gp"] = played(t, s, warm, 20)

	many := scattered(s, 5000)
	for _, sampler := range search.Samplers() {
		o, err := search.NewOptimizer(s, options(s, sampler, 5))
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{500, 5000} {
			if sampler == "tpe-univariate" {
				n /= 10
			}
			suggestion, err := ask(t, o, s, many[:n], int64(n))
			if err != nil {
				t.Fatal(err)
			}
			key := fmt.Sprintf("many %s", sampler)
			got[key] = append(got[key], digits(suggestion.Point)+" "+suggestion.Sampler)
		}
	}

	want := golden(t, "testdata/asks.json", got)
	if len(got) != len(want) {
		t.Errorf("%d searches, %d are recorded", len(got), len(want))
	}
	for name := range want {
		for i := range want[name] {
			if i >= len(got[name]) || got[name][i] != want[name][i] {
				t.Errorf("%s: trial %d is %v, recorded is %s", name, i, got[name][min(i, len(got[name])):], want[name][i])
				break
			}
		}
	}
}

// decided is one decision of the pruner.
type decided struct {
	Number int64
	Rung   int
	Score  float64
	SD     float64
	Stop   string `json:",omitempty"` // the reason
}

func TestDecisionsAreThoseOfEarlierVersions(t *testing.T) {
	pruner := newPruner(t)
	var got []decided
	for seed := range uint64(2) {
		var history []search.Observation
		for _, trial := range simulate(pruner.Space, seed, 60) {
			switch trial.Number % 13 {
			case 5:
				trial.Point = nil
			case 7:
				trial.State = search.Failed
			}
			for i := range rungs {
				verdict, forecast := decide(pruner, at(trial, i), history)
				if forecast != (search.Forecast{}) {
					got = append(got, decided{trial.Number, i, forecast.Score, forecast.SD, verdict.Reason})
				}
				if verdict.Stop {
					trial.State, trial.Score, trial.SD, trial.Curve = search.Pruned, forecast.Score, forecast.SD, trial.Curve[:i+1]
					break
				}
			}
			history = append(history, trial)
		}
	}
	want := golden(t, "testdata/decisions.json", got)
	for i := range want {
		if i >= len(got) || got[i] != want[i] {
			t.Fatalf("decision %d is %+v, recorded is %+v", i, got[i:min(i+1, len(got))], want[i])
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d decisions, %d are recorded", len(got), len(want))
	}
}
