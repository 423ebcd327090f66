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
	now   string // Unix milliseconds, by the database's clock
	begin string // a transaction that reads one moment, and that no writer waits for
	// durability makes a connection's transactions of that durability; nil where all of them last.
	durability map[durability]string
	// lock takes the lock of a study's trials; "" where each transaction that writes has that of the whole database.
	lock     string
	schema   func(script string) string // a script of schema/ in the dialect's words
	version  func(ctx context.Context, q querier) (int, error)
	migrate  string // begins a migration; "" for nothing
	migrated string // notes that the schema is the latest
	explain  func(err error) *Error
}

// lite is SQLite.
var lite = dialect{
	now:        "CAST(ROUND(UNIXEPOCH('subsec') * 1000) AS INTEGER)",
	begin:      "BEGIN",
	durability: map[durability]string{later: "PRAGMA synchronous = NORMAL", lasting: "PRAGMA synchronous = FULL"},
	schema:     func(script string) string { return script },
	version:    versionOf,
	migrated:   fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = %d", applicationID, schemaVersion),
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
	return &Error{Doing: "opening", Err: errors.New("it is not a peftsearch database" + what),
		Advice: "choose another with --db; it was left as it is"}
}

// newer is the error of a database that is left to the version that knows it.
func newer(version int) *Error {
	return &Error{Doing: "opening", Advice: "update peftsearch",
		Err: fmt.Errorf("it was written by a newer peftsearch (schema %d, this one knows %d)", version, schemaVersion)}
}

// empty is the error of a database without a table.
func empty() *Error {
	return &Error{Doing: "opening", Err: ErrEmpty,
		Advice: "peftsearch run STUDY.yaml fills it; --db names another"}
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
