package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/mattn/go-sqlite3"
)

// applicationID marks our files among SQLite's: "PEFT". Those of schema 5 and before have 0.
const applicationID = 0x50454654

// busyTime is how long a statement waits for other writers; patience how long opening does.
const (
	busyTime = 10 * time.Second
	patience = 30 * time.Second
)

// resolve makes the path of a database absolute. The error wraps ErrPath if it is none.
func resolve(path string) (string, error) {
	if strings.TrimSpace(path) == "" || path == ":memory:" || strings.ContainsRune(path, 0) {
		return "", fmt.Errorf("%w: %q names none", ErrPath, path)
	}
	return filepath.Abs(path)
}

// connect opens a file whatever its name. The options are SQLite's and those of the driver.
func connect(path, options string) (*sql.DB, error) {
	name := url.URL{Scheme: "file", Path: path}
	return sql.Open("sqlite3", name.String()+"?"+options)
}

// Open opens a database for writing, creates it if it is not there, and brings an older one up to date. One that is
// not ours, or of a newer version, is left as it was to the byte. The name is the path of a SQLite file, or names a
// server, as [IsServer] tells. It is refused as [CheckName] says.
func Open(name string) (*Store, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	if IsServer(name) {
		return openServer(name, false)
	}
	return openFile(name)
}

func openFile(path string) (*Store, error) {
	s := &Store{LeaseTime: leaseTime, path: path, dialect: lite, durability: lasting, unsure: map[string]bool{}}
	absolute, err := resolve(path)
	if err != nil {
		return nil, s.problem("opening", err)
	}
	ctx := context.Background()
	if s.warning, err = recognise(ctx, absolute); err != nil {
		return nil, s.problem("opening", err)
	}
	options := "mode=rwc&_txlock=immediate&_synchronous=FULL&_foreign_keys=1&_stmt_cache_size=64&_busy_timeout=%d"
	if s.db, err = connect(absolute, fmt.Sprintf(options, busyTime.Milliseconds())); err != nil {
		return nil, s.problem("opening", err)
	}
	s.db.SetMaxOpenConns(1)
	if err := s.prepare(ctx, absolute); err != nil {
		return nil, errors.Join(s.problem("opening", err), s.db.Close())
	}
	return s, nil
}

// recognise refuses a file that must not be written, before anything of it is touched.
func recognise(ctx context.Context, path string) (warning string, err error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		err := localDisk(filepath.Dir(path))
		if errors.Is(err, fs.ErrNotExist) {
			err = &Error{Doing: "opening", Err: fmt.Errorf("there is no directory %s", filepath.Dir(path)),
				Advice: "make it, or choose another file with --db"}
		}
		return "", err
	}
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", errIrregular()
	}
	if err := localDisk(path); err != nil || info.Size() == 0 {
		return "", err
	}
	v := &viewer{path: path, asItIs: true}
	err = v.read(ctx, func(q querier) error {
		version, err := versionOf(ctx, q)
		if err != nil || version < markedSchema {
			return err
		}
		if warning, err = incomplete(ctx, q, path); warning == "" || err != nil {
			return err
		}
		var found string
		if err := q.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&found); err != nil || found == "ok" {
			return err
		}
		return damaged(errors.New(found))
	})
	return warning, errors.Join(err, v.close())
}

// smallest is the size of SQLite's smallest file; it takes a shorter one for empty.
const smallest = 512

// incomplete says that what was stored last is missing in a file without a -wal file, "" if nothing is.
func incomplete(ctx context.Context, q querier, path string) (string, error) {
	var live bool
	if err := q.QueryRowContext(ctx, "SELECT live FROM instance").Scan(&live); err != nil || !live {
		return "", err
	}
	if wal, err := stampOf(path + "-wal"); err != nil || wal.size > 0 {
		return "", err
	}
	return "it was copied without its -wal file while a search wrote it, or that file was deleted: " +
		"what was stored last may be missing", nil
}

// versionOf is the schema of one of our databases, 0 for an empty one. Of others the error says what they are.
func versionOf(ctx context.Context, q querier) (int, error) {
	var application, version, tables, ours int
	if err := q.QueryRowContext(ctx, `SELECT (SELECT application_id FROM pragma_application_id),
		(SELECT user_version FROM pragma_user_version),
		COUNT(*), COALESCE(SUM(name IN ('studies', 'trials', 'curves', 'fronts')), 0) FROM sqlite_schema`).
		Scan(&application, &version, &tables, &ours); err != nil {
		return 0, err
	}
	switch {
	case application == applicationID && version > schemaVersion:
		return 0, newer(version)
	case application == applicationID && version >= 1:
		return version, nil
	case application == 0 && version == 0 && tables == 0:
		return 0, nil
	case application == 0 && version >= 1 && version < markedSchema && ours == 4:
		return version, nil
	}
	return 0, notOurs(", but another application's")
}

// prepare makes the connection one for writing, and the schema the latest.
func (s *Store) prepare(ctx context.Context, path string) error {
	for start := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		_, err := s.db.ExecContext(ctx, "PRAGMA journal_mode = WAL")
		if err == nil {
			break
		}
		if code(err) != sqlite3.ErrBusy || time.Since(start) > patience { // SQLite does not wait here
			return err
		}
	}
	if err := s.migrate(ctx, true); err != nil {
		return err
	}
	s.checkpoint(ctx)
	var err error
	s.file, err = watch(ctx, path, s.db)
	return err
}

// checkpoint copies what was committed from the -wal file to the file itself. Where another process does the same,
// or reads an old moment, the next call makes up for it.
func (s *Store) checkpoint(ctx context.Context) {
	var busy, log, done int
	s.db.QueryRowContext(ctx, "PRAGMA wal_checkpoint(PASSIVE)").Scan(&busy, &log, &done)
}

// Close releases the database. It reports that the file was lost, if no write has.
func (s *Store) Close() error {
	if s.viewer != nil {
		return s.viewer.close()
	}
	if s.file == nil {
		return s.problem("closing", s.db.Close())
	}
	told := s.file.isLost()
	err := s.problem("writing", s.file.present(context.Background()))
	if err == nil {
		s.db.Exec("UPDATE instance SET live = 0") // if it cannot be written, the -wal file stays as well
		// Pages in the -wal file would hide damage. Who cannot empty it leaves the check to the last to close.
		s.db.Exec("PRAGMA busy_timeout = 0; PRAGMA wal_checkpoint(TRUNCATE)")
		err = s.problem("writing", s.file.damaged(context.Background()))
	}
	switch { // closing copies what is in our -wal file to the file
	case s.file.foreign: // and whoever opens it next would do so
		os.Remove(s.file.path + "-wal")
		os.Remove(s.file.path + "-shm")
	case !s.file.destroyed:
		err = errors.Join(err, s.problem("closing", s.db.Close()))
	}
	if told { // by the write that ended the search
		return nil
	}
	return err
}
