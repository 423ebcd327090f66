package search

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas64"
	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"
	"gonum.org/v1/gonum/stat"

	"peftsearch/space"
)

// gpSampler models the score by a Gaussian process and proposes the point with the largest expected
// hypervolume improvement, in which the parameters are known exactly (the setting of Olofsson et al.
// 2019, "Bayesian Multiobjective Optimisation With Mixed Analytical and Black-Box Functions").
//
// Scores are noisy, so the front is not known either: outcomes of all finished and running trials are
// drawn jointly from the posterior, and the improvement is the mean over the fronts that they make (as
// in noisy EHVI, Daulton et al. 2021). Running trials thereby count with every score they may get.
//
// The best of random points and of changed front members, some of every size, are improved by a local search that
// tries every level of every dimension. With n trials (at most gpTrials are modelled), D dimensions and M fronts
// of k members it takes O(n³ + n²·D) for each step of the fit and O(n² + M·(n+k)) for each point that
// the search looks at.
//
// Where no process can be fitted, tpe proposes and the reason says why.
type gpSampler struct{}

const (
	gpTrials = 300 // modelled; beyond them the fit would take longer than small trainings
	gpFronts = 16  // sampled
	gpDraws  = 256 // random points, and as many changed front members
	gpStarts = 3   // of the local search: the best points,
	gpSizes  = 8   // and the best of each of so many ranges of the cost
	gpSweeps = 5   // of the local search over the dimensions
)

func (gpSampler) propose(v *view) (Suggestion, error) {
	knew := v.prior != nil
	point, err := v.mostImproving()
	if err != nil {
		suggestion, tpeErr := tpeSampler{}.propose(v)
		suggestion.Reason = fmt.Sprintf("in place of gp: %v", err)
		return suggestion, tpeErr
	}
	reason := reasonChosen
	if knew && v.prior == nil {
		reason += misleads
	}
	return Suggestion{point, "gp", reason}, nil
}

// misleads says in a suggestion's reason that a source was left out of account.
const misleads = "; what others promised is left out, the scores are likelier without it"

// mostImproving finds a free point with a large expected improvement.
func (v *view) mostImproving() (space.Point, error) {
	fronts, err := v.sampleFronts()
	if err != nil {
		return nil, err
	}
	var candidates []space.Point
	consider := func(p space.Point) {
		if v.free(p) {
			candidates = append(candidates, p)
		}
	}
	bases := v.prior.frontPoints()
	front, _ := peel(v.ranked)
	for _, member := range front {
		bases = append(bases, member.Point)
	}
	for range gpDraws {
		consider(v.sparse())
		changed := bases[v.rng.IntN(len(bases))]
		for range 1 + v.rng.IntN(4) {
			changed = v.neighbour(changed)
		}
		consider(changed)
	}
	if len(candidates) == 0 {
		return nil, errors.New("no untried plan near the front or among random ones")
	}
	spots := fronts.at(candidates)
	slices.SortStableFunc(spots, func(a, b *spot) int { return cmp.Compare(b.value, a.value) })
	tops := starts(spots)
	var climbs sync.WaitGroup
	for i := range tops {
		rng := rand.New(rand.NewPCG(v.rng.Uint64(), v.rng.Uint64()))
		climbs.Go(func() { tops[i] = fronts.climb(tops[i], rng) })
	}
	climbs.Wait()
	return slices.MaxFunc(tops, func(a, b *spot) int { return cmp.Compare(a.value, b.value) }).point, nil
}

// starts chooses the spots that the local search starts from, of spots by descending value. Without some of every
// size all would be where values are large before the search, and it would find nothing elsewhere.
func starts(spots []*spot) []*spot {
	var chosen []*spot
	sizes := map[int]bool{}
	for i, s := range spots {
		size := int(s.cost * gpSizes)
		if i < gpStarts || !sizes[size] {
			chosen = append(chosen, s)
		}
		sizes[size] = true
	}
	return chosen
}

// sampledFronts are fronts that the trials may have, each with the process that knows its outcomes.
// Scores are standardised.
type sampledFronts struct {
	view     *view
	features *features
	kernel   *kernel
	known    inputs            // the sampled trials, scaled
	columns  *mat.Dense        // their features, transposed
	spreads  []float64         // of them
	trends   []float64         // what another study says of them, centred
	centre   float64           // of that
	lower    blas64.Triangular // Cholesky factor of their covariance
	weights  *mat.Dense        // covariance⁻¹ · outcomes, one column per front
	fronts   []staircase
	seconds  *durations // nil where a training counts the same, whatever it takes
}

// sampleFronts fits the process and draws outcomes of the trials.
func (v *view) sampleFronts() (*sampledFronts, error) {
	modelled := v.modelled()
	scores, err := standardise(modelled)
	if err != nil {
		return nil, err
	}
	points := make([]space.Point, 0, len(modelled)+len(v.failed)+len(v.running))
	var costs []float64
	for _, o := range modelled {
		points, costs = append(points, o.Point), append(costs, v.reference.cost(o.Params))
	}
	// as bad as the worst, so that the search leaves the region
	for _, o := range v.failed[max(0, len(v.failed)-gpTrials):] {
		points, costs = append(points, o.Point), append(costs, math.Inf(1))
		scores.add(slices.Min(scores.values[:len(modelled)]))
	}
	observed := len(scores.values)
	for _, o := range v.running[max(0, len(v.running)-gpTrials):] {
		points, costs = append(points, o.Point), append(costs, v.reference.cost(o.Params))
	}

	s := &sampledFronts{view: v, features: newFeatures(v.space, v.reference)}
	encoded := s.features.encode(points)
	s.trends = v.prior.means(points)
	s.centre = stat.Mean(s.trends, nil)
	floats.AddConst(-s.centre, s.trends)
	r := newRegression(s.features, encoded.first(observed), scores, s.trends[:observed])
	best, err := r.fit()
	if err != nil {
		return nil, err
	}
	if v.prior != nil {
		r.trends = nil
		if without, err := r.fit(); err == nil && without.loss < best.loss {
			best, v.prior, s.centre = without, nil, 0
			clear(s.trends)
		}
	}
	if v.perSecond {
		s.seconds = newDurations(v.space, modelled)
	}
	s.kernel = r.kernel(best.theta)
	outcomes, err := s.sample(encoded, scores)
	if err != nil {
		return nil, err
	}
	chance := scores.scale.of(v.reference.Chance)
	for f := range gpFronts {
		s.fronts = append(s.fronts, newStaircase(costs, mat.Col(nil, f, outcomes), chance))
	}
	return s, nil
}

// modelled are the finished trials that the process is fitted to: all, or of many the better half of
// gpTrials by non-domination and a random choice of the others.
func (v *view) modelled() []*Observation {
	if len(v.finished) <= gpTrials {
		return v.finished
	}
	sorted := slices.Concat(v.ranks()...)
	rest := sorted[gpTrials/2:]
	v.rng.Shuffle(len(rest), func(i, j int) { rest[i], rest[j] = rest[j], rest[i] })
	return sorted[:gpTrials]
}

// sample draws joint outcomes of the trials, one column per front, given the scores y of the first of them, with
// variances of their own beside the noise. It uses Matheron's rule: a draw from the prior, corrected by what the
// scores say about it (Wilson et al. 2020, "Efficiently Sampling Functions from Gaussian Process Posteriors").
func (s *sampledFronts) sample(encoded inputs, y *scored) (*mat.Dense, error) {
	s.known = s.kernel.scaled(encoded)
	s.columns = mat.DenseCopyOf(s.known.features.T())
	s.spreads = s.kernel.spreads(s.known.costs)
	all, observed := len(s.known.costs), len(y.values)
	covariance := s.kernel.between(s.known, s.known)
	trends := mat.NewVecDense(all, s.trends)
	covariance.RankOne(covariance, 1, trends, trends)
	for i := range all {
		covariance.Set(i, i, covariance.At(i, i)+nugget)
	}
	scored := covariance.Slice(0, observed, 0, observed).(*mat.Dense)
	var prior, posterior mat.Cholesky
	noises := y.noises(s.kernel.noise)
	if !prior.Factorize(symmetric(covariance)) || !posterior.Factorize(y.onto(scored, s.kernel.noise, 0)) {
		return nil, errors.New("the covariance of the trials is not positive definite")
	}
	var lower mat.TriDense
	prior.LTo(&lower)
	s.lower = lower.RawTriangular()

	outcomes := mat.NewDense(all, gpFronts, nil)
	outcomes.Apply(func(_, _ int, _ float64) float64 { return s.view.rng.NormFloat64() }, outcomes)
	outcomes.Mul(&lower, outcomes)
	missing := mat.NewDense(observed, gpFronts, nil)
	missing.Apply(func(i, j int, _ float64) float64 {
		return y.values[i] - outcomes.At(i, j) - math.Sqrt(noises[i])*s.view.rng.NormFloat64()
	}, missing)
	var solved, correction mat.Dense
	if err := posterior.SolveTo(&solved, missing); err != nil {
		return nil, fmt.Errorf("sampling outcomes: %w", err)
	}
	correction.Mul(covariance.Slice(0, all, 0, observed), &solved)
	outcomes.Add(outcomes, &correction)
	s.weights = new(mat.Dense)
	if err := prior.SolveTo(s.weights, outcomes); err != nil {
		return nil, fmt.Errorf("sampling outcomes: %w", err)
	}
	return outcomes, nil
}

// spot is a point that the search looks at.
type spot struct {
	point      space.Point
	cost       float64
	features   []float64 // scaled
	squares    []float64 // squared distances from the known trials
	trend      float64   // what another study says of it, centred
	covariance []float64 // with their outcomes
	means      []float64 // of its outcome given each front's
	variance   float64   // of its outcome
	value      float64   // expected hypervolume improvement
}

// at looks at points.
func (s *sampledFronts) at(points []space.Point) []*spot {
	scaled := s.kernel.scaled(s.features.encode(points))
	distances := squares(scaled.features, s.known.features)
	spots := make([]*spot, len(points))
	for i, p := range points {
		spots[i] = &spot{point: p, cost: scaled.costs[i], features: scaled.features.RawRowView(i),
			squares: distances.RawRowView(i)}
	}
	s.setMeans(spots)
	s.setVariances(spots)
	for _, spot := range spots {
		spot.value = s.improvement(spot)
	}
	return spots
}

// climb takes the dimensions in random order, again and again, and moves to the best level of each, until
// no dimension has a better one.
func (s *sampledFronts) climb(from *spot, rng *rand.Rand) *spot {
	for range gpSweeps {
		moved := false
		for _, d := range rng.Perm(len(from.point)) {
			if best := s.step(from, d); best != from {
				from, moved = best, true
			}
		}
		if !moved {
			break
		}
	}
	return from
}

// step looks at the other levels of one dimension and returns the best spot. Most levels are ruled out
// before their variance is computed, which takes O(n²): for f the outcome without the nugget,
// sd f(q) ≤ sd f(p) + sd(f(q) − f(p)), of which the last is at most that of the prior; and the expected
// improvement grows with the standard deviation.
func (s *sampledFronts) step(from *spot, d int) *spot {
	var spots []*spot
	first, end := s.features.first[d], s.features.first[d+1]
	for level := range s.view.space.Dimensions()[d].Levels {
		to := &spot{point: slices.Clone(from.point), features: slices.Clone(from.features),
			squares: slices.Clone(from.squares)}
		to.point[d] = level
		if level == from.point[d] || !s.view.free(to.point) {
			continue
		}
		s.features.put(to.features[first:end], d, level)
		moved := 0.0
		for c := first; c < end; c++ {
			to.features[c] *= s.kernel.inverse[c]
			change, sum := to.features[c]-from.features[c], to.features[c]+from.features[c]
			moved += change * change
			for i, known := range s.columns.RawRowView(c) {
				to.squares[i] += change * (sum - 2*known)
			}
		}
		to.cost = s.features.cost(to.point)
		covariance, _ := s.kernel.at(moved)
		covariance *= s.kernel.spread(from.cost) * s.kernel.spread(to.cost)
		covariance += s.kernel.typical * typicalCorrelation(from.cost, to.cost)
		// Of f(q) − f(p), without what another study says.
		to.variance = max(s.kernel.variance(from.cost)+s.kernel.variance(to.cost)-2*covariance, 0)
		spots = append(spots, to)
	}
	s.setMeans(spots)
	spots = slices.DeleteFunc(spots, func(to *spot) bool {
		sd := math.Sqrt(max(from.variance-nugget, 0)) + math.Hypot(math.Sqrt(to.variance), to.trend-from.trend)
		to.variance = min(sd*sd, s.kernel.variance(to.cost)+to.trend*to.trend) + nugget
		return s.improvement(to) <= from.value
	})
	s.setVariances(spots)
	best := from
	for _, to := range spots {
		if to.value = s.improvement(to); to.value > best.value {
			best = to
		}
	}
	return best
}

// setMeans computes the covariances and means of spots from their distances, in O(n·M) for each.
func (s *sampledFronts) setMeans(spots []*spot) {
	if len(spots) == 0 {
		return
	}
	covariance := mat.NewDense(len(spots), len(s.known.costs), nil)
	points := make([]space.Point, len(spots))
	for i, spot := range spots {
		points[i] = spot.point
	}
	for i, trend := range s.view.prior.means(points) {
		spot := spots[i]
		spot.covariance, spot.trend = covariance.RawRowView(i), trend-s.centre
		spread := s.kernel.spread(spot.cost)
		for j, square := range spot.squares {
			g, _ := s.kernel.at(square)
			spot.covariance[j] = spread*s.spreads[j]*g + s.kernel.typical*typicalCorrelation(spot.cost, s.known.costs[j]) +
				spot.trend*s.trends[j]
		}
	}
	var means mat.Dense
	means.Mul(covariance, s.weights)
	for i, spot := range spots {
		spot.means = means.RawRowView(i)
	}
}

// setVariances computes the variances of spots from their covariances, in O(n²) for each.
func (s *sampledFronts) setVariances(spots []*spot) {
	if len(spots) == 0 {
		return
	}
	solved := mat.NewDense(len(spots), len(spots[0].covariance), nil)
	for i, spot := range spots {
		solved.SetRow(i, spot.covariance)
	}
	blas64.Trsm(blas.Right, blas.Trans, 1, s.lower, solved.RawMatrix())
	for i, square := range rowSquares(solved) {
		spots[i].variance = max(s.kernel.variance(spots[i].cost)+spots[i].trend*spots[i].trend+nugget-square, nugget)
	}
}

// improvement is the expected hypervolume improvement by a spot, the mean over the fronts, for each second where that
// counts.
func (s *sampledFronts) improvement(spot *spot) float64 {
	sd := math.Sqrt(spot.variance)
	var sum float64
	for f, front := range s.fronts {
		sum += front.improvement(spot.cost, spot.means[f], sd)
	}
	return sum / gpFronts / s.seconds.of(spot.point)
}

// staircase is a front and the reference point: score[i] is the best score for less than cost[i+1], the
// cost at which the next step begins. score[0] is the chance score, the last cost 1.
type staircase struct{ cost, score []float64 }

// newStaircase makes the front of some outcomes; those that add nothing to the hypervolume are left out.
func newStaircase(costs, scores []float64, chance float64) staircase {
	order := make([]int, len(scores))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(costs[a], costs[b]), cmp.Compare(scores[b], scores[a]))
	})
	s := staircase{cost: []float64{math.Inf(-1)}, score: []float64{chance}}
	for _, i := range order {
		if costs[i] < 1 && scores[i] > s.score[len(s.score)-1] {
			s.cost, s.score = append(s.cost, costs[i]), append(s.score, scores[i])
		}
	}
	s.cost = append(s.cost, 1)
	return s
}

// improvement is the expected growth of the hypervolume by an outcome of known cost and a normally
// distributed score. With steps j, …, k from the candidate's cost on, it is
// (cⱼ₊₁ − c)·EI(fⱼ) + Σᵢ₌ⱼ₊₁ (cᵢ₊₁ − cᵢ)·EI(fᵢ): the strip between two steps grows by as much as the
// score exceeds the lower one.
func (s staircase) improvement(cost, mean, sd float64) float64 {
	var sum float64
	for i, score := range s.score {
		width := s.cost[i+1] - max(s.cost[i], cost)
		if width <= 0 {
			continue
		}
		height := excess(mean, sd, score)
		sum += width * height
		if height < 1e-6*sum { // heights fall from step to step and the widths add up to 1 at most
			break
		}
	}
	return sum
}

// excess is E[max(X − threshold, 0)] of a normal X. It keeps relative precision down to 37 standard
// deviations below the threshold, and is 0 beyond.
func excess(mean, sd, threshold float64) float64 {
	z := (mean - threshold) / sd
	density := math.Exp(-z*z/2) / math.Sqrt(2*math.Pi)
	return sd * max(z*normalCDF(z)+density, 0)
}
