package search_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"gonum.org/v1/gonum/stat"

	"peftsearch/search"
	"peftsearch/space"
)

// noisySearch is a search by gp with noisy scores, of plans whose true scores are known.
func noisySearch(t *testing.T, seed uint64, trials int64, noise float64) (s *space.Space,
	history []search.Observation, truth []float64) {
	t.Helper()
	s = newSpace(t, space.Config{}, tiny)
	optimizer, err := search.NewOptimizer(s, options(s, "gp", seed))
	if err != nil {
		t.Fatal(err)
	}
	known := newHistory(t, s, nil)
	rng := rand.New(rand.NewPCG(seed, 1))
	for number := range trials {
		suggestion, err := optimizer.Ask(known, number)
		if err != nil {
			t.Fatal(err)
		}
		truth = append(truth, surface(s, suggestion.Point))
		o := search.Observation{Number: number, Point: suggestion.Point, Params: s.Params(suggestion.Point),
			State: search.Complete,
			Score: truth[number] + noise*rng.NormFloat64()}
		set(t, known, o)
		history = append(history, o)
	}
	return s, history, truth
}

func posterior(t *testing.T, s *space.Space, history []search.Observation) *search.Posterior {
	t.Helper()
	p, err := search.NewPosterior(s, options(s, "gp", 0).Reference, history)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Expected scores are nearer to the truth than scores are, probabilities come true about as often as they say, and
// the recommended plans are small and good.
func TestRecommendationsAreHonest(t *testing.T) {
	const noise, searches = 0.03, 6
	var scoreErrors, expectedErrors, claims, comesTrue, behind, sizes []float64
	for seed := range uint64(searches) {
		s, history, truth := noisySearch(t, seed, 30, noise)
		p := posterior(t, s, history)
		r := p.Recommend()
		for i, o := range history {
			mean, sd, ok := p.Expected(o.Number)
			if !ok || !(sd > 0 && sd < 0.2) {
				t.Fatalf("trial %d is expected to have %g ± %g, %v", i, mean, sd, ok)
			}
			scoreErrors = append(scoreErrors, (o.Score-truth[i])*(o.Score-truth[i]))
			expectedErrors = append(expectedErrors, (mean-truth[i])*(mean-truth[i]))
			asGood, _ := p.AsGood(o.Number, r.Best)
			if claims = append(claims, asGood); truth[i] >= truth[r.Best] {
				comesTrue = append(comesTrue, 1)
			} else {
				comesTrue = append(comesTrue, 0)
			}
			if asGood >= search.Alike && o.Params < history[r.Trial].Params {
				t.Errorf("trial %d is smaller than the recommended one and not distinguishably worse", i)
			}
		}
		if r.AsGood < search.Alike {
			t.Errorf("a plan is recommended that is as good with a probability of %g", r.AsGood)
		}
		behind = append(behind, truth[r.Best]-truth[r.Trial])
		sizes = append(sizes, float64(history[r.Trial].Params)/float64(history[r.Best].Params))
	}
	if before, now := stat.Mean(scoreErrors, nil), stat.Mean(expectedErrors, nil); now > 0.7*before {
		t.Errorf("scores are off by %g, expected scores by %g", math.Sqrt(before), math.Sqrt(now))
	}
	if said, held := stat.Mean(claims, nil), stat.Mean(comesTrue, nil); math.Abs(said-held) > 0.06 {
		t.Errorf("plans are said to be as good as the best with a probability of %g, %g of them are", said, held)
	}
	if loss := stat.Mean(behind, nil); loss > noise {
		t.Errorf("recommended plans are %g behind the best", loss)
	}
	if share := stat.Mean(sizes, nil); share > 0.9 {
		t.Errorf("recommended plans have %g of the best one's parameters", share)
	}
}

// A plan outside of the space stands on its own score, and can be recommended.
func TestPlansOutsideOfTheSpaceAreRecommended(t *testing.T) {
	s, history, _ := noisySearch(t, 1, 12, 0.01)
	history = append(history, search.Observation{Number: 12, Params: 300, State: search.Complete, Score: 0.95},
		search.Observation{Number: 13, Params: 90_000, State: search.Complete, Score: 0.7})
	p := posterior(t, s, history)
	if r := p.Recommend(); r.Trial != 12 || r.Best != 12 || r.AsGood != 1 {
		t.Errorf("%+v", r)
	}
	if mean, _, ok := p.Expected(13); !ok || math.Abs(mean-0.7) > 0.05 {
		t.Errorf("the other one is expected to have %g", mean)
	}
}

// A second training of a plan makes its expected score surer, and moves it.
func TestReplicatesCountTogether(t *testing.T) {
	s, history, _ := noisySearch(t, 2, 15, 0.03)
	before, sd, _ := posterior(t, s, history).Expected(7)
	again := history[7]
	again.Number, again.Score = 15, again.Score-0.01
	p := posterior(t, s, append(history, again))
	after, surer, _ := p.Expected(7)
	other, _, _ := p.Expected(15)
	if after >= before || surer >= sd || math.Abs(after-other) > 1e-6 {
		t.Errorf("%g ± %g becomes %g ± %g, the other training %g", before, sd, after, surer, other)
	}
}

func TestScoresThatTellNothing(t *testing.T) {
	s, history, _ := noisySearch(t, 3, 2, 0)
	reference := options(s, "gp", 0).Reference
	if _, err := search.NewPosterior(s, reference, history[:1]); err == nil {
		t.Error("one score has a posterior")
	}
	history[1].Score = history[0].Score
	if _, err := search.NewPosterior(s, reference, history); err == nil {
		t.Error("equal scores have a posterior")
	}
}

// Half of the variance that rows give a difference is each score's own; what rows do to both alike is nobody's.
func TestRowsInCommonAreNoNoise(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 0))
	var common, a, b []float64
	for range 2000 {
		common = append(common, 0.05*rng.NormFloat64())
	}
	for _, c := range common {
		a, b = append(a, 0.8+c+0.01*rng.NormFloat64()), append(b, 0.7+c+0.01*rng.NormFloat64())
	}
	if sd := search.RowSD(a); math.Abs(sd-0.051) > 0.003 {
		t.Errorf("one score has %g", sd)
	}
	if sd := search.PairedRowSD(a, b); math.Abs(sd-0.01*math.Sqrt2) > 0.001 {
		t.Errorf("the difference has %g", sd)
	}
	if !math.IsNaN(search.RowSD(nil)) || !math.IsNaN(search.PairedRowSD(a, nil)) {
		t.Error("nothing is known, and yet there is a number")
	}
	s, history, _ := noisySearch(t, 4, 12, 0.01)
	_, before, _ := posterior(t, s, history).Expected(3)
	for i := range history {
		for range 128 {
			history[i].Resampled = append(history[i].Resampled, history[i].Score+0.05*rng.NormFloat64())
		}
	}
	if _, after, _ := posterior(t, s, history).Expected(3); after <= before {
		t.Errorf("with scores that depend on the rows, a trial is known to %g instead of %g", after, before)
	}
}

// The plan to train again is one that could be the best, and not one that is known well already.
func TestContendersCouldBeTheBest(t *testing.T) {
	s, history, _ := noisySearch(t, 1, 20, 0.03)
	p := posterior(t, s, history)
	best := p.Recommend().Best
	seen := map[int64]bool{}
	for {
		number, ok := p.Contender(func(n int64) bool { return seen[n] })
		if !ok {
			break
		}
		if asGood, _ := p.AsGood(number, best); len(seen) == 0 && asGood < 0.02 {
			t.Errorf("trial %d is as good as the best with a probability of %g", number, asGood)
		}
		seen[number] = true
	}
	if len(seen) == 0 || len(seen) == len(history) || !seen[best] {
		t.Errorf("%d of %d plans could be the best", len(seen), len(history))
	}
	first, _ := p.Contender(func(int64) bool { return false })
	before, _, _ := p.Expected(first)
	_, sdBefore, _ := p.Expected(first)
	history[first] = history[first].Again(history[first].Score).Again(history[first].Score)
	p = posterior(t, s, history)
	if after, sd, _ := p.Expected(first); sd >= sdBefore ||
		math.Abs(after-history[first].Score) > math.Abs(before-history[first].Score) {
		t.Errorf("after three equal scores of %g the plan is expected to have %g ± %g, before %g ± %g",
			history[first].Score, after, sd, before, sdBefore)
	}
	if again, ok := p.Contender(func(int64) bool { return false }); ok && again == first {
		t.Error("a plan is trained a fourth time")
	}
}
