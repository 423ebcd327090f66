package search

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"peftsearch/evaluator"
	"peftsearch/space"
)

// Pruner decides at a rung whether a running trial goes on. What the history says is worked out before the verdict is
// needed: it depends on the rung, and not on the trial that reaches it.
type Pruner interface {
	// Outlook is what the history says of trials that stand at the rung at a share of the budget. The history has
	// the study's trials in any order, with their curves; running ones play no part. It is read before Outlook
	// returns and not kept. Outlook is a pure function, safe for concurrent use, and may take seconds.
	Outlook(history []Observation, share float64) Outlook
}

// Outlook judges trials at one rung.
type Outlook interface {
	// Decide judges a running trial whose Curve ends in the Outlook's rung; at another rung it goes on. It is a pure
	// function, safe for concurrent use, and takes a millisecond at most. When it stops the trial, the forecast's
	// score is what the trial counts with; its own is not comparable with scores of whole trainings.
	Decide(trial Observation) (evaluator.Verdict, Forecast)
}

// goOn is the Outlook of a rung at which nothing is stopped.
type goOn struct{}

func (goOn) Decide(Observation) (evaluator.Verdict, Forecast) { return evaluator.Verdict{}, Forecast{} }

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
// The final score is predicted from plan and curve (as in Swersky et al. 2014, "Freeze-Thaw Bayesian Optimization"):
// the process of gp, fitted to the trials that went on after the same rung, says what such a plan ends at, and what it
// has at the rung; a part of what the trial's best score so far is off from the latter is added. The error is
// distributed as those of the other trials are when each is predicted from the rest, which has the tails of curves
// that leap late (the jackknife; Barber et al. 2021, "Predictive Inference with the Jackknife+"), and is larger for a
// plan that is far from theirs. Trials that were stopped later count with their forecasts, and the variances of those:
// without them the process would know those trials alone that did well after the rung (Dempster et al. 1977, "Maximum
// Likelihood from Incomplete Data via the EM Algorithm"). O(n³ + n²·D) for each step of the fit, with n trials, at
// most prunerModelled, and D dimensions.
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

// Outlook implements Pruner.
func (f FrontPruner) Outlook(history []Observation, share float64) Outlook {
	if !(share < 1) {
		return goOn{}
	}
	others := make([]Observation, 0, len(history))
	for _, o := range history {
		if o.State == Complete || o.State == Pruned {
			others = append(others, o)
		}
	}
	slices.SortFunc(others, func(a, b Observation) int { return cmp.Compare(a.Number, b.Number) })
	forecasts, ok := newForecaster(f.Space, f.Reference, others, share)
	if !ok {
		return goOn{}
	}
	out := &frontOutlook{pruner: f, reference: f.Reference, forecasts: forecasts}
	out.reference.MaxParams *= 2 // in the study's scale the largest plans add nothing
	var complete []Outcome
	for _, o := range others {
		out.costs, out.stopped = append(out.costs, f.Reference.cost(o.Params)), append(out.stopped, o.State == Pruned)
		if o.State == Complete {
			complete = append(complete, outcome(o))
		}
	}
	out.volume = Hypervolume(complete, out.reference)
	slices.SortStableFunc(complete, func(a, b Outcome) int { return cmp.Compare(a.Params, b.Params) })
	for i, o := range complete {
		out.sizes = append(out.sizes, o.Params)
		if i > 0 {
			best := out.within[i-1]
			if best.Score > o.Score || best.Score == o.Score && best.Number < o.Number {
				o = best
			}
		}
		out.within = append(out.within, o)
	}
	return out
}

// frontOutlook is the Outlook of a FrontPruner.
type frontOutlook struct {
	pruner    FrontPruner
	reference Reference // of the promise
	forecasts *forecaster
	volume    float64   // hypervolume of the complete trials
	sizes     []int64   // of the complete trials, ascending
	within    []Outcome // the best complete trial of at most each of these sizes; of equal ones the first
	costs     []float64 // of all others, by number
	stopped   []bool    // whether they were
}

// Decide implements Outlook.
func (l *frontOutlook) Decide(trial Observation) (evaluator.Verdict, Forecast) {
	if len(trial.Curve) == 0 || l.pruner.Space.Check(trial.Point) != nil {
		return evaluator.Verdict{}, Forecast{}
	}
	share := trial.Curve[len(trial.Curve)-1].Share
	if math.Abs(share-l.forecasts.share) > sameShare {
		return evaluator.Verdict{}, Forecast{}
	}
	soFar, _ := bestAt(trial.Curve, share)
	forecast, errors := l.forecasts.forecast(trial.Point, soFar)
	ref := l.reference
	incumbent := ref.Chance
	rival := fmt.Sprintf("no trial of at most its %d parameters is complete", trial.Params)
	if smaller, _ := slices.BinarySearch(l.sizes, trial.Params+1); smaller > 0 {
		best := l.within[smaller-1]
		incumbent = max(incumbent, best.Score)
		rival = fmt.Sprintf("trial %d has %.4f with %d parameters of at most %d",
			best.Number, best.Score, best.Params, trial.Params)
	}
	expected := 0.0
	for _, e := range errors {
		const least = 1e-6 // curves without any noise are not trusted entirely
		expected += excess(max(forecast.Score+e.mean, soFar), e.sd+least, incumbent) / float64(len(errors))
	}
	expected *= (1 - ref.cost(trial.Params)) / (1 - ref.Chance) / l.volume
	asked := l.pruner.Growth * (1 - share) / float64(len(l.costs))
	if !(expected < asked) || l.forecasts.unseen(trial.Point) || l.isCheck(trial) { // also while there is no hypervolume
		return evaluator.Verdict{}, forecast
	}
	return evaluator.Verdict{Stop: true, Reason: fmt.Sprintf(
		"score %.4f after %.0f%% of the budget; by the plans and curves of %d trials it ends at %.4f ± %.4f, and %s: "+
			"the hypervolume would grow by %.3g%%, less than the %.3g%% that is asked of the training left",
		soFar, 100*share, len(l.forecasts.points), forecast.Score, forecast.SD, rival,
		math.Round(1e6*expected)/1e4, 100*asked)}, forecast
}

// isCheck reports whether the trial goes on so that forecasts of its size are checked.
func (l *frontOutlook) isCheck(trial Observation) bool {
	cost, stopped := l.pruner.Reference.cost(trial.Params), 0
	for i, other := range slices.Backward(l.costs) {
		if math.Abs(other-cost) > sameSize {
			continue
		}
		if stopped++; !l.stopped[i] || stopped == prunerStopped {
			return l.stopped[i]
		}
	}
	return false
}
