package search

import (
	"cmp"
	"fmt"
	"math"
	"slices"

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
// is measured against the training that is left: a trial near its end goes on for less. A trial that has a module
// which no other had yet is never stopped.
//
// The final score is predicted by a Bayesian linear regression of what trials gained after the same rung, on the best
// score so far, the logarithm of the parameters and which modules there are. Its error is distributed as those of
// the other trials are when each is predicted from the rest, which has the tails of curves that leap late (the
// jackknife; Barber et al. 2021, "Predictive Inference with the Jackknife+"). Trials that were stopped later count
// with their forecasts, and the variances of those: without them the regression would know those trials alone that
// did well after the rung (Dempster et al. 1977, "Maximum Likelihood from Incomplete Data via the EM Algorithm").
// O(n·D² + D³) with n trials and D dimensions.
type FrontPruner struct {
	Reference Reference // scale of the hypervolume
	// Growth is the share by which the hypervolume must be expected to grow for each whole training that a
	// trial still takes, or it is stopped; above 0. Larger is bolder.
	Growth float64
}

const (
	prunerTrials = 6    // trials that went on after the same rung before anything is stopped
	sameShare    = 0.01 // difference of the shares of a rung that is the same in two trials
)

// Decide implements Pruner.
func (f FrontPruner) Decide(trial Observation, history []Observation) (evaluator.Verdict, Forecast) {
	if len(trial.Curve) == 0 {
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
	if !ok || share >= 1 {
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
	asked := f.Growth * (1 - share)
	if !(expected < asked) || growth.unseen(trial) { // also while there is no hypervolume
		return evaluator.Verdict{}, forecast
	}
	return evaluator.Verdict{Stop: true, Reason: fmt.Sprintf(
		"score %.4f after %.0f%% of the budget; by the curves of %d trials it ends at %.4f ± %.4f, and %s: "+
			"the hypervolume would grow by %.2g%%, less than the %.2g%% that is asked of the training left",
		soFar, 100*share, growth.trials, forecast.Score, forecast.SD, rival, 100*expected, 100*asked)}, forecast
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

// growth is a Bayesian linear regression of what trials gain after a rung. The slopes have a prior around
// 0 that weighs as much as slopePrior trials.
type growth struct {
	share        float64    // of the rung
	trials       int        // that went on after it
	scales       []standard // of the regressors
	coefficients mat.VecDense
	errors       []normal // of the trials' gains, each predicted from the others; the last is a prior that explains nothing
}

const slopePrior = 2

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
	for c := range columns {
		var values []float64
		for _, row := range rows {
			if c < len(row) {
				values = append(values, row[c])
			}
		}
		g.scales = append(g.scales, standardOf(values))
	}
	x := mat.NewDense(g.trials, 1+columns, nil)
	for i, row := range rows {
		x.SetRow(i, g.standardised(row))
	}
	gram := mat.NewSymDense(1+columns, nil)
	gram.SymOuterK(1, x.T())
	for c := 1; c <= columns; c++ {
		gram.SetSym(c, c, gram.At(c, c)+slopePrior)
	}
	var precision mat.Cholesky
	var moment, solved mat.VecDense
	moment.MulVec(x.T(), mat.NewVecDense(g.trials, gains))
	if !precision.Factorize(gram) || precision.SolveVecTo(&g.coefficients, &moment) != nil {
		return nil, false
	}
	for i, gain := range gains {
		_ = precision.SolveVecTo(&solved, x.RowView(i)) // as well conditioned as for the coefficients
		leverage := mat.Dot(x.RowView(i), &solved)
		g.errors = append(g.errors, normal{(gain - mat.Dot(x.RowView(i), &g.coefficients)) / (1 - leverage), sds[i]})
	}
	g.errors = append(g.errors, normal{0, stat.StdDev(gains, nil)})
	return g, true
}

// standardised are regressors after a 1, of all columns: what a point outside the space does not have is average.
func (g *growth) standardised(row []float64) []float64 {
	out := make([]float64, 1+len(g.scales))
	out[0] = 1
	for c, value := range row[:min(len(row), len(g.scales))] {
		out[1+c] = g.scales[c].of(value)
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
	gain := mat.Dot(mat.NewVecDense(1+len(g.scales), g.standardised(row)), &g.coefficients)
	return Forecast{Score: row[0] + max(gain, 0), SD: math.Sqrt(square)}
}
