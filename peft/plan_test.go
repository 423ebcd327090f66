package peft_test

import (
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"peftsearch/data/quote"
	"peftsearch/peft"
)

// base is BERT-base; the tests take figures for it from the papers and libraries.
var base = peft.Geometry{Architecture: "bert", Layers: 12, Hidden: 768, FFN: 3072, Heads: 12,
	BackboneParams: 109_482_240}

func drawPlan(t *rapid.T, g peft.Geometry) peft.Plan {
	p := peft.Plan{Layers: make([]peft.Layer, g.Layers)}
	for i := range p.Layers {
		layer := &p.Layers[i]
		if rapid.Bool().Draw(t, "serial") {
			*layer = append(*layer, peft.Serial{Width: rapid.IntRange(1, 100).Draw(t, "width")})
		}
		if rapid.Bool().Draw(t, "parallel") {
			*layer = append(*layer, peft.Parallel{Width: rapid.IntRange(1, 100).Draw(t, "width")})
		}
		if rapid.Bool().Draw(t, "prefix") {
			*layer = append(*layer, peft.Prefix{Length: rapid.IntRange(1, 50).Draw(t, "length")})
		}
		if rapid.Bool().Draw(t, "lora") {
			targets := rapid.Permutation(peft.Targets).Draw(t, "targets")
			*layer = append(*layer, peft.LoRA{Rank: rapid.IntRange(1, 64).Draw(t, "rank"),
				Alpha:   rapid.Float64Range(0.1, 64).Draw(t, "alpha"),
				Targets: targets[:rapid.IntRange(1, len(targets)).Draw(t, "count")]})
		}
	}
	return p
}

func TestPlansRoundTripThroughJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawPlan(t, base)
		if err := p.Validate(base); err != nil {
			t.Fatal(err)
		}
		encoded, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		var back peft.Plan
		if err := json.Unmarshal(encoded, &back); err != nil {
			t.Fatal(err)
		}
		if back.Key() != p.Key() {
			t.Fatalf("%s came back with another key", encoded)
		}
		again, err := json.Marshal(back)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(encoded), string(again)); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestTensorsHaveTheCountedElements(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawPlan(t, base)
		var elements int64
		for _, shape := range p.TensorShapes(base) {
			n := int64(1)
			for _, d := range shape {
				n *= int64(d)
			}
			elements += n
		}
		count := p.Params(base)
		if count.Total() != elements {
			t.Fatalf("Params counts %d, the tensors have %d elements", count.Total(), elements)
		}
		var layers int64
		for _, layer := range count.Layers {
			layers += layer.Total()
		}
		if layers != count.Total() {
			t.Fatalf("layers add up to %d of %d", layers, count.Total())
		}
	})
}

func TestCountsAreThoseOfTheLiterature(t *testing.T) {
	whole := func(layer peft.Layer) peft.Plan {
		p := peft.Plan{Layers: make([]peft.Layer, base.Layers)}
		for i := range p.Layers {
			p.Layers[i] = layer
		}
		return p
	}
	queryValue := []peft.Target{peft.TargetQuery, peft.TargetValue}
	for name, test := range map[string]struct {
		layer   peft.Layer
		total   int64
		percent float64 // in AutoPEFT's way of counting
	}{
		"serial 48":           {peft.Layer{peft.Serial{Width: 48}}, 894_528, 0.808},
		"lora r8 query value": {peft.Layer{peft.LoRA{Rank: 8, Alpha: 8, Targets: queryValue}}, 294_912, 0.269},
		"lora r8 ffn": {peft.Layer{peft.LoRA{Rank: 8, Alpha: 8,
			Targets: []peft.Target{peft.TargetFFNIn, peft.TargetFFNOut}}}, 12 * 61_440, 0.673},
		"prefix 10": {peft.Layer{peft.Prefix{Length: 10}}, 184_320, 0.168},
		"prefix 30": {peft.Layer{peft.Prefix{Length: 30}}, 552_960, 0.505},
		"mam":       {peft.Layer{peft.Parallel{Width: 384}, peft.Prefix{Length: 30}}, 12*590_976 + 552_960, 6.97},
	} {
		count := whole(test.layer).Params(base)
		if count.Total() != test.total {
			t.Errorf("%s: %d parameters, want %d", name, count.Total(), test.total)
		}
		if got := count.AutoPEFTPercent(base); math.Abs(got-test.percent) > 0.005 {
			t.Errorf("%s: AutoPEFT counts %.3f %%, want %.3f", name, got, test.percent)
		}
	}
}

func TestKeyIgnoresTheOrderOfTargetsOnly(t *testing.T) {
	plan := func(rank int, targets ...peft.Target) peft.Plan {
		return peft.Plan{Layers: []peft.Layer{{peft.LoRA{Rank: rank, Alpha: 8, Targets: targets}}}}
	}
	a, b := plan(8, peft.TargetQuery, peft.TargetValue), plan(8, peft.TargetValue, peft.TargetQuery)
	if a.Key() != b.Key() {
		t.Error("the order of targets changes the key")
	}
	if a.Key() == plan(4, peft.TargetQuery, peft.TargetValue).Key() || a.Key() == plan(8, peft.TargetQuery).Key() {
		t.Error("different plans share a key")
	}
}

func TestString(t *testing.T) {
	p := peft.Plan{Layers: make([]peft.Layer, 6)}
	if got := p.String(); got != "head only" {
		t.Errorf("empty plan: %q", got)
	}
	for _, i := range []int{0, 1, 2, 5} {
		p.Layers[i] = peft.Layer{peft.Serial{Width: 24}}
	}
	p.Layers[4] = peft.Layer{peft.LoRA{Rank: 8, Alpha: 8, Targets: []peft.Target{peft.TargetQuery}}}
	if got, want := p.String(), "serial 24 L0-2,5 · lora r8 L4"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestBadPlansAreRefusedWithTheReason(t *testing.T) {
	layers := func(first string) string {
		return `{"version":1,"layers":[` + first + strings.Repeat(",{}", 11) + `]}`
	}
	for name, test := range map[string]struct{ plan, words string }{
		"unknown key":      {layers(`{"adapter":{"width":4}}`), "adapter"},
		"misspelt size":    {layers(`{"serial":{"widht":4}}`), "widht"},
		"no version":       {`{"layers":[{}]}`, "version 0"},
		"another version":  {`{"version":3,"layers":[{}]}`, "version 3"},
		"no layers":        {`{"version":1}`, "layers"},
		"wrong depth":      {`{"version":1,"layers":[{},{}]}`, "2 layers, the backbone 12"},
		"width 0":          {layers(`{"serial":{"width":0}}`), "layer 0: serial width 0"},
		"negative width":   {layers(`{"parallel":{"width":-3}}`), "parallel width -3"},
		"length 0":         {layers(`{"prefix":{"length":0}}`), "prefix length 0"},
		"no alpha":         {layers(`{"lora":{"rank":4,"targets":["query"]}}`), "alpha 0"},
		"no targets":       {layers(`{"lora":{"rank":4,"alpha":4}}`), "no targets"},
		"unknown target":   {layers(`{"lora":{"rank":4,"alpha":4,"targets":["q"]}}`), `"q"`},
		"repeated target":  {layers(`{"lora":{"rank":4,"alpha":4,"targets":["key","key"]}}`), "twice"},
		"rank above full":  {layers(`{"lora":{"rank":769,"alpha":4,"targets":["key"]}}`), "769"},
		"not a plan":       {`[1,2]`, "plan"},
		"something behind": {layers(`{}`) + "{}", "after top-level"},
	} {
		p, err := peft.ReadPlan(file(t, "plan.json", test.plan))
		if err == nil {
			err = p.Validate(base)
		}
		if err == nil || !strings.Contains(err.Error(), test.words) {
			t.Errorf("%s: the error is %v", name, err)
		}
	}
}

func TestPresetsAreValidPlans(t *testing.T) {
	for _, name := range peft.Presets() {
		p, err := peft.NewPreset(name, base)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if (name == "head") != p.Plan.Empty() {
			t.Errorf("%s: %s", name, p.Plan)
		}
	}
	if _, err := peft.NewPreset("lora-r9", base); err == nil || !strings.Contains(err.Error(), "lora-r8") {
		t.Errorf("an unknown preset: %v", err)
	}
}

// file writes a file into a new directory.
func file(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// bounded fails if an error is too long to print or would move a terminal's cursor.
func bounded(t *testing.T, err error) {
	t.Helper()
	if err != nil && (len(err.Error()) > quote.MessageLimit || quote.Message(err.Error()) != err.Error()) {
		t.Errorf("%d bytes: %q", len(err.Error()), err)
	}
}

func FuzzReadPlan(f *testing.F) {
	f.Add([]byte(`{"version":1,"layers":[{"serial":{"width":24},"lora":{"rank":8,"alpha":8,"targets":["query"]}},{}]}`))
	f.Add([]byte(`{"version":1,"layers":[]}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		p, err := peft.ReadPlan(file(t, "plan.json", string(content)))
		bounded(t, err)
		if err == nil && p.Validate(base) == nil {
			p.Params(base)
			_ = p.String() + p.Key()
		}
	})
}

// Counts of whatever plan is accepted do not overflow: they are those of integers without bounds.
func TestAcceptedPlansCanBeCounted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		odd := rapid.Bool().Draw(t, "odd")
		sizes := rapid.OneOf(rapid.Just(peft.MaxSize), rapid.IntRange(1, peft.MaxSize))
		alpha := 1.0
		if odd {
			sizes = rapid.OneOf(sizes, rapid.Int(), rapid.SampledFrom([]int{1 << 55, 1 << 57, 1<<57 + 1, math.MaxInt64,
				math.MinInt64, 0}))
			alpha = rapid.Float64().Draw(t, "alpha")
		}
		size := func(t *rapid.T, name string) int { return sizes.Draw(t, name) }
		g := peft.Geometry{Layers: rapid.IntRange(1, 3).Draw(t, "layers"), Hidden: size(t, "hidden"), FFN: size(t, "ffn")}
		rank := size(t, "rank")
		if !odd {
			rank = min(rank, g.Hidden, g.FFN)
			alpha *= float64(rank)
		}
		layer := peft.Layer{peft.Serial{Width: size(t, "serial")}, peft.Parallel{Width: size(t, "parallel")},
			peft.Prefix{Length: size(t, "prefix")},
			peft.LoRA{Rank: rank, Alpha: alpha, Targets: peft.Targets}}
		for _, m := range peft.Methods {
			if rapid.Bool().Draw(t, fmt.Sprint("without ", m)) {
				layer = layer.Without(m)
			}
		}
		p := peft.Plan{Layers: slices.Repeat([]peft.Layer{layer}, g.Layers)}
		if err := p.Validate(g); err != nil {
			if !odd {
				t.Fatal(err)
			}
			return
		}
		if _, err := json.Marshal(p); err != nil {
			t.Fatal(err)
		}
		want, one := new(big.Int), func(n int) *big.Int { return big.NewInt(int64(n)) }
		product := func(factors ...int) {
			term := big.NewInt(int64(g.Layers))
			for _, f := range factors {
				term.Mul(term, one(f))
			}
			want.Add(want, term)
		}
		for _, m := range []peft.Method{peft.MethodSerial, peft.MethodParallel} {
			if a := layer.Module(m); a != nil {
				product(2, a.Size(), g.Hidden)
				product(a.Size())
				product(g.Hidden)
			}
		}
		if prefix := layer.Module(peft.MethodPrefix); prefix != nil {
			product(2, prefix.Size(), g.Hidden)
		}
		// four matrices of the attention, two of the feed-forward part
		if lora := layer.Module(peft.MethodLoRA); lora != nil {
			product(8, lora.Size(), g.Hidden)
			product(2, lora.Size(), g.Hidden)
			product(2, lora.Size(), g.FFN)
		}
		if got := big.NewInt(p.Params(g).Total()); got.Cmp(want) != 0 {
			t.Fatalf("%v parameters, want %v", got, want)
		}
	})
}

func TestLargestPlanCanBeCounted(t *testing.T) {
	g := peft.Geometry{Layers: peft.MaxLayers, Hidden: peft.MaxSize, FFN: peft.MaxSize}
	p := peft.Plan{Layers: make([]peft.Layer, g.Layers)}
	for i := range p.Layers {
		p.Layers[i] = peft.Layer{peft.Serial{Width: peft.MaxSize}, peft.Parallel{Width: peft.MaxSize},
			peft.Prefix{Length: peft.MaxSize},
			peft.LoRA{Rank: peft.MaxSize, Alpha: peft.MaxScale * peft.MaxSize, Targets: peft.Targets}}
	}
	if err := p.Validate(g); err != nil {
		t.Fatal(err)
	}
	const n, layers = peft.MaxSize, peft.MaxLayers
	if got, want := p.Params(g).Total(), int64(layers*(2*(2*n*n+2*n)+2*n*n+12*n*n)); got != want {
		t.Errorf("%d parameters, want %d", got, want)
	}
}

func TestPlansThatCannotBeTrainedAreRefused(t *testing.T) {
	for words, layer := range map[string]peft.Layer{
		"layer 0: serial width 9223372036854775807: at most 1048576": {peft.Serial{Width: math.MaxInt64}},
		"layer 0: parallel width -1: at least 1":                     {peft.Parallel{Width: -1}},
		"layer 0: prefix length 144115188075855872: at most 1048576": {peft.Prefix{Length: 1 << 57}},
		"layer 0: lora alpha 1e+308 at rank 8: alpha/rank must be between 1e-06 and 1e+06": {peft.LoRA{Rank: 8,
			Alpha: 1e308, Targets: peft.Targets}},
		"layer 0: lora alpha NaN at rank 8: alpha/rank must be between 1e-06 and 1e+06": {peft.LoRA{Rank: 8,
			Alpha: math.NaN(), Targets: peft.Targets}},
		"layer 0: lora rank 9223372036854775807 is above 768, the full rank of query": {peft.LoRA{Rank: math.MaxInt64,
			Alpha: math.MaxInt64, Targets: peft.Targets}},
	} {
		p := peft.Plan{Layers: make([]peft.Layer, base.Layers)}
		p.Layers[0] = layer
		if err := p.Validate(base); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%v, want %s", err, words)
		}
	}
}
