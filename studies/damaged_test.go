package studies

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"peftsearch/search"
	"peftsearch/studies/config"
	"peftsearch/studies/store"
)

// A database that somebody edited is an error of its study that says which trial, whatever reads it: no result is
// taken for one that a training has, and nothing panics.
func TestAnEditedDatabaseIsAnErrorOfItsStudy(t *testing.T) {
	onFile(t)
	path := writeStudy(t, t.TempDir(), 40)
	edit(t, path, "initial: 4", "initial: 4, pruner: front")
	study, db := start(t, path)
	pruned := int64(-1)
	for _, trial := range mustRun(t, study) {
		if trial.State == store.Pruned {
			pruned = trial.Number
		}
	}
	front, err := ReadFront(t.Context(), db, study.record)
	if err != nil || len(front.Members) < 2 || pruned < 0 {
		t.Fatalf("%d members, pruned %d, %v", len(front.Members), pruned, err)
	}
	member := front.Members[len(front.Members)-1].Number
	database := filepath.Join(filepath.Dir(path), "studies.db")
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(database)
	if err != nil {
		t.Fatal(err)
	}
	edit(t, path, "trials: 40", "trials: 42")

	for _, test := range []struct {
		where int64 // the trial that is edited
		edit  string
		words string // of the error, after the trial where it has one
	}{
		{member, "UPDATE trials SET score = 1.5 WHERE %s", "the score 1.5 is no accuracy"},
		{member, "UPDATE trials SET score = -9e999 WHERE %s", "the score -Inf is no accuracy"},
		{member, "UPDATE trials SET score = 0.999 WHERE %s", "its score 0.999 is not the best of its 4 rungs"},
		{member, "UPDATE trials SET score = 0.01 WHERE %s", "its score 0.01 is not the best of its 4 rungs"},
		{member, "UPDATE trials SET wall_s = 1e300 WHERE %s", "wall_s 1e+300: more than"},
		{member, "UPDATE trials SET wall_s = -1 WHERE %s", "a number below 0"},
		{member, "UPDATE trials SET head_params = 9223372036854775807 WHERE %s", "head_params 9223372036854775807: more"},
		{member, "UPDATE trials SET best_step = 0 WHERE %s", "best_step 0 of 300 steps"},
		{member, "UPDATE trials SET params = -5 WHERE %s", "it has -5 parameters"},
		{member, "UPDATE trials SET candidate = 'x' WHERE %s", "invalid character"},
		{member, "UPDATE trials SET point = '[' WHERE %s", "its point: unexpected end"},
		{member, "UPDATE trials SET point = '[-1]' WHERE %s", "the point has 1 coordinates"},
		{member, "DELETE FROM trials WHERE %s", "there is no such trial"},
		{1, "DELETE FROM trials WHERE %s", "is missing"},
		{member, "UPDATE trials SET state = 'failed' WHERE %s", "of its front is failed"},
		{member, "DELETE FROM curves WHERE trial = " + fmt.Sprint(member), "is not the best of its 0 rungs"},
		{member, "UPDATE curves SET steps = 0 WHERE trial = " + fmt.Sprint(member), "it has a rung at step 75 of 0"},
		{pruned, "UPDATE trials SET forecast_sd = -1 WHERE %s", "a standard deviation of -1"},
		{pruned, "UPDATE trials SET forecast = 9e999 WHERE %s", "its forecast is +Inf"},
		{-1, "UPDATE studies SET metric = 'elo'", `there is no metric "elo"`},
		{-1, "UPDATE studies SET reference = '{}'", "the range of sizes is 0 to 0"},
		{-1, "UPDATE studies SET geometry = '{}'", "the backbone's layers 0"},
		{-1, "UPDATE studies SET identity = '['", "cannot be read"},
		{-1, "DELETE FROM counters", "a row is missing that others need"},
		{-1, "UPDATE fronts SET members = 'x'", `the members "x"`},
		{-1, "UPDATE fronts SET hypervolume = 9e999", "the hypervolume +Inf"},
		{-1, "DELETE FROM studies", "there is no such study"},
	} {
		name := strings.ReplaceAll(test.edit, "%s", "…")
		if err := os.WriteFile(database, content, 0o644); err != nil {
			t.Fatal(err)
		}
		file, err := sql.Open("sqlite3", database)
		if err != nil {
			t.Fatal(err)
		}
		where := fmt.Sprintf("number = %d", test.where)
		_, err = file.Exec(strings.ReplaceAll(test.edit, "%s", where))
		if err := errors.Join(err, file.Close()); err != nil {
			t.Fatal(err)
		}
		all := readAll(t, path, database, max(test.where, 0))
		told := fmt.Sprint(all)
		if !strings.Contains(told, test.words) || strings.Contains(told, "sql:") || strings.Contains(told, "NULL") ||
			test.where >= 0 && !strings.Contains(told, fmt.Sprintf("trial %d", test.where)) {
			t.Errorf("%s: the errors are %v, want %q of trial %d", name, all, test.words, test.where)
		}
		for _, err := range all {
			if !errors.Is(err, store.ErrDamaged) && !errors.Is(err, search.ErrDamagedHistory) &&
				!errors.Is(err, store.ErrNoStudy) && !errors.Is(err, store.ErrNoTrial) {
				t.Errorf("%s: %v does not say that the study is damaged", name, err)
			}
		}
	}
}

// readAll is the errors of everything that reads a study, and of going on with it.
func readAll(t *testing.T, path, database string, number int64) (all []error) {
	t.Helper()
	note := func(err error) {
		if err != nil {
			all = append(all, err)
		}
	}
	view, err := store.View(database)
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	record, err := view.Study(t.Context(), "trial-run")
	note(err)
	if err == nil {
		_, err = ReadFront(t.Context(), view, record)
		note(err)
		_, err = view.Trial(t.Context(), record, number)
		note(err)
		_, err = view.Trials(t.Context(), record)
		note(err)
		_, err = view.Outcomes(t.Context(), record)
		note(err)
		_, err = view.Fronts(t.Context(), record, 1, -1)
		note(err)
	}
	file, err := config.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	inputs, err := file.Open()
	if err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(database)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	study, err := Start(t.Context(), db, file, inputs)
	note(err)
	if err == nil {
		_, err = study.Status(t.Context())
		note(err)
		_, err = run(t, study, RunOptions{})
		note(err)
	}
	return all
}
