package search

import (
	"math"
	"slices"

	"gonum.org/v1/gonum/mat"
	"gonum.org/v1/gonum/stat"

	"peftsearch/space"
)

// Rung is an intermediate dev evaluation of a trial.
type Rung struct {
	Share float64 // of the budget that was used, above 0 and at most 1
	Score float64
}

// Forecast is what a running trial's final score will be, as far as can be told.
type Forecast struct {
	Score float64 `json:"score"` // expected; at least the best so far
	SD    float64 `json:"sd"`    // of the predictive distribution
}

// bestAt is the best score up to the rung at a share of the budget; false if there is no such rung.
func bestAt(curve []Rung, share float64) (best float64, found bool) {
	best = math.Inf(-1)
	for _, rung := range curve {
		if rung.Share > share+sameShare {
			break
		}
		best = max(best, rung.Score)
		found = math.Abs(rung.Share-share) <= sameShare
	}
	return best, found
}

// forecaster predicts the final scores of trials that stand at a rung.
type forecaster struct {
	share    float64       // of the budget, at the rung
	points   []space.Point // of the trials that went on after it
	features *features
	kernel   *kernel
	known    inputs       // the points, scaled
	factor   mat.Cholesky // of their covariance
	score    level        // of the best scores up to the rung
	final    level        // of the final scores
	carry    float64      // how much of a surprise at the rung is left at the end
	errors   []normal     // of the trials' final scores, each predicted from the others; the last explains nothing
	variance float64      // of the process for these, on average
}

// level is what a process says of one kind of score.
type level struct {
	scale   standard
	weights mat.VecDense // covariance⁻¹ · scores
}

// newForecaster fits the trials that went on after the rung, of others that have ended; false if they are too few.
func newForecaster(s *space.Space, reference Reference, others []Observation, share float64) (*forecaster, bool) {
	var trials []*Observation
	var scores []float64
	for i := range others {
		o := &others[i]
		score, ok := bestAt(o.Curve, share)
		if !ok || s.Check(o.Point) != nil {
			continue
		}
		if stopped := o.State == Pruned && o.Curve[len(o.Curve)-1].Share <= share+sameShare; !stopped {
			trials, scores = append(trials, o), append(scores, score)
		}
	}
	if len(trials) < prunerTrials {
		return nil, false
	}
	old := max(0, len(trials)-prunerModelled)
	trials, scores = trials[old:], scores[old:]
	finals, err := standardise(trials)
	if err != nil {
		return nil, false
	}
	l := &forecaster{share: share, features: newFeatures(s, reference)}
	for _, o := range trials {
		l.points = append(l.points, o.Point)
	}
	encoded := l.features.encode(l.points)
	regression := newRegression(l.features, encoded, finals, nil)
	best, err := regression.fit()
	if err != nil {
		return nil, false
	}
	l.kernel = regression.kernel(best.theta)
	l.known = l.kernel.scaled(encoded)
	var inverse mat.SymDense
	covariance := finals.onto(l.kernel.between(l.known, l.known), l.kernel.noise, nugget)
	if !l.factor.Factorize(covariance) || l.factor.InverseTo(&inverse) != nil {
		return nil, false
	}
	l.final.scale, l.score.scale = finals.scale, standardOf(scores)
	for i, score := range scores {
		scores[i] = l.score.scale.of(score)
	}
	if l.final.fit(&l.factor, finals.values) != nil || l.score.fit(&l.factor, scores) != nil {
		return nil, false
	}

	// What is left when the others predict a trial: Rasmussen and Williams 2006, section 5.4.2.
	left := func(of level, i int) float64 { return of.scale.sd * of.weights.AtVec(i) / inverse.At(i, i) }
	// The carry is a ridge regression. Before there are trials it is taken to be the share of the budget, as in a curve
	// whose steps do not depend on each other.
	prior := l.score.scale.sd * l.score.scale.sd
	cross, square := share*prior, prior
	for i := range trials {
		cross += left(l.score, i) * left(l.final, i)
		square += left(l.score, i) * left(l.score, i)
	}
	if square > 0 {
		l.carry = cross / square
	}
	for i, o := range trials {
		l.errors = append(l.errors, normal{left(l.final, i) - l.carry*left(l.score, i), o.SD})
		l.variance += (1/inverse.At(i, i) - finals.variances[i]) / float64(len(trials))
	}
	l.errors = append(l.errors, normal{0, finals.scale.sd})
	return l, true
}

// fit solves for the weights of standardised scores.
func (l *level) fit(factor *mat.Cholesky, scores []float64) error {
	return factor.SolveVecTo(&l.weights, mat.NewVecDense(len(scores), scores))
}

// unseen reports whether the point has a module that none of the trials has.
func (l *forecaster) unseen(point space.Point) bool {
	for d, size := range point {
		optional := l.features.space.Dimensions()[d].Optional()
		if optional && size > 0 && !slices.ContainsFunc(l.points, func(p space.Point) bool { return p[d] > 0 }) {
			return true
		}
	}
	return false
}

// forecast predicts the final score of a trial with a best score so far, and what that may be off by.
func (l *forecaster) forecast(point space.Point, soFar float64) (Forecast, []normal) {
	at := l.kernel.scaled(l.features.encode([]space.Point{point}))
	covariance := l.kernel.between(at, l.known).RowView(0)
	expected := func(of level) float64 { return of.scale.mean + of.scale.sd*mat.Dot(covariance, &of.weights) }
	var solved mat.VecDense
	stretch := 1.0 // of the errors, for a plan that is farther from the trials' than they are from each other
	if l.factor.SolveVecTo(&solved, covariance) == nil {
		variance := l.kernel.variance(at.costs[0]) + l.kernel.noise + nugget - mat.Dot(covariance, &solved)
		stretch = math.Sqrt(max(variance/l.variance, 1))
	}
	errors, square := make([]normal, len(l.errors)), 0.0
	for i, e := range l.errors {
		errors[i] = normal{stretch * e.mean, stretch * e.sd}
		square += (errors[i].mean*errors[i].mean + errors[i].sd*errors[i].sd) / float64(len(errors))
	}
	return Forecast{Score: max(expected(l.final)+l.carry*(soFar-expected(l.score)), soFar), SD: math.Sqrt(square)}, errors
}

// standard centres and scales.
type standard struct{ mean, sd float64 }

func standardOf(values []float64) standard {
	mean, sd := stat.MeanStdDev(values, nil)
	return standard{mean, sd}
}

func (s standard) of(value float64) float64 {
	if !(s.sd > 0) { // NaN for a single value
		return 0
	}
	return (value - s.mean) / s.sd
}
