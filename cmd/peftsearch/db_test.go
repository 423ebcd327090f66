package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

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

// A server whose PostgreSQL is killed leaves its last copy.
func TestAServerThatIsKilled(t *testing.T) {
	dir, path := serverDir(t), writeFakeStudy(t, 4)
	outputOf(t, "peftsearch", "db", "start", dir)
	outputOf(t, "peftsearch", "run", path, "--db", dir)
	front := func(db string) string { return outputOf(t, "peftsearch", "front", "small", "--json", "--db", db) }
	want := front(dir)
	content, err := os.ReadFile(filepath.Join(dir, "data", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Sscan(string(content), &pid); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(2 * time.Minute); exists(t, filepath.Join(dir, store.ServerFile)); {
		if time.Now().After(deadline) {
			t.Fatal("the server has not ended")
		}
		time.Sleep(50 * time.Millisecond)
	}
	if got := front(filepath.Join(dir, server.DumpFile)); got != want {
		t.Errorf("the copy has\n%s\nwant\n%s", got, want)
	}
}

// As a job the server comes and goes as Slurm wills, and a search waits for it. Slurm ends all processes of a job at
// once, PostgreSQL's too; the next server has what the copy has.
func TestAServerAsAJob(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a cluster")
	}
	dir, path := serverDir(t), writeFakeStudy(t, 30)
	t.Setenv("FAKE_SECONDS", "0.3")
	c := startCluster(t, 2)
	start := func(disk string, options ...string) {
		t.Helper()
		c.command("peftsearch", append([]string{"db", "start", dir, "--slurm", "--data", filepath.Join(dir, disk), "--",
			"--time=10:00"}, options...)...)
	}
	tally := func(db string) store.Tally { return tallyOf(t, db, "small") }
	start("first", "--begin=now+1hour")
	says := func(words ...string) {
		t.Helper()
		said, err := exec.Command("peftsearch", words...).CombinedOutput()
		if err == nil || !regexp.MustCompile(`job 1 is pending \(BeginTime\), expected to start at \d{4}-`).Match(said) {
			t.Errorf("%v: %v: %s", words, err, said)
		}
	}
	c.wait("job 1 waits", func() bool { return c.command("squeue", "--noheader", "--format=%r") == "BeginTime\n" })
	says("db", "status", dir)
	says("doctor", path, "--db", dir)
	c.command("peftsearch", "submit", path, "--db", dir, "--workers", "2", "--time", "10:00", "--", "--cpus-per-task=1")
	c.wait("the study waits for the server", func() bool {
		return c.command("squeue", "--noheader", "--jobs=2", "--format=%r") == "Dependency\n"
	})
	c.command("scontrol", "update", "jobid=1", "starttime=now")
	c.wait("some trials are stored", func() bool { return tally(dir).Complete > 3 })
	s, err := store.ReadServer(dir)
	c.must(err)
	c.command("scancel", s.Job)
	c.wait("the server has ended", func() bool { return !exists(t, filepath.Join(dir, store.ServerFile)) })
	logs, err := filepath.Glob(filepath.Join(filepath.Dir(path), "small.slurm", "*.log"))
	c.must(err)
	stored := 0
	for _, log := range logs {
		content, err := os.ReadFile(log)
		c.must(err)
		stored += len(finishedLine.FindAll(content, -1))
	}
	copied := filepath.Join(dir, server.DumpFile)
	if got := tally(copied); got.Complete < max(4, stored) {
		t.Errorf("%d trials were stored, the copy that a cancelled server leaves has %+v", stored, got)
	}
	start("second")
	c.wait("the study is done", func() bool { return tally(dir).Complete == 30 })
	if got := tally(dir); got.Total() != 30 {
		t.Errorf("%+v", got)
	}
	c.command("peftsearch", "db", "stop", dir)
	if got := tally(copied); got.Complete != 30 {
		t.Errorf("the copy that a server leaves has %+v", got)
	}
}

// exists reports whether a file is there.
func exists(t *testing.T, path string) bool {
	t.Helper()
	_, err := os.Stat(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return err == nil
}

// Two servers of one user are jobs of their own; two of one directory are not. One that makes room for another job
// leaves its copy, and the one that is queued after it goes on.
func TestServersAsJobs(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a cluster")
	}
	first, second := serverDir(t), serverDir(t)
	path := writeFakeStudy(t, 4)
	c := startCluster(t, 2)
	for i, dir := range []string{first, second, first} {
		c.command("peftsearch", "db", "start", dir, "--slurm", "--data", filepath.Join(dir, fmt.Sprint("disk", i)), "--",
			"--time=10:00", "--exclusive")
	}
	answer := func(dir string) bool { return exec.Command("peftsearch", "db", "status", dir).Run() == nil }
	c.wait("both serve", func() bool { return answer(first) && answer(second) })
	if waiting := c.command("squeue", "--noheader", "--states=PENDING", "--format=%r"); waiting != "Dependency\n" {
		t.Errorf("jobs wait for %q", waiting)
	}
	if status := c.command("peftsearch", "db", "status", first); !strings.Contains(status,
		"next    job 3 is pending (Dependency)") {
		t.Error(status)
	}
	c.command("peftsearch", "run", path, "--db", first)
	front := func(db string) string { return c.command("peftsearch", "front", "small", "--json", "--db", db) }
	want := front(first)
	before, err := store.ReadServer(first)
	c.must(err)
	node := strings.TrimSpace(c.command("squeue", "--noheader", "--jobs="+before.Job, "--format=%N"))
	c.command("sbatch", "--partition=urgent", "--exclusive", "--nodelist="+node, "--output=/dev/null", "--wrap=sleep 1")
	c.wait("the next one serves", func() bool {
		now, err := store.ReadServer(first)
		return err == nil && now.Job != before.Job && answer(first)
	})
	for _, db := range []string{filepath.Join(first, server.DumpFile), first} {
		if got := front(db); got != want {
			t.Errorf("%s has\n%s\nwant\n%s", db, got, want)
		}
	}
	for _, dir := range []string{first, second} {
		c.command("peftsearch", "db", "stop", dir)
	}
}
