package store_test

import (
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"peftsearch/evaluator"
	"peftsearch/studies/store"
	"peftsearch/studies/store/storetest"
)

// put stores a study with so many finished trials.
func put(t *testing.T, s *store.Store, trials int) *store.Record {
	t.Helper()
	ctx, me := t.Context(), store.ThisProcess()
	r, _, err := s.Ensure(ctx, storetest.Record())
	if err != nil {
		t.Fatal(err)
	}
	for range trials {
		if err := one(t, s, r, me); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// one stores a finished trial.
func one(t *testing.T, s *store.Store, r *store.Record, me store.Owner) error {
	ctx := t.Context()
	right, err := s.Propose(ctx, r, 1<<40, me)
	if err != nil {
		return err
	}
	trial, err := s.Add(ctx, r, right, storetest.Proposal(int(right.Trial())+1), me)
	if err != nil {
		return err
	}
	trial.State, trial.Result = store.Complete, evaluator.Result{Score: 0.5, BestStep: 1, Steps: 1}
	trial.Curve = []store.CurvePoint{{Step: 1, Steps: 1, Score: 0.5}}
	return s.Finish(ctx, r, right, trial)
}

// files reads all files of a directory.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, e := range entries {
		content, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all[e.Name()] = string(content)
	}
	return all
}

// same reports that a directory holds what it did.
func same(t *testing.T, dir string, before map[string]string) {
	t.Helper()
	after := files(t, dir)
	for name := range before {
		if after[name] != before[name] {
			t.Errorf("%s is not what it was", name)
		}
	}
	for name := range after {
		if _, ok := before[name]; !ok {
			t.Errorf("%s is new", name)
		}
	}
}

// refused checks an error of the database and its advice.
func refused(t *testing.T, err error, words, advice string) {
	t.Helper()
	var e *store.Error
	if !errors.As(err, &e) || !strings.Contains(err.Error(), words) || !strings.Contains(e.Advice, advice) {
		t.Errorf("the error is %#v (%v), want %q and the advice %q", err, err, words, advice)
	}
}

func view(t *testing.T, path string) *store.Store {
	t.Helper()
	s, err := store.View(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestAnyFileNameWorks(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	names := []string{"a?b.db", "c#1.db", "d%20e.db", "e%41.db", "50%25.db", "f g.db", "ä😀.db", "h&mode=memory.db",
		"i;j.db", "'k\".db", `l\m.db`,
		"\xff\xfe.db", "-n.db", ":o:.db", "file:p.db", "sub/%2e%2e/up.db", "/" + dir + "/q.db", dir + "//r.db", "./s.db"}
	if err := os.MkdirAll("sub/%2e%2e", 0o755); err != nil {
		t.Fatal(err)
	}
	for i, name := range names {
		s, err := store.Open(name)
		if err != nil {
			t.Errorf("%q: %v", name, err)
			continue
		}
		put(t, s, i%3+1)
		if err := s.Close(); err != nil {
			t.Errorf("%q: %v", name, err)
		}
		if info, err := os.Stat(name); err != nil || info.Size() == 0 {
			t.Errorf("%q: the file is not there: %v", name, err)
		}
	}
	for i, name := range names {
		s := view(t, name)
		r, err := s.Study(t.Context(), "s")
		if err != nil {
			t.Errorf("%q: %v", name, err)
			continue
		}
		if tally, err := s.Tally(t.Context(), r); err != nil || tally.Complete != i%3+1 {
			t.Errorf("%q: %+v, %v", name, tally, err)
		}
	}
	if all := files(t, filepath.Join(dir, "sub", "%2e%2e")); len(all) != 1 {
		t.Errorf("%d files", len(all))
	}
	for _, name := range []string{"", "  ", ":memory:", "a\x00b"} {
		if _, err := store.Open(name); !errors.Is(err, store.ErrPath) {
			t.Errorf("%q: %v", name, err)
		}
		if _, err := store.View(name); !errors.Is(err, store.ErrPath) {
			t.Errorf("viewing %q: %v", name, err)
		}
	}
}

// foreign makes databases that are not ours, by what they are. live ones have a -wal file that holds their content.
func foreign(t *testing.T, path, statements string, live bool) {
	t.Helper()
	from := path
	if live {
		from = filepath.Join(t.TempDir(), "live.db")
	}
	db, err := sql.Open("sqlite3", from)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	if _, err := db.Exec(statements); err != nil {
		t.Fatal(err)
	}
	for _, side := range []string{"", "-wal"} {
		if live { // as a crash leaves them
			content, err := os.ReadFile(from + side)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path+side, content, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestWhatIsNotOursIsLeftAsItIs(t *testing.T) {
	const another, wal = "another application's", "PRAGMA journal_mode = WAL; "
	const optuna = "CREATE TABLE studies (study_id INTEGER); CREATE TABLE trials (trial_id INTEGER); "
	for name, test := range map[string]struct {
		statements string // SQL; or the content of the file
		live       bool
		words      string
	}{
		"another application's":            {"CREATE TABLE notes (text)", false, another},
		"another application's, version 5": {"CREATE TABLE notes (text); PRAGMA user_version = 5", false, another},
		"another application's, by its id": {"CREATE TABLE notes (text); PRAGMA application_id = 7", false, another},
		"another application's, id alone":  {"PRAGMA application_id = 7; CREATE TABLE t (x); DROP TABLE t", false, another},
		"another application's, that wrote": {wal + "CREATE TABLE notes (text); INSERT INTO notes VALUES ('x')", true,
			another},
		"Optuna's":            {optuna + "CREATE TABLE version_info (v)", false, another},
		"Optuna's, version 3": {optuna + "PRAGMA user_version = 3", false, another},
		"a newer version's": {"CREATE TABLE studies (x); PRAGMA application_id = 0x50454654; PRAGMA user_version = 99",
			false, "newer peftsearch"},
		"of version 99": {"PRAGMA user_version = 99; CREATE TABLE t (x); DROP TABLE t", false, another},
		"text":          {strings.Repeat("not a database\n", 1000), false, "not a peftsearch database"},
		"a short text":  {"x", false, "not a peftsearch database"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "x.db")
			if strings.Contains(test.statements, "CREATE") {
				foreign(t, path, test.statements, test.live)
			} else if err := os.WriteFile(path, []byte(test.statements), 0o644); err != nil {
				t.Fatal(err)
			}
			before := files(t, dir)
			_, err := store.Open(path)
			refused(t, err, test.words, "")
			same(t, dir, before)
			_, err = store.View(path)
			refused(t, err, test.words, "")
			same(t, dir, before)
		})
	}
}

func TestFilesThatCannotBeUsed(t *testing.T) {
	dir := t.TempDir()
	_, err := store.View(filepath.Join(dir, "none.db"))
	refused(t, err, "there is none", "peftsearch run STUDY.yaml makes it")
	_, err = store.Open(filepath.Join(dir, "no", "such", "dir.db"))
	refused(t, err, "there is no directory", "--db")
	_, err = store.Open(dir)
	refused(t, err, "without a server.json", "--db")
	fifo := filepath.Join(dir, "fifo.db")
	if err := syscall.Mkfifo(fifo, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, open := range map[string]func(string) (*store.Store, error){"run": store.Open, "view": store.View} {
		_, err = open(fifo)
		refused(t, err, "no regular file", "--db")
		_ = name
	}
	if err := os.WriteFile(filepath.Join(dir, "empty.db"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = store.View(filepath.Join(dir, "empty.db"))
	refused(t, err, "it is empty", "peftsearch run STUDY.yaml")
	put(t, open(t, filepath.Join(dir, "empty.db")), 1) // may be filled
}

// A locked database is an error that says so, after some time, and nothing is decided.
func TestALockedDatabaseIsBusy(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	s := open(t, path)
	r := put(t, s, 1)
	blocker, err := sql.Open("sqlite3", "file:"+path+"?_txlock=immediate")
	if err != nil {
		t.Fatal(err)
	}
	defer blocker.Close()
	tx, err := blocker.Begin()
	if err != nil {
		t.Fatal(err)
	}
	store.SetBusyTime(s, 50*time.Millisecond)
	err = one(t, s, r, store.ThisProcess())
	if !store.IsBusy(err) {
		t.Errorf("the error is %v", err)
	}
	refused(t, err, "locked", "another process")
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := one(t, s, r, store.ThisProcess()); err != nil {
		t.Error(err)
	}
}

func TestAReadOnlyFileIsRefusedWithAdvice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	s, err := store.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, 1)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o444); err != nil {
		t.Fatal(err)
	}
	if f, err := os.OpenFile(path, os.O_RDWR, 0); err == nil {
		f.Close()
		t.Skip("this user may write files that are read-only")
	}
	if s, err = store.Open(path); err == nil {
		_, _, err = s.Ensure(t.Context(), &store.Record{Name: "s"})
		s.Close()
	}
	refused(t, err, "readonly", "make the file and its directory writable")
}
