package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// Errors that callers tell apart.
var (
	ErrNoStudy  = errors.New("there is no such study")
	ErrNoTrial  = errors.New("there is no such trial")
	ErrFenced   = errors.New("another process has taken it over")
	ErrNothing  = errors.New("no trial waits")
	ErrEnough   = errors.New("the study has as many trials as it may")
	ErrProposed = errors.New("another process makes the next proposal")
	ErrKnown    = errors.New("the study has the candidate already")
	ErrMoved    = errors.New("another trial has the number now")
	ErrPath     = errors.New("a database is a file, or has an address on a server")
	ErrEmpty    = errors.New("it is empty")
	ErrNoFile   = errors.New("there is none")
	ErrDiverged = errors.New("it has a study of that name that is not an earlier state of this one")
	ErrDamaged  = errors.New("the study is damaged")
)

// Error is a database that cannot do what it was asked to.
type Error struct {
	Doing  string // opening, reading or writing
	Path   string
	Err    error
	Advice string // what to do, "" if there is nothing
	Busy   bool   // nothing was decided: the same may succeed later
}

func (e *Error) Error() string { return fmt.Sprintf("%s database %s: %v", e.Doing, e.Path, e.Err) }
func (e *Error) Unwrap() error { return e.Err }

// IsBusy reports whether an error says that nothing was decided, and that the same may succeed later.
func IsBusy(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Busy
}

// problem makes an error of the database one that says what to do. It leaves alone what callers tell apart.
func (s *Store) problem(doing string, err error) error {
	var known *Error
	if errors.As(err, &known) && known.Path == "" {
		known.Path = s.path
	}
	if err == nil || known != nil {
		return err
	}
	for _, sentinel := range []error{ErrNoStudy, ErrNoTrial, ErrFenced, ErrNothing, ErrEnough, ErrProposed,
		ErrKnown, ErrMoved, ErrPath, ErrDiverged, ErrDamaged, context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, sentinel) {
			return err
		}
	}
	if errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("database %s: %w: a row is missing that others need", s.path, ErrDamaged)
	}
	known = s.dialect.explain(err)
	known.Doing, known.Path = doing, s.path
	return known
}
