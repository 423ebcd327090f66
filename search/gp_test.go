package search

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"gonum.org/v1/gonum/diff/fd"
	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"
	"gonum.org/v1/gonum/stat"

	"peftsearch/evaluator"
	"peftsearch/peft"
	"peftsearch/space"
)

// mixedSpace has ordinal dimensions and a nominal one.
func mixedSpace(t testing.TB) *space.Space {
	t.Helper()
	s, err := space.New(space.Config{LearningRate: []float64{1e-4, 1e-3}, Schedule: evaluator.Schedules},
		evaluator.Training{}, peft.Geometry{Architecture: "bert", Layers: 2, Hidden: 128, FFN: 512, Heads: 2,
			BackboneParams: 4_000_000})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Of a learning rate, whose lowest level is one like the others, the levels lie evenly.
func TestNoModuleIsTwiceAsFarAsTheNextSize(t *testing.T) {
	s := mixedSpace(t)
	f := newFeatures(s, Reference{})
	for d, dimension := range s.Dimensions() {
		if !dimension.Ordinal {
			continue
		}
		at := make([]float64, len(dimension.Levels))
		for level := range at {
			f.put(at[level:level+1], d, level)
		}
		want := make([]float64, len(at))
		if dimension.Levels[0] == "0" {
			floats.Span(want[1:], 2/float64(len(want)), 1)
		} else {
			floats.Span(want, 0, 1)
		}
		if !floats.EqualApprox(at, want, 1e-9) {
			t.Errorf("%s: levels at %.3f, want %.3f", dimension.Name, at, want)
		}
	}
}

// mixedTrials are n finished trials at random points with random scores.
func mixedTrials(t testing.TB, n int) []Observation {
	s := mixedSpace(t)
	v := &view{space: s, rng: newRand(1, 1)}
	trials := make([]Observation, n)
	for i := range trials {
		p := v.sparse()
		trials[i] = Observation{Number: int64(i), Point: p, Params: s.Params(p), State: Complete,
			Score: 0.6 + 0.03*float64(p[0]) - 0.01*float64(p[3]) + 0.02*v.rng.NormFloat64()}
	}
	return trials
}

// viewOf is the view of an ask with these trials.
func viewOf(t testing.TB, trials []Observation) *view {
	s := mixedSpace(t)
	h, err := NewHistory(s, trials)
	if err != nil {
		t.Fatal(err)
	}
	smallest, largest := s.ParamRange()
	return &view{lists: h.lists, space: s, reference: Reference{Chance: 0.5, MinParams: smallest, MaxParams: largest},
		rng: newRand(2, 1), history: h, candidates: len(h.taken)}
}

func mixedView(t testing.TB, n int) *view { return viewOf(t, mixedTrials(t, n)) }

func TestFitGradientIsThatOfTheLoss(t *testing.T) {
	v := mixedView(t, 25)
	points := make([]space.Point, len(v.finished))
	y, trends := &scored{spread: 0.3, freedom: 4}, make([]float64, len(points))
	for i, o := range v.finished {
		points[i], trends[i] = o.Point, v.rng.NormFloat64()
		y.values, y.variances = append(y.values, (o.Score-0.65)/0.05), append(y.variances, v.rng.Float64())
		y.trainings = append(y.trainings, float64(1+i%3))
	}
	f := newFeatures(v.space, v.reference)
	r := newRegression(f, f.encode(points), y, trends)
	for range 5 {
		theta := make([]float64, len(v.space.Dimensions())+beside)
		for i := range theta {
			theta[i] = v.rng.NormFloat64()
		}
		floats.AddConst(2, theta[:len(theta)-beside])
		got := make([]float64, len(theta))
		r.loss(theta, got)
		scratch := make([]float64, len(theta))
		want := fd.Gradient(nil, func(x []float64) float64 { return r.loss(x, scratch) }, theta,
			&fd.Settings{Formula: fd.Central, Step: 1e-5})
		if !floats.EqualApprox(got, want, 1e-4) {
			t.Errorf("gradient\n%v, by finite differences\n%v", got, want)
		}
	}
}

func TestImprovementAgreesWithMonteCarlo(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	reference := Reference{Chance: 0, MinParams: 1, MaxParams: 1_000_000}
	for range 20 {
		front := make([]Outcome, rng.IntN(8))
		costs, scores := make([]float64, len(front)), make([]float64, len(front))
		for i := range front {
			front[i] = Outcome{Number: int64(i), Params: int64(math.Pow(10, 6*rng.Float64())), Score: rng.Float64() - 0.1}
			costs[i], scores[i] = reference.cost(front[i].Params), front[i].Score
		}
		candidate := Outcome{Number: -1, Params: int64(math.Pow(10, 6*rng.Float64()))}
		mean, sd := rng.Float64(), 0.02+0.3*rng.Float64()
		got := newStaircase(costs, scores, 0).improvement(reference.cost(candidate.Params), mean, sd)

		const draws = 20_000
		before, want, squares := Hypervolume(front, reference), 0.0, 0.0
		for range draws {
			candidate.Score = mean + sd*rng.NormFloat64()
			growth := Hypervolume(append(front[:len(front):len(front)], candidate), reference) - before
			want += growth / draws
			squares += growth * growth / draws
		}
		if standardError := math.Sqrt((squares - want*want) / draws); math.Abs(got-want) > 4.5*standardError+1e-9 {
			t.Errorf("expected improvement %.6f, by simulation %.6f ± %.6f", got, want, standardError)
		}
	}
}

func TestExcessKeepsRelativePrecisionInTheTail(t *testing.T) {
	for _, c := range []struct{ z, want float64 }{ // by mpmath with 40 digits
		{0, 0.39894228040143268},
		{-5, 5.3461655338328150e-8},
		{-30, 1.6319567340914012e-199},
	} {
		if got := excess(c.z, 1, 0); math.Abs(got/c.want-1) > 1e-8 {
			t.Errorf("at %g: %g, want %g", c.z, got, c.want)
		}
	}
}

// Sampled outcomes must have the mean and the covariance of the posterior, with running trials, whose
// scores are not known, beside finished ones.
func TestSampledOutcomesHaveThePosteriorsMoments(t *testing.T) {
	v := mixedView(t, 6)
	points := make([]space.Point, len(v.finished))
	for i, o := range v.finished {
		points[i] = o.Point
	}
	const observed = 4
	y := &scored{values: []float64{1, -1, 0.5, 0}, variances: []float64{0, 0.3, 0, 1}, trainings: []float64{1, 1, 3, 2}}
	f := newFeatures(v.space, v.reference)
	trends := []float64{0.5, -0.5, 0, 1, -1, 0.7}
	s := &sampledFronts{view: v, features: f, trends: trends,
		kernel: &kernel{inverse: make([]float64, len(f.dimension)), signal: 1.5, narrowing: 0.8, typical: 0.6, noise: 0.1}}
	floats.AddConst(0.7, s.kernel.inverse)
	encoded := f.encode(points)

	const repeats = 2000
	n := len(points)
	mean, second := mat.NewVecDense(n, nil), mat.NewSymDense(n, nil)
	for range repeats {
		outcomes, err := s.sample(encoded, y)
		if err != nil {
			t.Fatal(err)
		}
		for c := range gpFronts {
			mean.AddScaledVec(mean, 1.0/(repeats*gpFronts), outcomes.ColView(c))
			second.SymRankOne(second, 1.0/(repeats*gpFronts), outcomes.ColView(c))
		}
	}

	all := s.kernel.between(s.known, s.known)
	all.RankOne(all, 1, mat.NewVecDense(n, trends), mat.NewVecDense(n, trends))
	known := all.Slice(0, observed, 0, observed).(*mat.Dense)
	cross := all.Slice(0, n, 0, observed).(*mat.Dense)
	var solved mat.VecDense
	var reduction, wantMean, wantCovariance mat.Dense
	noisy := y.onto(known, s.kernel.noise, 0)
	if err := solved.SolveVec(noisy, y.vector()); err != nil {
		t.Fatal(err)
	}
	wantMean.Mul(cross, &solved)
	if err := reduction.Solve(noisy, cross.T()); err != nil {
		t.Fatal(err)
	}
	wantCovariance.Mul(cross, &reduction)
	wantCovariance.Sub(all, &wantCovariance)
	for i := range n {
		if got, want := mean.AtVec(i), wantMean.At(i, 0); math.Abs(got-want) > 0.02 {
			t.Errorf("mean of trial %d: %.4f, want %.4f", i, got, want)
		}
		for j := range n {
			got, want := second.At(i, j)-mean.AtVec(i)*mean.AtVec(j), wantCovariance.At(i, j)
			if math.Abs(got-want) > 0.03 {
				t.Errorf("covariance of trials %d and %d: %.4f, want %.4f", i, j, got, want)
			}
		}
	}
}

// A trial cannot improve on itself: the fronts know its outcome, even while it runs.
func TestTrialsDoNotImproveOnThemselves(t *testing.T) {
	trials := mixedTrials(t, 30)
	trials[29].State = Running
	v := viewOf(t, trials)
	s, err := v.sampleFronts()
	if err != nil {
		t.Fatal(err)
	}
	points := []space.Point{trials[0].Point, trials[29].Point}
	for len(points) < 22 {
		if p := v.sparse(); v.free(p) {
			points = append(points, p)
		}
	}
	spots := s.at(points)
	best := slices.MaxFunc(spots[2:], func(a, b *spot) int { return cmp.Compare(a.value, b.value) })
	if spots[0].value > 1e-3 || spots[1].value > 1e-3 || best.value < 1e-3 {
		t.Errorf("improvement of a finished trial %g, of a running one %g, of the best of 20 new points %g", spots[0].value,
			spots[1].value, best.value)
	}
}

func TestGPSaysWhyTPEProposes(t *testing.T) {
	trials := mixedTrials(t, 10)
	for i := range trials {
		trials[i].Score = 0.7
	}
	got, err := gpSampler{}.propose(viewOf(t, trials))
	if err != nil {
		t.Fatal(err)
	}
	if want := "in place of gp: all scores are equal"; got.Sampler != "tpe" || got.Reason != want {
		t.Errorf("%s, %q; want tpe, %q", got.Sampler, got.Reason, want)
	}
}

// What the local search rules out by a bound must not be better, and what it computes step by step must be
// what it computes at once.
func TestStepsFindTheBestLevel(t *testing.T) {
	for name, prior := range map[string]int{"cold": 0, "warm": 20} {
		t.Run(name, func(t *testing.T) { stepsFindTheBestLevel(t, prior) })
	}
}

func stepsFindTheBestLevel(t *testing.T, prior int) {
	v := mixedView(t, 30)
	v.prior = newSource(v.space, v.reference, viewOf(t, mixedTrials(t, prior)).lists)
	s, err := v.sampleFronts()
	if err != nil {
		t.Fatal(err)
	}
	improved := 0
	for range 20 {
		p := v.sparse()
		for !v.free(p) {
			p = v.sparse()
		}
		from := s.at([]space.Point{p})[0]
		for d, dimension := range v.space.Dimensions() {
			best := from
			for level := range dimension.Levels {
				q := slices.Clone(from.point)
				q[d] = level
				if to := s.at([]space.Point{q})[0]; v.free(q) && to.value > best.value*(1+1e-9) {
					best = to
				}
			}
			got := s.step(from, d)
			if math.Abs(got.value-best.value) > 1e-6*best.value || math.Abs(got.variance-best.variance) > 1e-6*best.variance {
				t.Fatalf("dimension %d: the step finds %v with %g ± %g, the best is %v with %g ± %g", d,
					got.point, got.value, got.variance, best.point, best.value, best.variance)
			}
			if got != from {
				improved++
			}
			from = got
		}
	}
	if improved < 20 {
		t.Errorf("only %d steps improve", improved)
	}
}

// The less certain the forecast of a pruned trial, the less it moves the model.
func TestUncertainForecastsMoveTheModelLess(t *testing.T) {
	trials := mixedTrials(t, 30)
	last := &trials[29]
	last.Score += 0.2
	// of the last trial's outcome, on the scale of the scores, which is the same for all
	mean := func(sd float64) float64 {
		last.SD = sd
		s, err := viewOf(t, trials).sampleFronts()
		if err != nil {
			t.Fatal(err)
		}
		return stat.Mean(s.at([]space.Point{last.Point})[0].means, nil)
	}
	exact, uncertain, unknown := mean(0), mean(0.05), mean(100)
	if !(exact > uncertain+0.3 && uncertain > unknown+0.1) {
		t.Errorf("a forecast of +0.2 moves the model to %.2f standard deviations if it is certain, to %.2f with an SD of "+
			"0.05, to %.2f with 100",
			exact, uncertain, unknown)
	}
}
