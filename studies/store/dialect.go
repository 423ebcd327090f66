package store

import (
	"context"
	"database/sql"
	"errors"

	"github.com/mattn/go-sqlite3"
)

// dialect is what differs between databases; the statements are the same. Their parameters are $1, $2, …, which
// SQLite numbers in the order in which they first stand in a statement.
type dialect struct {
	now     string                     // Unix milliseconds, by the database's clock
	begin   string                     // a transaction that reads one moment, and that no writer waits for
	schema  func(script string) string // a script of schema/ in the dialect's words
	explain func(err error) (advice string, busy bool)
}

// lite is SQLite.
var lite = dialect{
	now:    "CAST(ROUND(UNIXEPOCH('subsec') * 1000) AS INTEGER)",
	begin:  "BEGIN",
	schema: func(script string) string { return script },
	explain: func(err error) (advice string, busy bool) {
		var e sqlite3.Error
		if !errors.As(err, &e) {
			return "", false
		}
		switch e.Code {
		case sqlite3.ErrCantOpen, sqlite3.ErrReadonly, sqlite3.ErrPerm, sqlite3.ErrAuth:
			return "make the file and its directory writable, or choose another with --db", false
		case sqlite3.ErrFull, sqlite3.ErrIoErr:
			return "free space on the disk, or check it; what was stored before is intact", false
		case sqlite3.ErrNotADB, sqlite3.ErrCorrupt:
			return "choose another with --db, or put a copy in its place", false
		case sqlite3.ErrBusy, sqlite3.ErrLocked:
			return "another process holds it; try again", true
		}
		return "", false
	},
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
