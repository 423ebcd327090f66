package studies

import (
	"encoding/json"
	"flag"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/stat/distuv"

	"peftsearch/data/metric"
)

func TestStatisticsAreThoseOfSciPy(t *testing.T) {
	content, err := os.ReadFile("testdata/statistics.json")
	if err != nil {
		t.Fatal(err)
	}
	var golden struct {
		Samples []struct {
			Scores              []float64
			Mean, SD, Low, High float64
		}
		Range [][4]float64 // groups, nu, q, probability
	}
	if err := json.Unmarshal(content, &golden); err != nil {
		t.Fatal(err)
	}
	near := cmpopts.EquateApprox(1e-9, 0)
	for i, g := range golden.Samples {
		s := NewSample(g.Scores)
		low, high, ok := s.Interval(metric.Accuracy)
		g.Low, g.High = max(g.Low, 0), min(g.High, 1)
		if diff := cmp.Diff([]float64{g.Mean, g.SD, g.Low, g.High}, []float64{s.Mean, s.SD, low, high}, near); diff != "" ||
			!ok || s.N != len(g.Scores) {
			t.Errorf("sample %d:\n%s", i, diff)
		}
	}
	if len(golden.Range) == 0 {
		t.Error("no studentised ranges")
	}
	for _, g := range golden.Range {
		if p := rangeSurvival(g[2], int(g[0]), g[1]); math.Abs(p-g[3]) > 2e-9 { // SciPy itself is off by a few 1e-10
			t.Errorf("range of %g groups, %g degrees of freedom, above %g: %.12f, want %.12f", g[0], g[1], g[2], p, g[3])
		}
	}
}

// No interval has scores that cannot be, such as the t interval of two seeds has.
func TestIntervalsStayInTheMetricsRange(t *testing.T) {
	for _, c := range []struct {
		metric    metric.Name
		scores    []float64
		low, high float64
	}{
		{metric.Accuracy, []float64{0.90, 0.98}, 0.43175, 1},
		{metric.F1, []float64{0.02, 0.10}, 0, 0.56825},
		{metric.MCC, []float64{-0.5, 0.5}, -1, 1},
		{metric.NegRMSE, []float64{-0.10, -0.02}, -0.56825, 0},
	} {
		low, high, ok := NewSample(c.scores).Interval(c.metric)
		if !ok || math.Abs(low-c.low) > 1e-5 || math.Abs(high-c.high) > 1e-5 {
			t.Errorf("%s of %v: %g to %g, want %g to %g", c.metric, c.scores, low, high, c.low, c.high)
		}
	}
}

func TestSamplesWithoutSpread(t *testing.T) {
	one, same, other := NewSample([]float64{0.7}), NewSample([]float64{0.8, 0.8, 0.8}), NewSample([]float64{0.7, 0.7})
	if _, _, ok := one.Interval(metric.Accuracy); ok || !math.IsNaN(one.SD) || one.Mean != 0.7 {
		t.Errorf("%+v has an interval", one)
	}
	if p := difference(one, same, 2); !math.IsNaN(p) {
		t.Errorf("one score is tested: p = %g", p)
	}
	if p := difference(same, other, 2); !math.IsNaN(p) {
		t.Errorf("scores without spread are tested: p = %g", p)
	}
}

// With two plans of alike spread it is Student's t-test, with a third of the way from n−1 to 2n−2 degrees of freedom.
func TestDifferenceOfTwo(t *testing.T) {
	a, b := NewSample([]float64{0.79, 0.80, 0.81, 0.78, 0.82}), NewSample([]float64{0.81, 0.82, 0.83, 0.84, 0.80})
	want := 2 * distuv.StudentsT{Sigma: 1, Nu: 4 + 4.0/3}.Survival(0.02/math.Sqrt(2*0.00025/5))
	if p := difference(a, b, 2); math.Abs(p-want) > 1e-9 {
		t.Errorf("p = %g, want %g", p, want)
	}
}

func TestRankAllowsForTheNumberOfPlans(t *testing.T) {
	scores := [][]float64{
		{0.795, 0.805, 0.785, 0.795, 0.795}, // p below 0.05 if it were the only other plan
		{0.81, 0.83, 0.82, 0.84, 0.80},      // the best
		{0.60, 0.61, 0.62, 0.60, 0.61},
		{0.5},
		{0.82, 0.81, 0.83, 0.80, 0.82},
	}
	var all []*Confirmation
	for _, s := range scores {
		all = append(all, &Confirmation{Test: NewSample(s)})
	}
	best := all[1].Test
	want := []float64{math.NaN(), difference(best, all[4].Test, 4), difference(best, all[0].Test, 4),
		difference(best, all[2].Test, 4), math.NaN()}
	ranked := Rank(all)
	var got []float64
	var noisy []bool
	for _, r := range ranked {
		got, noisy = append(got, r.PValue), append(noisy, r.LargerThanNoise())
	}
	if ranked[0].Confirmation != all[1] || ranked[0].Behind != 0 || ranked[4].Confirmation != all[3] {
		t.Errorf("the order is %+v", ranked)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateNaNs()); diff != "" {
		t.Errorf("p-values:\n%s", diff)
	}
	alone := difference(best, all[0].Test, 2)
	if alone > Significance || !cmp.Equal(noisy, []bool{false, false, false, true, false}) {
		t.Errorf("p alone %g, p-values %v, larger than noise %v", alone, got, noisy)
	}
	if len(Rank(nil)) != 0 {
		t.Error("nothing is ranked")
	}
}

// spreads are standard deviations of plans.
var spreads = map[string]func(plans int) []float64{
	"equal": func(plans int) []float64 { return slices.Repeat([]float64{1}, plans) },
	"1 to 4": func(plans int) []float64 {
		return floats.Span(make([]float64, plans), 1, 4)
	},
	"one noisy": func(plans int) []float64 { return append(slices.Repeat([]float64{1}, plans-1), 8) },
	"one quiet": func(plans int) []float64 { return append(slices.Repeat([]float64{1}, plans-1), 1./8) },
}

// simulation draws confirmations and counts which plans are called worse than the best.
type simulation struct {
	rng      *rand.Rand
	plans    int
	seeds    int
	critical []float64 // sizes of a difference in standard errors that are significant, by degrees of freedom
}

// degrees are those of the critical sizes, evenly in their reciprocals: the least and the most that a difference has.
func (s *simulation) degrees(i int) float64 {
	least := float64(s.seeds - 1)
	most := least + caution*least
	x := float64(i) / float64(len(s.critical)-1)
	return 1 / (1/least + x*(1/most-1/least))
}

func newSimulation(plans, seeds int) *simulation {
	s := &simulation{rng: rand.New(rand.NewPCG(uint64(plans), uint64(seeds))), plans: plans, seeds: seeds,
		critical: make([]float64, 6)}
	for i := range s.critical { // by the secant method on logarithms
		f := func(x float64) float64 {
			return math.Log(rangeSurvival(math.Exp(x)*math.Sqrt2, plans, s.degrees(i)) / Significance)
		}
		a, b := math.Log(3), math.Log(5)
		for fa, fb := f(a), f(b); math.Abs(b-a) > 1e-7; {
			a, b = b, b-fb*(b-a)/(fb-fa)
			fa, fb = fb, f(b)
		}
		s.critical[i] = math.Exp(b)
	}
	return s
}

// significant says what difference says; it calls it only where it is close.
func (s *simulation) significant(a, b Sample) bool {
	va, vb := a.SD*a.SD, b.SD*b.SD
	size := math.Abs(a.Mean-b.Mean) / math.Sqrt((va+vb)/float64(s.seeds))
	if most := s.critical[len(s.critical)-1]; size < 0.99*most {
		return false
	} else if size > 1.01*s.critical[0] {
		return true
	}
	least := float64(s.seeds - 1)
	degrees := least + caution*(least*(va+vb)*(va+vb)/(va*va+vb*vb)-least)
	x := (1/degrees - 1/least) / (1/s.degrees(len(s.critical)-1) - 1/least) * float64(len(s.critical)-1)
	i := min(int(x), len(s.critical)-2)
	critical := s.critical[i] + (x-float64(i))*(s.critical[i+1]-s.critical[i])
	if math.Abs(size/critical-1) > 0.002 {
		return size > critical
	}
	return difference(a, b, s.plans) < Significance
}

// holm reports whether Welch's tests against the best, corrected by Holm's method for their number, find a difference.
func (s *simulation) holm(best int, samples []Sample) bool {
	level := Significance / float64(s.plans-1)
	least := distuv.UnitNormal.Quantile(1 - level/2)
	for i, b := range samples {
		a := samples[best]
		va, vb := a.SD*a.SD, b.SD*b.SD
		size := (a.Mean - b.Mean) / math.Sqrt((va+vb)/float64(s.seeds))
		if i == best || size < least {
			continue
		}
		degrees := float64(s.seeds-1) * (va + vb) * (va + vb) / (va*va + vb*vb)
		if 2*(distuv.StudentsT{Sigma: 1, Nu: degrees}).Survival(size) < level {
			return true
		}
	}
	return false
}

// draw makes one sample of each plan.
func (s *simulation) draw(samples []Sample, means, sds []float64) (best int) {
	scores := make([]float64, s.seeds)
	for i := range samples {
		for j := range scores {
			scores[j] = means[i] + sds[i]*s.rng.NormFloat64()
		}
		if samples[i] = NewSample(scores); samples[i].Mean > samples[best].Mean {
			best = i
		}
	}
	return best
}

var runs = flag.Int("runs", 10_000, "simulated confirmations of each kind")

// TestEqualPlansAreHardlyEverCalledWorse is the table of docs/explain/confirm.md, which -v prints.
func TestEqualPlansAreHardlyEverCalledWorse(t *testing.T) {
	if testing.Short() {
		t.Skip("slow")
	}
	n := float64(*runs)
	error := math.Sqrt(Significance * (1 - Significance) / n)
	t.Log("| plans | seeds | Welch's tests, Holm's method | confirm | finds 2 sd | finds 3 sd |\n" +
		"|---|---|---|---|---|---|")
	highest := 0.0
	for _, plans := range []int{2, 3, 4, 8, 12} {
		for _, seeds := range []int{3, 5, 10} {
			s := newSimulation(plans, seeds)
			samples := make([]Sample, plans)
			var worst, worstHolm float64
			for _, name := range slices.Sorted(maps.Keys(spreads)) {
				sds := spreads[name](plans)
				wrong, wrongHolm := 0, 0
				for run := range *runs {
					best := s.draw(samples, make([]float64, plans), sds)
					called := slices.ContainsFunc(samples, func(other Sample) bool { return s.significant(samples[best], other) })
					if called {
						wrong++
					}
					if s.holm(best, samples) {
						wrongHolm++
					}
					if run < 2 {
						s.agrees(t, samples, called)
					}
				}
				rate := float64(wrong) / n
				if rate > Significance+3*error {
					t.Errorf("%d plans, %d seeds, spreads %s: some plan is called worse in %.2f%% of confirmations of equal plans",
						plans, seeds, name, 100*rate)
				}
				worst, worstHolm = max(worst, rate), max(worstHolm, float64(wrongHolm)/n)
			}
			highest = max(highest, worst)
			var found [2]float64
			for i, behind := range []float64{2, 3} {
				means := append(make([]float64, plans-1), -behind)
				for range *runs / 4 {
					if best := s.draw(samples, means, spreads["equal"](plans)); s.significant(samples[best], samples[plans-1]) {
						found[i] += 4 / n
					}
				}
			}
			t.Logf("| %d | %d | %.1f %% | %.1f %% | %.0f %% | %.0f %% |\n", plans, seeds, 100*worstHolm, 100*worst,
				100*found[0], 100*found[1])
		}
	}
	if highest < 0.03 {
		t.Errorf("the highest rate is %.4f: the procedure is needlessly cautious", highest)
	}
}

// agrees checks that Rank says what the simulation says.
func (s *simulation) agrees(t *testing.T, samples []Sample, called bool) {
	t.Helper()
	var all []*Confirmation
	for _, sample := range samples {
		all = append(all, &Confirmation{Test: sample})
	}
	if got := slices.ContainsFunc(Rank(all), Ranked.LargerThanNoise); got != called {
		t.Fatalf("Rank calls a plan worse: %v, the simulation %v", got, called)
	}
}
