package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"math"

	"peftsearch/evaluator"
	"peftsearch/search"
)

// Lease is the right of one process to run a trial, or to make the next proposal of a study. It is over when its
// process is seen to have ended, or some time after the last sign of life where that cannot be seen. What becomes of a
// trial counts for as long as no other process has started it again.
type Lease struct {
	id    string
	study int64
	trial int64
}

// Trial is the number of the trial; of a proposal, the number that the next trial will have.
func (l Lease) Trial() int64 { return l.trial }

// proposer stands in the table of leases for the trial that is not there yet.
const proposer = -1

// change takes the next number of a change to a study's trials, and with it the lock of all of them.
func change(ctx context.Context, tx *sql.Tx, study int64) (version int64, err error) {
	err = tx.QueryRowContext(ctx, "UPDATE counters SET version = version + 1 WHERE study = $1 RETURNING version", study).Scan(&version)
	return version, err
}

// vacate takes leases from processes that have ended, and those that are over: their trials wait again.
func (s *Store) vacate(ctx context.Context, tx *sql.Tx, study int64, me Owner) error {
	var over []int64
	if err := each(ctx, tx, func(scan func(...any) error) error {
		var trial int64
		var o Owner
		var late bool
		if err := scan(&trial, &o.Host, &o.Boot, &o.Namespace, &o.Process, &late); err != nil {
			return err
		}
		// The clock says nothing of a process that can be seen to live: it may have slept with its machine.
		if life := o.seen(me); life == ended || life == unseen && late {
			over = append(over, trial)
		}
		return nil
	}, "SELECT trial, host, boot, namespace, process, until < "+s.dialect.now+" FROM leases WHERE study = $1", study); err != nil {
		return err
	}
	for _, trial := range over {
		if err := s.vacant(ctx, tx, study, trial); err != nil {
			return err
		}
	}
	return nil
}

// vacant ends a lease without an outcome.
func (s *Store) vacant(ctx context.Context, tx *sql.Tx, study, trial int64) error {
	if _, err := tx.ExecContext(ctx, "DELETE FROM leases WHERE study = $1 AND trial = $2", study, trial); err != nil || trial == proposer {
		return err
	}
	version, err := change(ctx, tx, study)
	if err == nil {
		_, err = tx.ExecContext(ctx, "UPDATE trials SET state = 'waiting', version = $1 WHERE study = $2 AND number = $3 AND state = 'running'", version, study, trial)
	}
	return err
}

// grant gives a lease.
func (s *Store) grant(ctx context.Context, tx *sql.Tx, l Lease, trial int64, me Owner) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO leases (study, trial, lease, host, boot, namespace, process, until, reported)
		VALUES ($1, $2, $3, $4, $5, $6, $7, `+s.dialect.now+" + $8, "+s.dialect.now+")",
		l.study, trial, l.id, me.Host, me.Boot, me.Namespace, me.Process, s.LeaseTime.Milliseconds())
	return err
}

// start makes the trial of a lease run.
func (s *Store) start(ctx context.Context, tx *sql.Tx, l Lease, me Owner) (t Trial, err error) {
	if err = s.grant(ctx, tx, l, l.trial, me); err != nil {
		return t, err
	}
	version, err := change(ctx, tx, l.study)
	if err != nil {
		return t, err
	}
	if _, err = tx.ExecContext(ctx, "UPDATE trials SET state = 'running', lease = $1, attempts = attempts + 1, version = $2, started = "+s.dialect.now+
		" WHERE study = $3 AND number = $4", l.id, version, l.study, l.trial); err != nil {
		return t, err
	}
	return queryTrial(ctx, tx, l.study, l.trial)
}

// Pop takes the waiting trial with the lowest number to run. First it makes trials wait again whose process is gone.
// The error wraps ErrNothing if none waits.
func (s *Store) Pop(ctx context.Context, r *Record, me Owner) (t Trial, l Lease, err error) {
	nothing := false // which is no reason to undo what vacate did
	err = s.write(ctx, func(tx *sql.Tx) error {
		if err := s.vacate(ctx, tx, r.id, me); err != nil {
			return err
		}
		l = Lease{id: rand.Text(), study: r.id}
		err := tx.QueryRowContext(ctx, "SELECT number FROM trials WHERE study = $1 AND state = 'waiting' ORDER BY number LIMIT 1", r.id).Scan(&l.trial)
		if nothing = errors.Is(err, sql.ErrNoRows); nothing {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "DELETE FROM curves WHERE study = $1 AND trial = $2", r.id, l.trial); err != nil { // of an attempt before
			return err
		}
		t, err = s.start(ctx, tx, l, me)
		return err
	})
	if err == nil && nothing {
		err = ErrNothing
	}
	return t, l, err
}

// Propose gives the right to make the next trial of a study, for one process at a time; Add uses it up, Release
// returns it. The error wraps ErrEnough if the study has as many trials as the limit, ErrProposed if another process
// has the right.
func (s *Store) Propose(ctx context.Context, r *Record, limit int64, me Owner) (l Lease, err error) {
	err = s.write(ctx, func(tx *sql.Tx) error {
		if err := s.vacate(ctx, tx, r.id, me); err != nil {
			return err
		}
		number, err := nextNumber(ctx, tx, r.id)
		if err != nil {
			return err
		}
		if number >= limit {
			return ErrEnough
		}
		var taken bool
		if err := tx.QueryRowContext(ctx, "SELECT COUNT(*) > 0 FROM leases WHERE study = $1 AND trial = $2", r.id, proposer).Scan(&taken); err != nil {
			return err
		}
		if taken {
			return ErrProposed
		}
		l = Lease{id: rand.Text(), study: r.id, trial: number}
		return s.grant(ctx, tx, l, proposer, me)
	})
	return l, err
}

// nextNumber is the number of a study's next trial: they are numbered from 0 without a gap.
func nextNumber(ctx context.Context, tx *sql.Tx, study int64) (number int64, err error) {
	err = tx.QueryRowContext(ctx, "SELECT COALESCE(MAX(number) + 1, 0) FROM trials WHERE study = $1", study).Scan(&number)
	return number, err
}

// Add stores the proposal for which Propose gave the right, and takes its trial to run: the right becomes the trial's
// lease. The error wraps ErrKnown if the study has the candidate already, and ErrMoved if another trial was enqueued
// with its number: then the right is used up as well.
func (s *Store) Add(ctx context.Context, r *Record, right Lease, p Proposal, me Owner) (t Trial, err error) {
	var refused error
	err = s.write(ctx, func(tx *sql.Tx) error {
		if err := held(ctx, tx, "DELETE FROM leases WHERE study = $1 AND trial = $2 AND lease = $3", right.study, proposer, right.id); err != nil {
			return err
		}
		number, err := nextNumber(ctx, tx, r.id)
		if err != nil {
			return err
		}
		key := KeyOf(p.Candidate)
		var known bool
		if err := tx.QueryRowContext(ctx, "SELECT COUNT(*) > 0 FROM trials WHERE study = $1 AND candidate_key = $2", r.id, key).Scan(&known); err != nil {
			return err
		}
		switch {
		case known:
			refused = ErrKnown
		case number != right.trial:
			refused = ErrMoved
		default:
			if err = s.insert(ctx, tx, r, number, key, p); err == nil {
				t, err = s.start(ctx, tx, right, me)
			}
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
	_, err = tx.ExecContext(ctx, `INSERT INTO trials (study, number, version, state, origin, reason, point, candidate, candidate_key, params, seed, created)
		VALUES ($1, $2, $3, 'waiting', $4, $5, $6, $7, $8, $9, $10, `+s.dialect.now+")", r.id, number, version, p.Origin, p.Reason, point,
		marshal(p.Candidate), key, p.Params, int64(TrialSeed(r.Seed, number)))
	return err
}

// Enqueue adds a waiting trial, unless the study has its candidate: then it returns that trial.
func (s *Store) Enqueue(ctx context.Context, r *Record, p Proposal) (t Trial, added bool, err error) {
	err = s.write(ctx, func(tx *sql.Tx) error {
		key := KeyOf(p.Candidate)
		var number int64
		err := tx.QueryRowContext(ctx, "SELECT number FROM trials WHERE study = $1 AND candidate_key = $2", r.id, key).Scan(&number)
		if added = errors.Is(err, sql.ErrNoRows); added {
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

// held runs a statement that changes what a lease is of; the error is ErrFenced if it changes nothing.
func held(ctx context.Context, tx *sql.Tx, query string, args ...any) error {
	result, err := tx.ExecContext(ctx, query, args...)
	if err != nil {
		return err
	}
	n, err := result.RowsAffected()
	if err == nil && n == 0 {
		err = ErrFenced
	}
	return err
}

// Beat is a sign of life: the lease holds on. Of a trial it stores how far it is, and the points of its curve that
// were not stored before. The error wraps ErrFenced if the lease is over and another process has its trial.
func (s *Store) Beat(ctx context.Context, l Lease, p Progress, curve []CurvePoint) error {
	return s.write(ctx, func(tx *sql.Tx) error {
		if err := held(ctx, tx, "UPDATE leases SET until = "+s.dialect.now+" + $1, reported = "+s.dialect.now+
			", step = $2, steps = $3, loss = $4 WHERE study = $5 AND lease = $6",
			s.LeaseTime.Milliseconds(), p.Step, p.Steps, finite(p.Loss), l.study, l.id); err != nil || len(curve) == 0 {
			return err
		}
		if err := addCurve(ctx, tx, l, curve); err != nil {
			return err
		}
		version, err := change(ctx, tx, l.study)
		if err == nil {
			_, err = tx.ExecContext(ctx, "UPDATE trials SET version = $1 WHERE study = $2 AND number = $3", version, l.study, l.trial)
		}
		return err
	})
}

// finite is a number that the database can hold: what is not finite becomes the largest.
func finite(x float64) float64 {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return math.MaxFloat64
	}
	return x
}

func addCurve(ctx context.Context, tx *sql.Tx, l Lease, curve []CurvePoint) error {
	for _, p := range curve {
		if p.Score != finite(p.Score) { // the trial fails for it
			continue
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO curves (study, trial, step, steps, loss, score) VALUES ($1, $2, $3, $4, $5, $6)
			ON CONFLICT (study, trial, step) DO UPDATE SET steps = excluded.steps, loss = excluded.loss, score = excluded.score`,
			l.study, l.trial, p.Step, p.Steps, finite(p.Loss), p.Score); err != nil {
			return err
		}
	}
	return nil
}

// Release makes a trial wait again, with the same number, plan and seed. crashed says that the attempt ended with its
// worker, which counts; an interruption does not.
func (s *Store) Release(ctx context.Context, l Lease, crashed bool) error {
	crashes := 0
	if crashed {
		crashes = 1
	}
	return s.end(ctx, l, Waiting, func(tx *sql.Tx, version int64) error {
		_, err := tx.ExecContext(ctx, "UPDATE trials SET state = 'waiting', version = $1, crashes = crashes + $2 WHERE study = $3 AND number = $4",
			version, crashes, l.study, l.trial)
		return err
	})
}

// Abandon returns the right to make a proposal.
func (s *Store) Abandon(ctx context.Context, right Lease) error {
	return s.write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "DELETE FROM leases WHERE study = $1 AND trial = $2 AND lease = $3", right.study, proposer, right.id)
		return err
	})
}

// Fail stores a trial's failure as its outcome.
func (s *Store) Fail(ctx context.Context, l Lease, failure *evaluator.Failure) error {
	return s.end(ctx, l, Failed, func(tx *sql.Tx, version int64) error {
		_, err := tx.ExecContext(ctx, "UPDATE trials SET state = 'failed', version = $1, failure_kind = $2, failure = $3, finished = "+s.dialect.now+
			" WHERE study = $4 AND number = $5", version, failure.Kind, failure.Message, l.study, l.trial)
		return err
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
		if _, err := tx.ExecContext(ctx, `UPDATE trials SET state = $1, version = $2, score = $3, best_step = $4, steps = $5, dev = $6,
			head_params = $7, wall_s = $8, peak_bytes = $9, stopped = $10, forecast = $11, forecast_sd = $12, finished = `+s.dialect.now+
			" WHERE study = $13 AND number = $14",
			t.State, version, result.Score, result.BestStep, result.Steps, marshal(result.Dev), result.Head, result.WallS, result.PeakB, result.Stopped,
			sql.NullFloat64{Float64: t.Forecast.Score, Valid: pruned}, sql.NullFloat64{Float64: t.Forecast.SD, Valid: pruned}, l.study, l.trial); err != nil {
			return err
		}
		if err := addCurve(ctx, tx, l, t.Curve); err != nil || pruned {
			return err
		}
		return addFront(ctx, tx, r, l.trial)
	})
}

// end ends a lease with the state that its trial has then. If that was stored before, it changes nothing.
func (s *Store) end(ctx context.Context, l Lease, state State, store func(tx *sql.Tx, version int64) error) error {
	err := s.write(ctx, func(tx *sql.Tx) error {
		var now State
		var last sql.NullString
		if err := tx.QueryRowContext(ctx, "SELECT state, lease FROM trials WHERE study = $1 AND number = $2", l.study, l.trial).Scan(&now, &last); err != nil {
			return err
		}
		switch {
		case last.String != l.id:
			return ErrFenced
		case now == state && state.Finished():
			return nil
		case now.Finished():
			return ErrFenced
		}
		version, err := change(ctx, tx, l.study)
		if err != nil {
			return err
		}
		result, err := tx.ExecContext(ctx, "DELETE FROM leases WHERE study = $1 AND trial = $2 AND lease = $3", l.study, l.trial, l.id)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n == 0 && state == Waiting { // it waits already
			return err
		}
		return store(tx, version)
	})
	if err == nil && state.Finished() {
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
	var outcomes []search.Outcome
	for _, number := range append(before.Members, last) {
		o := search.Outcome{Number: number}
		if err := tx.QueryRowContext(ctx, "SELECT params, score FROM trials WHERE study = $1 AND number = $2", r.id, number).Scan(&o.Params, &o.Score); err != nil {
			return err
		}
		outcomes = append(outcomes, o)
	}
	front := search.Front(outcomes)
	members := make([]int64, len(front))
	for i, m := range front {
		members[i] = m.Number
	}
	_, err = tx.ExecContext(ctx, "INSERT INTO fronts (study, sequence, trial, hypervolume, members) VALUES ($1, $2, $3, $4, $5)",
		r.id, complete+1, last, search.Hypervolume(front, r.Reference), marshal(members))
	return err
}
