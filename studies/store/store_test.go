package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"peftsearch/evaluator"
	"peftsearch/peft"
	"peftsearch/search"
)

// newStudy makes a study in a new database.
func newStudy(t *testing.T) (*Store, *Record) {
	t.Helper()
	s, err := Open(filepath.Join(t.TempDir(), "studies.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	r := &Record{Name: "s", Metric: "accuracy", Reference: search.Reference{Chance: 0.5, MinParams: 1, MaxParams: 100}, Seed: 7}
	if err := s.Create(context.Background(), r); err != nil {
		t.Fatal(err)
	}
	return s, r
}

// propose makes a candidate of its own for each number.
func propose(_ []Trial, number int64) (Proposal, error) {
	plan := peft.Plan{Layers: []peft.Layer{{Prefix: &peft.Prefix{Length: int(number) + 1}}}}
	return Proposal{Origin: "test", Trial: Trial{Candidate: evaluator.Candidate{Plan: plan}, Params: number + 1}}, nil
}

func TestFencing(t *testing.T) {
	s, r := newStudy(t)
	ctx := context.Background()
	claim := func(me Process) (Trial, string) {
		t.Helper()
		trial, lease, err := s.Claim(ctx, r, 3, me, propose)
		if err != nil {
			t.Fatal(err)
		}
		return trial, lease
	}
	me, err := ThisProcess()
	if err != nil {
		t.Fatal(err)
	}
	dead := Process{host: me.host, id: "999999999 1"}
	first, lease := claim(dead)
	second, newLease := claim(me) // the dead process's trial runs again
	if first.Number != second.Number || first.Seed != second.Seed || second.Attempts != 2 {
		t.Errorf("trial %d seed %d, then trial %d seed %d, attempt %d", first.Number, first.Seed, second.Number, second.Seed, second.Attempts)
	}
	if err := s.Finish(ctx, r, Trial{Number: first.Number, State: Complete, Result: evaluator.Result{Score: 1}}, lease); !errors.Is(err, ErrFenced) {
		t.Errorf("the old lease still writes: %v", err)
	}
	if err := s.Finish(ctx, r, Trial{Number: second.Number, State: Complete, Result: evaluator.Result{Score: 0.5}}, newLease); err != nil {
		t.Error(err)
	}
	elsewhere, _ := claim(Process{host: "another host", id: "1 1"})
	next, _ := claim(me) // a fresh heartbeat of another host is believed
	if next.Number == elsewhere.Number {
		t.Error("the trial of a living host is taken over")
	}
}

// SQLite reports its own page limit exactly as it reports a full disk.
func TestAFullDiskLosesNothing(t *testing.T) {
	s, r := newStudy(t)
	me, err := ThisProcess()
	if err != nil {
		t.Fatal(err)
	}
	var pages, limit int
	if err := s.db.QueryRow("PRAGMA page_count").Scan(&pages); err != nil {
		t.Fatal(err)
	}
	if err := s.db.QueryRow(fmt.Sprintf("PRAGMA max_page_count = %d", pages+3)).Scan(&limit); err != nil || limit != pages+3 {
		t.Fatalf("the limit is %d, %v", limit, err)
	}
	ctx := context.Background()
	finished := 0
	for {
		trial, lease, err := s.Claim(ctx, r, 1000, me, propose)
		if err == nil {
			trial.State, trial.Result = Complete, evaluator.Result{Score: 0.75}
			err = s.Finish(ctx, r, trial, lease)
		}
		if err != nil {
			if !strings.Contains(err.Error(), "the disk is full or failing") {
				t.Fatal(err)
			}
			break
		}
		finished++
	}
	if _, err := s.db.Exec("PRAGMA max_page_count = 1000000"); err != nil {
		t.Fatal(err)
	}
	trials, err := s.Trials(ctx, r)
	if err != nil || finished == 0 || len(trials) < finished {
		t.Fatalf("%d trials of %d that were stored, %v", len(trials), finished, err)
	}
	for _, trial := range trials[:finished] {
		if trial.State != Complete || trial.Result.Score != 0.75 {
			t.Errorf("trial %d is %s", trial.Number, trial.State)
		}
	}
}

func TestDatabasesThatCannotBeUsed(t *testing.T) {
	dir := t.TempDir()
	if _, err := View(filepath.Join(dir, "none.db")); err == nil || !strings.Contains(err.Error(), "peftsearch run") {
		t.Errorf("no file: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "none.db")); err == nil {
		t.Error("a viewer creates the database")
	}
	garbage := filepath.Join(dir, "garbage.db")
	if err := os.WriteFile(garbage, []byte(strings.Repeat("not a database ", 100)), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, openIt := range map[string]func(string) (*Store, error){"run": Open, "view": View} {
		if _, err := openIt(garbage); err == nil || !strings.Contains(err.Error(), "not a peftsearch database") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Open(filepath.Join(dir, "no", "such", "dir.db")); err == nil || !strings.Contains(err.Error(), "--db") {
		t.Errorf("no directory: %v", err)
	}
	newer, err := Open(filepath.Join(dir, "newer.db"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := newer.db.Exec("PRAGMA user_version = 99"); err != nil {
		t.Fatal(err)
	}
	newer.Close()
	if _, err := Open(filepath.Join(dir, "newer.db")); err == nil || !strings.Contains(err.Error(), "update peftsearch") {
		t.Errorf("newer: %v", err)
	}
}

func TestSeedsAreDistinctAndExactInJSON(t *testing.T) {
	seen := map[uint64]bool{}
	for number := range int64(1000) {
		seed := TrialSeed(7, number)
		if seed >= 1<<53 || seen[seed] {
			t.Fatalf("seed %d of trial %d", seed, number)
		}
		seen[seed] = true
	}
	if reflect.DeepEqual(TrialSeed(1, 2), TrialSeed(2, 1)) {
		t.Error("studies share seeds")
	}
}

func TestOlderDatabasesAreBroughtUpToDate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "studies.db")
	script, err := os.ReadFile("schema/0001.sql")
	if err != nil {
		t.Fatal(err)
	}
	old, err := sql.Open("sqlite3", path)
	if err != nil {
		t.Fatal(err)
	}
	for _, statement := range []string{string(script), "PRAGMA user_version = 1",
		`INSERT INTO studies (id, name, created, path, config, identity, metric, geometry, reference, seed)
			VALUES (1, 'old', 1700000000, '/old.yaml', 'study: old', '{}', 'accuracy', '{"layers": 1, "hidden": 4}', '{"chance": 0.5}', 7)`,
		`INSERT INTO trials (study, number, state, origin, reason, candidate, plan_key, params, seed, created, finished, score)
			VALUES (1, 0, 'complete', 'tpe', '', '{"plan": {"version": 1, "layers": [{}]}}', 'key', 0, 3, 1700000000, 1700000001, 0.75)`} {
		if _, err := old.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := View(path); err == nil || !strings.Contains(err.Error(), "brings it up to date") {
		t.Errorf("viewing it before: %v", err)
	}
	for range 2 { // the second time there is nothing to do
		store, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		ctx := context.Background()
		record, err := store.Study(ctx, "old")
		if err != nil {
			t.Fatal(err)
		}
		trials, err := store.Trials(ctx, record)
		if err != nil || len(trials) != 1 || trials[0].Result.Score != 0.75 {
			t.Errorf("trials %+v, %v", trials, err)
		}
		training := Training{Candidate: trials[0].Candidate, Seed: 40, Result: evaluator.Result{Test: map[string]float64{"accuracy": 0.7}}}
		if err := store.AddTraining(ctx, record, training); err != nil {
			t.Fatal(err)
		}
		if all, err := store.Trainings(ctx, record); err != nil || len(all) != 1 || all[0].Seed != 40 {
			t.Errorf("trainings %+v, %v", all, err)
		}
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
	}
	viewer, err := View(path)
	if err != nil {
		t.Fatal(err)
	}
	viewer.Close()
}
