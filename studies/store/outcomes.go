package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"peftsearch/evaluator"
	"peftsearch/search"
)

// nextNumber is the number of a study's next trial: they are numbered from 0 without a gap.
func nextNumber(ctx context.Context, tx *sql.Tx, study int64) (number int64, err error) {
	err = tx.QueryRowContext(ctx,
		"SELECT COALESCE(MAX(number) + 1, 0) FROM trials WHERE study = $1", study).Scan(&number)
	return number, err
}

// known is the number of the trial with a candidate, by its key.
func known(ctx context.Context, tx *sql.Tx, study int64, key string) (number int64, found bool, err error) {
	err = tx.QueryRowContext(ctx,
		"SELECT number FROM trials WHERE study = $1 AND candidate_key = $2", study, key).Scan(&number)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, false, nil
	}
	return number, err == nil, err
}

// Add stores the proposal for which Propose gave the right, and takes its trial to run: the right becomes the trial's
// lease. The error wraps ErrKnown if the study has the candidate already, and ErrMoved if another trial was enqueued
// with its number: then the right is used up as well.
func (s *Store) Add(ctx context.Context, r *Record, right Lease, p Proposal, me Owner) (t Trial, err error) {
	var refused error // which uses up the right
	err = s.writeTo(ctx, r.id, later, func(tx *sql.Tx) error {
		var stored bool // before, and the answer was lost
		if err := tx.QueryRowContext(ctx, "SELECT COUNT(*) > 0 FROM leases WHERE study = $1 AND trial = $2 AND lease = $3",
			r.id, right.trial, right.id).Scan(&stored); err != nil {
			return err
		}
		if stored {
			t, err = queryTrial(ctx, tx, r.id, right.trial)
			return err
		}
		if err := held(ctx, tx, endProposal, right.study, proposer, right.id); err != nil {
			return err
		}
		number, err := nextNumber(ctx, tx, r.id)
		if err != nil {
			return err
		}
		key := KeyOf(p.Candidate)
		_, found, err := known(ctx, tx, r.id, key)
		switch {
		case err != nil:
			return err
		case found:
			refused = ErrKnown
			return nil
		case number != right.trial:
			refused = ErrMoved
			return nil
		}
		if err = s.insert(ctx, tx, r, number, key, p); err == nil {
			t, err = s.start(ctx, tx, right, me)
		}
		return err
	})
	return t, errors.Join(err, refused)
}

// insert stores a new trial, which waits.
func (s *Store) insert(ctx context.Context, tx *sql.Tx, r *Record, number int64, key string, p Proposal) error {
	version, err := change(ctx, tx, r.id)
	if err != nil {
		return err
	}
	var point sql.NullString
	if p.Point != nil {
		point = sql.NullString{String: marshal(p.Point), Valid: true}
	}
	return do(ctx, tx, `INSERT INTO trials (study, number, version, state, origin, reason, point, candidate,
		candidate_key, params, seed, created) VALUES ($1, $2, $3, 'waiting', $4, $5, $6, $7, $8, $9, $10, `+s.dialect.now+`)`,
		r.id, number, version, p.Origin, p.Reason, point, marshal(p.Candidate), key,
		p.Params, int64(TrialSeed(r.Seed, number)))
}

// Enqueue adds a waiting trial, unless the study has its candidate: then it returns that trial.
func (s *Store) Enqueue(ctx context.Context, r *Record, p Proposal) (t Trial, added bool, err error) {
	err = s.writeTo(ctx, r.id, lasting, func(tx *sql.Tx) error {
		key := KeyOf(p.Candidate)
		number, found, err := known(ctx, tx, r.id, key)
		if added = err == nil && !found; added {
			if number, err = nextNumber(ctx, tx, r.id); err == nil {
				err = s.insert(ctx, tx, r, number, key, p)
			}
		}
		if err == nil {
			t, err = queryTrial(ctx, tx, r.id, number)
		}
		return err
	})
	return t, added, err
}

// Release makes a trial or a job wait again, with the same number, plan and seed. crashed says that the attempt ended
// with its worker, which counts; an interruption does not.
func (s *Store) Release(ctx context.Context, l Lease, crashed bool) error {
	crashes := 0
	if crashed {
		crashes = 1
	}
	table, number := l.of()
	return s.end(ctx, l, Waiting, func(tx *sql.Tx, version int64) error {
		return do(ctx, tx, "UPDATE "+table+` SET state = 'waiting', version = $1, crashes = crashes + $2
			WHERE study = $3 AND number = $4`, version, crashes, l.study, number)
	})
}

// Fail stores the failure of a trial or a job as its outcome.
func (s *Store) Fail(ctx context.Context, l Lease, failure *evaluator.Failure) error {
	table, number := l.of()
	return s.end(ctx, l, Failed, func(tx *sql.Tx, version int64) error {
		return do(ctx, tx, "UPDATE "+table+` SET state = 'failed', version = $1, failure_kind = $2, failure = $3,
			finished = `+s.dialect.now+` WHERE study = $4 AND number = $5`,
			version, failure.Kind, failure.Message, l.study, number)
	})
}

// Finish stores a trial's outcome: its State, Result, Curve and Forecast, and the front that follows.
func (s *Store) Finish(ctx context.Context, r *Record, l Lease, t Trial) error {
	result := t.Result
	if math.IsNaN(result.Score) || math.IsInf(result.Score, 0) {
		return fmt.Errorf("trial %d: its score %g is not finite", t.Number, result.Score)
	}
	pruned := t.State == Pruned
	return s.end(ctx, l, t.State, func(tx *sql.Tx, version int64) error {
		if err := do(ctx, tx, `UPDATE trials SET state = $1, version = $2, score = $3, best_step = $4, steps = $5, dev = $6,
			head_params = $7, wall_s = $8, peak_bytes = $9, stopped = $10, forecast = $11, forecast_sd = $12,
			finished = `+s.dialect.now+` WHERE study = $13 AND number = $14`,
			t.State, version, result.Score, result.BestStep, result.Steps, marshal(result.Dev),
			result.Head, result.WallS, result.PeakB, result.Stopped,
			sql.NullFloat64{Float64: t.Forecast.Score, Valid: pruned},
			sql.NullFloat64{Float64: t.Forecast.SD, Valid: pruned}, l.study, l.trial); err != nil {
			return err
		}
		if len(result.Resampled) > 0 {
			if err := do(ctx, tx, "INSERT INTO resamples (study, trial, scores) VALUES ($1, $2, $3)",
				l.study, l.trial, marshal(result.Resampled)); err != nil {
				return err
			}
		}
		if err := addCurve(ctx, tx, l, t.Curve); err != nil || pruned {
			return err
		}
		return addFront(ctx, tx, r, l.trial)
	})
}

// end ends a lease with the state that its trial or job has then. If that was stored before, it changes nothing.
func (s *Store) end(ctx context.Context, l Lease, state State, store func(tx *sql.Tx, version int64) error) error {
	lasts := later
	if state.Finished() {
		lasts = lasting
	}
	table, number := l.of()
	err := s.writeTo(ctx, l.study, lasts, func(tx *sql.Tx) error {
		var now State
		var last sql.NullString
		if err := tx.QueryRowContext(ctx, "SELECT state, lease FROM "+table+" WHERE study = $1 AND number = $2",
			l.study, number).Scan(&now, &last); err != nil {
			return err
		}
		switch {
		case last.String != l.id:
			return ErrFenced
		case now == state: // it was stored, and the answer was lost
			return nil
		case now.Finished():
			return ErrFenced
		}
		version, err := change(ctx, tx, l.study)
		if err != nil {
			return err
		}
		if err := do(ctx, tx, "DELETE FROM leases WHERE study = $1 AND trial = $2 AND lease = $3",
			l.study, l.trial, l.id); err != nil {
			return err
		}
		return store(tx, version)
	})
	if err == nil && state.Finished() && s.file != nil {
		s.checkpoint(ctx)
	}
	return err
}

// addFront stores the front of a study's complete trials, of which the given one is the last: that of the front
// before and the new trial.
func addFront(ctx context.Context, tx *sql.Tx, r *Record, last int64) error {
	before, complete, err := lastFront(ctx, tx, r.id)
	if err != nil {
		return err
	}
	candidates := make([]string, len(before.Members))
	for i, number := range before.Members {
		candidates[i] = strconv.FormatInt(number, 10)
	}
	candidates = append(candidates, strconv.FormatInt(last, 10))
	var outcomes []search.Outcome
	if err := each(ctx, tx, func(scan func(...any) error) error { // in one statement: others wait for the lock
		var o search.Outcome
		err := scan(&o.Number, &o.Params, &o.Score)
		outcomes = append(outcomes, o)
		return err
	}, "SELECT number, params, score FROM trials WHERE study = $1 AND number IN ("+strings.Join(candidates, ", ")+")",
		r.id); err != nil {
		return err
	}
	front := search.Front(outcomes)
	return do(ctx, tx, "INSERT INTO fronts (study, sequence, trial, hypervolume, members) VALUES ($1, $2, $3, $4, $5)",
		r.id, complete+1, last, search.Hypervolume(front, r.Reference), marshal(numbers(front)))
}
