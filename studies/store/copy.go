package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
)

// copiedTables are the tables of what belongs to a study; each comes after those that it refers to. Leases are of
// processes that work on the database itself.
var copiedTables = []string{"counters", "trials", "jobs", "curves", "resamples", "fronts", "trainings"}

// Copy copies a study, as it is at one moment, to another database of any kind. An earlier state of the same study is
// replaced there; anything else of that name is left alone, with ErrDiverged. Trials that run wait in the copy.
func (s *Store) Copy(ctx context.Context, name string, to *Store) error {
	return s.copyTo(ctx, name, to, func(states) bool { return false })
}

// Restore copies a study as Copy does, unless the other database has all of it already: each outcome and, where the
// outcomes are the same, what has changed last.
func (s *Store) Restore(ctx context.Context, name string, to *Store) error {
	return s.copyTo(ctx, name, to, func(two states) bool {
		return !two.gained && (two.lost || two.was.version >= two.is.version)
	})
}

// copyTo copies a study unless what the other database has of it is to be kept.
func (s *Store) copyTo(ctx context.Context, name string, to *Store, keep func(states) bool) error {
	return s.read(ctx, func(q querier) error {
		record, err := studyOf(ctx, q, name)
		if errors.Is(err, sql.ErrNoRows) {
			err = fmt.Errorf("study %q in %s: %w", name, s.path, ErrNoStudy)
		}
		if err != nil {
			return err
		}
		return to.write(ctx, lasting, func(tx *sql.Tx) error { return replace(ctx, to, tx, q, record, keep) })
	})
}

func replace(ctx context.Context, to *Store, tx *sql.Tx, from querier, record *Record, keep func(states) bool) error {
	old, err := studyOf(ctx, tx, record.Name)
	switch {
	case errors.Is(err, sql.ErrNoRows):
	case err != nil:
		return err
	default:
		if err := to.lock(ctx, tx, old.id); err != nil {
			return err
		}
		two, err := compare(ctx, tx, old, from, record)
		if err != nil || keep(two) {
			return err
		}
		if two.lost {
			return ErrDiverged
		}
		if err := do(ctx, tx, "DELETE FROM studies WHERE id = $1", old.id); err != nil { // and all that refers to it
			return err
		}
	}
	if err := copyRows(ctx, tx, from, "studies", "id", record.id, nil); err != nil {
		return err
	}
	copied, err := studyOf(ctx, tx, record.Name)
	if err != nil {
		return err
	}
	for _, table := range copiedTables {
		if err := copyRows(ctx, tx, from, table, "study", record.id, copied.id); err != nil {
			return fmt.Errorf("table %s: %w", table, err)
		}
	}
	for _, table := range []string{"trials", "jobs"} {
		if err := do(ctx, tx, "UPDATE "+table+" SET state = 'waiting' WHERE study = $1 AND state = 'running'",
			copied.id); err != nil {
			return err
		}
	}
	return nil
}

// progress is how far a study is: its outcomes, which are trials, jobs and full trainings, and its changes.
type progress struct {
	outcomes map[string]bool
	version  int64
}

// states are two states of a study.
type states struct {
	was, is progress
	lost    bool // was has outcomes that is does not have
	gained  bool // is has outcomes that was does not have
}

// compare compares two states of a study. Two studies that only share their name have lost and gained.
func compare(ctx context.Context, old querier, was *Record, now querier, is *Record) (two states, err error) {
	if two.was, err = progressOf(ctx, old, was); err != nil {
		return two, err
	}
	if two.is, err = progressOf(ctx, now, is); err != nil {
		return two, err
	}
	another := was.Seed != is.Seed || !was.Created.Equal(is.Created)
	two.lost = another || missing(two.was.outcomes, two.is.outcomes)
	two.gained = another || missing(two.is.outcomes, two.was.outcomes)
	return two, nil
}

// missing reports whether some have what others lack.
func missing(some, others map[string]bool) bool {
	for outcome := range some {
		if !others[outcome] {
			return true
		}
	}
	return false
}

func progressOf(ctx context.Context, q querier, r *Record) (progress, error) {
	p := progress{outcomes: map[string]bool{}}
	for _, query := range []string{`SELECT 'trial', number, COALESCE(lease, ''), finished FROM trials
		WHERE study = $1 AND state IN ('complete', 'pruned', 'failed')`,
		"SELECT 'job', number, COALESCE(lease, ''), finished FROM jobs WHERE study = $1 AND finished IS NOT NULL",
		"SELECT conditions, seed, candidate, finished FROM trainings WHERE study = $1"} {
		if err := each(ctx, q, func(scan func(...any) error) error {
			var kind, lease string
			var number, finished int64
			err := scan(&kind, &number, &lease, &finished)
			p.outcomes[fmt.Sprintf("%q %d %q %d", kind, number, lease, finished)] = true
			return err
		}, query, r.id); err != nil {
			return p, err
		}
	}
	return p, q.QueryRowContext(ctx, "SELECT version FROM counters WHERE study = $1", r.id).Scan(&p.version)
}

// copyRows copies the rows of one study to another, whose number stands in a column. Each database gives numbers
// itself in a column id.
func copyRows(ctx context.Context, tx *sql.Tx, from querier, table, study string, was int64, is any) error {
	rows, err := from.QueryContext(ctx, "SELECT * FROM "+table+" WHERE "+study+" = $1 ORDER BY 1", was)
	if err != nil {
		return err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return err
	}
	values, targets := make([]any, len(columns)), make([]any, len(columns))
	var kept, marks []string
	for i, column := range columns {
		targets[i] = &values[i]
		if column != "id" {
			kept = append(kept, column)
			marks = append(marks, fmt.Sprint("$", len(kept)))
		}
	}
	insert, err := tx.PrepareContext(ctx, "INSERT INTO "+table+" ("+strings.Join(kept, ", ")+") VALUES ("+
		strings.Join(marks, ", ")+")")
	if err != nil {
		return err
	}
	defer insert.Close()
	for rows.Next() {
		if err := rows.Scan(targets...); err != nil {
			return err
		}
		var row []any
		for i, column := range columns {
			switch column {
			case "id":
			case study:
				row = append(row, is)
			default:
				row = append(row, values[i])
			}
		}
		if _, err := insert.ExecContext(ctx, row...); err != nil {
			return err
		}
	}
	return rows.Err()
}
