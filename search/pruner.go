package search

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"
	"gonum.org/v1/gonum/stat"

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

// FrontPruner stops a trial that hardly promises to improve the front.
//
// The promise is the expected growth of the hypervolume that plans of at most the trial's size dominate, as a share of
// the whole: larger plans play no part, so that a small plan is never stopped for being weaker than one of them. It
// is measured against the training that is left: a trial near its end goes on for less. And it is measured against
// what a trial brought on average so far, which falls as the search goes on: a search stays where it is for as long as
// it finds there what it finds elsewhere (Charnov 1976, "Optimal Foraging: The Marginal Value Theorem"). A trial that
// has a module which no other had yet is never stopped.
//
// The final score is predicted by a Gaussian process regression of what trials gained after the same rung, on the best
// score so far, the logarithm of the parameters and which modules there are; half of what it expects is linear in
// these. Its error is distributed as those of the other trials are when each is predicted from the rest, which has
// the tails of curves that leap late (the jackknife; Barber et al. 2021, "Predictive Inference with the Jackknife+").
// Trials that were stopped later count with their forecasts, and the variances of those: without them the regression
// would know those trials alone that did well after the rung (Dempster et al. 1977, "Maximum Likelihood from
// Incomplete Data via the EM Algorithm"). O(n³ + n²·D) with n trials, at most growthTrials, and D dimensions.
type FrontPruner struct {
	Reference Reference // scale of the hypervolume
	// Growth is what a trial must promise for each whole training that it still takes, or it is stopped, in shares
	// of what a trial brought on average so far: 1/n of the hypervolume after n trials. Above 0; larger is bolder.
	Growth float64
}

const (
	prunerTrials = 6    // trials that went on after the same rung before anything is stopped
	sameShare    = 0.01 // difference of the shares of a rung that is the same in two trials
)

// Decide implements Pruner.
func (f FrontPruner) Decide(trial Observation, history []Observation) (evaluator.Verdict, Forecast) {
	if len(trial.Curve) == 0 || trial.Curve[len(trial.Curve)-1].Share >= 1 {
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
	growth, ok := newGrowth(others, share)
	if !ok {
		return evaluator.Verdict{}, Forecast{}
	}
	soFar, _ := bestAt(trial.Curve, share)
	forecast := growth.forecast(trial)
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
	for _, e := range growth.errors {
		const least = 1e-6 // curves without any noise are not trusted entirely
		expected += excess(max(forecast.Score+e.mean, soFar), e.sd+least, incumbent) / float64(len(growth.errors))
	}
	expected *= (1 - ref.cost(trial.Params)) / (1 - ref.Chance) / Hypervolume(complete, ref)
	asked := f.Growth * (1 - share) / float64(len(others))
	if !(expected < asked) || growth.unseen(trial) { // also while there is no hypervolume
		return evaluator.Verdict{}, forecast
	}
	return evaluator.Verdict{Stop: true, Reason: fmt.Sprintf(
		"score %.4f after %.0f%% of the budget; by the curves of %d trials it ends at %.4f ± %.4f, and %s: "+
			"the hypervolume would grow by %.2g%%, less than the %.2g%% that is asked of the training left",
		soFar, 100*share, growth.trials, forecast.Score, forecast.SD, rival, math.Round(1e6*expected)/1e4, 100*asked)}, forecast
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

// growth is a regression of what trials gain after a rung, by a Gaussian process whose parameters are fixed: tens of
// trials do not tell them.
type growth struct {
	share  float64    // of the rung
	trials int        // that went on after it
	scales []standard // of the regressors
	gain   standard   // of what the trials gained
	rows   [][]float64
	alpha  mat.VecDense // covariance⁻¹ · gains
	errors []normal     // of the trials' gains, each predicted from the others; the last is a prior that explains nothing
}

const (
	growthTrials = 300 // the latest, that a regression holds
	growthNoise  = 0.3 // variance, where that of the gains is 1
	growthScale  = 1.5 // lengthscale for one regressor
)

// covariance is that of the gains of two trials with standardised regressors.
func (g *growth) covariance(a, b []float64) float64 {
	columns := float64(len(g.scales))
	u := math.Sqrt(3/columns) * floats.Distance(a, b, 2) / growthScale
	return floats.Dot(a, b)/columns + (1+u)*math.Exp(-u)
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

// regressors are the best score up to the rung, the logarithm of the size and, of a point of the space, which
// dimensions are above their lowest level: for sizes of modules, which modules there are. False if the trial
// has no such rung.
func regressors(o Observation, share float64) ([]float64, bool) {
	score, ok := bestAt(o.Curve, share)
	x := []float64{score, math.Log1p(float64(o.Params))}
	for _, level := range o.Point {
		x = append(x, float64(min(level, 1)))
	}
	return x, ok
}

// newGrowth fits the trials that went on after the rung; false if they are too few.
func newGrowth(others []Observation, share float64) (*growth, bool) {
	g := &growth{share: share}
	var rows [][]float64
	var gains []float64
	columns, sds := 0, []float64(nil)
	for _, o := range others {
		row, ok := regressors(o, share)
		if !ok || o.State == Pruned && o.Curve[len(o.Curve)-1].Share <= share+sameShare {
			continue
		}
		rows, gains = append(rows, row), append(gains, o.Score-row[0])
		columns, sds = max(columns, len(row)), append(sds, o.SD)
	}
	if g.trials = len(rows); g.trials < prunerTrials {
		return nil, false
	}
	if old := g.trials - growthTrials; old > 0 {
		g.trials, rows, gains, sds = growthTrials, rows[old:], gains[old:], sds[old:]
	}
	for c := range columns {
		var values []float64
		for _, row := range rows {
			if c < len(row) {
				values = append(values, row[c])
			}
		}
		g.scales = append(g.scales, standardOf(values))
	}
	g.gain = standardOf(gains)
	if !(g.gain.sd > 0) { // curves that all end alike
		g.gain.sd = 1
	}
	covariance := mat.NewSymDense(g.trials, nil)
	standardised := mat.NewVecDense(g.trials, nil)
	for i, row := range rows {
		g.rows = append(g.rows, g.standardised(row))
		standardised.SetVec(i, g.gain.of(gains[i]))
		for j := range g.rows {
			covariance.SetSym(i, j, g.covariance(g.rows[i], g.rows[j]))
		}
		noise := sds[i] / g.gain.sd
		covariance.SetSym(i, i, covariance.At(i, i)+growthNoise+noise*noise)
	}
	var factor mat.Cholesky
	var inverse mat.SymDense
	if !factor.Factorize(covariance) || factor.SolveVecTo(&g.alpha, standardised) != nil || factor.InverseTo(&inverse) != nil {
		return nil, false
	}
	for i := range gains { // what is left when the others predict it: Rasmussen and Williams 2006, section 5.4.2
		g.errors = append(g.errors, normal{g.gain.sd * g.alpha.AtVec(i) / inverse.At(i, i), sds[i]})
	}
	g.errors = append(g.errors, normal{0, stat.StdDev(gains, nil)})
	return g, true
}

// standardised are regressors of all columns: what a point outside the space does not have is average.
func (g *growth) standardised(row []float64) []float64 {
	out := make([]float64, len(g.scales))
	for c, value := range row[:min(len(row), len(g.scales))] {
		out[c] = g.scales[c].of(value)
	}
	return out
}

// unseen reports whether the trial has a module that none of the regression's trials has.
func (g *growth) unseen(trial Observation) bool {
	row, _ := regressors(trial, g.share)
	for c := 2; c < len(row); c++ {
		if row[c] > 0 && (c >= len(g.scales) || g.scales[c].mean == 0) {
			return true
		}
	}
	return false
}

// forecast predicts the final score of a trial at the rung.
func (g *growth) forecast(trial Observation) Forecast {
	row, _ := regressors(trial, g.share)
	square := 0.0
	for _, e := range g.errors {
		square += (e.mean*e.mean + e.sd*e.sd) / float64(len(g.errors))
	}
	x, gain := g.standardised(row), 0.0
	for i, other := range g.rows {
		gain += g.alpha.AtVec(i) * g.covariance(x, other)
	}
	return Forecast{Score: row[0] + max(g.gain.mean+g.gain.sd*gain, 0), SD: math.Sqrt(square)}
}
