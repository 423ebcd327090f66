package studies

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"peftsearch/studies/store"
)

func TestManyProcessesShareAStudy(t *testing.T) {
	n := 40
	if long {
		n = 300
	}
	path := writeStudy(t, t.TempDir(), n)
	edit(t, path, "sampler: tpe", "sampler: gp")
	if trials := crowd(t, 12, childSpec{Path: path}); len(trials) != n {
		t.Errorf("%d trials", len(trials))
	}
}

// While a sampler computes, nobody waits for it but those who want a proposal too.
func TestManyProcessesWithASlowSampler(t *testing.T) {
	spec := childSpec{Path: writeStudy(t, t.TempDir(), 12), Ask: 100 * time.Millisecond}
	processes := 4
	if long {
		spec.Ask, processes = 30*time.Second, 12
	}
	if trials := crowd(t, processes, spec); len(trials) != 12 {
		t.Errorf("%d trials", len(trials))
	}
}

func TestManyProcessesStartOneStudy(t *testing.T) {
	rounds := 2
	if long {
		rounds = 50
	}
	for range rounds {
		if trials := crowd(t, 12, childSpec{Path: writeStudy(t, t.TempDir(), 3)}); len(trials) != 3 {
			t.Errorf("%d trials", len(trials))
		}
	}
}

// Two supervisors in two namespaces of process ids, as in two containers, with one host name: neither can see whether
// the other lives.
func TestTwoNamespacesOfProcessIDs(t *testing.T) {
	if output, err := exec.Command("unshare", "--pid", "--fork", "--mount-proc", "true").CombinedOutput(); err != nil {
		t.Skipf("no namespace can be made here: %v: %s", err, output)
	}
	spec := childSpec{Path: writeStudy(t, t.TempDir(), 12), Delay: 30 * time.Millisecond}
	outside, inside := child(t, spec), child(t, spec, "unshare", "--pid", "--fork", "--mount-proc")
	for _, cmd := range []*exec.Cmd{outside, inside} {
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(outside.Wait(), inside.Wait()); err != nil {
		t.Error(err)
	}
	trials := stored(t, spec.Path)
	for _, trial := range trials {
		if trial.State != store.Complete || trial.Attempts != 1 {
			t.Errorf("trial %d is %s after %d attempts", trial.Number, trial.State, trial.Attempts)
		}
	}
	if len(trials) != 12 {
		t.Errorf("%d trials", len(trials))
	}
}

func TestSeveralWorkersAndProcessesShareABudget(t *testing.T) {
	path := writeStudy(t, t.TempDir(), 40)
	edit(t, path, "{analytic: true}", "{analytic: true, workers: 3}")
	if trials := crowd(t, 2, childSpec{Path: path}); len(trials) != 40 {
		t.Errorf("%d trials", len(trials))
	}
}

func TestAKilledSearchLosesNothingThatWasFinished(t *testing.T) {
	whole, _ := start(t, writeStudy(t, t.TempDir(), 8))
	want := mustRun(t, whole)
	for after := 1; after <= 8*5; after += 3 { // starts, rungs and outcomes
		path := writeStudy(t, t.TempDir(), 8)
		if err := child(t, childSpec{Path: path, Kill: after}).Run(); err == nil && after < 8*3 {
			t.Fatalf("not killed after %d events", after)
		}
		study, _ := start(t, path)
		before := 0
		for _, trial := range trialsOf(t, study) {
			if trial.State == store.Complete {
				before++
			}
		}
		if diff := cmp.Diff(want, mustRun(t, study), ignoreTimes); diff != "" {
			t.Fatalf("killed after %d events with %d trials complete, the study ends differently:\n%s", after, before, diff)
		}
	}
}

// childrenOf lists the processes that a process has started.
func childrenOf(pid int) (children []int) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	for _, entry := range entries {
		number, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + entry.Name() + "/stat")
		if err != nil {
			continue
		}
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		if parent, err := strconv.Atoi(fields[1]); err == nil && parent == pid && fields[0] != "Z" {
			children = append(children, number)
		}
	}
	return children
}

// Supervisors and workers are killed at random moments, again and again: what was finished stays, and in the end the
// study is what it is without that.
func TestKilledAtRandomMoments(t *testing.T) {
	n, kills, delay := 12, 10, 10*time.Millisecond
	if long {
		n, kills, delay = 200, 200, 120*time.Millisecond
	}
	whole, _ := start(t, writeStudy(t, t.TempDir(), n))
	want := mustRun(t, whole)
	path := writeStudy(t, t.TempDir(), n)
	spec := childSpec{Path: path, Delay: delay, Worker: true}
	rng := rand.New(rand.NewPCG(7, 7))
	var workers []int
	var before []store.Trial
	killed := 0
	for done := false; !done; {
		supervisor, log := child(t, spec), &strings.Builder{}
		supervisor.Stderr = log
		if err := supervisor.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- supervisor.Wait() }()
		for running := true; running; {
			wait := time.Duration(rng.Int64N(int64(time.Second)))
			if killed >= kills {
				wait = time.Minute
			}
			select {
			case err := <-ended:
				if err != nil {
					t.Fatalf("a search that was not killed ends with %v: %s", err, log)
				}
				running, done = false, true
			case <-time.After(wait):
				now := childrenOf(supervisor.Process.Pid)
				workers = append(workers, now...)
				if killed++; len(now) > 0 && rng.IntN(3) == 0 && fewCrashes(t, database(t, path)) {
					syscall.Kill(now[0], syscall.SIGKILL)
					continue
				}
				supervisor.Process.Kill()
				<-ended
				running = false
			}
		}
		var after []store.Trial
		if db, err := store.View(database(t, path)); err == nil { // it may be empty yet, or not there
			_, err := db.Study(t.Context(), "trial-run")
			db.Close()
			if err == nil {
				after = stored(t, path)
			}
		}
		for i, trial := range before {
			if trial.State.Finished() && !cmp.Equal(trial, after[i]) {
				t.Errorf("a finished trial has changed:\n%s", cmp.Diff(trial, after[i]))
			}
		}
		before = after
	}
	t.Logf("%d kills in %d trials", killed, n)
	if long && killed < kills {
		t.Errorf("the study ended after %d kills", killed)
	}
	if diff := cmp.Diff(want, stored(t, path), ignoreTimes); diff != "" {
		t.Errorf("the study ends differently:\n%s", diff)
	}
	deadline := time.Now().Add(5 * time.Second)
	for _, pid := range workers {
		for syscall.Kill(pid, 0) == nil && isWorker(pid) {
			if time.Now().After(deadline) {
				t.Fatalf("worker %d lives on", pid)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
}

// fewCrashes reports whether no trial's worker was killed before: after some times the trial fails.
func fewCrashes(t *testing.T, name string) bool {
	db, err := store.View(name)
	if err != nil {
		return false
	}
	defer db.Close()
	record, err := db.Study(t.Context(), "trial-run")
	if err != nil {
		return false
	}
	trials, err := db.Trials(t.Context(), record)
	if err != nil {
		t.Fatal(err)
	}
	for _, trial := range trials {
		if !trial.State.Finished() && trial.Crashes > 0 {
			return false
		}
	}
	return true
}

// isWorker tells a worker of these tests from another process that has its id now.
func isWorker(pid int) bool {
	command, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return err == nil && strings.Contains(string(command), workerArgument)
}

// A disk that is full ends the search with what was stored before, and the search goes on when there is space again.
func TestAFullDiskStopsTheSearchAndLosesNothing(t *testing.T) {
	onFile(t)
	const trials = 200 // more than the free room of the pages that a new study has
	whole, _ := start(t, writeStudy(t, t.TempDir(), trials))
	want := mustRun(t, whole)
	path := writeStudy(t, t.TempDir(), trials)
	empty, db := start(t, path)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(filepath.Dir(path), "studies.db"))
	if err != nil || empty.Continued() {
		t.Fatal(err)
	}
	output, err := child(t, childSpec{Path: path, Limit: uint64(info.Size()) + 4<<10}).CombinedOutput()
	if err == nil || !strings.Contains(string(output), "writing database") {
		t.Fatalf("the search ends with %v: %s", err, output)
	}
	finished := 0
	for _, trial := range stored(t, path) {
		if trial.State == store.Complete {
			finished++
		}
	}
	if finished == 0 || finished == trials {
		t.Fatalf("%d trials were stored before the disk was full", finished)
	}
	study, _ := start(t, path)
	if diff := cmp.Diff(want, mustRun(t, study), ignoreTimes); diff != "" {
		t.Errorf("after the disk was full the study ends differently:\n%s", diff)
	}
}
