package search_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"peftsearch/peft"
	"peftsearch/search"
	"peftsearch/space"
)

// The effect of a choice on a surface that is known: what it is, within what the process says of its own error, and
// nothing for choices that do nothing.
func TestEffects(t *testing.T) {
	s := newSpace(t, space.Config{}, peft.Geometry{Architecture: "bert", Layers: 3, Hidden: 128, FFN: 512, Heads: 2,
		BackboneParams: 4_000_000})
	const noise = 0.01
	score := func(p space.Point) float64 { return 0.5 + 0.02*float64(p[3]) - 0.01*float64(p[4]) }
	rng := rand.New(rand.NewPCG(1, 2))
	var trials []search.Observation
	for len(trials) < 120 {
		p := make(space.Point, len(s.Dimensions()))
		for d := range p {
			if rng.IntN(2) == 0 {
				p[d] = rng.IntN(len(s.Dimensions()[d].Levels))
			}
		}
		if s.Feasible(p) {
			trials = append(trials, search.Observation{Number: int64(len(trials)), Point: p, Params: s.Params(p),
				State: search.Complete, Score: score(p) + noise*rng.NormFloat64()})
		}
	}
	smallest, largest := s.ParamRange()
	reference := search.Reference{Chance: 0.2, MinParams: smallest, MaxParams: largest}
	effects, err := search.Effects(s, reference, trials, [][]int{{3}, {4}, {8}, {3, 4}})
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range effects {
		t.Logf("%d plans: %.4f ± %.4f", e.Plans, e.Mean, e.SD)
		if e.Plans < 30 || e.SD <= 0 || e.SD > 0.02 {
			t.Errorf("effect %d: %+v", i, e)
		}
	}
	// The mean level of a dimension among the plans that have it is between 2 and 5, of better plans more.
	for i, want := range [][2]float64{{0.04, 0.10}, {-0.06, -0.01}, {0, 0}, {-0.01, 0.10}} {
		if e := effects[i]; e.Mean+3*e.SD < want[0] || e.Mean-3*e.SD > want[1] {
			t.Errorf("effect %d is %.4f ± %.4f, outside %v", i, e.Mean, e.SD, want)
		}
	}
	if effects[0].Mean < 4*effects[0].SD || math.Abs(effects[2].Mean) > 3*effects[2].SD {
		t.Errorf("what matters does not stand out: %+v", effects)
	}
	if _, err := search.Effects(s, reference, trials[:10], [][]int{{0}}); !errors.Is(err, search.ErrFewTrials) {
		t.Errorf("of ten trials: %v", err)
	}
}
