package store_test

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"peftsearch/studies/store"
	"peftsearch/studies/store/storetest"
)

// put stores a study with so many finished trials.
func put(t *testing.T, s *store.Store, trials int) *store.Record {
	t.Helper()
	ctx, me := t.Context(), store.ThisProcess()
	r, _, err := s.Ensure(ctx, &store.Record{Name: "s"})
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
	trial.State, trial.Result.Score = store.Complete, 0.5
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
	names := []string{"a?b.db", "c#1.db", "d%20e.db", "e%41.db", "50%25.db", "f g.db", "ä😀.db", "h&mode=memory.db", "i;j.db", "'k\".db", `l\m.db`,
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
	for name, test := range map[string]struct {
		statements string // SQL; or the content of the file
		live       bool
		words      string
	}{
		"another application's":             {"CREATE TABLE notes (text)", false, "another application's"},
		"another application's, version 5":  {"CREATE TABLE notes (text); PRAGMA user_version = 5", false, "another application's"},
		"another application's, by its id":  {"CREATE TABLE notes (text); PRAGMA application_id = 7", false, "another application's"},
		"another application's, id alone":   {"PRAGMA application_id = 7; CREATE TABLE t (x); DROP TABLE t", false, "another application's"},
		"another application's, that wrote": {"CREATE TABLE notes (text); PRAGMA journal_mode = WAL; INSERT INTO notes VALUES ('x')", true, "another application's"},
		"Optuna's":                          {"CREATE TABLE studies (study_id INTEGER); CREATE TABLE trials (trial_id INTEGER); CREATE TABLE version_info (v)", false, "another application's"},
		"Optuna's, version 3":               {"CREATE TABLE studies (study_id INTEGER); CREATE TABLE trials (trial_id INTEGER); PRAGMA user_version = 3", false, "another application's"},
		"a newer version's":                 {fmt.Sprintf("CREATE TABLE studies (x); PRAGMA application_id = %d; PRAGMA user_version = 99", 0x50454654), false, "newer peftsearch"},
		"of version 99":                     {"PRAGMA user_version = 99; CREATE TABLE t (x); DROP TABLE t", false, "another application's"},
		"text":                              {strings.Repeat("not a database\n", 1000), false, "not a peftsearch database"},
		"a short text":                      {"x", false, "not a peftsearch database"},
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
	refused(t, err, "no regular file", "--db")
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

// What happens to the file while a search has it open ends the search at the next write.
func TestAFileThatDoesNotStayIsNoticed(t *testing.T) {
	rename := func(t *testing.T, from, to string) {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	another := func(t *testing.T, path string) []byte {
		s, err := store.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		put(t, s, 1)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return content
	}
	for name, test := range map[string]struct {
		happens func(t *testing.T, path string)
		words   string
	}{
		"deleted":  {func(t *testing.T, path string) { os.Remove(path) }, "deleted or renamed"},
		"renamed":  {func(t *testing.T, path string) { rename(t, path, path+".old") }, "deleted or renamed"},
		"replaced": {func(t *testing.T, path string) { another(t, path+".new"); rename(t, path+".new", path) }, "another file was put in its place"},
		"truncated": {func(t *testing.T, path string) {
			if err := os.Truncate(path, 0); err != nil {
				t.Fatal(err)
			}
		}, "was cut from"},
		"halved": {func(t *testing.T, path string) {
			if err := os.Truncate(path, 8192); err != nil {
				t.Fatal(err)
			}
		}, "was cut from"},
		"overwritten by another database": {func(t *testing.T, path string) {
			content := another(t, path+".new")
			file, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			if _, err := file.Write(content); err != nil {
				t.Fatal(err)
			}
		}, "another database was put over"},
		"overwritten by noise": {func(t *testing.T, path string) {
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			file, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			if _, err := file.Write(bytes.Repeat([]byte{7}, int(info.Size()))); err != nil {
				t.Fatal(err)
			}
		}, "was overwritten"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x.db")
			s, err := store.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			r := put(t, s, 3)
			test.happens(t, path)
			before := files(t, filepath.Dir(path))
			store.LookNow(s)
			me := store.ThisProcess()
			refused(t, one(t, s, r, me), test.words, "run again")
			refused(t, one(t, s, r, me), test.words, "run again") // and stays so
			if err := s.Close(); err != nil {
				t.Errorf("said again: %v", err)
			}
			if after := files(t, filepath.Dir(path)); strings.Contains(test.words, "over") && after["x.db"] != before["x.db"] {
				t.Error("what was put in its place was changed")
			}
		})
	}
	t.Run("an older copy put over it", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "x.db")
		s, err := store.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		r := put(t, s, 1)
		old, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		put(t, s, 1)
		store.LookNow(s)
		put(t, s, 1)
		file, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if _, err := file.Write(old); err != nil {
			t.Fatal(err)
		}
		store.LookNow(s)
		refused(t, one(t, s, r, store.ThisProcess()), "an older copy", "run again")
		s.Close()
	})
}

// The file alone is never far behind, and says when something is missing in it.
func TestAFileThatWasCopiedAlone(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.db")
	s := open(t, path)
	r := put(t, s, 5)
	copied := filepath.Join(t.TempDir(), "copy.db")
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(copied, content, 0o644); err != nil {
		t.Fatal(err)
	}
	v := view(t, copied)
	if !strings.Contains(v.Warning(), "without its -wal file") {
		t.Errorf("warning %q", v.Warning())
	}
	if tally, err := v.Tally(t.Context(), r); err != nil || tally.Complete != 5 {
		t.Errorf("%+v, %v", tally, err)
	}
	if w := view(t, path).Warning(); w != "" {
		t.Errorf("the original: warning %q", w)
	}
	again, err := store.Open(copied)
	if err != nil || !strings.Contains(again.Warning(), "without its -wal file") {
		t.Fatalf("warning %q, %v", again.Warning(), err)
	}
	put(t, again, 1)
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	if w := view(t, copied).Warning(); w != "" {
		t.Errorf("closed in order: warning %q", w)
	}
	// With its -wal file nothing is missing.
	if err := s.Beat(t.Context(), lease(t, s, r), store.Progress{}, nil); err != nil {
		t.Fatal(err)
	}
	whole := t.TempDir()
	for _, side := range []string{"", "-wal"} {
		content, err := os.ReadFile(path + side)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(whole, "x.db"+side), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	before := files(t, whole)
	v = view(t, filepath.Join(whole, "x.db"))
	if tally, err := v.Tally(t.Context(), r); err != nil || tally.Running != 1 || v.Warning() != "" {
		t.Errorf("%+v, %v, warning %q", tally, err, v.Warning())
	}
	same(t, whole, before)
	// A torn copy is refused.
	torn := filepath.Join(t.TempDir(), "torn.db")
	if err := os.WriteFile(torn, append(content[:len(content)-4096:len(content)-4096], make([]byte, 4096)...), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = store.Open(torn)
	refused(t, err, "it is damaged", "copy again")
}

// lease makes a new trial run.
func lease(t *testing.T, s *store.Store, r *store.Record) store.Lease {
	t.Helper()
	me := store.ThisProcess()
	right, err := s.Propose(t.Context(), r, 1<<40, me)
	if err == nil {
		_, err = s.Add(t.Context(), r, right, storetest.Proposal(int(right.Trial())+1), me)
	}
	if err != nil {
		t.Fatal(err)
	}
	return right
}

func TestViewersLeaveNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.db")
	s, err := store.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	r := put(t, s, 2)
	v := view(t, path)
	look := func(complete int) {
		t.Helper()
		if tally, err := v.Tally(t.Context(), r); err != nil || tally.Complete != complete {
			t.Errorf("%+v, %v", tally, err)
		}
		if trials, err := v.Trials(t.Context(), r); err != nil || len(trials) != complete {
			t.Errorf("%d trials, %v", len(trials), err)
		}
	}
	look(2) // beside a writer
	put(t, s, 1)
	look(3)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	before := files(t, dir)
	look(3)
	same(t, dir, before)
	if len(before) != 1 {
		t.Errorf("the writer leaves %d files", len(before))
	}
	if err := v.Beat(t.Context(), store.Lease{}, store.Progress{}, nil); err == nil {
		t.Error("a viewer can write")
	}
	s, err = store.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, 1) // the same viewer goes on beside another writer
	look(4)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	look(4)
	if err := os.Chmod(dir, 0o555); err != nil {
		t.Fatal(err)
	}
	defer os.Chmod(dir, 0o755)
	look(4)
}

// A viewer that began to read when the last writer of another user ended makes files that this user cannot write: they
// go again.
func TestViewersTidyUpAfterOtherUsers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("takes a second user")
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "x.db")
	s, err := store.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, 1)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(path, 4711, 4711); err != nil {
		t.Fatal(err)
	}
	for _, side := range []string{"-shm", "-wal"} {
		if err := os.WriteFile(path+side, nil, 0o644); err != nil { // ours, as SQLite makes them
			t.Fatal(err)
		}
	}
	store.Tidy(path)
	if left := files(t, dir); len(left) != 1 {
		t.Errorf("%d files are left", len(left))
	}
}

func TestAWriterThatWasKilledIsRead(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.db")
	s := open(t, path)
	r := put(t, s, 2)
	l := lease(t, s, r) // in the -wal file alone
	dead := t.TempDir() // all files, as a kill leaves them
	for name, content := range files(t, dir) {
		if err := os.WriteFile(filepath.Join(dead, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	v := view(t, filepath.Join(dead, "x.db"))
	if tally, err := v.Tally(t.Context(), r); err != nil || tally != (store.Tally{Complete: 2, Running: 1}) {
		t.Errorf("%+v, %v", tally, err)
	}
	again := open(t, filepath.Join(dead, "x.db"))
	if tally, err := again.Tally(t.Context(), r); err != nil || tally != (store.Tally{Complete: 2, Running: 1}) || again.Warning() != "" {
		t.Errorf("%+v, %v, warning %q", tally, err, again.Warning())
	}
	if err := s.Release(t.Context(), l, false); err != nil {
		t.Fatal(err)
	}
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

// Damage that no write has met is found at the end.
func TestDamagedPagesAreFoundAtTheEnd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	db, err := store.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	noise := bytes.Repeat([]byte{0xaa}, int(info.Size())-4096) // the first page stays
	if _, err := file.WriteAt(noise, 4096); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("closing: %v", err)
	}
}
