package search

import (
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/mat"
	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/gonum/stat/distuv"

	"peftsearch/evaluator"
)

// Rung is an intermediate dev evaluation of a trial.
type Rung struct {
	Share float64 // of the budget that was used, above 0 and at most 1
	Score float64
}

// Forecast is what a running trial's final score will be, as far as can be told.
type Forecast struct {
	Score float64 // expected; at least the best so far
	SD    float64 // of the predictive distribution
}

// Pruner decides at a rung whether a running trial goes on.
type Pruner interface {
	// Decide judges the trial, whose Curve ends in the rung just reached, against the history: the
	// other trials, in any order, with their curves. It is a pure function. When it stops the trial,
	// the forecast's score is what the trial counts with; its own is not comparable with scores of
	// whole trainings.
	Decide(trial Observation, history []Observation) (evaluator.Verdict, Forecast)
}

// FrontPruner stops a trial that can hardly enter the front at its own number of parameters.
//
// The final score is predicted by a linear regression, on the best score so far and the logarithm of the
// parameters, of what complete trials gained after the same rung. The prediction follows Student's t
// distribution, which is wide while there are few trials, and wider for trials unlike them. Trials that
// were stopped are no part of the regression; that does not bias it, since what stopped them is known to
// it (they are missing at random). A trial is compared with complete trials of at most its own size
// alone, so that a small plan is never stopped for being weaker than a large one. O(n).
type FrontPruner struct {
	Risk float64 // of stopping a trial that would have entered the front; above 0, below 1
}

const (
	prunerTrials = 8    // complete trials with the same rung before anything is stopped
	sameShare    = 0.01 // difference of the shares of a rung that is the same in two trials
)

// Decide implements Pruner.
func (f FrontPruner) Decide(trial Observation, history []Observation) (evaluator.Verdict, Forecast) {
	if len(trial.Curve) == 0 {
		return evaluator.Verdict{}, Forecast{}
	}
	share := trial.Curve[len(trial.Curve)-1].Share
	soFar, _ := bestAt(trial.Curve, share)
	complete := make([]Observation, 0, len(history))
	for _, o := range history {
		if o.State == Complete && o.Number != trial.Number {
			complete = append(complete, o)
		}
	}
	slices.SortFunc(complete, func(a, b Observation) int { return int(a.Number - b.Number) })
	growth, ok := newGrowth(complete, share)
	if !ok || share >= 1 {
		return evaluator.Verdict{}, Forecast{}
	}
	gain := growth.predict(soFar, trial.Params)
	forecast := Forecast{Score: soFar + max(gain.Mu, 0), SD: gain.StdDev()}

	incumbent, found := bestWithin(complete, trial.Params)
	if !found || soFar > incumbent.Score {
		return evaluator.Verdict{}, forecast
	}
	chance := gain.Survival(incumbent.Score - soFar)
	if chance >= f.Risk {
		return evaluator.Verdict{}, forecast
	}
	return evaluator.Verdict{Stop: true, Reason: fmt.Sprintf(
		"score %.4f after %.0f%% of the budget; by the curves of %d complete trials it ends at %.4f ± %.4f, "+
			"and trial %d has %.4f with %d parameters of at most %d: the chance to pass it is %.1f%%, below %.1f%%",
		soFar, 100*share, growth.trials, forecast.Score, forecast.SD,
		incumbent.Number, incumbent.Score, incumbent.Params, trial.Params, 100*chance, 100*f.Risk)}, forecast
}

// bestWithin is the best trial with at most that many parameters, if there is one.
func bestWithin(trials []Observation, params int64) (best Observation, found bool) {
	for _, o := range trials {
		if o.Params <= params && (!found || o.Score > best.Score) {
			best, found = o, true
		}
	}
	return best, found
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

// growth is a Bayesian linear regression of what trials gain after a rung. The slopes have a prior around
// 0 that weighs as much as one trial.
type growth struct {
	trials       int
	score, size  standard // of the regressors
	coefficients mat.VecDense
	precision    mat.Cholesky // X'X and the prior
	residual     float64      // variance
	freedom      float64
}

// standard centres and scales.
type standard struct{ mean, sd float64 }

func standardOf(values []float64) standard {
	mean, sd := stat.MeanStdDev(values, nil)
	return standard{mean, sd}
}

func (s standard) of(value float64) float64 {
	if s.sd == 0 {
		return 0
	}
	return (value - s.mean) / s.sd
}

// newGrowth fits the trials that have the rung; false if they are too few.
func newGrowth(complete []Observation, share float64) (*growth, bool) {
	var scores, sizes, gains []float64
	for _, o := range complete {
		if score, ok := bestAt(o.Curve, share); ok {
			scores = append(scores, score)
			sizes = append(sizes, math.Log1p(float64(o.Params)))
			gains = append(gains, o.Score-score)
		}
	}
	g := &growth{trials: len(gains), score: standardOf(scores), size: standardOf(sizes)}
	if g.trials < prunerTrials {
		return nil, false
	}
	const regressors = 3
	x := mat.NewDense(g.trials, regressors, nil)
	for i := range gains {
		x.SetRow(i, []float64{1, g.score.of(scores[i]), g.size.of(sizes[i])})
	}
	normal := mat.NewSymDense(regressors, []float64{0, 0, 0, 0, 1, 0, 0, 0, 1})
	for i := range gains {
		normal.SymRankOne(normal, 1, x.RowView(i))
	}
	var moment, fitted mat.VecDense
	y := mat.NewVecDense(g.trials, gains)
	moment.MulVec(x.T(), y)
	if !g.precision.Factorize(normal) || g.precision.SolveVecTo(&g.coefficients, &moment) != nil {
		return nil, false
	}
	fitted.MulVec(x, &g.coefficients)
	fitted.SubVec(y, &fitted)
	g.freedom = float64(g.trials - regressors)
	g.residual = mat.Dot(&fitted, &fitted) / g.freedom
	return g, true
}

// predict is the distribution of the gain of another trial.
func (g *growth) predict(score float64, params int64) distuv.StudentsT {
	x := mat.NewVecDense(3, []float64{1, g.score.of(score), g.size.of(math.Log1p(float64(params)))})
	var solved mat.VecDense
	_ = g.precision.SolveVecTo(&solved, x) // factorised in newGrowth
	const least = 1e-6                     // curves without any noise are not trusted entirely
	return distuv.StudentsT{Mu: mat.Dot(x, &g.coefficients), Nu: g.freedom,
		Sigma: math.Sqrt(g.residual*(1+mat.Dot(x, &solved))) + least}
}
