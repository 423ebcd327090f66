package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// ErrMirrored is the error of a mirror that another session keeps.
var ErrMirrored = errors.New("another session keeps it")

// Mirror keeps a whole copy of a database file in a directory that outlives this machine, such as a network drive on
// which SQLite itself must not write. One session at a time keeps a mirror.
type Mirror struct {
	path    string // of the database
	dir     string
	me      Owner
	report  func(error)
	changed chan struct{}
	closing chan struct{}
	ended   sync.WaitGroup
	err     error // of the last copy; after ended
}

// session is a process that keeps a mirror.
type session struct {
	Owner Owner     `json:"owner"`
	Alive time.Time `json:"alive"` // its last sign of life
}

const (
	mirrorFile   = "studies.db"   // the copy
	sessionFile  = "session.json" // who keeps it
	mirrorAlive  = time.Minute    // between signs of life
	mirrorSilent = 5 * time.Minute
)

// OpenMirror begins to keep a database's mirror, and brings the database up to date from it where the mirror is newer
// or the database is not there. Nobody may have the database open. report gets the errors of copies, which the next
// copy makes up for; after one that wraps ErrMirrored there is none. The error wraps ErrMirrored if another session
// keeps the mirror.
func OpenMirror(ctx context.Context, name, dir string, report func(error)) (*Mirror, error) {
	path, err := resolve(name)
	if err != nil {
		return nil, err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, err
	}
	m := &Mirror{path: path, dir: dir, me: ThisProcess(), report: report, changed: make(chan struct{}, 1),
		closing: make(chan struct{})}
	other, err := m.session()
	if err != nil {
		return nil, err
	}
	silent := time.Since(other.Alive)
	if life := other.Owner.seen(m.me); life == alive || life == unseen && silent < mirrorSilent {
		return nil, fmt.Errorf("mirror %s: %w, on %s; its last sign of life is %s old", dir, ErrMirrored, other.Owner.Host,
			silent.Round(time.Second))
	}
	if err := m.live(); err != nil {
		return nil, err
	}
	if err := m.fetch(ctx); err != nil {
		return nil, errors.Join(err, os.Remove(m.file(sessionFile)))
	}
	m.ended.Go(m.keep)
	return m, nil
}

func (m *Mirror) file(name string) string { return filepath.Join(m.dir, name) }

// session reads who keeps the mirror; its zero value is nobody.
func (m *Mirror) session() (s session, err error) {
	content, err := os.ReadFile(m.file(sessionFile))
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		err = json.Unmarshal(content, &s)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", m.file(sessionFile), err)
	}
	return s, err
}

// mine looks whether this session still keeps the mirror: one that slept may have been taken for dead.
func (m *Mirror) mine() error {
	now, err := m.session()
	switch {
	case err != nil:
		return err
	case now.Owner == Owner{}:
		return fmt.Errorf("mirror %s: %w, or has kept it meanwhile: %s is gone", m.dir, ErrMirrored, sessionFile)
	case now.Owner != m.me:
		return fmt.Errorf("mirror %s: %w now, on %s", m.dir, ErrMirrored, now.Owner.Host)
	}
	return nil
}

// stay is a sign of life of a session that keeps the mirror already.
func (m *Mirror) stay() error {
	if err := m.mine(); err != nil {
		return err
	}
	return m.live()
}

// live is a sign of life, whoever kept the mirror until now.
func (m *Mirror) live() error {
	local, err := os.CreateTemp("", "peftsearch-mirror-*")
	if err != nil {
		return err
	}
	defer os.Remove(local.Name())
	_, err = local.WriteString(marshal(session{Owner: m.me, Alive: time.Now()}))
	if err := errors.Join(err, local.Close()); err != nil {
		return err
	}
	return ReplaceFile(m.file(sessionFile), local.Name())
}

// fetch makes the database the mirror's, where that is newer. Where each has outcomes that the other one lacks, it is
// an error.
func (m *Mirror) fetch(ctx context.Context) error {
	var there, here outcomes
	copied, err := stateOf(ctx, m.file(mirrorFile), there.read)
	if errors.Is(err, ErrNoFile) {
		return nil
	}
	if err != nil {
		return err
	}
	own, err := stateOf(ctx, m.path, here.read)
	switch {
	case errors.Is(err, ErrNoFile):
	case err != nil:
		return err
	case own.id != copied.id:
		return &Error{Doing: "opening", Path: m.path,
			Err:    fmt.Errorf("it is another database than that of the mirror %s", m.dir),
			Advice: "name another file with --db, or another directory with --mirror"}
	case missing(here, there) && missing(there, here):
		return &Error{Doing: "opening", Path: m.path,
			Err:    fmt.Errorf("it has outcomes that the mirror %s lacks, and the mirror others", m.dir),
			Advice: "another directory with --mirror goes on with this one, another file with --db with the mirror"}
	case missing(here, there):
		return nil
	case missing(there, here):
	case own.versions >= copied.versions:
		return nil
	}
	for _, side := range []string{"-wal", "-shm"} { // of an older state
		if err := os.Remove(m.path + side); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return ReplaceFile(m.path, m.file(mirrorFile))
}

// state is what tells how far a database is.
type state struct {
	id       string
	versions int64
}

// outcomes are those of all studies of a database.
type outcomes map[string]bool

func (o *outcomes) read(ctx context.Context, q querier) error {
	*o = outcomes{}
	var studies []int64
	if err := each(ctx, q, func(scan func(...any) error) error {
		var id int64
		err := scan(&id)
		studies = append(studies, id)
		return err
	}, "SELECT id FROM studies"); err != nil {
		return err
	}
	for _, id := range studies {
		p, err := progressOf(ctx, q, &Record{id: id})
		if err != nil {
			return err
		}
		for outcome := range p.outcomes {
			(*o)[fmt.Sprint(id, " ", outcome)] = true
		}
	}
	return nil
}

// stateOf reads how far a database is, and more of it at the same moment.
func stateOf(ctx context.Context, path string, more ...func(context.Context, querier) error) (s state, err error) {
	v := &viewer{path: path}
	err = v.read(ctx, func(q querier) error {
		for _, read := range more {
			if err := read(ctx, q); err != nil {
				return err
			}
		}
		return q.QueryRowContext(ctx, "SELECT (SELECT id FROM instance), (SELECT COALESCE(SUM(version), 0) FROM counters)").
			Scan(&s.id, &s.versions)
	})
	if err != nil {
		err = (&Store{path: path, dialect: lite}).problem("opening", err)
	}
	return s, errors.Join(err, v.close())
}

// Changed says that something was stored. It does not wait for the copy.
func (m *Mirror) Changed() {
	select {
	case m.changed <- struct{}{}:
	default: // a copy is to be made already
	}
}

// keep makes copies until the mirror is closed, and a last one then. It ends when another session keeps the mirror.
func (m *Mirror) keep() {
	for {
		select {
		case <-m.changed:
			m.err = m.update()
		case <-time.After(mirrorAlive):
			m.err = m.stay()
		case <-m.closing:
			m.err = m.update()
			return
		}
		if m.err != nil {
			m.report(m.err)
		}
		if errors.Is(m.err, ErrMirrored) {
			return
		}
	}
}

// update replaces the copy, unless another session keeps the mirror now.
func (m *Mirror) update() error {
	ctx := context.Background() // a copy is short
	if err := m.mine(); err != nil {
		return err
	}
	if _, err := os.Stat(m.path); errors.Is(err, fs.ErrNotExist) { // nothing was stored
		return m.live()
	}
	local, err := os.MkdirTemp("", "peftsearch-mirror-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(local)
	path := filepath.Join(local, mirrorFile)
	if err := snapshotFile(ctx, m.path, path); err != nil {
		return fmt.Errorf("copying %s: %w", m.path, err)
	}
	if err := m.replaceable(ctx, path); err != nil {
		return err
	}
	if err := m.stay(); err != nil { // the snapshot may have taken long
		return err
	}
	return ReplaceFile(m.file(mirrorFile), path)
}

// replaceable reports an error if the copy holds what a snapshot does not.
func (m *Mirror) replaceable(ctx context.Context, snapshot string) error {
	copied, err := stateOf(ctx, m.file(mirrorFile))
	if errors.Is(err, ErrNoFile) {
		return nil
	}
	if err != nil {
		return err
	}
	own, err := stateOf(ctx, snapshot)
	switch {
	case err != nil:
		return err
	case own.id != copied.id:
		return fmt.Errorf("mirror %s: %w: its copy is of another database", m.dir, ErrMirrored)
	case own.versions < copied.versions:
		return fmt.Errorf("mirror %s: %w: its copy is newer than %s", m.dir, ErrMirrored, m.path)
	}
	return nil
}

// snapshotFile copies a database as it is at one moment, while others write it.
func snapshotFile(ctx context.Context, from, to string) error {
	source, err := connect(from, fmt.Sprintf("mode=ro&_busy_timeout=%d", busyTime.Milliseconds()))
	if err != nil {
		return err
	}
	_, err = source.ExecContext(ctx, "VACUUM INTO $1", to)
	if err := errors.Join(err, source.Close()); err != nil {
		return err
	}
	copied, err := connect(to, "mode=rw")
	if err != nil {
		return err
	}
	_, err = copied.ExecContext(ctx, "UPDATE instance SET live = 0") // it needs no -wal file
	return errors.Join(err, copied.Close())
}

// Close makes a last copy and leaves the mirror to others.
func (m *Mirror) Close() error {
	close(m.closing)
	m.ended.Wait()
	if errors.Is(m.err, ErrMirrored) {
		return m.err
	}
	return errors.Join(m.err, os.Remove(m.file(sessionFile)))
}

// ReplaceFile replaces a file by the content of another one, which may lie on another disk: whole or not at all.
func ReplaceFile(path, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err := errors.Join(err, out.Sync(), out.Close()); err != nil {
		return errors.Join(err, os.Remove(out.Name()))
	}
	return os.Rename(out.Name(), path)
}
