package store

import (
	"fmt"
	"time"
)

// LookNow makes the next write look at the content of the file.
func LookNow(s *Store) { s.file.looked = time.Time{} }

// SetBusyTime sets how long writes wait for others.
func SetBusyTime(s *Store, d time.Duration) {
	if _, err := s.db.Exec(fmt.Sprintf("PRAGMA busy_timeout = %d", d.Milliseconds())); err != nil {
		panic(err)
	}
}

// Tidy removes what a viewer made where there was nothing.
func Tidy(path string) { (&viewer{path: path}).tidy(sides{}) }

// Exec runs a statement on the database.
func Exec(s *Store, statement string) {
	if _, err := s.db.Exec(statement); err != nil {
		panic(err)
	}
}

// Synchronous is SQLite's setting for the transaction that was the last.
func Synchronous(s *Store) (level int) {
	if err := s.db.QueryRow("PRAGMA synchronous").Scan(&level); err != nil {
		panic(err)
	}
	return level
}

// Stay is the mirror's sign of life, which is due every minute.
func (m *Mirror) Stay() error { return m.stay() }
