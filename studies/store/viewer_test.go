package store_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"peftsearch/studies/store"
	"peftsearch/studies/store/storetest"
)

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
	if err := os.WriteFile(torn, append(content[:len(content)-4096:len(content)-4096], make([]byte, 4096)...),
		0o644); err != nil {
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
	if tally, err := again.Tally(t.Context(), r); err != nil || tally != (store.Tally{Complete: 2, Running: 1}) ||
		again.Warning() != "" {
		t.Errorf("%+v, %v, warning %q", tally, err, again.Warning())
	}
	if err := s.Release(t.Context(), l, false); err != nil {
		t.Fatal(err)
	}
}
