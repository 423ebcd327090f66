package store_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"peftsearch/studies/store"
)

func tallyOf(t *testing.T, path string) store.Tally {
	t.Helper()
	v := view(t, path)
	if v.Warning() != "" {
		t.Errorf("%s: %s", path, v.Warning())
	}
	r, err := v.Study(t.Context(), "s")
	if err != nil {
		t.Fatal(err)
	}
	tally, err := v.Tally(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return tally
}

// A machine is lost with its disk, and another one goes on with the mirror.
func TestAMirrorOutlivesItsMachine(t *testing.T) {
	drive := filepath.Join(t.TempDir(), "drive")
	local := filepath.Join(t.TempDir(), "studies.db")
	keep := func(path string) *store.Mirror {
		t.Helper()
		m, err := store.OpenMirror(t.Context(), path, drive, func(err error) { t.Error(err) })
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	m := keep(local)
	s, err := store.Open(local)
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, 2)
	if _, err := store.OpenMirror(t.Context(), local, drive, nil); !errors.Is(err, store.ErrMirrored) {
		t.Errorf("a second session: %v", err)
	}
	m.Changed()
	if err := m.Close(); err != nil { // while the search has the file open
		t.Fatal(err)
	}
	copied := filepath.Join(drive, "studies.db")
	if got := tallyOf(t, copied); got.Complete != 2 {
		t.Errorf("the mirror has %+v", got)
	}

	another := filepath.Join(t.TempDir(), "studies.db")
	m = keep(another)
	put(t, open(t, another), 1)
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if got := tallyOf(t, copied); got.Complete != 3 {
		t.Errorf("the mirror has %+v", got)
	}

	if err := s.Close(); err != nil { // the first machine is back
		t.Fatal(err)
	}
	m = keep(local)
	if got := tallyOf(t, local); got.Complete != 3 {
		t.Errorf("the older of the two is %+v", got)
	}
	put(t, open(t, local), 1)
	taken := []byte(`{"owner": {"Host": "elsewhere"}}`)
	if err := os.WriteFile(filepath.Join(drive, "session.json"), taken, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); !errors.Is(err, store.ErrMirrored) {
		t.Errorf("another session has taken over: %v", err)
	}
	if got := tallyOf(t, copied); got.Complete != 3 {
		t.Errorf("the mirror that another session keeps has %+v", got)
	}
	m = keep(local) // that session is silent since ever
	if got := tallyOf(t, local); got.Complete != 4 {
		t.Errorf("the newer of the two is %+v", got)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}

	stranger := filepath.Join(t.TempDir(), "x.db")
	put(t, open(t, stranger), 1)
	_, err = store.OpenMirror(t.Context(), stranger, drive, nil)
	refused(t, err, "another database than that of the mirror", "--mirror")
	if _, err := os.Stat(filepath.Join(drive, "session.json")); err == nil {
		t.Error("a session that was refused keeps the mirror")
	}
}

// A session that slept for so long that another one took its mirror over leaves it to that one for good.
func TestASessionThatWakesUpLeavesTheMirrorToTheOther(t *testing.T) {
	drive := filepath.Join(t.TempDir(), "drive")
	session, copied := filepath.Join(drive, "session.json"), filepath.Join(drive, "studies.db")
	local := filepath.Join(t.TempDir(), "studies.db")
	reported := make(chan error, 1)
	keep := func() *store.Mirror {
		t.Helper()
		m, err := store.OpenMirror(t.Context(), local, drive, func(err error) { reported <- err })
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	m := keep()
	s := open(t, local)
	put(t, s, 1)
	mine, err := os.ReadFile(session)
	if err != nil {
		t.Fatal(err)
	}
	write := func(content string) {
		t.Helper()
		if err := os.WriteFile(session, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	const taken = `{"owner": {"Host": "elsewhere"}}`
	write(taken)
	if err := m.Stay(); !errors.Is(err, store.ErrMirrored) {
		t.Errorf("its next sign of life: %v", err)
	}
	if now, err := os.ReadFile(session); err != nil || string(now) != taken {
		t.Errorf("the other's session is %s, %v", now, err)
	}
	m.Changed()
	if err := <-reported; !errors.Is(err, store.ErrMirrored) {
		t.Error(err)
	}
	write(string(mine)) // it has given up
	if err := m.Close(); !errors.Is(err, store.ErrMirrored) {
		t.Errorf("closing: %v", err)
	}
	if _, err := os.Stat(copied); err == nil {
		t.Error("it has copied")
	}
	write(taken)

	m = keep()
	if err := os.Remove(session); err != nil { // another one has come and gone
		t.Fatal(err)
	}
	if err := m.Stay(); !errors.Is(err, store.ErrMirrored) {
		t.Errorf("its next sign of life: %v", err)
	}
	if err := m.Close(); !errors.Is(err, store.ErrMirrored) {
		t.Errorf("closing: %v", err)
	}
}

// Whoever session.json says keeps the mirror: what is newer or of another database stays.
func TestAMirrorIsNotReplacedByLess(t *testing.T) {
	older, newer := filepath.Join(t.TempDir(), "studies.db"), filepath.Join(t.TempDir(), "studies.db")
	stranger := filepath.Join(t.TempDir(), "studies.db")
	mirror := func(path, drive string) *store.Mirror {
		t.Helper()
		m, err := store.OpenMirror(t.Context(), path, drive, func(err error) { t.Error(err) })
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	copyOf := func(path, drive string, trials int) string {
		t.Helper()
		m := mirror(path, drive)
		put(t, open(t, path), trials)
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		return filepath.Join(drive, "studies.db")
	}
	drive := filepath.Join(t.TempDir(), "drive")
	copyOf(older, drive, 1)
	for name, theirs := range map[string]string{"newer": copyOf(newer, drive, 2),
		"of another database": copyOf(stranger, filepath.Join(t.TempDir(), "drive"), 1)} {
		drive := filepath.Join(t.TempDir(), "drive")
		m := mirror(older, drive)
		copied := filepath.Join(drive, "studies.db")
		if err := store.ReplaceFile(copied, theirs); err != nil {
			t.Fatal(err)
		}
		if err := m.Close(); !errors.Is(err, store.ErrMirrored) {
			t.Errorf("the copy is %s: %v", name, err)
		}
		got, err := os.ReadFile(copied)
		if err != nil {
			t.Fatal(err)
		}
		if want, err := os.ReadFile(theirs); err != nil || !bytes.Equal(got, want) {
			t.Errorf("the copy that is %s was replaced, %v", name, err)
		}
	}
}

// Two sessions that went on from one mirror, each for itself: nothing of either is replaced.
func TestMirrorsThatWentTwoWays(t *testing.T) {
	drive, path := filepath.Join(t.TempDir(), "drive"), filepath.Join(t.TempDir(), "studies.db")
	session := func(path string, trials int) {
		t.Helper()
		m, err := store.OpenMirror(t.Context(), path, drive, func(err error) { t.Error(err) })
		if err != nil {
			t.Fatal(err)
		}
		put(t, open(t, path), trials)
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
	}
	session(path, 1)
	session(filepath.Join(t.TempDir(), "studies.db"), 2) // on another machine
	put(t, open(t, path), 1)                             // here without --mirror
	contents := func() (files [2][]byte) {
		for i, name := range []string{path, filepath.Join(drive, "studies.db")} {
			content, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			files[i] = content
		}
		return files
	}
	before := contents()
	_, err := store.OpenMirror(t.Context(), path, drive, func(err error) { t.Error(err) })
	if err == nil || !strings.Contains(err.Error(), "it has outcomes that the mirror") {
		t.Errorf("the error is %v", err)
	}
	if after := contents(); !bytes.Equal(before[0], after[0]) || !bytes.Equal(before[1], after[1]) {
		t.Error("files have changed")
	}
	if _, err := os.Stat(filepath.Join(drive, "session.json")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the session that was refused keeps the mirror: %v", err)
	}
}
