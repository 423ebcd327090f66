package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"peftsearch/studies/store"
)

// DumpFile is the name of the file, in the directory of a server's description, that has a copy of all studies: a
// database like any other.
const DumpFile = "dump.db"

// dumpEvery is how old a copy gets.
const dumpEvery = 10 * time.Minute

// Run runs a server until ctx is cancelled. It begins with the newer of what its disk and the copy of an earlier server
// have of each study. The copy is made anew from time to time: who loses the server's disk loses no more than what came
// since. When the server has ended, however it did, the last copy has all that its disk has. The error wraps
// ErrDiverged if neither of the two is an earlier state of the other.
func Run(ctx context.Context, o Options) (err error) {
	if host, err := running(o.Dir); err != nil {
		return err
	} else if host != "" {
		return fmt.Errorf("%w: on %s, by %s", ErrRunning, host, filepath.Join(o.Dir, store.ServerFile))
	}
	o.Prepare = func(ctx context.Context, name string) error {
		copied := filepath.Join(o.Dir, DumpFile)
		if err := restore(ctx, name, copied); err != nil {
			return fmt.Errorf("restoring %s: %w", copied, err)
		}
		return nil
	}
	s, err := Start(ctx, o)
	if err != nil {
		return err
	}
	for {
		select {
		case <-s.ended:
			err := s.end(o)
			if ctx.Err() == nil { // nor has what ended it asked for this in the meantime
				err = errors.Join(errors.New("the PostgreSQL server ended by itself: its log says why"), err)
			}
			return err
		case <-ctx.Done():
			return s.end(o)
		case <-time.After(dumpEvery):
			if err := dump(ctx, o.Dir, o.Dir); err != nil {
				fmt.Fprintln(o.Log, "no copy was made:", err) // the next one makes up for it
			}
		}
	}
}

// lingering is how long processes of a PostgreSQL whose first one was killed may keep others from its data.
const lingering = 10 * time.Second

// end stops the server and leaves the last copy, which a server makes that nobody else can find: who ends a job may
// send its signal to PostgreSQL's own processes too, so the first one may be gone already.
func (s *Server) end(o Options) (err error) {
	defer func() { err = errors.Join(err, s.forget()) }() // who waits for that finds the copy
	if err := s.halt(); err != nil {
		fmt.Fprintln(o.Log, "the PostgreSQL server did not end in order:", err)
	}
	private, err := os.MkdirTemp("", "peftsearch-db-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(private)) }()
	ctx := context.Background() // that of the signal is over
	var again *Server
	for deadline := time.Now().Add(lingering); ; time.Sleep(lingering / 50) {
		again, err = Start(ctx, Options{Dir: private, Data: o.Data, Host: "127.0.0.1", Listen: "127.0.0.1", Log: o.Log})
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("making the last copy: %w", err)
		}
	}
	return errors.Join(dump(ctx, private, o.Dir), again.Stop())
}

// ErrRunning is the error of a directory whose server runs.
var ErrRunning = errors.New("a server runs already")

// running is the host of a directory's server, "" if none answers.
func running(dir string) (host string, err error) {
	s, err := store.ReadServer(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	db, err := store.View(dir)
	if err == nil {
		err = db.Close()
	}
	if store.IsBusy(err) {
		return "", nil
	}
	return s.Host, nil
}

// ErrDiverged is the error of a server whose disk and copy have each what the other lacks.
var ErrDiverged = errors.New("the server's disk has outcomes that its copy lacks, and the copy others")

// restore brings a server's studies up to date from the last copy.
func restore(ctx context.Context, name, copied string) (err error) {
	from, err := store.View(copied)
	if errors.Is(err, store.ErrNoFile) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	to, err := store.Open(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	return each(ctx, from, func(study string) error {
		err := from.Restore(ctx, study, to)
		if errors.Is(err, store.ErrDiverged) {
			return fmt.Errorf("study %s: %w", study, ErrDiverged)
		}
		return err
	})
}

// each calls do with the names of the studies.
func each(ctx context.Context, db *store.Store, do func(study string) error) error {
	records, err := db.Studies(ctx)
	if err != nil {
		return err
	}
	for _, r := range records {
		if err := do(r.Name); err != nil {
			return err
		}
	}
	return nil
}

// dump copies all studies of the server that a directory describes to another directory, if there are any: first on a
// disk of this machine, since SQLite's locks may not hold on that one's.
func dump(ctx context.Context, from, dir string) (err error) {
	local, err := os.MkdirTemp("", "peftsearch-dump-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(local)) }()
	path := filepath.Join(local, DumpFile)
	if err := dumpTo(ctx, from, path); errors.Is(err, store.ErrEmpty) {
		return nil
	} else if err != nil {
		return err
	}
	return store.ReplaceFile(filepath.Join(dir, DumpFile), path)
}

func dumpTo(ctx context.Context, dir, path string) error {
	from, err := store.View(dir)
	if err != nil {
		return err
	}
	to, err := store.Open(path)
	if err != nil {
		return errors.Join(err, from.Close())
	}
	err = each(ctx, from, func(study string) error { return from.Copy(ctx, study, to) })
	return errors.Join(err, to.Close(), from.Close())
}
