package store_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"peftsearch/evaluator"
	"peftsearch/studies/store"
	"peftsearch/studies/store/storetest"
)

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
		"deleted": {func(t *testing.T, path string) { os.Remove(path) }, "deleted or renamed"},
		"renamed": {func(t *testing.T, path string) { rename(t, path, path+".old") }, "deleted or renamed"},
		"replaced": {func(t *testing.T, path string) { another(t, path+".new"); rename(t, path+".new", path) },
			"another file was put in its place"},
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

// Outcomes are on disk when they are stored, whatever happens to the machine; signs of life need not be.
func TestOutcomesLast(t *testing.T) {
	const normal, full = 1, 2
	s := open(t, filepath.Join(t.TempDir(), "x.db"))
	r := put(t, s, 1)
	if level := store.Synchronous(s); level != full {
		t.Errorf("after an outcome it is %d", level)
	}
	l := lease(t, s, r)
	if err := s.Beat(t.Context(), l, store.Progress{}, nil); err != nil {
		t.Fatal(err)
	}
	if level := store.Synchronous(s); level != normal {
		t.Errorf("after a sign of life it is %d", level)
	}
	if err := s.Fail(t.Context(), l, &evaluator.Failure{Kind: evaluator.FailureInternal}); err != nil {
		t.Fatal(err)
	}
	if level := store.Synchronous(s); level != full {
		t.Errorf("after a failure it is %d", level)
	}
	if _, _, err := s.Enqueue(t.Context(), r, storetest.Proposal(99)); err != nil || store.Synchronous(s) != full {
		t.Errorf("after a plan was enqueued: %v", err)
	}
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
