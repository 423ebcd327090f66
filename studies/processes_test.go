package studies

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"peftsearch/evaluator"
	"peftsearch/search"
	"peftsearch/studies/config"
	"peftsearch/studies/store"
)

// The test binary is also a search in a process of its own, by the variable childEnv, and a worker, by its argument.
const (
	childEnv       = "PEFTSEARCH_TEST_CHILD"
	workerArgument = "peftsearch-test-worker"
)

// long lengthens the tests of many processes to what the documents promise: make test-processes sets it.
var long = os.Getenv("PEFTSEARCH_LONG_TESTS") != ""

// childSpec is what a child runs.
type childSpec struct {
	Path   string        // study file, with the database beside it
	Kill   int           // the child kills itself at so many events; 0 never
	Ask    time.Duration // that the sampler sleeps
	Delay  time.Duration // of a trial, at every rung
	Worker bool          // trials run in a worker process
	Limit  uint64        // largest file that it may write; 0 for any
}

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == workerArgument {
		work(os.Stdin, os.Stdout)
		return
	}
	if text := os.Getenv(childEnv); text != "" {
		var spec childSpec
		err := json.Unmarshal([]byte(text), &spec)
		if err == nil {
			err = runChild(spec)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// child is the command of a search in another process.
func child(t testing.TB, spec childSpec, before ...string) *exec.Cmd {
	t.Helper()
	if testing.Short() {
		t.Skip("starts processes")
	}
	text, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	command := append(before, os.Args[0])
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = append(os.Environ(), childEnv+"="+string(text))
	return cmd
}

func runChild(spec childSpec) error {
	if spec.Limit > 0 {
		signal.Ignore(syscall.SIGXFSZ)
		limit := syscall.Rlimit{Cur: spec.Limit, Max: spec.Limit}
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
			return err
		}
	}
	file, err := config.Read(spec.Path)
	if err != nil {
		return err
	}
	inputs, err := file.Open()
	if err != nil {
		return err
	}
	db, err := store.Open(filepath.Join(filepath.Dir(spec.Path), "studies.db"))
	if err != nil {
		return err
	}
	study, err := Start(context.Background(), db, file, inputs)
	if err != nil {
		return err
	}
	if ask := study.ask; spec.Ask > 0 {
		study.ask = func(history *search.History, number int64) (search.Suggestion, error) {
			time.Sleep(spec.Ask)
			return ask(history, number)
		}
	}
	left := spec.Kill
	_, err = study.Run(context.Background(), func(ctx context.Context) (evaluator.Evaluator, error) {
		if !spec.Worker {
			analytic := study.Analytic().(*evaluator.Analytic)
			analytic.Delay = spec.Delay
			return analytic, nil
		}
		return evaluator.NewProcess(ctx, evaluator.ProcessOptions{Command: []string{os.Args[0], workerArgument, spec.Delay.String()}, Hello: file.Hello(1)})
	}, RunOptions{Events: func(e Event) {
		if e.Kind == EventProgress && e.Progress.Step > 75 || e.Kind == EventStarted || e.Kind == EventFinished {
			if left--; left == 0 {
				syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			}
		}
	}})
	return errors.Join(err, db.Close())
}

// work is a worker with the analytic surface of a model of the tests.
func work(in io.Reader, out io.Writer) {
	delay, err := time.ParseDuration(os.Args[2])
	if err != nil {
		panic(err)
	}
	lines, answers := bufio.NewScanner(in), json.NewEncoder(out)
	lines.Buffer(nil, 1<<20)
	var model evaluator.Analytic
	for lines.Scan() {
		var request struct {
			Type  string
			Model string
		}
		var job evaluator.EvaluateRequest
		if err := errors.Join(json.Unmarshal(lines.Bytes(), &request), json.Unmarshal(lines.Bytes(), &job)); err != nil {
			panic(err)
		}
		switch request.Type {
		case evaluator.TypeHello:
			var hello evaluator.Hello
			if err := json.Unmarshal(lines.Bytes(), &hello); err != nil {
				panic(err)
			}
			file, err := config.Read(filepath.Join(filepath.Dir(hello.Task.Train), "study.yaml"))
			if err != nil {
				panic(err)
			}
			inputs, err := file.Open()
			if err != nil {
				panic(err)
			}
			model = evaluator.Analytic{Geometry: inputs.Geometry, Noise: 0.005, Metric: string(hello.Task.Metric), Delay: delay}
			answers.Encode(evaluator.Ready{Type: evaluator.TypeReady, Protocol: evaluator.ProtocolVersion, Geometry: inputs.Geometry, Precision: "float32"})
		case evaluator.TypeEvaluate:
			result, err := model.Evaluate(context.Background(), job.Job, func(p evaluator.Progress) evaluator.Verdict {
				answers.Encode(evaluator.ProgressReport{Type: evaluator.TypeProgress, Trial: job.Trial, Progress: p})
				var verdict struct{ Type, Reason string }
				if !lines.Scan() || json.Unmarshal(lines.Bytes(), &verdict) != nil {
					os.Exit(1)
				}
				return evaluator.Verdict{Stop: verdict.Type == evaluator.TypeStop, Reason: verdict.Reason}
			})
			if err != nil {
				panic(err)
			}
			answers.Encode(evaluator.ResultReport{Type: evaluator.TypeResult, Trial: job.Trial, Result: result})
		}
	}
}

// edit changes a study file.
func edit(t testing.TB, path string, replacements ...string) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.NewReplacer(replacements...).Replace(string(content))
	if changed == string(content) {
		t.Fatalf("nothing to replace of %q", replacements)
	}
	if err := os.WriteFile(path, []byte(changed), 0o644); err != nil {
		t.Fatal(err)
	}
}

// stored opens the database beside a study file and lists the trials of its study, which must be whole: numbered
// without a gap, each candidate once, and with a front for each complete trial.
func stored(t testing.TB, path string) []store.Trial {
	t.Helper()
	db, err := store.View(filepath.Join(filepath.Dir(path), "studies.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var trials []store.Trial
	var fronts []store.FrontPoint
	if err := db.Snapshot(t.Context(), func(at *store.Store) error {
		record, err := at.Study(t.Context(), "trial-run")
		if err != nil {
			return err
		}
		if trials, err = at.Trials(t.Context(), record); err != nil {
			return err
		}
		fronts, err = at.Fronts(t.Context(), record)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	complete, keys := 0, map[string]bool{}
	for i, trial := range trials {
		if keys[trial.Candidate.Key()] = true; trial.Number != int64(i) {
			t.Errorf("trial %d stands at place %d", trial.Number, i)
		}
		if trial.State == store.Complete {
			complete++
		}
	}
	if len(keys) != len(trials) || len(fronts) != complete {
		t.Errorf("%d candidates in %d trials, %d fronts of %d complete ones", len(keys), len(trials), len(fronts), complete)
	}
	return trials
}

// crowd runs a search with many processes, which must all end well.
func crowd(t *testing.T, processes int, spec childSpec) []store.Trial {
	t.Helper()
	var children []*exec.Cmd
	var logs []*strings.Builder
	for range processes {
		cmd, log := child(t, spec), &strings.Builder{}
		cmd.Stderr = log
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		children, logs = append(children, cmd), append(logs, log)
	}
	for i, cmd := range children {
		if err := cmd.Wait(); err != nil {
			t.Errorf("process %d: %v: %s", i, err, logs[i])
		}
	}
	trials := stored(t, spec.Path)
	for _, trial := range trials {
		if trial.State != store.Complete || trial.Attempts != 1 {
			t.Errorf("trial %d is %s after %d attempts", trial.Number, trial.State, trial.Attempts)
		}
	}
	return trials
}

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
	database := filepath.Join(filepath.Dir(path), "studies.db")
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
				if killed++; len(now) > 0 && rng.IntN(3) == 0 && fewCrashes(t, database) {
					syscall.Kill(now[0], syscall.SIGKILL)
					continue
				}
				supervisor.Process.Kill()
				<-ended
				running = false
			}
		}
		if _, err := os.Stat(database); err != nil {
			continue
		}
		var after []store.Trial
		if db, err := store.View(database); err == nil { // it is there, and may be empty yet
			db.Close()
			after = stored(t, path)
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
func fewCrashes(t *testing.T, database string) bool {
	db, err := store.View(database)
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
