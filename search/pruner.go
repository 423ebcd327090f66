package search

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/mat"
	"gonum.org/v1/gonum/stat"

	"peftsearch/evaluator"
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

// Pruner decides at a rung whether a running trial goes on.
type Pruner interface {
	// Decide judges the trial, whose Curve ends in the rung just reached, against the history: the
	// other trials, in any order, with their curves. It is a pure function. When it stops the trial,
	// the forecast's score is what the trial counts with; its own is not comparable with scores of
	// whole trainings.
	Decide(trial Observation, history []Observation) (evaluator.Verdict, Forecast)
}

// FrontPruner stops a trial that hardly promises to improve the front.
//
// The promise is the expected growth of the hypervolume that plans of at most the trial's size dominate, as a share of
// the whole: larger plans play no part, so that a small plan is never stopped for being weaker than one of them. It
// is measured against the training that is left: a trial near its end goes on for less. And it is measured against
// what a trial brought on average so far, which falls as the search goes on: a search stays where it is for as long as
// it finds there what it finds elsewhere (Charnov 1976, "Optimal Foraging: The Marginal Value Theorem"). A trial that
// has a module which no other had yet is never stopped, nor is one whose plan is outside the space, nor one when the
// latest prunerStopped trials of its size all were: forecasts that are too low would never be found out.
//
// The final score is predicted from plan and curve (as in Swersky et al. 2014, "Freeze-Thaw Bayesian Optimization"): the
// process of gp, fitted to the trials that went on after the same rung, says what such a plan ends at, and what it has at
// the rung; a part of what the trial's best score so far is off from the latter is added. The error is distributed as
// those of the other trials are when each is predicted from the rest, which has the tails of curves that leap late (the
// jackknife; Barber et al. 2021, "Predictive Inference with the Jackknife+"), and is larger for a plan that is far from
// theirs. Trials that were stopped later count with their forecasts, and the variances of those: without them the
// process would know those trials alone that did well after the rung (Dempster et al. 1977, "Maximum Likelihood from
// Incomplete Data via the EM Algorithm"). O(n³ + n²·D) for each step of the fit, with n trials, at most prunerModelled,
// and D dimensions.
type FrontPruner struct {
	Space     *space.Space // of the trials' points
	Reference Reference    // scale of the hypervolume
	// Growth is what a trial must promise for each whole training that it still takes, or it is stopped, in shares
	// of what a trial brought on average so far: 1/n of the hypervolume after n trials. Above 0; larger is bolder.
	Growth float64
}

// DefaultGrowth is the Growth of a study's pruner.
const DefaultGrowth = 0.5

const (
	prunerTrials   = 6    // trials that went on after the same rung before anything is stopped
	prunerModelled = 200  // the latest of them, that the process holds
	prunerStopped  = 12   // trials of a size that are stopped in a row
	sameSize       = 0.1  // difference of the costs of trials of a size
	sameShare      = 0.01 // difference of the shares of a rung that is the same in two trials
)

// Decide implements Pruner.
func (f FrontPruner) Decide(trial Observation, history []Observation) (evaluator.Verdict, Forecast) {
	if len(trial.Curve) == 0 || trial.Curve[len(trial.Curve)-1].Share >= 1 || trial.Point == nil {
		return evaluator.Verdict{}, Forecast{}
	}
	share := trial.Curve[len(trial.Curve)-1].Share
	others := make([]Observation, 0, len(history))
	for _, o := range history {
		if (o.State == Complete || o.State == Pruned) && o.Number != trial.Number {
			others = append(others, o)
		}
	}
	slices.SortFunc(others, func(a, b Observation) int { return cmp.Compare(a.Number, b.Number) })
	outlook, ok := f.outlook(others, share)
	if !ok {
		return evaluator.Verdict{}, Forecast{}
	}
	soFar, _ := bestAt(trial.Curve, share)
	forecast, errors := outlook.forecast(trial.Point, soFar)
	ref := f.Reference
	ref.MaxParams *= 2 // in the study's scale the largest plans add nothing
	var complete []Outcome
	for _, o := range others {
		if o.State == Complete {
			complete = append(complete, outcome(o))
		}
	}
	incumbent, rival := ref.Chance, fmt.Sprintf("no trial of at most its %d parameters is complete", trial.Params)
	if best, found := bestWithin(complete, trial.Params); found {
		incumbent = max(incumbent, best.Score)
		rival = fmt.Sprintf("trial %d has %.4f with %d parameters of at most %d", best.Number, best.Score, best.Params, trial.Params)
	}
	expected := 0.0
	for _, e := range errors {
		const least = 1e-6 // curves without any noise are not trusted entirely
		expected += excess(max(forecast.Score+e.mean, soFar), e.sd+least, incumbent) / float64(len(errors))
	}
	expected *= (1 - ref.cost(trial.Params)) / (1 - ref.Chance) / Hypervolume(complete, ref)
	asked := f.Growth * (1 - share) / float64(len(others))
	if !(expected < asked) || outlook.unseen(trial.Point) || f.isCheck(trial, others) { // also while there is no hypervolume
		return evaluator.Verdict{}, forecast
	}
	return evaluator.Verdict{Stop: true, Reason: fmt.Sprintf(
		"score %.4f after %.0f%% of the budget; by the plans and curves of %d trials it ends at %.4f ± %.4f, and %s: "+
			"the hypervolume would grow by %.3g%%, less than the %.3g%% that is asked of the training left",
		soFar, 100*share, len(outlook.points), forecast.Score, forecast.SD, rival, math.Round(1e6*expected)/1e4, 100*asked)}, forecast
}

// isCheck reports whether the trial goes on so that forecasts of its size are checked.
func (f FrontPruner) isCheck(trial Observation, others []Observation) bool {
	stopped := 0
	for _, o := range slices.Backward(others) {
		if math.Abs(f.Reference.cost(o.Params)-f.Reference.cost(trial.Params)) > sameSize {
			continue
		}
		if stopped++; o.State != Pruned || stopped == prunerStopped {
			return o.State == Pruned
		}
	}
	return false
}

// bestWithin is the best trial with at most that many parameters, if there is one.
func bestWithin(trials []Outcome, params int64) (best Outcome, found bool) {
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

// outlook predicts the final scores of trials that stand at a rung.
type outlook struct {
	points   []space.Point // of the trials that went on after it
	features *features
	kernel   *kernel
	known    inputs       // the points, scaled
	factor   mat.Cholesky // of their covariance
	score    level        // of the best scores up to the rung
	final    level        // of the final scores
	carry    float64      // how much of a surprise at the rung is left at the end
	errors   []normal     // of the trials' final scores, each predicted from the others; the last is a prior that explains nothing
	variance float64      // of the process for these, on average
}

// level is what a process says of one kind of score.
type level struct {
	scale   standard
	weights mat.VecDense // covariance⁻¹ · scores
}

// outlook fits the trials that went on after the rung; false if they are too few.
func (f FrontPruner) outlook(others []Observation, share float64) (*outlook, bool) {
	var trials []Observation
	var scores []float64
	for _, o := range others {
		score, ok := bestAt(o.Curve, share)
		stopped := o.State == Pruned && o.Curve[len(o.Curve)-1].Share <= share+sameShare
		if ok && !stopped && o.Point != nil {
			trials, scores = append(trials, o), append(scores, score)
		}
	}
	if len(trials) < prunerTrials {
		return nil, false
	}
	old := max(0, len(trials)-prunerModelled)
	trials, scores = trials[old:], scores[old:]
	scale, finals, variances, err := standardise(trials)
	if err != nil {
		return nil, false
	}
	l := &outlook{features: newFeatures(f.Space, f.Reference)}
	for _, o := range trials {
		l.points = append(l.points, o.Point)
	}
	encoded := l.features.encode(l.points)
	regression := newRegression(l.features, encoded, finals, variances, nil)
	best, err := regression.fit()
	if err != nil {
		return nil, false
	}
	l.kernel = regression.kernel(best.theta)
	l.known = l.kernel.scaled(encoded)
	var inverse mat.SymDense
	if !l.factor.Factorize(symmetric(l.kernel.between(l.known, l.known), l.kernel.noise+nugget, variances)) || l.factor.InverseTo(&inverse) != nil {
		return nil, false
	}
	l.final.scale, l.score.scale = scale, standardOf(scores)
	for i, score := range scores {
		scores[i] = l.score.scale.of(score)
	}
	if l.final.fit(&l.factor, finals) != nil || l.score.fit(&l.factor, scores) != nil {
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
		l.variance += (1/inverse.At(i, i) - variances[i]) / float64(len(trials))
	}
	l.errors = append(l.errors, normal{0, scale.sd})
	return l, true
}

// fit solves for the weights of standardised scores.
func (l *level) fit(factor *mat.Cholesky, scores []float64) error {
	return factor.SolveVecTo(&l.weights, mat.NewVecDense(len(scores), scores))
}

// unseen reports whether the point has a module that none of the trials has.
func (l *outlook) unseen(point space.Point) bool {
	for d, size := range point {
		optional := l.features.space.Dimensions()[d].Optional()
		if optional && size > 0 && !slices.ContainsFunc(l.points, func(p space.Point) bool { return p[d] > 0 }) {
			return true
		}
	}
	return false
}

// forecast predicts the final score of a trial with a best score so far, and what that may be off by.
func (l *outlook) forecast(point space.Point, soFar float64) (Forecast, []normal) {
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
