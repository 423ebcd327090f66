// Package store keeps studies in a database ([Store]) and says what is kept ([Record], [Trial]).
package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"sync"
	"time"
)

// Store keeps studies in a database. It is safe for concurrent use, and several processes may have the same
// database open. What every method promises:
//
//   - It is one transaction: it happens whole or not at all, and others see it whole or not at all.
//   - What changes a trial is seen by everybody in one order, which [Store.Changes] reports.
//   - Ensure, Enqueue, Finish, Fail and AddTraining are on disk when they return. The rest is, too, after a crash of
//     the process; after one of the machine it may be undone, and then no process is left that knew of it.
//   - All times are the database's.
//   - A write waits for other writes, each of which takes milliseconds, and never for readers or samplers.
//   - An error is a *[Error], or it wraps ctx.Err() or one of the errors that callers tell apart. Where [IsBusy]
//     reports true, nothing was decided: the same call may be repeated. Finish, Fail and Release may be repeated
//     whatever happened, also when they had succeeded.
//
// A trial is run by the holder of its [Lease]. Who holds none, or one that another process has since taken over, gets
// ErrFenced and changes nothing.
type Store struct {
	// LeaseTime is how long a lease holds after a sign of life. Set it before the first use.
	LeaseTime time.Duration

	writing    sync.Mutex
	durability durability      // of the connection's next transaction
	unsure     map[string]bool // leases that may have been given, but that nobody holds

	db       *sql.DB // nil of a file's viewer
	path     string
	dialect  dialect
	readOnly bool
	file     *file   // guards a SQLite file
	viewer   *viewer // of a Store that reads a SQLite file only
	at       querier // of a Store that reads one moment
	warning  string
}

// Warning says what is wrong with the database although it can be used, "" for nothing.
func (s *Store) Warning() string { return s.warning }

// leaseTime is how long a process may be silent before others take its trials over, where they cannot see
// whether it lives.
const leaseTime = 2 * time.Minute

// querier is a connection, or a transaction on it.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// durability is what of a transaction is left when the machine ends without warning.
type durability int

const (
	later   durability = iota // it is on disk with the next one that lasts
	lasting                   // it is on disk when it has been committed
)

// write runs f in a transaction. What it reads may change until it writes it, in a dialect that locks studies one by
// one: writeTo is for that.
func (s *Store) write(ctx context.Context, d durability, f func(tx *sql.Tx) error) error {
	return s.problem("writing", s.transact(ctx, d, f))
}

// writeTo runs f in a transaction that holds the lock of a study and its trials from its start.
func (s *Store) writeTo(ctx context.Context, study int64, d durability, f func(tx *sql.Tx) error) error {
	return s.write(ctx, d, func(tx *sql.Tx) error {
		if err := s.lock(ctx, tx, study); err != nil {
			return err
		}
		return f(tx)
	})
}

// lock takes the lock of a study and its trials, for the rest of the transaction.
func (s *Store) lock(ctx context.Context, tx *sql.Tx, study int64) error {
	if s.dialect.lock == "" {
		return nil
	}
	return do(ctx, tx, s.dialect.lock, study)
}

func (s *Store) transact(ctx context.Context, d durability, f func(tx *sql.Tx) error) error {
	if s.db == nil || s.readOnly {
		return errors.New("it was opened for reading")
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	// The caller learns whether it happened: between the last statement and the commit nothing is cancelled.
	ctx = context.WithoutCancel(ctx)
	s.writing.Lock() // also from the connection's durability to its transaction
	defer s.writing.Unlock()
	if err := s.file.present(ctx); err != nil {
		return err
	}
	if statement := s.dialect.durability[d]; statement != "" && s.durability != d {
		if _, err := s.db.ExecContext(ctx, statement); err != nil {
			return err
		}
		s.durability = d
	}
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // no effect after Commit
	if err := f(tx); err != nil {
		return err
	}
	if s.file != nil {
		if _, err := tx.ExecContext(ctx, "UPDATE instance SET live = 1 WHERE live = 0"); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// read runs f on one moment of the database. It may run f again: f makes its results anew.
func (s *Store) read(ctx context.Context, f func(q querier) error) error {
	var err error
	switch {
	case s.at != nil:
		err = f(s.at)
	case s.viewer != nil:
		err = s.viewer.read(ctx, f)
	default:
		err = s.dialect.moment(ctx, s.db, f)
	}
	return s.problem("reading", err)
}

// Snapshot calls f with a Store whose methods all read the same moment. It may call f again: f makes its results
// anew, and does not write.
func (s *Store) Snapshot(ctx context.Context, f func(at *Store) error) error {
	return s.read(ctx, func(q querier) error { return f(&Store{path: s.path, dialect: s.dialect, at: q}) })
}

func marshal(v any) string {
	encoded, err := json.Marshal(v)
	if err != nil {
		panic(err) // values of this program; scores are checked to be finite
	}
	return string(encoded)
}

// each scans every row of a query.
func each(ctx context.Context, q querier, scan func(scan func(...any) error) error, query string, args ...any) error {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}
