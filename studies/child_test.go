package studies

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"peftsearch/evaluator"
	"peftsearch/search"
	"peftsearch/studies/config"
	"peftsearch/studies/store"
	"peftsearch/studies/store/storetest"
)

// The test binary is also a search in a process of its own, by the variable childEnv, and a worker, by its argument.
const (
	childEnv       = "PEFTSEARCH_TEST_CHILD"
	workerArgument = "peftsearch-test-worker"
)

// long lengthens the tests of many processes to what the documents promise: make test-processes sets it.
var long = os.Getenv("PEFTSEARCH_LONG_TESTS") != ""

// onServer runs the tests on a PostgreSQL server: make test does both.
var onServer = os.Getenv("PEFTSEARCH_TEST_POSTGRES") != ""

// addressFile is beside a study file whose database is on a server.
const addressFile = "database"

// database is the one for the studies of a study file's directory: a file beside it, or one on a server.
func database(t testing.TB, path string) string {
	t.Helper()
	note := filepath.Join(filepath.Dir(path), addressFile)
	if _, err := os.Stat(note); onServer && err != nil {
		if err := os.WriteFile(note, []byte(storetest.Postgres(t)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return databaseOf(path)
}

// databaseOf is what database was for a study file.
func databaseOf(path string) string {
	dir := filepath.Dir(path)
	if address, err := os.ReadFile(filepath.Join(dir, addressFile)); err == nil {
		return string(address)
	}
	return filepath.Join(dir, "studies.db")
}

// onFile skips a test of what happens to files.
func onFile(t *testing.T) {
	t.Helper()
	if onServer {
		t.Skip("the database is no file")
	}
}

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
	database(t, spec.Path)
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
	var db *store.Store
	var study *Study
	if err := repeat(context.Background(), func(ctx context.Context) (err error) {
		if db, err = store.Open(databaseOf(spec.Path)); err != nil {
			return err
		}
		if study, err = Start(ctx, db, file, inputs); err != nil {
			db.Close()
		}
		return err
	}, func(error) {}); err != nil {
		return err
	}
	if ask := study.ask; spec.Ask > 0 {
		study.ask = func(history *search.History, number int64) (search.Suggestion, error) {
			time.Sleep(spec.Ask)
			return ask(history, number)
		}
	}
	left := spec.Kill
	_, err = study.Run(context.Background(), func(ctx context.Context, _ Loading) (evaluator.Evaluator, error) {
		if !spec.Worker {
			analytic := study.Analytic().(*evaluator.Analytic)
			analytic.Delay = spec.Delay
			return analytic, nil
		}
		return evaluator.NewProcess(ctx, evaluator.ProcessOptions{Command: []string{os.Args[0], workerArgument,
			spec.Delay.String()}, Hello: file.Hello(1)})
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
			model = evaluator.Analytic{Geometry: inputs.Geometry, Noise: 0.005, Metric: string(hello.Task.Metric),
				Delay: delay}
			answers.Encode(evaluator.Ready{Type: evaluator.TypeReady, Protocol: evaluator.ProtocolVersion,
				Geometry: inputs.Geometry, Precision: "float32"})
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
	db, err := store.View(databaseOf(path))
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
		fronts, err = at.Fronts(t.Context(), record, 1, -1)
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
