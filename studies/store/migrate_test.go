package store_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"peftsearch/search"
	"peftsearch/studies/store"
)

// golden copies the database of a schema to a directory of its own.
func golden(t *testing.T, schema int) string {
	t.Helper()
	content, err := os.ReadFile(fmt.Sprintf("testdata/schema-%d.db", schema))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "studies.db")
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// everything is all that can be read of a study.
type everything struct {
	Record    store.Record
	Trials    []store.Trial
	Fronts    []store.FrontPoint
	Trainings []store.Training
	Entries   []store.Entry
	Tally     store.Tally
}

func readAll(t *testing.T, s *store.Store, name string) (all everything) {
	t.Helper()
	if err := s.Snapshot(t.Context(), func(at *store.Store) error {
		r, err := at.Study(t.Context(), name)
		if err != nil {
			return err
		}
		all.Record = *r
		read := func(err error) {
			if err != nil {
				t.Fatal(err)
			}
		}
		ctx := t.Context()
		all.Trials, err = at.Trials(ctx, r)
		read(err)
		all.Fronts, err = at.Fronts(ctx, r, 1, -1)
		read(err)
		all.Trainings, err = at.Trainings(ctx, r)
		read(err)
		all.Entries, _, err = at.Changes(ctx, r, 0, true)
		read(err)
		all.Tally, err = at.Tally(ctx, r)
		read(err)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

var unexported = cmp.AllowUnexported(store.Record{})

func TestOlderDatabases(t *testing.T) {
	states := map[int]store.Tally{1: {Complete: 24, Waiting: 1}, 2: {Complete: 24, Waiting: 1}, 3: {Complete: 17,
		Pruned: 7, Waiting: 1},
		4: {Complete: 17, Pruned: 7, Waiting: 1}, 5: {Complete: 45, Pruned: 3, Waiting: 1},
		6: {Complete: 36, Pruned: 12, Waiting: 1}, 7: {Complete: 36, Pruned: 12, Waiting: 1},
		8: {Complete: 36, Pruned: 12, Waiting: 1}, 9: {Complete: 36, Pruned: 12, Waiting: 1}}
	for schema := range states {
		t.Run(fmt.Sprint("schema ", schema), func(t *testing.T) {
			path := golden(t, schema)
			before := files(t, filepath.Dir(path))
			viewed := readAll(t, view(t, path), "golden")
			same(t, filepath.Dir(path), before) // nobody has to run anything to look at it

			s := open(t, path)
			migrated := readAll(t, s, "golden")
			if diff := cmp.Diff(viewed, migrated, unexported); diff != "" {
				t.Errorf("viewed and migrated differ:\n%s", diff)
			}
			if diff := cmp.Diff(migrated, readAll(t, view(t, path), "golden"), unexported); diff != "" {
				t.Errorf("migrated and viewed after that differ:\n%s", diff)
			}
			if migrated.Tally != states[schema] {
				t.Errorf("%+v", migrated.Tally)
			}
			var outcomes []search.Outcome
			for i, trial := range migrated.Trials {
				if trial.Number != int64(i) || trial.Created.Year() != 2026 || trial.State.Finished() &&
					trial.Finished.Before(trial.Started) {
					t.Errorf("trial %d at place %d: created %v, started %v, finished %v", trial.Number, i, trial.Created,
						trial.Started, trial.Finished)
				}
				if e := migrated.Entries[i]; e.Key != store.KeyOf(trial.Candidate) || e.State != trial.State ||
					trial.State.Finished() != (len(e.Curve) > 0) {
					t.Errorf("entry %+v of trial %+v", e, trial)
				}
				if trial.State == store.Complete {
					outcomes = append(outcomes, search.Outcome{Number: trial.Number, Params: trial.Params,
						Score: trial.Result.Score})
				}
			}
			last := migrated.Fronts[len(migrated.Fronts)-1]
			if !slices.EqualFunc(search.Front(outcomes), last.Members, func(o search.Outcome,
				n int64) bool {
				return o.Number == n
			}) {
				t.Errorf("the last front is %v", last.Members)
			}
			if trainings := len(migrated.Trainings); schema >= 2 && trainings != 2 {
				t.Errorf("%d full trainings", trainings)
			}
			r := migrated.Record
			if _, _, err := s.Ensure(t.Context(), &r); err != nil {
				t.Fatal(err)
			}
			waiting := migrated.Trials[len(migrated.Trials)-1]
			again, added, err := s.Enqueue(t.Context(), &r, store.Proposal{Candidate: waiting.Candidate})
			if err != nil || added || again.Number != waiting.Number {
				t.Errorf("the same candidate is enqueued again as %d: %v, %v", again.Number, added, err)
			}
			if popped, _, err := s.Pop(t.Context(), &r, store.ThisProcess()); err != nil || popped.Number != waiting.Number {
				t.Errorf("trial %d runs next, %v", popped.Number, err)
			}
		})
	}
	warm := readAll(t, view(t, golden(t, 5)), "warm")
	if warm.Record.WarmStart == nil || warm.Record.WarmStart.Study != "golden" ||
		len(warm.Record.WarmStart.Trials) != 48 {
		t.Errorf("warm start %+v", warm.Record.WarmStart)
	}
}

// A database that an older version works on is not changed under it.
func TestAnOlderVersionAtWork(t *testing.T) {
	me := store.ThisProcess()
	local := me.Host + " " + me.Boot
	for name, test := range map[string]struct {
		host, process string
		heartbeat     time.Time
		works         bool
	}{
		"a process that lives, and slept":   {local, me.Process, time.Now().Add(-time.Hour), true},
		"a process that has ended":          {local, "4194304 1", time.Now(), false},
		"another machine's that was silent": {"elsewhere 1-2-3", me.Process, time.Now().Add(-time.Hour), false},
		"another machine's":                 {"elsewhere 1-2-3", me.Process, time.Now(), true},
	} {
		t.Run(name, func(t *testing.T) {
			path := golden(t, 5)
			db, err := sql.Open("sqlite3", "file:"+path)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := db.Exec(`UPDATE trials SET state = 'running', lease = 'x', host = ?, process = ?, heartbeat = ?
				WHERE study = 1 AND state = 'waiting'`,
				test.host, test.process, test.heartbeat.Unix()); err != nil {
				t.Fatal(err)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			before := files(t, filepath.Dir(path))
			if all := readAll(t, view(t, path), "golden"); all.Tally.Running != 1 {
				t.Errorf("viewed: %+v", all.Tally)
			}
			s, err := store.Open(path)
			if test.works {
				refused(t, err, "with an older peftsearch", "let it end")
				same(t, filepath.Dir(path), before)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if all := readAll(t, s, "golden"); all.Tally.Waiting != 1 || all.Tally.Running != 0 {
				t.Errorf("%+v", all.Tally)
			}
		})
	}
}

// The same of versions that keep leases.
func TestAVersionWithLeasesAtWork(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	s, err := store.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	lease(t, s, put(t, s, 1))
	store.Exec(s, "PRAGMA user_version = 6") // as if
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	before := files(t, filepath.Dir(path))
	_, err = store.Open(path)
	refused(t, err, "with an older peftsearch", "let it end")
	same(t, filepath.Dir(path), before)
}

// Several processes may be the first of a new version.
func TestMigratingAtOnce(t *testing.T) {
	path := golden(t, 3)
	results := make(chan error)
	for range 8 {
		go func() {
			s, err := store.Open(path)
			if err == nil {
				_, err = s.Study(context.Background(), "golden")
				err = errors.Join(err, s.Close())
			}
			results <- err
		}()
	}
	for range 8 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
}

// Keys that another version wrote in its own way are found again.
func TestKeysOfAnotherVersion(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	s := open(t, path)
	r := put(t, s, 3)
	store.Exec(s, "UPDATE trials SET candidate_key = 'old ' || number")
	entries := func() (keys []string) {
		t.Helper()
		all, _, err := s.Changes(t.Context(), r, 0, false)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range all {
			keys = append(keys, e.Key)
		}
		return keys
	}
	if !strings.HasPrefix(entries()[0], "old") {
		t.Fatal("the test does nothing")
	}
	if _, created, err := s.Ensure(t.Context(), &store.Record{Name: "s"}); err != nil || created {
		t.Fatal(err)
	}
	trials, err := s.Trials(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	for i, key := range entries() {
		if key != store.KeyOf(trials[i].Candidate) {
			t.Errorf("trial %d has the key %s", i, key)
		}
	}
}
