package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"peftsearch/studies/server"
	"peftsearch/studies/store"
)

// serverDir is a directory for a server, which may run as another user than the tests.
func serverDir(t *testing.T) string {
	t.Helper()
	if _, err := server.Binaries(); err != nil {
		t.Skip(err)
	}
	dir, err := os.MkdirTemp("", "peftsearch-db-test-")
	if err == nil {
		err = os.Chmod(dir, 0o711)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// more gives a study file more trials.
func more(t *testing.T, path string, from, to int) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err == nil {
		changed := strings.Replace(string(content), fmt.Sprint("trials: ", from), fmt.Sprint("trials: ", to), 1)
		err = os.WriteFile(path, []byte(changed), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// A server of one's own is started, used, stopped, moved to another disk, and always has the same studies.
func TestAServerOfOnesOwn(t *testing.T) {
	dir, path := serverDir(t), writeFakeStudy(t, 6)
	front := func(db string) string {
		t.Helper()
		return outputOf(t, "peftsearch", "front", "small", "--json", "--db", db)
	}
	stop := func() { t.Helper(); outputOf(t, "peftsearch", "db", "stop", dir) }
	outputOf(t, "peftsearch", "db", "start", dir)
	t.Cleanup(func() { exec.Command("peftsearch", "db", "stop", dir).Run() })
	if info, err := os.Stat(filepath.Join(dir, store.ServerFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	s, err := store.ReadServer(dir)
	if err != nil {
		t.Fatal(err)
	}
	said, err := exec.Command("peftsearch", "run", path, "--db", dir).CombinedOutput()
	if err != nil || strings.Contains(string(said), s.Password) {
		t.Fatalf("%v: %s", err, said)
	}
	status := outputOf(t, "peftsearch", "db", "status", dir)
	if !strings.Contains(status, "answers") || !strings.Contains(status, "studies 1") {
		t.Error(status)
	}
	said, err = exec.Command("peftsearch", "db", "start", dir).CombinedOutput()
	if err == nil || !strings.Contains(string(said), "runs already") {
		t.Errorf("a second server: %v, %s", err, said)
	}
	want := front(dir)
	stop()
	if got := front(filepath.Join(dir, server.DumpFile)); got != want {
		t.Errorf("the copy has\n%s\nwant\n%s", got, want)
	}
	if err := exec.Command("peftsearch", "db", "status", dir).Run(); err == nil {
		t.Error("a stopped server answers")
	}
	another := filepath.Join(dir, "another-disk")
	for _, data := range []string{"", another, ""} { // the first disk's state is older by the end
		outputOf(t, "peftsearch", "db", "start", dir, "--data", data)
		if got := front(dir); got != want {
			t.Errorf("started again on %q it has\n%s\nwant\n%s", data, got, want)
		}
		if data == another {
			outputOf(t, "peftsearch", "run", more(t, path, 6, 9), "--db", dir)
			want = front(dir)
		}
		stop()
	}

	// The other disk goes on without the copy, and the copy without it.
	copied, aside := filepath.Join(dir, server.DumpFile), filepath.Join(dir, "aside.db")
	rename := func(from, to string) {
		t.Helper()
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	rename(copied, aside)
	outputOf(t, "peftsearch", "db", "start", dir, "--data", another)
	outputOf(t, "peftsearch", "run", more(t, path, 9, 11), "--db", dir)
	stop()
	rename(aside, copied)
	outputOf(t, "peftsearch", "run", path, "--db", copied)
	want = front(copied)
	said, err = exec.Command("peftsearch", "db", "start", dir, "--data", another).CombinedOutput()
	if err == nil || !strings.Contains(string(said), "study small: the server's disk has outcomes that its copy lacks") ||
		!strings.Contains(string(said), "Try:   --data") {
		t.Errorf("two ways: %v, %s", err, said)
	}
	if got := front(copied); got != want {
		t.Errorf("the copy became\n%s\nwant\n%s", got, want)
	}
	log, err := os.ReadFile(filepath.Join(dir, serverLog))
	if err != nil || strings.Contains(string(log), s.Password) {
		t.Errorf("%v: %s", err, log)
	}
}

// As a job the server comes and goes as Slurm wills, and a search waits for it.
func TestAServerAsAJob(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a cluster")
	}
	dir, path := serverDir(t), writeFakeStudy(t, 30)
	t.Setenv("FAKE_SECONDS", "0.3")
	c := startCluster(t, 2)
	c.command("peftsearch", "submit", path, "--db", dir, "--workers", "2", "--time", "10:00", "--", "--cpus-per-task=1")
	c.command("peftsearch", "db", "start", dir, "--slurm", "--", "--time=10:00")
	tally := func() (tally store.Tally) {
		if s, err := store.View(dir); err == nil {
			defer s.Close()
			if record, err := s.Study(t.Context(), "small"); err == nil {
				tally, _ = s.Tally(t.Context(), record)
			}
		}
		return tally
	}
	c.wait("some trials are stored", func() bool { return tally().Complete > 3 })
	c.command("peftsearch", "db", "stop", dir)
	c.command("peftsearch", "db", "start", dir, "--slurm", "--", "--time=10:00")
	c.wait("the study is done", func() bool { return tally().Complete == 30 })
	if got := tally(); got.Total() != 30 {
		t.Errorf("%+v", got)
	}
	c.command("peftsearch", "db", "stop", dir)
	dir = filepath.Join(dir, server.DumpFile)
	if got := tally(); got.Complete != 30 {
		t.Errorf("the copy that a server leaves has %+v", got)
	}
}

// Two servers of one user are jobs of their own; two of one directory are not.
func TestServersAsJobs(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a cluster")
	}
	first, second := serverDir(t), serverDir(t)
	c := startCluster(t, 2)
	for _, dir := range []string{first, second, first} {
		c.command("peftsearch", "db", "start", dir, "--slurm", "--", "--time=10:00")
	}
	answer := func(dir string) bool { return exec.Command("peftsearch", "db", "status", dir).Run() == nil }
	c.wait("both serve", func() bool { return answer(first) && answer(second) })
	if waiting := c.command("squeue", "--noheader", "--states=PENDING", "--format=%r"); waiting != "Dependency\n" {
		t.Errorf("jobs wait for %q", waiting)
	}
	before, err := store.ReadServer(first)
	if err != nil {
		t.Fatal(err)
	}
	c.command("peftsearch", "db", "stop", first)
	c.wait("the next one serves", func() bool {
		now, err := store.ReadServer(first)
		return err == nil && now.Job != before.Job && answer(first)
	})
	for _, dir := range []string{first, second} {
		c.command("peftsearch", "db", "stop", dir)
	}
}
