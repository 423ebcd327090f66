package search

import (
	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"
)

// MaxTrainings is how often a search trains one plan.
const MaxTrainings = 3

// raceDraws is how many times the scores of all plans are drawn to see which could be the best.
const raceDraws = 512

// Contender is the trial whose plan is to be trained once more, of those with fewer than MaxTrainings trainings that
// are not busy: the one by which a training can change most what the best plan is. That is the probability that it is
// the best, times how much of the variance of its expected score another training takes away. ok is false if there is
// none that could be the best.
func (p *Posterior) Contender(busy func(number int64) bool) (number int64, ok bool) {
	best, value := 0, 0.0
	for i, probability := range p.bests() {
		o := p.trials[i]
		if max(1, o.Trainings) >= MaxTrainings || busy(o.Number) {
			continue
		}
		variance := p.covariance.At(i, i)
		if v := probability * variance * variance / (variance + p.noise*p.noise); v > value {
			best, value = i, v
		}
	}
	if value == 0 {
		return 0, false
	}
	return p.trials[best].Number, true
}

// bests are the probabilities of the plans to be the best.
func (p *Posterior) bests() []float64 {
	n := len(p.trials)
	out := make([]float64, n)
	jittered := mat.NewSymDense(n, nil)
	jittered.CopySym(p.covariance)
	for i := range n {
		jittered.SetSym(i, i, jittered.At(i, i)*(1+1e-9)+1e-12)
	}
	var cholesky mat.Cholesky
	if !cholesky.Factorize(jittered) {
		return out
	}
	var lower mat.TriDense
	cholesky.LTo(&lower)
	rng := newRand(0, int64(n))
	normals, scores := mat.NewVecDense(n, nil), mat.NewVecDense(n, nil)
	for range raceDraws {
		for i := range n {
			normals.SetVec(i, rng.NormFloat64())
		}
		scores.MulVec(&lower, normals)
		scores.AddVec(scores, mat.NewVecDense(n, p.mean))
		out[floats.MaxIdx(scores.RawVector().Data)] += 1.0 / raceDraws
	}
	return out
}

// Racing says whether the next training of a search is one of a plan that was trained before: in the last share of its
// budget, of which the share progress is used.
func Racing(progress, share float64) bool { return share > 0 && progress >= 1-share-1e-9 }
