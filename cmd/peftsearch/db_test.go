package main

import (
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
	for _, data := range []string{"", filepath.Join(dir, "another-disk")} {
		outputOf(t, "peftsearch", "db", "start", dir, "--data", data)
		if got := front(dir); got != want {
			t.Errorf("started again on %q it has\n%s\nwant\n%s", data, got, want)
		}
		stop()
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
}
