package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"math"
)

// Lease is the right of one process to run a trial, or to make the next proposal of a study. It is over when its
// process is seen to have ended, or some time after the last sign of life where that cannot be seen. What becomes of
// a trial counts for as long as no other process has started it again.
type Lease struct {
	id    string
	study int64
	trial int64
}

// Trial is the number of the trial; of a proposal, the number that the next trial will have; of a job, a negative one.
func (l Lease) Trial() int64 { return l.trial }

// proposer stands in the table of leases for the trial that is not there yet.
const proposer = -1

// do runs a statement whose result does not matter.
func do(ctx context.Context, tx *sql.Tx, statement string, args ...any) error {
	_, err := tx.ExecContext(ctx, statement, args...)
	return err
}

// held runs a statement that changes what a lease is of; the error is ErrFenced if it changes nothing.
func held(ctx context.Context, tx *sql.Tx, statement string, args ...any) error {
	result, err := tx.ExecContext(ctx, statement, args...)
	if err != nil {
		return err
	}
	n, err := result.RowsAffected()
	if err == nil && n == 0 {
		err = ErrFenced
	}
	return err
}

// change takes the next number of a change to a study's trials, and with it the lock of all of them.
func change(ctx context.Context, tx *sql.Tx, study int64) (version int64, err error) {
	err = tx.QueryRowContext(ctx,
		"UPDATE counters SET version = version + 1 WHERE study = $1 RETURNING version", study).Scan(&version)
	return version, err
}

// vacate takes leases from processes that have ended, and those that are over: their trials wait again. Where there
// is none, it takes no lock.
func (s *Store) vacate(ctx context.Context, tx *sql.Tx, study int64, me Owner) error {
	var over []int64
	if err := s.locked(ctx, tx, study, func() (found bool, err error) {
		over, err = s.over(ctx, tx, study, me)
		return len(over) > 0, err
	}); err != nil {
		return err
	}
	for _, trial := range over {
		if err := vacant(ctx, tx, study, trial); err != nil {
			return err
		}
	}
	return nil
}

// locked looks for something to do, and if there is something takes the study's lock and looks again: those who find
// nothing, again and again, hold nobody up.
func (s *Store) locked(ctx context.Context, tx *sql.Tx, study int64, look func() (found bool, err error)) error {
	found, err := look()
	if err != nil || !found || s.dialect.lock == "" {
		return err
	}
	if err := s.lock(ctx, tx, study); err != nil {
		return err
	}
	_, err = look()
	return err
}

// over lists the trials whose lease is.
func (s *Store) over(ctx context.Context, tx *sql.Tx, study int64, me Owner) (over []int64, err error) {
	err = each(ctx, tx, func(scan func(...any) error) error {
		var trial int64
		var o Owner
		var id string
		var late bool
		if err := scan(&trial, &id, &o.Host, &o.Boot, &o.Namespace, &o.Process, &late); err != nil {
			return err
		}
		// The clock says nothing of a process that can be seen to live: it may have slept with its machine.
		if life := o.seen(me); life == ended || life == unseen && late || s.unsure[id] {
			over = append(over, trial)
		}
		return nil
	}, `SELECT trial, lease, host, boot, namespace, process, until < `+s.dialect.now+`
		FROM leases WHERE study = $1`, study)
	return over, err
}

// vacant ends a lease without an outcome.
func vacant(ctx context.Context, tx *sql.Tx, study, trial int64) error {
	err := do(ctx, tx, "DELETE FROM leases WHERE study = $1 AND trial = $2", study, trial)
	if err != nil || trial == proposer {
		return err
	}
	version, err := change(ctx, tx, study)
	if err != nil {
		return err
	}
	table, number := Lease{trial: trial}.of()
	return do(ctx, tx, "UPDATE "+table+` SET state = 'waiting', version = $1
		WHERE study = $2 AND number = $3 AND state = 'running'`, version, study, number)
}

// grant gives a lease.
func (s *Store) grant(ctx context.Context, tx *sql.Tx, l Lease, trial int64, me Owner) error {
	return do(ctx, tx, `INSERT INTO leases (study, trial, lease, host, boot, namespace, process, until, reported)
		VALUES ($1, $2, $3, $4, $5, $6, $7, `+s.dialect.now+` + $8, `+s.dialect.now+`)`,
		l.study, trial, l.id, me.Host, me.Boot, me.Namespace, me.Process, s.LeaseTime.Milliseconds())
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
	if err = do(ctx, tx, `UPDATE trials SET state = 'running', lease = $1, attempts = attempts + 1, version = $2,
		started = `+s.dialect.now+`, host = $3, process = $4 WHERE study = $5 AND number = $6`, l.id, version, me.Host,
		me.Process, l.study, l.trial); err != nil {
		return t, err
	}
	return queryTrial(ctx, tx, l.study, l.trial)
}

// Pop takes the waiting trial with the lowest number to run. First it makes trials wait again whose process is gone.
// The error wraps ErrNothing if none waits.
func (s *Store) Pop(ctx context.Context, r *Record, me Owner) (t Trial, l Lease, err error) {
	nothing := false // which is no reason to undo what vacate did
	err = s.write(ctx, later, func(tx *sql.Tx) error {
		if err := s.vacate(ctx, tx, r.id, me); err != nil {
			return err
		}
		l = Lease{id: rand.Text(), study: r.id}
		if err := s.locked(ctx, tx, r.id, func() (bool, error) {
			err := tx.QueryRowContext(ctx, `SELECT number FROM trials
				WHERE study = $1 AND state = 'waiting' ORDER BY number LIMIT 1`, r.id).Scan(&l.trial)
			if nothing = errors.Is(err, sql.ErrNoRows); nothing {
				err = nil
			}
			return !nothing, err
		}); err != nil || nothing {
			return err
		}
		// The curve is of an attempt before.
		if err := do(ctx, tx, "DELETE FROM curves WHERE study = $1 AND trial = $2", r.id, l.trial); err != nil {
			return err
		}
		t, err = s.start(ctx, tx, l, me)
		return err
	})
	s.doubt(l, err)
	if err == nil && nothing {
		err = ErrNothing
	}
	return t, l, err
}

// doubt notes a lease that nobody will hold, although it may have been given: the answer was lost.
func (s *Store) doubt(l Lease, err error) {
	if l.id != "" && IsBusy(err) {
		s.writing.Lock()
		defer s.writing.Unlock()
		s.unsure[l.id] = true
	}
}

// Propose gives the right to make the next trial of a study, to one process at a time; Add uses it up, Abandon returns
// it. The error wraps ErrEnough if the study has as many trials as the limit, ErrProposed if another process has the
// right.
func (s *Store) Propose(ctx context.Context, r *Record, limit int64, me Owner) (l Lease, err error) {
	err = s.write(ctx, later, func(tx *sql.Tx) error {
		if err := s.vacate(ctx, tx, r.id, me); err != nil {
			return err
		}
		var number int64
		if err := s.locked(ctx, tx, r.id, func() (bool, error) {
			var err error
			if number, err = nextNumber(ctx, tx, r.id); err != nil {
				return false, err
			}
			if number >= limit {
				return false, ErrEnough
			}
			var taken bool
			if err := tx.QueryRowContext(ctx, "SELECT COUNT(*) > 0 FROM leases WHERE study = $1 AND trial = $2",
				r.id, proposer).Scan(&taken); err != nil {
				return false, err
			}
			if taken {
				return false, ErrProposed
			}
			return true, nil
		}); err != nil {
			return err
		}
		l = Lease{id: rand.Text(), study: r.id, trial: number}
		return s.grant(ctx, tx, l, proposer, me)
	})
	s.doubt(l, err)
	return l, err
}

// Abandon returns the right to make a proposal.
func (s *Store) Abandon(ctx context.Context, right Lease) error {
	return s.writeTo(ctx, right.study, later, func(tx *sql.Tx) error {
		return do(ctx, tx, endProposal, right.study, proposer,
			right.id)
	})
}

const endProposal = "DELETE FROM leases WHERE study = $1 AND trial = $2 AND lease = $3"

// Beat is a sign of life: the lease holds on. Of a trial it stores how far it is, and the points of its curve that
// were not stored before; of a job no curve is kept. The error wraps ErrFenced if the lease is over and was given to
// another process.
func (s *Store) Beat(ctx context.Context, l Lease, p Progress, curve []CurvePoint) error {
	return s.writeTo(ctx, l.study, later, func(tx *sql.Tx) error {
		err := held(ctx, tx, `UPDATE leases SET until = `+s.dialect.now+` + $1, reported = `+s.dialect.now+`,
			step = $2, steps = $3, loss = $4, doing = $5 WHERE study = $6 AND lease = $7`,
			s.LeaseTime.Milliseconds(), p.Step, p.Steps, finite(p.Loss), marshal(p.Doing), l.study, l.id)
		if err != nil || len(curve) == 0 || l.trial <= firstJob {
			return err
		}
		if err := addCurve(ctx, tx, l, curve); err != nil {
			return err
		}
		version, err := change(ctx, tx, l.study)
		if err != nil {
			return err
		}
		return do(ctx, tx, "UPDATE trials SET version = $1 WHERE study = $2 AND number = $3", version, l.study, l.trial)
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
		if err := do(ctx, tx, `INSERT INTO curves (study, trial, step, steps, loss, score)
			VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (study, trial, step)
			DO UPDATE SET steps = excluded.steps, loss = excluded.loss, score = excluded.score`,
			l.study, l.trial, p.Step, p.Steps, finite(p.Loss), p.Score); err != nil {
			return err
		}
	}
	return nil
}
