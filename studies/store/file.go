package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/mattn/go-sqlite3"
)

// file watches that the file of a database stays the one that was opened. SQLite itself writes on into a file that
// has been deleted, and into whatever was put in its place.
type file struct {
	path     string
	dev, ino uint64
	id       string // of the database

	mu       sync.Mutex
	size     int64 // seen so far: our files never shrink
	versions int64 // seen so far: the sum of all studies' counters
	based    bool  // the file itself has been seen to be ours: before, all may be in the -wal file
	looked   time.Time
	lost     error // sticky
	// The file at the path is ours by its number. Its content is another database's, or none's:
	foreign, destroyed bool
}

// lookEvery is how often at most the content of the file is looked at.
const lookEvery = time.Second

// watch starts to watch the file of a database that was just opened.
func watch(ctx context.Context, path string, q querier) (*file, error) {
	f := &file{path: path}
	if err := q.QueryRowContext(ctx, "SELECT id FROM instance").Scan(&f.id); err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	f.dev, f.ino = number(info)
	return f, f.look(ctx)
}

// number identifies a file, whatever its name.
func number(info os.FileInfo) (dev, ino uint64) {
	stat := info.Sys().(*syscall.Stat_t)
	return stat.Dev, stat.Ino
}

// present reports, as an *Error, that the file is no longer there as it was.
func (f *file) present(ctx context.Context) error {
	if f == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.lost == nil {
		f.lost = f.look(ctx)
	}
	return f.lost
}

func (f *file) look(ctx context.Context) error {
	lost := func(what, advice string) error {
		return &Error{Doing: "writing", Err: errors.New(what), Advice: advice + "; then run again: trials that were stored before are not repeated"}
	}
	info, err := os.Stat(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return lost("the file was deleted or renamed while it was open", "put it back")
	}
	if err != nil {
		return err
	}
	if dev, ino := number(info); dev != f.dev || ino != f.ino {
		return lost("another file was put in its place while it was open", "put the right one back")
	}
	if info.Size() < f.size {
		return lost(fmt.Sprintf("the file was cut from %d to %d bytes while it was open", f.size, info.Size()), "put a copy in its place")
	}
	f.size = info.Size()
	if time.Since(f.looked) < lookEvery {
		return nil
	}
	f.looked = time.Now()
	var id string
	var versions int64
	switch err := f.content(ctx, &id, &versions); {
	case code(err) == sqlite3.ErrNotADB:
		f.destroyed = true
		return lost("the file was overwritten while it was open", "put the right one back")
	case code(err) == sqlite3.ErrError && f.based || err == nil && id != f.id:
		f.foreign = true
		return lost("another database was put over the file while it was open", "put the right one back")
	case err == nil && versions < f.versions:
		f.foreign = true
		return lost("an older copy was put over the file while it was open", "put the right one back")
	case err == nil:
		f.versions, f.based = versions, true
	}
	return nil // a file whose -wal file is being copied to it, or could not be, makes no sense without that
}

// damaged reports pages that are not as they were written. SQLite notices that of pages that it reads again, which it
// may never do before the end.
func (f *file) damaged(ctx context.Context) error {
	db, err := connect(f.path, "mode=ro")
	if err != nil {
		return err
	}
	var verdict string
	err = errors.Join(db.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&verdict), db.Close())
	if code(err) == sqlite3.ErrCorrupt || err == nil && verdict != "ok" {
		return &Error{Doing: "writing", Err: errors.New("the file was damaged while it was open"),
			Advice: "put a copy of it in its place; then run again: trials that are in the copy are not repeated"}
	}
	return nil
}

// content reads what tells databases apart, from the file itself and past its -wal file.
func (f *file) content(ctx context.Context, id *string, versions *int64) error {
	db, err := connect(f.path, "mode=ro&immutable=1")
	if err != nil {
		return err
	}
	return errors.Join(db.QueryRowContext(ctx, "SELECT (SELECT id FROM instance), (SELECT COALESCE(SUM(version), 0) FROM counters)").Scan(id, versions), db.Close())
}

// isLost reports whether a write has been refused.
func (f *file) isLost() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.lost != nil
}
