package space_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"peftsearch/evaluator"
	"peftsearch/peft"
	"peftsearch/space"
)

var (
	miniLM = peft.Geometry{Architecture: "bert", Layers: 6, Hidden: 384, FFN: 1536, Heads: 12, BackboneParams: 22_565_376}
	base   = peft.Geometry{Architecture: "bert", Layers: 12, Hidden: 768, FFN: 3072, Heads: 12,
		BackboneParams: 108_891_648}
)

var training = evaluator.Training{LearningRate: 1e-3, Schedule: evaluator.ScheduleLinear, BatchSize: 32}

func configs() map[string]space.Config {
	return map[string]space.Config{
		"per-layer": {},
		"groups": {Preset: space.PresetGroups, Groups: 4, LearningRate: []float64{1e-4, 1e-3},
			Schedule: evaluator.Schedules},
		"autopeft": {Preset: space.PresetAutoPEFT},
		"autopeft with lora": {Preset: space.PresetAutoPEFT,
			LoRA: space.LoRAConfig{Ranks: []int{0, 1, 2, 4, 8, 16, 32, 64}, Targets: peft.Targets, Scale: 2}},
		"styles": {Preset: space.PresetGroups, Groups: 2, Sizes: space.Sizes{"prompt": []int{0, 3}, "houlsby": []int{0, 2}},
			Gates: []peft.Method{"serial", "lora"}, NonLinearity: []peft.NonLinearity{"own", "gelu", "relu"},
			Scale: []space.Scale{"own", "learned", "2"}, Schedule: evaluator.Schedules},
		"gates of each layer": {Sizes: space.Sizes{"prompt": []int{0, 3}, "houlsby": []int{0, 2, 3}},
			Gates: []peft.Method{"serial", "prefix", "lora", "houlsby"}, GatesPer: space.GatesPerLayer,
			Scale: []space.Scale{"own", "learned"}},
		"autopeft with gates": {Preset: space.PresetAutoPEFT, Gates: []peft.Method{"prefix"}},
		"compacter": {Methods: []peft.Method{"compacter", "serial"}, Gates: []peft.Method{"compacter"},
			GatesPer: space.GatesPerLayer, Scale: []space.Scale{"own", "learned"}},
		"compacter, autopeft":      {Preset: space.PresetAutoPEFT, Sizes: space.Sizes{"compacter": []int{0, 8, 24}}},
		"compacter in every layer": {Methods: []peft.Method{"lora"}, Sizes: space.Sizes{"compacter": []int{8, 24}}},
		"one method": {Sizes: space.Sizes{"serial": []int{}, "parallel": []int{}, "prefix": []int{}},
			LoRA: space.LoRAConfig{Ranks: []int{0, 4}}, MaxParams: 20_000},
	}
}

func drawPoint(t *rapid.T, s *space.Space) space.Point {
	p := make(space.Point, len(s.Dimensions()))
	for i, d := range s.Dimensions() {
		p[i] = rapid.IntRange(0, len(d.Levels)-1).Draw(t, d.Name)
	}
	return p
}

func TestPointsAndCandidatesRoundTrip(t *testing.T) {
	for name, config := range configs() {
		t.Run(name, func(t *testing.T) {
			s, err := space.New(config, training, miniLM)
			if err != nil {
				t.Fatal(err)
			}
			rapid.Check(t, func(t *rapid.T) {
				p := drawPoint(t, s)
				c, err := s.Candidate(p)
				if err != nil {
					t.Fatal(err)
				}
				if err := c.Plan.Validate(miniLM); err != nil {
					t.Fatal(err)
				}
				count := c.Plan.Params(miniLM).Total()
				if s.Params(p) != count {
					t.Fatalf("Params is %d, the plan has %d", s.Params(p), count)
				}
				smallest, largest := s.ParamRange()
				if s.Feasible(p) && (count < smallest || count > largest) {
					t.Fatalf("%d parameters outside [%d, %d]", count, smallest, largest)
				}
				back, err := s.Point(c)
				if err != nil {
					t.Fatal(err)
				}
				if s.Key(back) != s.Key(p) {
					t.Fatalf("%v came back as %v", p, back)
				}
			})
		})
	}
}

func TestKeyIsEqualExactlyForEqualCandidates(t *testing.T) {
	none := []int{}
	for _, config := range []space.Config{
		{Preset: space.PresetAutoPEFT, LearningRate: []float64{1e-4, 1e-3},
			Sizes: space.Sizes{"serial": []int{0, 3}, "parallel": []int{0, 3}, "prefix": none}},
		{Preset: space.PresetGroups, Groups: 1, LoRA: space.LoRAConfig{Ranks: none},
			Sizes: space.Sizes{"serial": []int{0, 3}, "parallel": none, "prefix": []int{0, 2}, "prompt": []int{0, 1}},
			Gates: []peft.Method{"serial", "prefix"}, NonLinearity: []peft.NonLinearity{"own", "relu"},
			Scale: []space.Scale{"own", "learned", "1"}},
		{Preset: space.PresetGroups, Groups: 1, LoRA: space.LoRAConfig{Ranks: none},
			Sizes: space.Sizes{"serial": []int{0, 3}, "parallel": none, "prefix": []int{2}},
			Gates: []peft.Method{"serial", "prefix"}, GatesPer: space.GatesPerLayer},
	} {
		s, err := space.New(config, training, miniLM)
		if err != nil {
			t.Fatal(err)
		}
		rapid.Check(t, func(t *rapid.T) {
			p, q := drawPoint(t, s), drawPoint(t, s)
			a, _ := s.Candidate(p)
			b, _ := s.Candidate(q)
			same := a.Plan.Key() == b.Plan.Key() && a.Training == b.Training
			if (s.Key(p) == s.Key(q)) != same {
				t.Fatalf("keys of %v and %v, equal candidates %v", p, q, same)
			}
		})
	}
}

// small are spaces whose points can be listed.
func small() map[string]space.Config {
	none := []int{}
	noLoRA := space.LoRAConfig{Ranks: none}
	return map[string]space.Config{
		"per-layer": {Sizes: space.Sizes{"serial": []int{0, 2, 5}, "parallel": none, "prefix": []int{0, 1, 40}},
			LoRA: noLoRA},
		"with a bound": {Sizes: space.Sizes{"serial": []int{0, 2, 5}, "parallel": none, "prefix": []int{0, 1, 40}},
			LoRA: noLoRA, MaxParams: 15_000},
		"gates, scales": {Preset: space.PresetGroups, Groups: 2, LoRA: noLoRA,
			Sizes: space.Sizes{"serial": []int{0, 3}, "parallel": none, "prefix": []int{0, 4}, "prompt": []int{0, 2}},
			Gates: []peft.Method{"serial", "prefix"}, NonLinearity: []peft.NonLinearity{"own", "gelu"},
			Scale: []space.Scale{"own", "learned"}},
		"gates of each layer": {Preset: space.PresetGroups, Groups: 2, LoRA: noLoRA,
			Sizes: space.Sizes{"serial": []int{0, 3, 4}, "parallel": none, "prefix": []int{0, 1, 2}},
			Gates: []peft.Method{"serial", "prefix"}, GatesPer: space.GatesPerLayer},
		"compacter": {Preset: space.PresetGroups, Groups: 2, LoRA: noLoRA,
			Sizes: space.Sizes{"serial": []int{0, 1}, "parallel": none, "prefix": []int{0, 1}, "compacter": []int{0, 4, 8}}},
		"compacter alone": {Preset: space.PresetGroups, Groups: 3, LoRA: noLoRA, Scale: []space.Scale{"own", "learned"},
			Sizes: space.Sizes{"serial": none, "parallel": none, "prefix": none, "compacter": []int{0, 4, 8}}},
		"compacter, no 0": {Preset: space.PresetGroups, Groups: 2, LoRA: noLoRA,
			Sizes: space.Sizes{"serial": []int{0, 1}, "parallel": none, "prefix": none, "compacter": []int{4, 8}}},
		"compacter, bits": {Preset: space.PresetAutoPEFT,
			Sizes: space.Sizes{"serial": []int{0, 1}, "parallel": none, "prefix": none, "compacter": []int{0, 4}}},
		"without 0": {Sizes: space.Sizes{"serial": []int{3, 9}, "parallel": none, "prefix": []int{0, 4}},
			LoRA: space.LoRAConfig{Ranks: []int{2}}},
		"rates, schedules": {Preset: space.PresetGroups, Groups: 2,
			Sizes: space.Sizes{"serial": []int{0, 3}, "parallel": []int{0, 3, 4}, "prefix": none}, LoRA: noLoRA,
			LearningRate: []float64{1e-4, 1e-3}, Schedule: evaluator.Schedules},
		"autopeft": {Preset: space.PresetAutoPEFT, Sizes: space.Sizes{"serial": []int{0, 1, 1, 3},
			"parallel": none, "prefix": []int{0, 8}}, LearningRate: []float64{1e-4, 1e-3}},
		"autopeft, bound": {Preset: space.PresetAutoPEFT, Sizes: space.Sizes{"serial": []int{0, 1, 1, 3},
			"parallel": none, "prefix": []int{0, 8}}, MaxParams: 3000},
		"autopeft, no 0": {Preset: space.PresetAutoPEFT, Sizes: space.Sizes{"serial": []int{2, 3}, "parallel": none,
			"prefix": []int{0, 8}}},
		"every layer alike": {Preset: space.PresetGroups, Groups: 1,
			Sizes: space.Sizes{"serial": none, "parallel": none, "prefix": []int{7}}, LoRA: noLoRA},
	}
}

var three = peft.Geometry{Architecture: "bert", Layers: 3, Hidden: 128, FFN: 512, Heads: 2, BackboneParams: 4_000_000}

// every lists all points.
func every(s *space.Space) (points []space.Point) {
	p := make(space.Point, len(s.Dimensions()))
	for {
		points = append(points, slices.Clone(p))
		d := 0
		for ; d < len(p); d++ {
			if p[d]++; p[d] < len(s.Dimensions()[d].Levels) {
				break
			}
			p[d] = 0
		}
		if d == len(p) {
			return points
		}
	}
}

func TestAscendingIsEveryFeasiblePointBySize(t *testing.T) {
	for name, config := range small() {
		s, err := space.New(config, training, three)
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]int{}
		for _, p := range every(s) {
			if s.Feasible(p) {
				want[fmt.Sprint(p)]++
			}
		}
		before, count := int64(0), 0
		for p := range s.Ascending() {
			if params := s.Params(p); params < before {
				t.Fatalf("%s: %v with %d parameters after %d", name, p, params, before)
			} else {
				before = params
			}
			count++
			if want[fmt.Sprint(p)]--; want[fmt.Sprint(p)] != 0 {
				t.Fatalf("%s: %v is infeasible, or comes twice", name, p)
			}
		}
		if count != len(want) || count == 0 {
			t.Errorf("%s: %d points of %d", name, count, len(want))
		}
	}
}

func TestAscendingBeginsWhereTheSpaceIsHuge(t *testing.T) {
	for name, config := range map[string]space.Config{"per-layer": {}, "autopeft": {Preset: space.PresetAutoPEFT}} {
		g := base
		g.Layers = 48
		s, err := space.New(config, training, g)
		if err != nil {
			t.Fatal(err)
		}
		keys, before := map[string]bool{}, int64(0)
		for p := range s.Ascending() {
			if s.Params(p) < before {
				t.Fatalf("%s: %d parameters after %d", name, s.Params(p), before)
			}
			before = s.Params(p)
			if keys[s.Key(p)] = true; len(keys) == 3000 {
				break
			}
		}
		if smallest, _ := s.ParamRange(); len(keys) != 3000 || before < smallest {
			t.Errorf("%s: %d candidates", name, len(keys))
		}
	}
}

func TestParamRangeIsThatOfTheFeasiblePlans(t *testing.T) {
	for name, config := range small() {
		s, err := space.New(config, training, three)
		if err != nil {
			t.Fatal(err)
		}
		var smallest, largest int64
		for _, p := range every(s) {
			if params := s.Params(p); s.Feasible(p) {
				if largest = max(largest, params); smallest == 0 || params < smallest {
					smallest = params
				}
			}
		}
		if config.MaxParams > 0 {
			largest = config.MaxParams
		}
		if a, b := s.ParamRange(); a != smallest || b != largest {
			t.Errorf("%s: range %d to %d, by counting %d to %d", name, a, b, smallest, largest)
		}
	}
}

func TestAutoPEFTIsThePapersSpace(t *testing.T) {
	s, err := space.New(space.Config{Preset: space.PresetAutoPEFT}, training, base)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Size().String(); got != "5451776" { // 11³·2¹²
		t.Errorf("%s points, the paper has 5,451,776", got)
	}
	want := "0 1 3 6 12 24 48 96 192 384 768"
	for _, d := range s.Dimensions()[:3] {
		if got := strings.Join(d.Levels, " "); got != want {
			t.Errorf("%s has levels %s, want %s", d.Name, got, want)
		}
	}
	if n := len(s.Dimensions()); n != 15 {
		t.Errorf("%d dimensions, want 15", n)
	}
}

func TestGroupsCoverTheLayers(t *testing.T) {
	s, err := space.New(space.Config{Preset: space.PresetGroups, Groups: 4}, training, miniLM)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, d := range s.Dimensions() {
		if name, ok := strings.CutSuffix(d.Name, ".lora"); ok {
			names = append(names, name)
		}
	}
	if got := strings.Join(names, " "); got != "layers.0-1 layers.2 layers.3-4 layers.5" {
		t.Errorf("bands %s", got)
	}
}

func TestPointRefusesWhatTheSpaceCannotExpress(t *testing.T) {
	s, err := space.New(space.Config{}, training, miniLM)
	if err != nil {
		t.Fatal(err)
	}
	plan := peft.Plan{Layers: make([]peft.Layer, miniLM.Layers)}
	plan.Layers[2] = peft.Layer{peft.Serial{Width: 7}}
	if _, err := s.Point(evaluator.Candidate{Plan: plan, Training: training}); !errors.Is(err, space.ErrOutside) {
		t.Errorf("width 7: %v", err)
	}
	plan.Layers[2] = peft.Layer{peft.LoRA{Rank: 8, Alpha: 16, Targets: []peft.Target{peft.TargetQuery, peft.TargetValue}}}
	if _, err := s.Point(evaluator.Candidate{Plan: plan, Training: training}); !errors.Is(err, space.ErrOutside) {
		t.Errorf("alpha 16: %v", err)
	}
}

func TestMistakesAreReportedTogetherWithTheirKeys(t *testing.T) {
	_, err := space.New(space.Config{Sizes: space.Sizes{"serial": []int{0, 8, 4}, "prefix": []int{-1}}, MaxParams: -5,
		LearningRate: []float64{2}, Schedule: []evaluator.Schedule{"step"},
		LoRA: space.LoRAConfig{Targets: []peft.Target{"pooler"}}}, training, miniLM)
	for _, key := range []string{"space.serial", "space.prefix", "space.max_params", "space.learning_rate",
		"space.schedule", "space.lora.targets"} {
		if err == nil || !strings.Contains(err.Error(), key+": ") {
			t.Errorf("no word about %s in: %v", key, err)
		}
	}
	for words, config := range map[string]space.Config{
		"10: the smallest plan of the space has 768 parameters": {MaxParams: 10},
		"20000: the smallest plan of the space has 113040 parameters": { // a serial adapter of 24 in each of 6 layers
			Sizes: space.Sizes{"serial": []int{24, 48}, "parallel": []int{}, "prefix": []int{}},
			LoRA:  space.LoRAConfig{Ranks: []int{}}, MaxParams: 20_000},
	} {
		if _, err := space.New(config, training, miniLM); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("max_params below the smallest plan: %v, want %q", err, words)
		}
	}
}

func TestConfigSaysWhatTheSpaceLooksAt(t *testing.T) {
	of := func(c space.Config) space.Config {
		s, err := space.New(c, training, miniLM)
		if err != nil {
			t.Fatal(err)
		}
		return s.Config()
	}
	full := of(space.Config{})
	if full.Preset != space.PresetPerLayer || full.Sizes["serial"] == nil || full.LoRA.Scale != 1 ||
		len(full.LoRA.Targets) != 2 || full.Groups != 0 {
		t.Errorf("defaults: %+v", full)
	}
	if diff := cmp.Diff(full, of(full)); diff != "" {
		t.Errorf("a resolved configuration is another:\n%s", diff)
	}
	if diff := cmp.Diff(full, of(space.Config{Groups: 2})); diff != "" {
		t.Errorf("groups count without the preset groups:\n%s", diff)
	}
	one := of(space.Config{Methods: []peft.Method{peft.MethodLoRA}})
	if diff := cmp.Diff(one, of(one)); diff != "" || len(one.Sizes["serial"]) > 0 {
		t.Errorf("a resolved configuration of one method is another:\n%s", diff)
	}
	without := space.Config{LoRA: space.LoRAConfig{Ranks: []int{}}}
	scaled := without
	scaled.LoRA.Scale = 4
	if diff := cmp.Diff(of(without), of(scaled)); diff != "" {
		t.Errorf("the scale counts without ranks:\n%s", diff)
	}
}

// Whatever a study file says, it is refused with a key, or every point of the space stands for a plan that can be
// trained.
func TestOddConfigsAreRefusedOrWork(t *testing.T) {
	wild := rapid.OneOf(rapid.SampledFrom([]int{0, 1, 2, 40, 1024, 1536, 1537, 1 << 20, 1 << 62, -1}),
		rapid.IntRange(0, 50))
	list := func(t *rapid.T, name string, odd bool) []int {
		size := rapid.IntRange(0, 50)
		if odd {
			size = wild
		}
		sizes := rapid.SliceOfN(size, 0, 6).Draw(t, name)
		if !odd || rapid.Bool().Draw(t, "ascending") {
			slices.Sort(sizes)
			sizes = slices.Compact(sizes)
		}
		return sizes
	}
	rapid.Check(t, func(t *rapid.T) {
		odd := rapid.Bool().Draw(t, "odd")
		config := space.Config{Preset: rapid.SampledFrom(space.Presets).Draw(t, "preset"),
			Groups: rapid.IntRange(1, 6).Draw(t, "groups"),
			Sizes: space.Sizes{"serial": list(t, "serial", odd), "parallel": list(t, "parallel", odd),
				"prefix": list(t, "prefix", odd)},
			LoRA: space.LoRAConfig{Ranks: list(t, "ranks", odd), Scale: rapid.Float64Range(1e-6, 1e6).Draw(t, "scale")}}
		if odd {
			config.Preset = rapid.SampledFrom(append(space.Presets, "odd")).Draw(t, "odd preset")
			config.Groups = rapid.IntRange(-1, 8).Draw(t, "odd groups")
			config.LoRA.Scale = rapid.Float64().Draw(t, "odd scale")
			config.MaxParams = rapid.Int64().Draw(t, "max_params")
		} else {
			config.Sizes["serial"] = append(config.Sizes["serial"], 60)
		}
		s, err := space.New(config, training, miniLM)
		if err != nil {
			var keyed *space.KeyError
			if !odd || !errors.As(err, &keyed) {
				t.Fatalf("not odd, or an error without a key: %v", err)
			}
			return
		}
		smallest, largest := s.ParamRange()
		if smallest < 1 || largest < smallest {
			t.Fatalf("range %d to %d", smallest, largest)
		}
		p := drawPoint(t, s)
		c, err := s.Candidate(p)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Plan.Validate(miniLM); err != nil {
			t.Fatal(err)
		}
		if got, want := s.Params(p), c.Plan.Params(miniLM).Total(); got != want || got < 0 {
			t.Fatalf("%d parameters, the plan has %d", got, want)
		}
	})
}

func TestPointsOfOtherSpacesAreRefused(t *testing.T) {
	s, err := space.New(space.Config{}, training, miniLM)
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		p := space.Point(rapid.SliceOfN(rapid.IntRange(-2, 8), 22, 26).Draw(t, "point"))
		inside := len(p) == len(s.Dimensions())
		for i, level := range p {
			inside = inside && level >= 0 && level < len(s.Dimensions()[i].Levels)
		}
		if _, err := s.Candidate(p); (err == nil) != inside {
			t.Fatalf("%v: %v", p, err)
		}
	})
	inside := make(space.Point, len(s.Dimensions()))
	inside[1] = 7
	if err := s.Check(inside); err == nil || err.Error() != "level 7 of layers.0.parallel: must be between 0 and 6" {
		t.Errorf("level 7 of 7: %v", err)
	}
}

func TestLongListsAreRefused(t *testing.T) {
	for _, config := range []space.Config{{Sizes: space.Sizes{"serial": make([]int, 101)}},
		{LearningRate: make([]float64, 1e6)}, {Schedule: make([]evaluator.Schedule, 1e6)}} {
		if _, err := space.New(config, training, miniLM); err == nil || !strings.Contains(err.Error(), "at most 100") {
			t.Errorf("%v", err)
		}
	}
	g := miniLM
	g.Hidden = 1 << 40
	if _, err := space.New(space.Config{}, training, g); err == nil ||
		!strings.Contains(err.Error(), "hidden width 1099511627776") {
		t.Errorf("a hidden width of 2^40: %v", err)
	}
}

// What no layer of the backbone can have is refused under its key.
func TestNewRefusesMethodsOfOtherBackbones(t *testing.T) {
	decoder := peft.Geometry{Architecture: "gpt2", Layers: 2, Hidden: 32, FFN: 64, Heads: 4, BackboneParams: 1000}
	_, err := space.New(space.Config{Methods: []peft.Method{peft.MethodSerial, peft.MethodBitFit}}, evaluator.Training{},
		decoder)
	var key *space.KeyError
	if !errors.As(err, &key) || key.Key != "space.bitfit" || !strings.Contains(key.Error(), "encoders such as BERT") {
		t.Errorf("got %v", err)
	}
}

// Methods that change the same matrix are searched beside each other, and stand together in no feasible plan.
func TestMethodsThatCannotStandTogether(t *testing.T) {
	s, err := space.New(space.Config{Methods: []peft.Method{"serial", "lora", "dora", "vera"}}, training, miniLM)
	if err != nil {
		t.Fatal(err)
	}
	check := func(p space.Point) {
		t.Helper()
		c, err := s.Candidate(p)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Plan.Validate(miniLM); (err == nil) != s.Feasible(p) {
			t.Fatalf("%s: feasible is %t, and the plan: %v", c.Plan, s.Feasible(p), err)
		}
	}
	rng, feasible := rand.New(rand.NewPCG(1, 2)), 0
	for range 2000 {
		p := make(space.Point, len(s.Dimensions()))
		for i, d := range s.Dimensions() {
			p[i] = rng.IntN(len(d.Levels)) * rng.IntN(2)
		}
		if check(p); s.Feasible(p) {
			feasible++
		}
	}
	if feasible < 10 {
		t.Errorf("%d of 2000 points are feasible", feasible)
	}
	count := 0
	for p := range s.Ascending() {
		if check(p); !s.Feasible(p) {
			t.Fatalf("%v is not feasible", p)
		}
		if count++; count == 500 {
			break
		}
	}
}

// A space without a plan is refused: nobody would find one.
func TestMethodsThatAlwaysClash(t *testing.T) {
	_, err := space.New(space.Config{LoRA: space.LoRAConfig{Ranks: []int{4, 8}}, Methods: []peft.Method{"lora", "dora"},
		Sizes: space.Sizes{"dora": []int{4, 8}}}, training, miniLM)
	var key *space.KeyError
	if !errors.As(err, &key) || key.Key != "space.dora" || !strings.Contains(key.Error(), "replace one matrix") {
		t.Errorf("got %v", err)
	}
}

func TestStylesThatCannotBe(t *testing.T) {
	gpt2 := miniLM
	gpt2.Architecture = "gpt2"
	for words, test := range map[string]struct {
		config space.Config
		g      peft.Geometry
	}{
		"space.gates: layer 0: serial has a gate in a decoder: a gate is a mean over all tokens, the later ones included": {
			space.Config{Gates: []peft.Method{"serial"}}, gpt2},
		`space.gates: "vera"`:                             {space.Config{Gates: []peft.Method{"vera"}}, miniLM},
		`space.gates: "houlsby" is not among the methods`: {space.Config{Gates: []peft.Method{"houlsby"}}, miniLM},
		"space.compacter: layer 0: compacter width 6: must be a multiple of 4": {space.Config{
			Sizes: space.Sizes{"compacter": []int{0, 6, 8}}}, miniLM},
		`space.gates_per: "each": must be method or layer`: {space.Config{GatesPer: "each"}, miniLM},
		"space.gates_per: preset autopeft has one size per method": {space.Config{Preset: space.PresetAutoPEFT,
			GatesPer: space.GatesPerLayer}, miniLM},
		`space.gates: "lora" stands twice`: {space.Config{Gates: []peft.Method{"lora", "lora"}}, miniLM},
		`space.non_linearity: "mish"`: {space.Config{NonLinearity: []peft.NonLinearity{"mish"}},
			miniLM},
		`space.scale: "0": must be own, learned or a number`: {space.Config{Scale: []space.Scale{"0"}}, miniLM},
		"space.prompt: preset autopeft shares sizes among layers": {space.Config{Preset: space.PresetAutoPEFT,
			Sizes: space.Sizes{"prompt": []int{0, 5}}}, miniLM},
	} {
		if _, err := space.New(test.config, training, test.g); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: the error is %v", words, err)
		}
	}
	if _, err := space.New(space.Config{}, training, gpt2); err != nil {
		t.Error(err)
	}
}

// The layers of a decoder that reads an encoder have modules at that attention too, and count them.
func TestSpaceOfAnEncoderAndADecoder(t *testing.T) {
	g := peft.Geometry{Architecture: "t5", Layers: 4, Hidden: 32, FFN: 48, Heads: 4, DecoderLayers: 2,
		BackboneParams: 1e6}
	for name, config := range map[string]space.Config{
		"each layer": {Sizes: space.Sizes{"ia3": {0, 1}}},
		"bands":      {Preset: space.PresetGroups, Groups: 1, Scale: []space.Scale{"own", "0.5"}},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := space.New(config, evaluator.Training{LearningRate: 1e-3}, g)
			if err != nil {
				t.Fatal(err)
			}
			rapid.Check(t, func(rt *rapid.T) {
				p := make(space.Point, len(s.Dimensions()))
				for i, d := range s.Dimensions() {
					p[i] = rapid.IntRange(0, len(d.Levels)-1).Draw(rt, d.Name)
				}
				c, err := s.Candidate(p)
				if err != nil {
					rt.Fatal(err)
				}
				if err := c.Plan.Validate(g); err != nil {
					rt.Fatal(err)
				}
				for i, layer := range c.Plan.Layers {
					if lora, ok := peft.Find[peft.LoRA](layer); ok && (len(lora.Targets) == 4) != g.Stack(i).Cross {
						rt.Errorf("layer %d has LoRA on %v", i, lora.Targets)
					}
				}
				if got, want := s.Params(p), c.Plan.Params(g).Total(); got != want {
					rt.Errorf("%v has %d parameters, the space says %d", c.Plan, want, got)
				}
				back, err := s.Point(c)
				if err != nil {
					rt.Fatal(err)
				}
				again, err := s.Candidate(back)
				if err != nil || again.Plan.Key() != c.Plan.Key() {
					rt.Errorf("%v became %v, error %v", c.Plan, again.Plan, err)
				}
			})
		})
	}
	_, err := space.New(space.Config{Preset: space.PresetAutoPEFT}, evaluator.Training{LearningRate: 1e-3}, g)
	if err == nil || !strings.Contains(err.Error(), "of an encoder and of a decoder have other sites") {
		t.Errorf("autopeft: error %v", err)
	}
}
