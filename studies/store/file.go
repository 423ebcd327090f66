package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"syscall"
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
	lost     error // sticky
	foreign  bool  // the file at the path is ours by its number, and its content another's
}

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
	return f, nil
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
		return &Error{Doing: "writing", Path: f.path, Err: errors.New(what), Advice: advice + "; then run again: trials that were stored before are not repeated"}
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
	var id string
	var versions int64
	err = settled(f.path, func() error {
		return immutable(ctx, f.path, func(q querier) error {
			return q.QueryRowContext(ctx, "SELECT (SELECT id FROM instance), (SELECT COALESCE(SUM(version), 0) FROM counters)").Scan(&id, &versions)
		})
	})
	switch {
	case err != nil && f.versions == 0: // what was stored so far may still be in the -wal file alone
		return nil
	case err != nil || id != f.id:
		f.foreign = true
		return lost("the file was overwritten while it was open", "put the right one back")
	case versions < f.versions:
		f.foreign = true
		return lost("an older copy was put over the file while it was open", "put the right one back")
	}
	f.versions = versions
	return nil
}
