package store

import (
	"errors"
	"fmt"
	"math"

	"peftsearch/data/metric"
	"peftsearch/data/quote"
	"peftsearch/evaluator"
	"peftsearch/search"
)

// What peftsearch stores was checked before. What is read is checked again, since databases are edited, merged and
// repaired by hand: what cannot be is an error that wraps ErrDamaged, and names the study and the trial.

// damaged is the error of a study that cannot be as it is stored.
func (r *Record) damaged(format string, args ...any) error {
	return fmt.Errorf("study %s: %w: "+format, append([]any{quote.Text(r.Name), ErrDamaged}, args...)...)
}

func (r *Record) metric() metric.Name { return metric.Name(r.Metric) }

// damagedTrial is the error of a trial that cannot be as it is stored, nil for a nil err.
func (r *Record) damagedTrial(number int64, err error) error {
	if err == nil {
		return nil
	}
	return r.damaged("trial %d: %w", number, err)
}

// check reports a study that cannot be.
func (r *Record) check() error {
	if !r.metric().Known() {
		return r.damaged("there is no metric %s", quote.Text(r.Metric))
	}
	if err := errors.Join(r.Reference.Check(), r.Geometry.Validate()); err != nil {
		return r.damaged("%w", err)
	}
	return nil
}

// check reports a trial that cannot be.
func (t Trial) check(m metric.Name) error {
	if t.Params < 0 {
		return fmt.Errorf("it has %d parameters", t.Params)
	}
	if !t.State.scored() {
		return nil
	}
	return errors.Join(t.Result.Check(m), checkForecast(t.Forecast), checkTrainings(t.Trainings, t.Spread))
}

// check is that of a trial for what a history keeps of it. curves says that its curve was read.
func (e Entry) check(m metric.Name, curves bool) error {
	if !e.State.scored() {
		return nil
	}
	known := evaluator.Result{Score: e.Score, WallS: e.Seconds, BestStep: 1, Steps: 1}
	err := errors.Join(known.Check(m), checkForecast(e.Forecast), checkTrainings(e.Trainings, e.Spread))
	if err != nil || !curves {
		return err
	}
	return checkCurve(e.Curve, e.First)
}

func checkForecast(f search.Forecast) error {
	if math.IsInf(f.Score, 0) || !(f.SD >= 0 && f.SD < math.Inf(1)) {
		return fmt.Errorf("its forecast is %g with a standard deviation of %g", f.Score, f.SD)
	}
	return nil
}

func checkTrainings(trainings int, spread float64) error {
	if trainings < 1 || !(spread >= 0 && spread < math.Inf(1)) {
		return fmt.Errorf("its score is of %d trainings with a spread of %g", trainings, spread)
	}
	return nil
}

// checkCurve reports a curve that cannot be, or that has not the score as its best.
func checkCurve(curve []CurvePoint, score float64) error {
	const rounding = 1e-6
	best := math.Inf(-1)
	for _, p := range curve {
		if p.Step < 0 || p.Step > p.Steps || p.Steps < 1 {
			return fmt.Errorf("it has a rung at step %d of %d", p.Step, p.Steps)
		}
		best = max(best, p.Score)
	}
	if !(math.Abs(best-score) <= rounding) {
		return fmt.Errorf("its score %g is not the best of its %d rungs", score, len(curve))
	}
	return nil
}

// check reports a full training that cannot be.
func (t Training) check(m metric.Name) error {
	err := t.Result.Check(m)
	if test, ok := t.Result.Test[string(m)]; ok && err == nil {
		onTest := t.Result
		onTest.Score = test
		err = onTest.Check(m)
	}
	return err
}
