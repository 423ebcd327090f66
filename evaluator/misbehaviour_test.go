package evaluator_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"peftsearch/evaluator"
)

// deafness names the modes of workers that never read and never write.
var deafness = map[string]bool{"deaf": true}

// greetings are wrong answers to hello.
var greetings = map[string]func(w *workerProgram){
	"hangs at hello": func(*workerProgram) { forever() },
	"refuses": func(w *workerProgram) {
		w.fail(0, evaluator.Failure{Kind: evaluator.FailureInternal, Message: "no such \x1b[31mmodel"})
	},
	"speaks version 1": func(w *workerProgram) {
		w.line(`{"type":"ready","protocol":1,"geometry":{},"fingerprint":{},"precision":"float32"}`)
		forever()
	},
	"greets with garbage": func(w *workerProgram) { w.line(`{"type":"re`) },
	"chats and exits":     func(w *workerProgram) { w.line("Hello from a library!"); os.Exit(0) },
	"dies at hello":       func(*workerProgram) { fmt.Fprintln(os.Stderr, "no GPU here"); os.Exit(3) },
	"has half a layer":    func(w *workerProgram) { w.line(`{"type":"ready","protocol":2,"geometry":{"layers":0.5}}`) },
	"has another metric": func(w *workerProgram) {
		w.line(`{"type":"ready","protocol":2,"metric":{"name":"bleu","low":0,"high":1}}`)
	},
	"has less than no layers": func(w *workerProgram) { w.line(`{"type":"ready","protocol":2,"geometry":{"layers":-1}}`) },
	"has a billion layers": func(w *workerProgram) {
		w.line(`{"type":"ready","protocol":2,"geometry":{"layers":1000000000,"hidden":8,"ffn":8,"heads":1,"backbone_params":1}}`)
	},
	"waits sometimes": func(w *workerProgram) { w.line(`{"type":"ready","protocol":2,"rungs":"sometimes"}`) },
	"says what it does": func(w *workerProgram) {
		w.line(`{"type":"progress","doing":"reading\u001b[31m","done":3}`)
		w.line(`{"type":"progress","doing":"tokenising","done":10,"of":40}`)
		w.line(`{"type":"progress","doing":"tokenising","done":20,"of":40,"left_s":-7}`)
		w.out.Encode(w.ready())
	},
	"has done more than all": func(w *workerProgram) {
		w.line(`{"type":"progress","doing":"tokenising","done":50,"of":40}`)
	},
	"chats and is ready": func(w *workerProgram) {
		w.line("Some weights were not initialised\n\n42")
		w.line(`{"type":"progress"}`)
		w.out.Encode(w.ready())
	},
	"reads no more":                 func(w *workerProgram) { w.out.Encode(w.ready()); forever() },
	"has a child and reads no more": func(w *workerProgram) { w.offspring(false); w.out.Encode(w.ready()); forever() },
}

// returns are what a worker that has crashed does when it is started again.
var returns = map[string]func(w *workerProgram){
	"dies at restart":    func(*workerProgram) { fmt.Fprintln(os.Stderr, "no GPU here"); os.Exit(3) },
	"hangs at restart":   func(*workerProgram) { forever() },
	"refuses at restart": greetings["refuses"],
	"other rows at restart": func(w *workerProgram) {
		ready := w.ready()
		ready.Fingerprint.Data = strings.Repeat("c", 64)
		w.out.Encode(ready)
	},
	"other model at restart": func(w *workerProgram) {
		ready := w.ready()
		ready.Geometry.Layers++
		w.out.Encode(ready)
	},
}

const rung = `{"type":"progress","trial":13,"step":25,"steps":100,"loss":0.5,"score":0.6}`

// says is a misbehaviour that is a line.
func says(line string) func(w *workerProgram) {
	return func(w *workerProgram) { w.line(line) }
}

// ends is a result with other fields.
func ends(fields string) func(w *workerProgram) {
	return says(`{"type":"result","trial":13,"best_step":100,"steps":100,"dev":{"accuracy":0.6},"wall_s":1,"peak_bytes":1,"head_params":1,` + fields + `}`)
}

// misbehaviour is what workers do in the strange trial.
var misbehaviour = map[string]func(w *workerProgram){
	"hangs in a step":    func(*workerProgram) {},
	"hangs after a rung": func(w *workerProgram) { w.progress(25, 0.6); <-w.in },
	"hangs after a stop": func(w *workerProgram) { w.progress(25, 0.6); <-w.in },
	"chats for ever": func(w *workerProgram) {
		for {
			w.line("still there")
			time.Sleep(50 * time.Millisecond)
		}
	},
	"stops itself":          func(*workerProgram) { syscall.Kill(os.Getpid(), syscall.SIGSTOP) },
	"a line without an end": func(*workerProgram) { fmt.Print(`{"type":"progress"`) },
	"ignores a stop": func(w *workerProgram) {
		w.progress(25, 0.6)
		<-w.in
		w.progress(50, 0.6)
	},
	"goes on for ever after a stop": func(w *workerProgram) {
		w.free = true
		w.progress(25, 0.6)
		for {
			w.progress(26, nil)
			time.Sleep(10 * time.Millisecond)
		}
	},
	"ignores SIGTERM and the end of stdin": func(*workerProgram) { forever() },

	"garbage":       says(`{"type":"progress",`),
	"a Python dict": says(`{'loss': 0.5}`),
	"a long line": func(*workerProgram) {
		fmt.Print("{")
		io.Copy(os.Stdout, io.LimitReader(endless{}, 300<<20))
		fmt.Println()
	},
	"a long log line":     func(*workerProgram) { io.Copy(os.Stdout, endless{}) },
	"unknown type":        says(`{"type":"epoch","trial":13}`),
	"ready again":         says(`{"type":"ready","protocol":2}`),
	"no type":             says(`{"trial":13}`),
	"type with space":     says(`{"type":"progress ","trial":13}`),
	"no trial":            says(`{"type":"progress","step":1,"steps":10}`),
	"null trial":          says(`{"type":"progress","trial":null,"step":1,"steps":10}`),
	"another trial":       says(`{"type":"progress","trial":99,"step":1,"steps":10}`),
	"trial in words":      says(`{"type":"progress","trial":"13","step":1,"steps":10}`),
	"NaN loss":            says(`{"type":"progress","trial":13,"step":1,"steps":10,"loss":NaN}`),
	"half a step":         says(`{"type":"progress","trial":13,"step":2.5,"steps":10}`),
	"step below 0":        says(`{"type":"progress","trial":13,"step":-1,"steps":10}`),
	"step above steps":    says(`{"type":"progress","trial":13,"step":11,"steps":10}`),
	"score without steps": says(`{"type":"progress","trial":13,"score":0.5}`),
	"rung score above 1":  says(`{"type":"progress","trial":13,"step":1,"steps":10,"score":1.5}`),
	"goes back": func(w *workerProgram) {
		w.progress(25, nil)
		w.progress(24, nil)
	},
	"changes the length": func(w *workerProgram) {
		w.progress(25, nil)
		w.line(`{"type":"progress","trial":13,"step":26,"steps":200}`)
	},
	"no score":            ends(`"accuracy":0.6`),
	"null score":          ends(`"score":null`),
	"score in words":      ends(`"score":"0.6"`),
	"infinite score":      ends(`"score":Infinity`),
	"huge score":          ends(`"score":1e400`),
	"score above 1":       ends(`"score":60.2`),
	"score below 0":       ends(`"score":-0.1`),
	"NaN on dev":          ends(`"score":0.6,"dev":{"f1":NaN}`),
	"no steps":            says(`{"type":"result","trial":13,"score":0.6}`),
	"negative memory":     ends(`"score":0.6,"peak_bytes":-1`),
	"overflow":            ends(`"score":0.6,"head_params":99999999999999999999`),
	"slow without end":    ends(`"score":0.6,"wall_s":1e300`),
	"endless head":        ends(`"score":0.6,"head_params":9223372036854775807`),
	"stopped by nobody":   ends(`"score":0.6,"stopped":"bored"`),
	"too few resamples":   ends(`"score":0.6,"resampled":[0.5,0.6]`),
	"result of no rung":   ends(`"score":0.6`),
	"result above rungs":  scores(0.5, 0.6, 0.7),
	"result below a rung": scores(0.7, 0.6, 0.6),
	"half a result":       says(`{"type":"result","trial":13,"score":`),
	"half a result, dead": func(*workerProgram) { fmt.Print(`{"type":"result","trial":13,"score":`); os.Exit(1) },
	"made-up failure":     says(`{"type":"failed","trial":13,"kind":"crashed","message":"\u001b]0;title\u0007 oh no"}`),
	"wrong failure":       says(`{"type":"failed","trial":13,"kind":7}`),

	"exits with 0": func(*workerProgram) { fmt.Fprintln(os.Stderr, "done, I think"); os.Exit(0) },
	"exits with 7": func(*workerProgram) {
		fmt.Fprintln(os.Stderr, "terminate called after throwing c10::Error")
		os.Exit(7)
	},
	"is killed":     func(*workerProgram) { syscall.Kill(os.Getpid(), syscall.SIGKILL); forever() },
	"closes stdout": func(*workerProgram) { os.Stdout.Close() },
	"closes stdin":  func(w *workerProgram) { os.Stdin.Close(); w.progress(25, 0.6); forever() },
	"much on stderr": func(w *workerProgram) {
		io.Copy(os.Stderr, io.LimitReader(endless{}, 100<<20))
		w.succeed()
	},
	"chats": func(w *workerProgram) {
		w.line("Epoch 1/3: loss 0.5\n\n42\n[1, 2]\n\tnull")
		w.succeed()
	},
	"duplicate result": func(w *workerProgram) { w.succeed(); w.result() },
	"late progress":    func(w *workerProgram) { w.succeed(); w.progress(100, nil) },
	"late failure": func(w *workerProgram) {
		w.succeed()
		w.fail(strange, evaluator.Failure{Kind: evaluator.FailureInternal, Message: "after all"})
	},
	"late garbage": func(w *workerProgram) { w.succeed(); w.line(`{'done': True}`) },
	"late exit":    func(w *workerProgram) { w.succeed(); os.Exit(0) },

	"child keeps stdout":          func(w *workerProgram) { w.offspring(false); os.Exit(0) },
	"child outlives the crash":    func(w *workerProgram) { w.offspring(false); os.Exit(7) },
	"child outlives the result":   func(w *workerProgram) { w.offspring(false); w.succeed() },
	"daemon keeps stdout":         func(w *workerProgram) { w.offspring(true); os.Exit(7) },
	"daemon, then a hanging step": func(w *workerProgram) { w.offspring(true) },
}

// further is misbehaviour with tests of its own.
var further = map[string]func(w *workerProgram){
	"takes all memory": func(*workerProgram) {
		var kept [][]byte
		for range 32 { // all that its cgroup has, and no more than this machine can spare should there be no limit
			kept = append(kept, make([]byte, 16<<20))
			endless{}.Read(kept[len(kept)-1])
		}
		os.Exit(len(kept))
	},
}

// endless is a reader of x.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

// scores is a misbehaviour that is a result after a rung at step 25 and the last one.
func scores(first, last, result float64) func(w *workerProgram) {
	return func(w *workerProgram) {
		w.progress(25, first)
		<-w.in
		w.progress(100, last)
		<-w.in
		ends(fmt.Sprintf(`"score":%g`, result))(w)
	}
}

func (w *workerProgram) result() {
	w.out.Encode(evaluator.ResultReport{Type: evaluator.TypeResult, Trial: strange,
		Result: evaluator.Result{Score: 0.6, BestStep: 100, Steps: 100}})
}

// succeed ends the strange trial as it should.
func (w *workerProgram) succeed() {
	w.progress(100, 0.6)
	<-w.in
	w.result()
}

// offspring starts a process that holds the worker's pipes: of its group, or as a daemon of its own.
func (w *workerProgram) offspring(daemon bool) {
	cmd := exec.Command("sleep", "600")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: daemon}
	if err := cmd.Start(); err != nil {
		panic(err)
	}
	if err := os.WriteFile(filepath.Join(w.args[0], "child"), []byte(strconv.Itoa(cmd.Process.Pid)), 0o644); err != nil {
		panic(err)
	}
}

// dead waits until a process is gone, or a zombie that its parent has not noticed yet.
func dead(pid int) bool {
	for range 200 {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if _, state, _ := strings.Cut(string(stat), ") "); err != nil || strings.HasPrefix(state, "Z") {
			return true
		}
		time.Sleep(50 * time.Millisecond)
	}
	return false
}

// stallTime is for silent workers, the others get patience.
const (
	stallTime = 5 * time.Second
	patience  = time.Minute
)

// Every slip is a failure of its trial with a reason, and the next trial succeeds.
func TestMisbehavingWorkers(t *testing.T) {
	goroutines := runtime.NumGoroutine()
	kinds := map[string]struct {
		kind  evaluator.FailureKind // "" for a success
		words string
	}{
		"hangs in a step":                      {"protocol", "silent for 5s"},
		"hangs after a rung":                   {"protocol", "silent for 5s"},
		"hangs after a stop":                   {"protocol", "did not end the trial within 5s after the stop"},
		"chats for ever":                       {"protocol", "still there"},
		"stops itself":                         {"protocol", "silent for 5s"},
		"a line without an end":                {"protocol", "silent for 5s"},
		"ignores a stop":                       {"protocol", "went on to a rung after a stop"},
		"goes on for ever after a stop":        {"protocol", "did not end the trial within 5s after the stop"},
		"ignores SIGTERM and the end of stdin": {"protocol", "silent for 5s"},

		"garbage":             {"protocol", "not JSON"},
		"a Python dict":       {"protocol", "prints to stderr"},
		"a long line":         {"protocol", "more than 16 MiB"},
		"a long log line":     {"protocol", "more than 16 MiB"},
		"unknown type":        {"protocol", `"epoch"`},
		"ready again":         {"protocol", `"ready"`},
		"no type":             {"protocol", `type ""`},
		"type with space":     {"protocol", `"progress "`},
		"no trial":            {"protocol", "without its trial"},
		"null trial":          {"protocol", "without its trial"},
		"another trial":       {"protocol", "trial 99"},
		"trial in words":      {"protocol", "trial is a JSON string"},
		"NaN loss":            {"protocol", "neither NaN nor Infinity"},
		"half a step":         {"protocol", "step is a JSON number 2.5"},
		"step below 0":        {"protocol", "step -1 of 10"},
		"step above steps":    {"protocol", "step 11 of 10"},
		"score without steps": {"protocol", "step 0 of 0"},
		"rung score above 1":  {"protocol", "1.5 is no accuracy"},
		"goes back":           {"protocol", "step 24 of 100 after step 25"},
		"changes the length":  {"protocol", "step 26 of 200 after step 25"},
		"no score":            {"protocol", "has no score"},
		"null score":          {"protocol", "has no score"},
		"score in words":      {"protocol", "score is a JSON string"},
		"infinite score":      {"protocol", "neither NaN nor Infinity"},
		"huge score":          {"protocol", "score is a JSON number 1e400"},
		"score above 1":       {"protocol", "60.2 is no accuracy"},
		"score below 0":       {"protocol", "-0.1 is no accuracy"},
		"NaN on dev":          {"protocol", "neither NaN nor Infinity"},
		"no steps":            {"protocol", "best_step 0 of 0"},
		"negative memory":     {"protocol", "below 0"},
		"overflow":            {"protocol", "head_params is a JSON number 99999999999999999999"},
		"slow without end":    {"protocol", "wall_s 1e+300: more than 1e+09"},
		"endless head":        {"protocol", "head_params 9223372036854775807: more than 1e+15"},
		"stopped by nobody":   {"protocol", "nobody did"},
		"too few resamples":   {"protocol", "2 resampled scores, it takes 128"},
		"result of no rung":   {"protocol", "best_step 100 is no rung"},
		"result above rungs":  {"protocol", "the score 0.7, and 0.6 at the rung of best_step 100"},
		"result below a rung": {"protocol", "best_step 100 with the score 0.6, and 0.7 at step 25"},
		"half a result":       {"protocol", "not JSON"},
		"half a result, dead": {"crashed", "exit status 1"},
		"made-up failure":     {"internal", `crashed: \x1b]0;title\a oh no`},
		"wrong failure":       {"protocol", "kind is a JSON number"},

		"exits with 0":     {"protocol", "done, I think"},
		"exits with 7":     {"crashed", "c10::Error"},
		"is killed":        {"crashed", "was killed"},
		"closes stdout":    {"protocol", "closed its stdout"},
		"closes stdin":     {"protocol", "silent for 5s"},
		"much on stderr":   {"", ""},
		"chats":            {"", ""},
		"duplicate result": {"", ""},
		"late progress":    {"", ""},
		"late failure":     {"", ""},
		"late garbage":     {"", ""},
		"late exit":        {"", ""},

		"child keeps stdout":          {"protocol", "with status 0"},
		"child outlives the crash":    {"crashed", "exit status 7"},
		"child outlives the result":   {"", ""},
		"daemon keeps stdout":         {"crashed", "exit status 7"},
		"daemon, then a hanging step": {"protocol", "silent for 5s"},
	}
	if len(kinds) != len(misbehaviour) {
		t.Errorf("%d outcomes for %d workers", len(kinds), len(misbehaviour))
	}
	t.Run("all", func(t *testing.T) {
		for mode, want := range kinds {
			t.Run(mode, func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				o := options(mode, dir)
				if o.Stall = patience; strings.Contains(want.words, " 5s") || mode == "chats for ever" {
					o.Stall = stallTime
				}
				p := open(t, o)
				ctx := context.Background()
				before, err := p.Evaluate(ctx, job, goOn)
				if err != nil {
					t.Fatal(err)
				}
				odd := job
				odd.Trial = strange
				_, err = p.Evaluate(ctx, odd, func(evaluator.Progress) evaluator.Verdict {
					return evaluator.Verdict{Stop: strings.Contains(mode, "a stop")}
				})
				var failure *evaluator.Failure
				switch {
				case want.kind == "":
					if err != nil {
						t.Errorf("the strange trial: %v", err)
					}
				case !errors.As(err, &failure) || failure.Kind != want.kind || !strings.Contains(failure.Message, want.words):
					t.Errorf("the strange trial: %v, want %s with %q", err, want.kind, want.words)
				case want.kind == evaluator.FailureProtocol && !strings.HasPrefix(failure.Message, "trial 13: "):
					t.Errorf("the message does not name the trial: %v", err)
				case len(failure.Message) > 2100 || strings.ContainsAny(failure.Message, "\x1b\x07"):
					t.Errorf("a message of %d bytes: %.300q", len(failure.Message), failure.Message)
				}
				next := job
				next.Trial = strange + 1
				after, err := p.Evaluate(ctx, next, goOn)
				if err != nil || after.Score != before.Score {
					t.Errorf("the next trial: score %g (%v), before %g", after.Score, err, before.Score)
				}
				if err := p.Close(); err != nil {
					t.Error(err)
				}
				if text, err := os.ReadFile(filepath.Join(dir, "child")); err == nil {
					pid, err := strconv.Atoi(string(text))
					if err != nil {
						t.Fatal(err)
					}
					if strings.HasPrefix(mode, "daemon") { // left the group: nobody but us ends it
						syscall.Kill(pid, syscall.SIGKILL)
					}
					if !dead(pid) {
						t.Errorf("process %d of the worker's group lives", pid)
					}
				}
			})
		}
	})
	for range 200 { // the readers of pipes that a daemon held end a little later
		if runtime.NumGoroutine() <= goroutines {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Errorf("%d goroutines, %d before", runtime.NumGoroutine(), goroutines)
}

func TestWorkersThatCannotBeUsed(t *testing.T) {
	for mode, words := range map[string]string{
		"deaf":                    "silent for 5s",
		"hangs at hello":          "silent for 5s",
		"refuses":                 `no such \x1b[31mmodel`,
		"speaks version 1":        "protocol 1, this program 2",
		"greets with garbage":     "not JSON",
		"chats and exits":         "Hello from a library!",
		"dies at hello":           "no GPU here",
		"has half a layer":        "geometry.layers is a JSON number 0.5",
		"has another metric":      `the metric "bleu", the task's is "accuracy"`,
		"has less than no layers": "below 0",
		"has a billion layers":    "its geometry: ",
		"waits sometimes":         `rungs "sometimes"`,
		"has done more than all":  "50 of 40 is done",
	} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			o := options(mode)
			o.Stall = stallTime
			_, err := evaluator.NewProcess(context.Background(), o)
			var failure *evaluator.Failure
			if !errors.Is(err, evaluator.ErrWorker) || errors.As(err, &failure) || !strings.Contains(err.Error(), words) {
				t.Errorf("the error is %v, want %q", err, words)
			}
		})
	}
	open(t, options("chats and is ready"))
	for _, command := range [][]string{{"/no/such/worker"}, {"no-such-worker"}, {os.TempDir()}, nil} {
		_, err := evaluator.NewProcess(context.Background(), evaluator.ProcessOptions{Command: command})
		if !errors.Is(err, evaluator.ErrWorker) {
			t.Errorf("%q: the error is %v", command, err)
		}
	}
}

func TestAWorkerSaysWhatItDoesWhileItLoads(t *testing.T) {
	o := options("says what it does")
	var told []evaluator.Doing
	o.Loading = func(p evaluator.Progress) { told = append(told, p.Doing) }
	open(t, o)
	if len(told) != 3 || told[0] != (evaluator.Doing{What: `reading\x1b[31m`, Done: 3}) ||
		told[1] != (evaluator.Doing{What: "tokenising", Done: 10, Of: 40}) || told[2].Done != 20 || !(told[2].Left > 0) {
		t.Errorf("%+v", told)
	}
}

// lateContext is cancelled when somebody asks for its end after late is set.
type lateContext struct {
	context.Context
	cancel context.CancelFunc
	late   atomic.Bool
}

func (c *lateContext) Done() <-chan struct{} {
	if c.late.Load() {
		c.cancel()
	}
	return c.Context.Done()
}

// A scheduler's signal reaches a worker before its supervisor: the job is interrupted. Without a cancellation the
// worker has crashed.
func TestWorkersThatASchedulerEnds(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		for _, cancelled := range []bool{true, false} {
			t.Run(fmt.Sprint(signal, cancelled), func(t *testing.T) {
				t.Parallel()
				p := open(t, options("good"))
				ctx := &lateContext{}
				ctx.Context, ctx.cancel = context.WithCancel(context.Background())
				defer ctx.cancel()
				_, err := p.Evaluate(ctx, job, func(evaluator.Progress) evaluator.Verdict {
					syscall.Kill(p.Pid(), signal)
					dead(p.Pid())
					ctx.late.Store(cancelled)
					return evaluator.Verdict{}
				})
				var failure *evaluator.Failure
				switch crashed := errors.As(err, &failure) && failure.Kind == evaluator.FailureCrashed; {
				case cancelled && !errors.Is(err, context.Canceled):
					t.Errorf("a job that is cancelled after its worker's end: %v", err)
				case !cancelled && !crashed:
					t.Errorf("a job whose worker alone was ended: %v", err)
				}
			})
		}
	}
}

// A worker that does not come back ends the job with ErrWorker, and the next job tries again.
func TestWorkersThatDoNotComeBack(t *testing.T) {
	for mode, words := range map[string]string{
		"dies at restart":        "no GPU here",
		"hangs at restart":       "silent for 5s",
		"refuses at restart":     "model",
		"other rows at restart":  "another data set: cccccccccccc…, not bbbbbbbbbbbb…",
		"other model at restart": "another model",
	} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			o := options(mode, t.TempDir())
			o.Stall = stallTime
			p := open(t, o)
			_, err := p.Evaluate(context.Background(), job, func(evaluator.Progress) evaluator.Verdict {
				syscall.Kill(p.Pid(), syscall.SIGKILL)
				return evaluator.Verdict{}
			})
			var failure *evaluator.Failure
			if !errors.As(err, &failure) || failure.Kind != evaluator.FailureCrashed {
				t.Fatalf("the killed worker: %v", err)
			}
			if _, err := p.Evaluate(context.Background(), job, goOn); !errors.Is(err, evaluator.ErrWorker) ||
				!strings.Contains(err.Error(), words) {
				t.Errorf("the worker that does not come back: %v, want %q", err, words)
			}
			if _, err := p.Evaluate(context.Background(), job, goOn); err != nil {
				t.Errorf("the third start: %v", err)
			}
		})
	}
}
