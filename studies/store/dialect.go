package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/mattn/go-sqlite3"
)

// dialect is what differs between databases; the statements are the same. Their parameters are $1, $2, …, which
// SQLite numbers in the order in which they first stand in a statement.
type dialect struct {
	now     string                     // Unix milliseconds, by the database's clock
	begin   string                     // a transaction that reads one moment, and that no writer waits for
	schema  func(script string) string // a script of schema/ in the dialect's words
	explain func(err error) *Error
}

// lite is SQLite.
var lite = dialect{
	now:    "CAST(ROUND(UNIXEPOCH('subsec') * 1000) AS INTEGER)",
	begin:  "BEGIN",
	schema: func(script string) string { return script },
	explain: func(err error) *Error {
		switch code(err) {
		case sqlite3.ErrCantOpen, sqlite3.ErrReadonly, sqlite3.ErrPerm, sqlite3.ErrAuth:
			return &Error{Err: err, Advice: "make the file and its directory writable, or choose another with --db"}
		case sqlite3.ErrFull, sqlite3.ErrIoErr:
			return &Error{Err: err, Advice: "free space on the disk, or check it; what was stored before is intact"}
		case sqlite3.ErrNotADB:
			return notOurs("")
		case sqlite3.ErrCorrupt:
			return damaged(err)
		case sqlite3.ErrBusy, sqlite3.ErrLocked:
			return &Error{Err: err, Advice: "another process holds it; try again", Busy: true}
		}
		return &Error{Err: err}
	},
}

// notOurs is the error of a file that is left as it is.
func notOurs(what string) *Error {
	return &Error{Doing: "opening", Err: errors.New("it is not a peftsearch database" + what), Advice: "choose another with --db; it was left as it is"}
}

// damaged is the error of a file of ours that cannot be read whole.
func damaged(err error) *Error {
	return &Error{Doing: "opening", Err: fmt.Errorf("it is damaged: %w", err),
		Advice: "put a copy in its place; if it is one, copy again, with the -wal file beside it or when no search runs"}
}

// code is SQLite's of an error, 0 if it has none.
func code(err error) sqlite3.ErrNo {
	var e sqlite3.Error
	errors.As(err, &e)
	return e.Code
}

// moment runs f in a transaction that reads one moment.
func (d dialect) moment(ctx context.Context, db *sql.DB, f func(q querier) error) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.ExecContext(ctx, d.begin); err != nil {
		return err
	}
	err = f(conn)
	if _, endErr := conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK"); err == nil { // there is nothing to commit
		err = endErr
	}
	return err
}
