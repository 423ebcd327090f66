package search_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"

	"peftsearch/evaluator"
	"peftsearch/peft"
	"peftsearch/search"
	"peftsearch/space"
)

var (
	tiny     = peft.Geometry{Architecture: "bert", Layers: 2, Hidden: 128, FFN: 512, Heads: 2, BackboneParams: 4_000_000}
	training = evaluator.Training{LearningRate: 1e-3, Schedule: evaluator.ScheduleLinear, BatchSize: 32}
)

func newSpace(t testing.TB, config space.Config, g peft.Geometry) *space.Space {
	t.Helper()
	s, err := space.New(config, training, g)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// surface scores a plan like fine-tuning does: sizes help with falling returns, upper layers more than
// lower ones, and each layer only through its best method.
func surface(s *space.Space, p space.Point) float64 {
	c, _ := s.Candidate(p)
	score := 0.5
	for i, layer := range c.Plan.Layers {
		best := 0.0
		for _, module := range layer {
			best = max(best, module.Method().Gain(module.Size()))
		}
		depth := float64(i+1) / float64(len(c.Plan.Layers))
		score += 0.4 * best * 2 * depth / float64(len(c.Plan.Layers)+1)
	}
	return score
}

func options(s *space.Space, sampler string, seed uint64) search.Options {
	smallest, largest := s.ParamRange()
	return search.Options{Seed: seed, Sampler: sampler, Reference: search.Reference{Chance: 0.5, MinParams: smallest,
		MaxParams: largest}}
}

// ask is a suggestion after a history.
func ask(t testing.TB, o *search.Optimizer, s *space.Space, history []search.Observation,
	number int64) (search.Suggestion, error) {
	t.Helper()
	return o.Ask(newHistory(t, s, history), number)
}

func newHistory(t testing.TB, s *space.Space, trials []search.Observation) *search.History {
	t.Helper()
	h, err := search.NewHistory(s, trials)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// extend asks for trials and scores them until the history has n. Every fifth is pruned, and what was forecast
// would have come true.
func extend(t testing.TB, s *space.Space, opts search.Options, history []search.Observation,
	n int) []search.Observation {
	t.Helper()
	o, err := search.NewOptimizer(s, opts)
	if err != nil {
		t.Fatal(err)
	}
	known := newHistory(t, s, history)
	for len(history) < n {
		number := int64(len(history))
		suggestion, err := o.Ask(known, number)
		if err != nil {
			t.Fatal(err)
		}
		o := search.Observation{Number: number, Point: suggestion.Point,
			Params: s.Params(suggestion.Point), State: search.Complete, Score: surface(s, suggestion.Point)}
		if number%5 == 4 {
			o.State, o.SD = search.Pruned, 0.02
		}
		set(t, known, o)
		history = append(history, o)
	}
	return history
}

func outcomes(history []search.Observation) []search.Outcome {
	out := make([]search.Outcome, len(history))
	for i, o := range history {
		out[i] = search.Outcome{Number: o.Number, Params: o.Params, Score: o.Score}
	}
	return out
}

func eachSampler(t *testing.T, test func(t *testing.T, sampler string)) {
	for _, sampler := range search.Samplers() {
		t.Run(sampler, func(t *testing.T) { test(t, sampler) })
	}
}

func TestInterruptedAndUninterruptedSearchesAreEqual(t *testing.T) {
	s := newSpace(t, space.Config{LearningRate: []float64{1e-4, 1e-3}, Schedule: evaluator.Schedules}, tiny)
	eachSampler(t, func(t *testing.T, sampler string) {
		whole := extend(t, s, options(s, sampler, 7), nil, 50)
		half := extend(t, s, options(s, sampler, 7), nil, 25)
		rand.New(rand.NewPCG(1, 1)).Shuffle(len(half), func(i, j int) { half[i], half[j] = half[j], half[i] })
		if resumed := extend(t, s, options(s, sampler, 7), half, 50); !reflect.DeepEqual(resumed[25:], whole[25:]) {
			t.Error("25 + 25 trials differ from 50")
		}
		if other := extend(t, s, options(s, sampler, 8), nil, 50); reflect.DeepEqual(other, whole) {
			t.Error("another seed gives the same search")
		}
	})
}

func TestEveryLevelIsReached(t *testing.T) {
	s := newSpace(t, space.Config{Preset: space.PresetAutoPEFT, LearningRate: []float64{1e-4, 1e-3},
		Schedule: evaluator.Schedules}, tiny)
	eachSampler(t, func(t *testing.T, sampler string) {
		seen := make([]map[int]bool, len(s.Dimensions()))
		for i := range seen {
			seen[i] = map[int]bool{}
		}
		for seed := range uint64(16) {
			for _, o := range extend(t, s, options(s, sampler, seed), nil, 15) {
				for i, level := range o.Point {
					seen[i][level] = true
				}
			}
		}
		for i, d := range s.Dimensions() {
			if len(seen[i]) != len(d.Levels) {
				t.Errorf("%s: only %d of %d levels", d.Name, len(seen[i]), len(d.Levels))
			}
		}
	})
}

func TestSmallSpacesAreExhaustedWithoutRepeats(t *testing.T) {
	s := newSpace(t, space.Config{Sizes: space.Sizes{"serial": []int{0, 4}, "parallel": []int{},
		"prefix": []int{0, 1, 2}}, LoRA: space.LoRAConfig{Ranks: []int{}}}, tiny)
	const plans = 2*3*2*3 - 1
	eachSampler(t, func(t *testing.T, sampler string) {
		history := extend(t, s, options(s, sampler, 1), nil, plans)
		keys := map[string]bool{}
		for _, o := range history {
			keys[s.Key(o.Point)] = true
		}
		if len(keys) != plans {
			t.Errorf("%d different plans of %d", len(keys), plans)
		}
		o, _ := search.NewOptimizer(s, options(s, sampler, 1))
		if _, err := ask(t, o, s, history, plans); !errors.Is(err, search.ErrExhausted) {
			t.Errorf("the space is exhausted, but Ask says %v", err)
		}
	})
}

// What is excluded is not proposed, as if there were a trial; samplers learn nothing from it.
func TestExcludedCandidatesAreNotProposed(t *testing.T) {
	s := newSpace(t, space.Config{Sizes: space.Sizes{"serial": []int{0, 4}, "parallel": []int{},
		"prefix": []int{0, 1, 2}}, LoRA: space.LoRAConfig{Ranks: []int{}}}, tiny)
	eachSampler(t, func(t *testing.T, sampler string) {
		o, err := search.NewOptimizer(s, options(s, sampler, 1))
		if err != nil {
			t.Fatal(err)
		}
		history, excluded := newHistory(t, s, nil), map[string]bool{}
		for {
			suggestion, err := o.Ask(history, 0)
			if errors.Is(err, search.ErrExhausted) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			key := s.Key(suggestion.Point)
			if excluded[key] {
				t.Fatalf("%v is proposed again", suggestion.Point)
			}
			excluded[key] = true
			if err := history.Exclude(suggestion.Point); err != nil {
				t.Fatal(err)
			}
		}
		if len(excluded) != 2*3*2*3-1 || len(history.Observations()) != 0 {
			t.Errorf("%d plans, and %d trials", len(excluded), len(history.Observations()))
		}
		if err := history.Exclude(space.Point{9}); !errors.Is(err, search.ErrDamagedHistory) {
			t.Errorf("the error is %v", err)
		}
	})
}

// A huge space in which max_params leaves few plans, which random draws hardly ever hit, ends when all were tried.
func TestFewFeasiblePlansOfAHugeSpaceAreAllFound(t *testing.T) {
	for maxParams, plans := range map[int64]int{
		3000: 12,                     // a prefix of 1
		4000: 12 + 12*11/2 + 12 + 12, // a prefix of 1 or 2, two prefixes of 1, a rank of 1
	} {
		s := newSpace(t, space.Config{MaxParams: maxParams}, bertBase)
		for _, sampler := range []string{"random", "tpe", "nsga2", "gp"} {
			if sampler == "gp" && plans > 12 && testing.Short() {
				continue
			}
			history := extend(t, s, options(s, sampler, 1), nil, plans)
			o, _ := search.NewOptimizer(s, options(s, sampler, 1))
			if _, err := ask(t, o, s, history, int64(plans)); !errors.Is(err, search.ErrExhausted) {
				t.Errorf("max_params %d, %s: after %d plans Ask says %v", maxParams, sampler, plans, err)
			}
		}
	}
}

func TestMaxParamsThatLeavesOnePlan(t *testing.T) {
	s := newSpace(t, space.Config{Sizes: space.Sizes{"serial": []int{0, 4, 8}, "parallel": []int{},
		"prefix": []int{0, 1}}, LoRA: space.LoRAConfig{Ranks: []int{}},
		Preset: space.PresetGroups, Groups: 1, MaxParams: 2 * 2 * 128}, tiny)
	eachSampler(t, func(t *testing.T, sampler string) {
		history := extend(t, s, options(s, sampler, 1), nil, 1)
		if history[0].Params != 512 {
			t.Errorf("%d parameters, the only plan has 512", history[0].Params)
		}
	})
}

func TestOddHistories(t *testing.T) {
	s := newSpace(t, space.Config{}, tiny)
	eachSampler(t, func(t *testing.T, sampler string) {
		opts := options(s, sampler, 3)
		opts.Initial = 1
		o, err := search.NewOptimizer(s, opts)
		if err != nil {
			t.Fatal(err)
		}
		base := extend(t, s, options(s, "random", 5), nil, 30)
		change := func(f func(*search.Observation)) []search.Observation {
			history := append([]search.Observation(nil), base...)
			for i := range history {
				f(&history[i])
			}
			return history
		}
		for name, history := range map[string][]search.Observation{
			"empty":                   nil,
			"one":                     base[:1],
			"all failed":              change(func(o *search.Observation) { o.State, o.Score = search.Failed, 0 }),
			"all running":             change(func(o *search.Observation) { o.State, o.Score = search.Running, 0 }),
			"all equal":               change(func(o *search.Observation) { o.Score = 0.5 }),
			"below chance":            change(func(o *search.Observation) { o.Score = -0.2 }),
			"plans outside the space": change(func(o *search.Observation) { o.Point = nil }),
		} {
			suggestion, err := ask(t, o, s, history, 99)
			if err != nil {
				t.Errorf("%s: %v", name, err)
			} else if !s.Feasible(suggestion.Point) || suggestion.Sampler == "" || suggestion.Reason == "" {
				t.Errorf("%s: %+v", name, suggestion)
			}
		}
		for name, f := range map[string]func(*search.Observation){
			"score NaN":   func(o *search.Observation) { o.Score = math.NaN() },
			"score +Inf":  func(o *search.Observation) { o.Score = math.Inf(1) },
			"SD NaN":      func(o *search.Observation) { o.State, o.SD = search.Pruned, math.NaN() },
			"SD negative": func(o *search.Observation) { o.State, o.SD = search.Pruned, -0.1 },
		} {
			if _, err := search.NewHistory(s, change(f)); !errors.Is(err, search.ErrDamagedHistory) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

func TestManyTrialsTakeBoundedTimeAndMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("slow")
	}
	s := newSpace(t, space.Config{}, peft.Geometry{Architecture: "bert", Layers: 12, Hidden: 768, FFN: 3072, Heads: 12,
		BackboneParams: 1e8})
	rng := rand.New(rand.NewPCG(1, 2))
	history := make([]search.Observation, 10_000)
	for i := range history {
		p := make(space.Point, len(s.Dimensions()))
		for d, dimension := range s.Dimensions() {
			p[d] = rng.IntN(len(dimension.Levels))
		}
		history[i] = search.Observation{Number: int64(i), Point: p, Params: s.Params(p), State: search.Complete,
			Score: surface(s, p)}
	}
	eachSampler(t, func(t *testing.T, sampler string) {
		o, err := search.NewOptimizer(s, options(s, sampler, 1))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ask(t, o, s, history, 10_000); err != nil {
			t.Fatal(err)
		}
	})
}

// The guided samplers must find clearly more than the stratified random one on a layered surface. Evolution
// takes longer than models to do so.
func TestGuidedSamplersBeatRandom(t *testing.T) {
	if testing.Short() {
		t.Skip("slow")
	}
	g := peft.Geometry{Architecture: "bert", Layers: 6, Hidden: 384, FFN: 1536, Heads: 12, BackboneParams: 2e7}
	s := newSpace(t, space.Config{}, g)
	const seeds = 3
	mean := func(sampler string, trials int) (volume float64) {
		for seed := range uint64(seeds) {
			opts := options(s, sampler, seed)
			volume += search.Hypervolume(outcomes(extend(t, s, opts, nil, trials)), opts.Reference) / seeds
		}
		t.Logf("%-6s hypervolume %.4f after %d trials", sampler, volume, trials)
		return volume
	}
	for _, c := range []struct {
		trials   int
		samplers []string
	}{{40, []string{"gp"}}, {80, []string{"tpe"}}, {300, []string{"nsga2"}}} {
		random := mean("random", c.trials)
		for _, sampler := range c.samplers {
			if volume := mean(sampler, c.trials); volume < random+0.01 {
				t.Errorf("%s reaches %.4f after %d trials, random %.4f", sampler, volume, c.trials, random)
			}
		}
	}
}

// With one objective and a limit, goptuna's estimator must find better scores than the stratified random
// draw.
func TestUnivariateFindsTheBestScoreWithinALimit(t *testing.T) {
	if testing.Short() {
		t.Skip("slow")
	}
	g := peft.Geometry{Architecture: "bert", Layers: 6, Hidden: 384, FFN: 1536, Heads: 12, BackboneParams: 2e7}
	s := newSpace(t, space.Config{MaxParams: 200_000}, g)
	const seeds, trials = 5, 80
	best := map[string]float64{}
	for _, sampler := range []string{"random", "tpe-univariate"} {
		for seed := range uint64(seeds) {
			highest := 0.0
			for _, o := range extend(t, s, options(s, sampler, seed), nil, trials) {
				highest = max(highest, o.Score)
				if o.Params > 200_000 {
					t.Fatalf("trial %d has %d parameters", o.Number, o.Params)
				}
			}
			best[sampler] += highest / seeds
		}
	}
	if best["tpe-univariate"] < best["random"]+0.005 {
		t.Errorf("best scores, means of %d seeds: %.4v", seeds, best)
	}
	t.Logf("best scores, means of %d seeds: %.4v", seeds, best)
}

// A study on a related task must save trials, and one on an unrelated task must do no more harm than chance.
func TestWarmStartHelpsOnRelatedTasksOnly(t *testing.T) {
	if testing.Short() {
		t.Skip("slow")
	}
	g := peft.Geometry{Architecture: "bert", Layers: 6, Hidden: 384, FFN: 1536, Heads: 12, BackboneParams: 2e7}
	s := newSpace(t, space.Config{}, g)
	const seeds, trials = 3, 24
	related := func(p space.Point, _ uint64) float64 { return 0.3 + 0.5*surface(s, p) }
	unrelated := func(p space.Point, seed uint64) float64 { // the sum of a random value of each level
		sum := 0.0
		for d, level := range p {
			sum += rand.New(rand.NewPCG(seed, uint64(100*d+level))).Float64()
		}
		return sum / float64(len(p))
	}
	volume := func(task func(space.Point, uint64) float64) (mean float64) {
		for seed := range uint64(seeds) {
			opts := options(s, "gp", seed)
			opts.Initial = 6
			if task != nil {
				prior := extend(t, s, options(s, "tpe", seed+100), nil, 60)
				for i := range prior {
					prior[i].Score = task(prior[i].Point, seed)
				}
				opts.Prior = [][]search.Observation{prior}
			}
			mean += search.Hypervolume(outcomes(extend(t, s, opts, nil, trials)), opts.Reference) / seeds
		}
		return mean
	}
	cold, warm, misled := volume(nil), volume(related), volume(unrelated)
	t.Logf("hypervolume after %d trials: cold %.4f, after a related task %.4f, after an unrelated one %.4f", trials,
		cold, warm, misled)
	if warm < cold+0.01 {
		t.Errorf("the related task helps too little: %.4f, without it %.4f", warm, cold)
	}
	if misled < cold-0.02 {
		t.Errorf("the unrelated task harms: %.4f, without it %.4f", misled, cold)
	}
}

// BenchmarkAsk is the time of a suggestion in a space of 48 dimensions. Of tpe-univariate the longest history takes
// most of a minute.
func BenchmarkAsk(b *testing.B) {
	s := newSpace(b, space.Config{}, bertBase)
	trials := scattered(s, 100_000)
	for _, n := range []int{100, 300, 1000, 10_000, 100_000} {
		history := newHistory(b, s, trials[:n])
		for _, sampler := range search.Samplers() {
			b.Run(fmt.Sprintf("%s/%d", sampler, n), func(b *testing.B) {
				o, err := search.NewOptimizer(s, options(s, sampler, 1))
				if err != nil {
					b.Fatal(err)
				}
				for number := int64(n); b.Loop(); number++ {
					if _, err := o.Ask(history, number); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkTrial is what a trial costs a search with the random sampler: the suggestion, and telling the history that
// it runs and how it ended.
func BenchmarkTrial(b *testing.B) {
	s := newSpace(b, space.Config{}, bertBase)
	trials := scattered(s, 100_000)
	for _, n := range []int{1000, 10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			history := newHistory(b, s, trials[:n])
			o, err := search.NewOptimizer(s, options(s, "random", 1))
			if err != nil {
				b.Fatal(err)
			}
			for number := int64(n); b.Loop(); number++ {
				suggestion, err := o.Ask(history, number)
				if err != nil {
					b.Fatal(err)
				}
				trial := search.Observation{Number: number, Point: suggestion.Point, Params: s.Params(suggestion.Point)}
				set(b, history, trial)
				trial.State, trial.Score = search.Complete, surface(s, trial.Point)
				set(b, history, trial)
			}
		})
	}
}

func TestUnknownSamplerIsRefused(t *testing.T) {
	s := newSpace(t, space.Config{}, tiny)
	if _, err := search.NewOptimizer(s, search.Options{Sampler: "bayes"}); err == nil {
		t.Error("sampler bayes is accepted")
	}
}
