package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/mattn/go-sqlite3"
)

// View opens a database for reading only, of this version or an older one. It fails if there is none. It leaves
// nothing beside a file, and nobody who writes waits for it. The name is as for [Open].
func View(name string) (*Store, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	if IsServer(name) {
		return openServer(name, true)
	}
	return viewFile(name)
}

func viewFile(path string) (*Store, error) {
	s := &Store{path: path, dialect: lite}
	absolute, err := resolve(path)
	if err != nil {
		return nil, s.problem("opening", err)
	}
	s.viewer = &viewer{path: absolute}
	ctx := context.Background()
	if err := s.viewer.read(ctx, func(q querier) (err error) {
		s.warning, err = incomplete(ctx, q, absolute)
		return err
	}); err != nil {
		return nil, errors.Join(s.problem("opening", err), s.viewer.close())
	}
	return s, nil
}

// viewer reads a SQLite file in the way that leaves no trace: each time as the file stands then.
type viewer struct {
	path   string
	asItIs bool // whatever it is, and of any version

	mu   sync.Mutex
	copy string // a directory with a copy of the file and what was beside it
	of   sides  // what the copy is of
}

// sides are the file of a database and those that SQLite puts beside it.
type sides struct{ main, wal, shm, journal stamp }

// stamp tells whether a file has changed; the zero stamp is of a file that is not there.
type stamp struct {
	dev, ino uint64
	size     int64
	changed  time.Time
	owner    uint32
}

func stampOf(path string) (stamp, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return stamp{}, nil
	}
	if err != nil {
		return stamp{}, err
	}
	dev, ino := number(info)
	return stamp{dev, ino, info.Size(), info.ModTime(), info.Sys().(*syscall.Stat_t).Uid}, nil
}

// errIrregular is the error of a directory, a pipe, a device.
func errIrregular() error {
	return &Error{Doing: "opening", Err: errors.New("it is no regular file"), Advice: "choose another with --db"}
}

func sidesOf(path string) (s sides, err error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return s, errIrregular()
	}
	var errs [4]error
	s.main, errs[0] = stampOf(path)
	s.wal, errs[1] = stampOf(path + "-wal")
	s.shm, errs[2] = stampOf(path + "-shm")
	s.journal, errs[3] = stampOf(path + "-journal")
	if err := errors.Join(errs[:]...); err != nil {
		return s, err
	}
	if s.main.ino == 0 {
		return s, &Error{Doing: "opening", Err: ErrNoFile,
			Advice: "peftsearch run STUDY.yaml makes it; --db names another"}
	}
	if s.main.size > 0 && s.main.size < smallest {
		return s, notOurs("")
	}
	return s, nil
}

// read runs f on one moment of the database, again if the file changed in a way that f may have seen.
func (v *viewer) read(ctx context.Context, f func(q querier) error) error {
	const tries = 50
	for try := 1; ; try++ {
		before, err := sidesOf(v.path)
		if err != nil {
			return err
		}
		stable, err := v.once(ctx, before, f)
		if stable || try == tries {
			return err
		}
		if after, lookErr := sidesOf(v.path); lookErr != nil || after == before {
			return errors.Join(err, lookErr)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Duration(try) * time.Millisecond):
		}
	}
}

// errOld is the error of reading a database of an older version as it is.
var errOld = errors.New("it is of an older peftsearch")

// once runs f in the way that suits the files as they stand. stable says that what f saw does not depend on whether
// they change.
func (v *viewer) once(ctx context.Context, now sides, f func(q querier) error) (stable bool, err error) {
	switch {
	case now.wal.size == 0 && now.journal.size == 0: // nobody writes: SQLite would begin to share memory with us alone
		err = v.connected(ctx, v.path, "mode=ro&immutable=1", f)
	case now.journal.size == 0 && now.shm.ino != 0 && localDisk(v.path) == nil:
		err = v.connected(ctx, v.path, fmt.Sprintf("mode=ro&_query_only=1&_busy_timeout=%d", busyTime.Milliseconds()), f)
		v.tidy(now)
		stable = code(err) == 0 && !errors.Is(err, errOld) // SQLite read one moment, whatever f made of it
	default: // SQLite would have to write beside the file to read it
		err = errOld
	}
	shared := code(err) == sqlite3.ErrReadonly || code(err) == sqlite3.ErrCantOpen // memory, by another user
	if errors.Is(err, errOld) || shared {
		var path string
		if path, err = v.copied(ctx, now); err == nil {
			err = v.connected(ctx, path, "mode=ro&immutable=1", f)
		}
	}
	return stable, err
}

// connected runs f on one moment of a file.
func (v *viewer) connected(ctx context.Context, path, options string, f func(q querier) error) error {
	db, err := connect(path, options)
	if err != nil {
		return err
	}
	err = lite.moment(ctx, db, func(q querier) error {
		if v.asItIs {
			return f(q)
		}
		version, err := versionOf(ctx, q)
		switch {
		case err != nil:
			return err
		case version == 0:
			return empty()
		case version < schemaVersion:
			return errOld
		}
		return f(q)
	})
	return errors.Join(err, db.Close())
}

// tidy removes what SQLite made beside the file of another user, who could not write it, when that user ended
// while we began to read.
func (v *viewer) tidy(before sides) {
	after, err := sidesOf(v.path)
	me := uint32(os.Geteuid())
	if err != nil || after.main.owner == me {
		return
	}
	if after.shm.ino != before.shm.ino && after.shm.owner == me {
		os.Remove(v.path + "-shm")
	}
	if after.wal.ino != before.wal.ino && after.wal.owner == me && after.wal.size == 0 {
		os.Remove(v.path + "-wal")
	}
}

// copied is the path of a copy of the files, of this version.
func (v *viewer) copied(ctx context.Context, now sides) (string, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.copy != "" && v.of == now {
		return filepath.Join(v.copy, "copy.db"), nil
	}
	if err := v.drop(); err != nil {
		return "", err
	}
	var err error
	if v.copy, err = os.MkdirTemp("", "peftsearch-view-"); err != nil {
		return "", err
	}
	path := filepath.Join(v.copy, "copy.db")
	for _, side := range []string{"", "-wal", "-journal"} {
		if err := copyFile(path+side, v.path+side); err != nil && !(side != "" && errors.Is(err, fs.ErrNotExist)) {
			return "", err
		}
	}
	after, err := sidesOf(v.path)
	if err != nil {
		return "", err
	}
	if after != now {
		return "", errors.New("it is being written")
	}
	s := &Store{path: path, dialect: lite}
	if s.db, err = connect(path, "mode=rw&_foreign_keys=1&_txlock=immediate"); err != nil {
		return "", err
	}
	s.db.SetMaxOpenConns(1)
	if v.asItIs {
		s.checkpoint(ctx)
	} else {
		err = s.migrate(ctx, false)
	}
	if err := errors.Join(err, s.db.Close()); err != nil {
		return "", err
	}
	v.of = now
	return path, nil
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// drop removes the copy.
func (v *viewer) drop() error {
	if v.copy == "" {
		return nil
	}
	err := os.RemoveAll(v.copy)
	v.copy, v.of = "", sides{}
	return err
}

func (v *viewer) close() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.drop()
}
