package search

import (
	"cmp"
	"math"
	"slices"

	"gonum.org/v1/gonum/mat"

	"peftsearch/space"
)

// Posterior is what all scores of a study say together about the plans of its complete trials: how well each would do
// on average over trainings. It is gp's process, so that a lucky score counts for less where plans like it did worse.
type Posterior struct {
	trials     []*Observation // complete, by number
	place      map[int64]int  // of a trial's number
	mean       []float64
	covariance *mat.SymDense
	noise      float64
}

// NewPosterior fits the process to the finished trials of a study, of very many to gpTrials of them. Plans outside the
// space are like no other. The error says that scores tell nothing: fewer than two, or all equal; or it wraps
// ErrDamagedHistory.
func NewPosterior(s *space.Space, reference Reference, trials []Observation) (*Posterior, error) {
	history, err := NewHistory(s, trials)
	if err != nil {
		return nil, err
	}
	v := &view{lists: history.lists, space: s, reference: reference, rng: newRand(0, 0)}
	modelled := slices.Clone(v.modelled())
	inside := len(modelled)
	for _, o := range history.lists.all {
		if o.Point == nil && o.State == Complete {
			modelled = append(modelled, o)
		}
	}
	scores, err := standardise(modelled)
	if err != nil {
		return nil, err
	}
	f := newFeatures(s, reference)
	in := inputs{mat.NewDense(len(modelled), len(f.dimension), nil), make([]float64, len(modelled))}
	for i, o := range modelled {
		if in.costs[i] = reference.cost(o.Params); i < inside {
			f.putPoint(in.features.RawRowView(i), o.Point)
		} else {
			for c := range f.dimension {
				in.features.Set(i, c, outside*float64(1+i-inside))
			}
		}
	}
	r := newRegression(f, in, scores, nil)
	best, err := r.fit()
	if err != nil {
		return nil, err
	}
	k := r.kernel(best.theta)
	known := k.scaled(in)
	prior := k.between(known, known)
	var cholesky mat.Cholesky
	if !cholesky.Factorize(scores.onto(prior, k.noise, nugget)) {
		return nil, errNotPositive
	}
	p := &Posterior{place: map[int64]int{}, noise: scores.scale.sd * math.Sqrt(k.noise)}
	var kept []int
	for i, o := range modelled {
		if o.State == Complete {
			kept = append(kept, i)
		}
	}
	slices.SortFunc(kept, func(a, b int) int { return compareNumbers(modelled[a], modelled[b]) })
	var weights mat.VecDense
	var solved mat.Dense
	if cholesky.SolveVecTo(&weights, r.y.vector()) != nil || cholesky.SolveTo(&solved, prior) != nil {
		return nil, errNotPositive
	}
	var explained mat.Dense
	explained.Mul(prior, &solved)
	p.covariance = mat.NewSymDense(len(kept), nil)
	for i, a := range kept {
		p.trials, p.place[modelled[a].Number] = append(p.trials, modelled[a]), i
		p.mean = append(p.mean, scores.scale.mean+scores.scale.sd*mat.Dot(mat.NewVecDense(len(modelled),
			prior.RawRowView(a)), &weights))
		for j, b := range kept[:i+1] {
			p.covariance.SetSym(i, j, scores.scale.sd*scores.scale.sd*(prior.At(a, b)-explained.At(a, b)))
		}
	}
	return p, nil
}

// outside is a feature of the first plan outside of the space: far from all points, and from each other.
const outside = 1e3

// Expected is the expected score of a training of a trial's plan, and the standard deviation with which it is known;
// ok is false for a trial that the process was not fitted to.
func (p *Posterior) Expected(number int64) (mean, sd float64, ok bool) {
	i, ok := p.place[number]
	if !ok {
		return 0, 0, false
	}
	return p.mean[i], math.Sqrt(max(p.covariance.At(i, i), 0)), true
}

// Noise is the standard deviation of the scores of one plan between trainings, beside that by the dev rows where this
// is known.
func (p *Posterior) Noise() float64 { return p.noise }

// AsGood is the probability that the plan of a trial is at least as good as that of another; ok is false where the
// process was not fitted to one of them.
func (p *Posterior) AsGood(number, other int64) (probability float64, ok bool) {
	i, found := p.place[number]
	j, also := p.place[other]
	if !found || !also {
		return 0, false
	}
	return p.asGood(i, j), true
}

func (p *Posterior) asGood(i, j int) float64 {
	difference := p.mean[i] - p.mean[j]
	variance := p.covariance.At(i, i) + p.covariance.At(j, j) - 2*p.covariance.At(i, j)
	if sd := math.Sqrt(max(variance, 0)); sd > 1e-12 {
		return normalCDF(difference / sd)
	}
	if difference < 0 {
		return 0
	}
	return 1
}

// Alike is the probability of being at least as good from which on a plan is not distinguishably worse than another:
// its expected score is then at most 0.84 standard errors of the difference behind.
const Alike = 0.2

// Recommendation is which trial's plan to use.
type Recommendation struct {
	Trial  int64
	Best   int64   // the trial with the highest expected score
	AsGood float64 // the probability that Trial's plan is at least as good as Best's; 1 if they are the same
}

// Recommend recommends the smallest plan that is not distinguishably worse than the best. Of all complete trials the
// best is the one with the highest expected score, not with the highest score, which is often luck.
func (p *Posterior) Recommend() Recommendation {
	best := 0
	for i, mean := range p.mean {
		if mean > p.mean[best] {
			best = i
		}
	}
	chosen, asGood := best, 1.0
	for i, o := range p.trials {
		probability := p.asGood(i, best)
		if i != best && probability >= Alike && smaller(o, p.trials[chosen], p.mean[i]-p.mean[chosen]) {
			chosen, asGood = i, probability
		}
	}
	return Recommendation{p.trials[chosen].Number, p.trials[best].Number, asGood}
}

// smaller reports whether a is a better choice than b: the smaller one, and of one size the one that is ahead.
func smaller(a, b *Observation, ahead float64) bool {
	return cmp.Or(cmp.Compare(a.Params, b.Params), cmp.Compare(0, ahead)) < 0
}
