package store

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"peftsearch/evaluator"
	"peftsearch/search"
)

const trialColumns = `number, state, origin, params, seed, attempts, crashes, created, started, finished, score, best_step,
	steps, dev, head_params, wall_s, peak_bytes, stopped, failure_kind, failure, forecast, forecast_sd, host, process,
	reason, point, candidate, trainings, spread, first_score`

func scanTrial(scan func(...any) error) (Trial, error) {
	var t Trial
	var seed, created int64
	var candidate string
	var point, dev, stopped, failureKind, failure, host, process sql.NullString
	var started, finished, bestStep, steps, head, peak sql.NullInt64
	var score, wall, forecast, forecastSD, first sql.NullFloat64
	err := scan(&t.Number, &t.State, &t.Origin, &t.Params, &seed, &t.Attempts, &t.Crashes, &created, &started, &finished,
		&score, &bestStep, &steps, &dev, &head, &wall, &peak, &stopped, &failureKind, &failure, &forecast,
		&forecastSD, &host, &process, &t.Reason, &point, &candidate, &t.Trainings, &t.Spread, &first)
	if err != nil {
		return t, err
	}
	t.Seed, t.Created, t.Started, t.Finished = uint64(seed), time.UnixMilli(created), timeOf(started), timeOf(finished)
	t.Result = evaluator.Result{Score: score.Float64, BestStep: int(bestStep.Int64), Steps: int(steps.Int64),
		Head: head.Int64, WallS: wall.Float64, PeakB: peak.Int64, Stopped: stopped.String}
	t.Host, t.Process = host.String, process.String
	if t.First = score.Float64; first.Valid {
		t.First = first.Float64
	}
	if !t.State.scored() {
		t.Trainings = 0
	}
	t.Forecast = search.Forecast{Score: forecast.Float64, SD: forecastSD.Float64}
	if failureKind.Valid {
		t.Failure = &evaluator.Failure{Kind: evaluator.FailureKind(failureKind.String), Message: failure.String}
	}
	err = json.Unmarshal([]byte(candidate), &t.Candidate)
	if point.Valid {
		err = errors.Join(err, json.Unmarshal([]byte(point.String), &t.Point))
	}
	if dev.Valid {
		err = errors.Join(err, json.Unmarshal([]byte(dev.String), &t.Result.Dev))
	}
	if err != nil {
		err = fmt.Errorf("%w: trial %d: %w", ErrDamaged, t.Number, err)
	}
	return t, err
}

func timeOf(n sql.NullInt64) time.Time {
	if !n.Valid {
		return time.Time{}
	}
	return time.UnixMilli(n.Int64)
}

func queryTrial(ctx context.Context, q querier, study, number int64) (Trial, error) {
	t, err := scanTrial(q.QueryRowContext(ctx,
		"SELECT "+trialColumns+" FROM trials WHERE study = $1 AND number = $2", study, number).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return t, fmt.Errorf("trial %d: %w", number, ErrNoTrial)
	}
	return t, err
}

// Trials lists a study's trials by number, without their curves. Of a long study Range reads some of them, and
// Changes and Outcomes of all what a history needs.
func (s *Store) Trials(ctx context.Context, r *Record) ([]Trial, error) {
	return s.Range(ctx, r, 0, -1, false)
}

// Range lists the trials with numbers from the first to below the last; −1 is no limit. curves asks for the curves of
// those that have a score, and of those that run.
func (s *Store) Range(ctx context.Context, r *Record, first, last int64, curves bool) (trials []Trial, err error) {
	err = s.read(ctx, func(q querier) error {
		trials = nil
		err := each(ctx, q, func(scan func(...any) error) error {
			t, err := scanTrial(scan)
			trials = append(trials, t)
			return cmp.Or(err, r.damagedTrial(t.Number, t.check(r.metric())))
		}, "SELECT "+trialColumns+` FROM trials
			WHERE study = $1 AND number >= $2 AND ($3 < 0 OR number < $3) ORDER BY number`, r.id, first, last)
		if err == nil && curves {
			err = addCurves(ctx, q, r, trials, first, last)
		}
		return err
	})
	return trials, err
}

// addCurves reads the curves of trials, which are all from the first to below the last.
func addCurves(ctx context.Context, q querier, r *Record, trials []Trial, first, last int64) error {
	next := 0
	if err := each(ctx, q, func(scan func(...any) error) error {
		var trial int64
		var p CurvePoint
		err := scan(&trial, &p.Step, &p.Steps, &p.Loss, &p.Score)
		for next < len(trials) && trials[next].Number < trial {
			next++
		}
		if next < len(trials) && trials[next].Number == trial {
			if t := &trials[next]; t.State.scored() || t.State == Running {
				t.Curve = append(t.Curve, p)
			}
		}
		return err
	}, `SELECT trial, step, steps, loss, score FROM curves
		WHERE study = $1 AND trial >= $2 AND ($3 < 0 OR trial < $3) ORDER BY trial, step`, r.id, first, last); err != nil {
		return err
	}
	for _, t := range trials {
		if t.State.scored() {
			if err := r.damagedTrial(t.Number, checkCurve(t.Curve, t.First)); err != nil {
				return err
			}
		}
	}
	return nil
}

// Select reads the trials of the numbers, in their order, without their curves. The error wraps ErrNoTrial if one is
// not there.
func (s *Store) Select(ctx context.Context, r *Record, numbers []int64) (trials []Trial, err error) {
	err = s.read(ctx, func(q querier) error {
		trials = make([]Trial, len(numbers))
		for i, number := range numbers {
			t, err := queryTrial(ctx, q, r.id, number)
			if err = cmp.Or(err, r.damagedTrial(number, t.check(r.metric()))); err != nil {
				return err
			}
			trials[i] = t
		}
		return nil
	})
	return trials, err
}

// Trial reads one trial with its curve; the error wraps ErrNoTrial if there is none. The curve of a running trial has
// the rungs so far.
func (s *Store) Trial(ctx context.Context, r *Record, number int64) (t Trial, err error) {
	err = s.read(ctx, func(q querier) (err error) {
		if t, err = queryTrial(ctx, q, r.id, number); err != nil {
			return fmt.Errorf("study %s: %w", r.Name, err)
		}
		err = each(ctx, q, func(scan func(...any) error) error {
			var p CurvePoint
			err := scan(&p.Step, &p.Steps, &p.Loss, &p.Score)
			t.Curve = append(t.Curve, p)
			return err
		}, "SELECT step, steps, loss, score FROM curves WHERE study = $1 AND trial = $2 ORDER BY step", r.id, number)
		if err == nil && t.State.scored() {
			err = r.damagedTrial(number, cmp.Or(t.check(r.metric()), checkCurve(t.Curve, t.First)))
		}
		return err
	})
	return t, err
}

// Resampled has the scores of trials on resamples of the dev rows, by trial, of those numbers from the first to below
// the last that have any.
func (s *Store) Resampled(ctx context.Context, r *Record, first, last int64) (scores map[int64][]float64, err error) {
	err = s.read(ctx, func(q querier) error {
		scores = map[int64][]float64{}
		return each(ctx, q, func(scan func(...any) error) error {
			var trial int64
			var text string
			if err := scan(&trial, &text); err != nil {
				return err
			}
			var all []float64
			err := json.Unmarshal([]byte(text), &all)
			scores[trial] = all
			return err
		}, "SELECT trial, scores FROM resamples WHERE study = $1 AND trial >= $2 AND trial < $3", r.id, first, last)
	})
	return scores, err
}

// Tally counts a study's trials.
func (s *Store) Tally(ctx context.Context, r *Record) (tally Tally, err error) {
	err = s.read(ctx, func(q querier) error {
		tally = Tally{}
		return each(ctx, q, func(scan func(...any) error) error {
			var state State
			var n int
			err := scan(&state, &n)
			*tally.Of(state) = n
			return err
		}, "SELECT state, COUNT(*) FROM trials WHERE study = $1 GROUP BY state", r.id)
	})
	return tally, err
}

// LastRungs counts a study's complete trials, and those of them whose best score was the last one.
func (s *Store) LastRungs(ctx context.Context, r *Record) (last, all int, err error) {
	err = s.read(ctx, func(q querier) error {
		return q.QueryRowContext(ctx, `SELECT COALESCE(SUM(CASE WHEN best_step = steps THEN 1 ELSE 0 END), 0), COUNT(*)
			FROM trials WHERE study = $1 AND state = 'complete'`, r.id).Scan(&last, &all)
	})
	return last, all, err
}

// Front is the front of a study's complete trials; its Members are nil while there is none.
func (s *Store) Front(ctx context.Context, r *Record) (front FrontPoint, err error) {
	err = s.read(ctx, func(q querier) (err error) {
		front, _, err = lastFront(ctx, q, r.id)
		return err
	})
	return front, err
}

// lastFront is the latest front of a study, and how many complete trials it is of.
func lastFront(ctx context.Context, q querier, study int64) (front FrontPoint, complete int64, err error) {
	front, complete, err = scanFront(q.QueryRowContext(ctx,
		"SELECT sequence, trial, hypervolume, members FROM fronts WHERE study = $1 ORDER BY sequence DESC LIMIT 1",
		study).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return FrontPoint{}, 0, nil
	}
	return front, complete, err
}

func scanFront(scan func(...any) error) (front FrontPoint, sequence int64, err error) {
	var members string
	if err := scan(&sequence, &front.Trial, &front.Hypervolume, &members); err != nil {
		return front, 0, err
	}
	err = json.Unmarshal([]byte(members), &front.Members)
	if err != nil || !(front.Hypervolume >= 0 && front.Hypervolume <= 1+1e-9) {
		return front, 0, fmt.Errorf("%w: the front after trial %d has the hypervolume %g and the members %.40q", ErrDamaged,
			front.Trial, front.Hypervolume, members)
	}
	return front, sequence, nil
}

// Fronts lists the fronts after complete trials, in the order in which these ended, from the first one, which has the
// number 1, on to below the last; −1 is no limit.
func (s *Store) Fronts(ctx context.Context, r *Record, first, last int64) (fronts []FrontPoint, err error) {
	err = s.read(ctx, func(q querier) error {
		fronts = nil
		return each(ctx, q, func(scan func(...any) error) error {
			front, _, err := scanFront(scan)
			fronts = append(fronts, front)
			return err
		}, `SELECT sequence, trial, hypervolume, members FROM fronts
			WHERE study = $1 AND sequence >= $2 AND ($3 < 0 OR sequence < $3) ORDER BY sequence`, r.id, first, last)
	})
	return fronts, err
}

// Attempts lists the running trials by number, with who runs them and how far they are.
func (s *Store) Attempts(ctx context.Context, r *Record) (attempts []Attempt, err error) {
	err = s.read(ctx, func(q querier) error {
		attempts = nil
		return each(ctx, q, func(scan func(...any) error) error {
			var a Attempt
			var started, reported sql.NullInt64
			var doing string
			err := scan(&a.Trial, &a.Owner.Host, &a.Owner.Boot, &a.Owner.Namespace, &a.Owner.Process, &reported,
				&a.Progress.Step, &a.Progress.Steps, &a.Progress.Loss, &doing, &started)
			a.Started, a.Reported = timeOf(started), timeOf(reported)
			if err == nil && json.Unmarshal([]byte(doing), &a.Progress.Doing) != nil {
				err = r.damaged("what a running trial does cannot be read")
			}
			attempts = append(attempts, a)
			return err
		}, `SELECT l.trial, l.host, l.boot, l.namespace, l.process, l.reported, l.step, l.steps, l.loss, l.doing, t.started
			FROM leases l JOIN trials t ON t.study = l.study AND t.number = l.trial WHERE l.study = $1 ORDER BY l.trial`, r.id)
	})
	return attempts, err
}

// Changes lists the trials that changed after a version of the study, by number, and the version up to which that is
// so: give it to the next call. Version 0 is before every change. curves asks for the curves of finished trials.
// Of a trial with an outcome nothing changes but its score, when its candidate is trained again.
func (s *Store) Changes(ctx context.Context, r *Record, since int64, curves bool) (changed []Entry, version int64,
	err error) {
	err = s.read(ctx, func(q querier) error {
		changed, version, err = changes(ctx, q, r, since, curves)
		for i := 0; i < len(changed) && err == nil; i++ {
			err = r.damagedTrial(changed[i].Number, changed[i].check(r.metric(), curves))
		}
		return err
	})
	return changed, version, err
}

// Latest lists the last n trials of a study, by number, without curves.
func (s *Store) Latest(ctx context.Context, r *Record, n int64) (latest []Entry, err error) {
	err = s.read(ctx, func(q querier) error {
		latest = nil
		return each(ctx, q, func(scan func(...any) error) error {
			e, err := scanEntry(scan)
			latest = append(latest, e)
			return cmp.Or(err, r.damagedTrial(e.Number, e.check(r.metric(), false)))
		}, "SELECT "+entryColumns+` FROM trials WHERE study = $1
			AND number > (SELECT MAX(number) FROM trials WHERE study = $1) - $2 ORDER BY number`, r.id, n)
	})
	return latest, err
}

func changes(ctx context.Context, q querier, r *Record, since int64, curves bool) (changed []Entry, version int64,
	err error) {
	err = q.QueryRowContext(ctx, "SELECT version FROM counters WHERE study = $1", r.id).Scan(&version)
	if err != nil || version == since {
		return nil, version, err
	}
	where, args := "study = $1", []any{r.id}
	if since > 0 { // all trials are read without the index, in the order in which they lie
		where, args = "study = $1 AND version > $2", []any{r.id, since}
	}
	if err = each(ctx, q, func(scan func(...any) error) error {
		e, err := scanEntry(scan)
		changed = append(changed, e)
		return err
	}, "SELECT "+entryColumns+" FROM trials WHERE "+where+" ORDER BY number", args...); err != nil || !curves {
		return changed, version, err
	}
	next := 0
	err = each(ctx, q, func(scan func(...any) error) error {
		var trial int64
		var p CurvePoint
		err := scan(&trial, &p.Step, &p.Steps, &p.Loss, &p.Score)
		for changed[next].Number < trial {
			next++
		}
		changed[next].Curve = append(changed[next].Curve, p)
		return err
	}, `SELECT c.trial, c.step, c.steps, c.loss, c.score FROM trials t CROSS JOIN curves c
		WHERE c.study = t.study AND c.trial = t.number AND t.state IN ('complete', 'pruned') AND t.`+where+`
		ORDER BY t.number, c.step`, args...)
	return changed, version, err
}

// Outcomes lists the trials with an outcome in the order in which they ended.
func (s *Store) Outcomes(ctx context.Context, r *Record) (outcomes []Outcome, err error) {
	err = s.read(ctx, func(q querier) error {
		outcomes = nil
		return each(ctx, q, func(scan func(...any) error) error {
			e := Entry{Trainings: 1}
			err := scan(&e.Number, &e.State, &e.Params, &e.Score, &e.Seconds)
			o := Outcome{search.Outcome{Number: e.Number, Params: e.Params, Score: e.Score}, e.State == Complete, e.Seconds}
			outcomes = append(outcomes, o)
			return cmp.Or(err, r.damagedTrial(e.Number, e.check(r.metric(), false)))
		}, "SELECT number, state, params, COALESCE(score, 0), "+secondsColumn+` FROM trials
			WHERE study = $1 AND state IN ('complete', 'pruned', 'failed') ORDER BY finished, version, number`, r.id)
	})
	return outcomes, err
}

// secondsColumn is what a trial took: of a failed one only start and end are known.
const secondsColumn = "COALESCE(wall_s, (finished - started) / 1000.0, 0)"

const entryColumns = "number, state, candidate_key, params, score, forecast, forecast_sd, " + secondsColumn +
	", finished, trainings, spread, first_score, point"

func scanEntry(scan func(...any) error) (e Entry, err error) {
	var key sql.NullString
	var score, forecast, forecastSD, first sql.NullFloat64
	var finished sql.NullInt64
	var point sql.RawBytes
	if err := scan(&e.Number, &e.State, &key, &e.Params, &score, &forecast, &forecastSD, &e.Seconds, &finished,
		&e.Trainings, &e.Spread, &first, &point); err != nil {
		return e, err
	}
	e.Key, e.Score, e.Finished = key.String, score.Float64, timeOf(finished)
	if e.First = e.Score; first.Valid {
		e.First = first.Float64
	}
	e.Forecast = search.Forecast{Score: forecast.Float64, SD: forecastSD.Float64}
	if point != nil {
		if err := json.Unmarshal(point, &e.Point); err != nil {
			return e, fmt.Errorf("%w: trial %d: its point: %w", ErrDamaged, e.Number, err)
		}
	}
	return e, nil
}
