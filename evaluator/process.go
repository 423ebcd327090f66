package evaluator

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// stopGrace is how long a worker may take to end a job that was cancelled: some training steps.
const stopGrace = 20 * time.Second

// maxLine bounds a protocol line; the longest are predictions.
const maxLine = 256 << 20

// ProcessOptions says how to run a worker.
type ProcessOptions struct {
	Command []string  // program and arguments
	Hello   Hello     // Type and Protocol are filled in
	Log     io.Writer // receives the worker's stderr; nil discards it
}

// Process is an Evaluator that runs jobs in a worker process. The process is started by NewProcess, and
// again by the job after one in which it ended. Like every Evaluator it belongs to one goroutine.
type Process struct {
	options ProcessOptions
	worker  *worker // nil when none runs
	ready   Ready
}

// NewProcess starts a worker and waits until it has loaded model and data. The error says what the
// worker said; it is never a *Failure.
func NewProcess(ctx context.Context, options ProcessOptions) (*Process, error) {
	options.Hello.Type, options.Hello.Protocol = TypeHello, ProtocolVersion
	p := &Process{options: options}
	if err := p.start(ctx); err != nil {
		return nil, err
	}
	return p, nil
}

// Ready says what the worker has loaded.
func (p *Process) Ready() Ready { return p.ready }

// Pid is the worker's process id, 0 if none is running.
func (p *Process) Pid() int {
	if p.worker == nil {
		return 0
	}
	return p.worker.cmd.Process.Pid
}

// Evaluate implements Evaluator.
func (p *Process) Evaluate(ctx context.Context, job Job, report func(Progress) Verdict) (Result, error) {
	if err := p.start(ctx); err != nil {
		return Result{}, err
	}
	if err := p.worker.send(EvaluateRequest{Type: TypeEvaluate, Job: job}); err != nil {
		return Result{}, p.crashed(err)
	}
	cancelled := ctx.Done()
	var deadline <-chan time.Time
	for {
		select {
		case <-cancelled:
			cancelled, deadline = nil, time.After(stopGrace)
			if err := p.worker.send(StopRequest{Type: TypeStop, Trial: job.Trial, Reason: "interrupted"}); err != nil {
				p.kill()
				return Result{}, ctx.Err()
			}
		case <-deadline:
			p.kill()
			return Result{}, ctx.Err()
		case line, ok := <-p.worker.lines:
			if !ok {
				err := p.crashed(nil)
				if ctx.Err() != nil {
					return Result{}, ctx.Err()
				}
				return Result{}, err
			}
			result, done, err := p.handle(line, job.Trial, report)
			if !done {
				continue
			}
			if ctx.Err() != nil {
				return Result{}, ctx.Err()
			}
			return result, err
		}
	}
}

// handle acts on one message of a running job; done says that it was the last.
func (p *Process) handle(line []byte, trial int64, report func(Progress) Verdict) (result Result, done bool, err error) {
	var message struct {
		Type  string `json:"type"`
		Trial int64  `json:"trial"`
	}
	if err := decode(line, &message); err != nil {
		p.kill()
		return Result{}, true, err
	}
	if message.Trial != trial {
		p.kill()
		return Result{}, true, fmt.Errorf("worker: %s about trial %d during trial %d", message.Type, message.Trial, trial)
	}
	switch message.Type {
	case TypeProgress:
		var progress ProgressReport
		if err := decode(line, &progress); err != nil {
			p.kill()
			return Result{}, true, err
		}
		if verdict := report(progress.Progress); verdict.Stop {
			if err := p.worker.send(StopRequest{Type: TypeStop, Trial: trial, Reason: verdict.Reason}); err != nil {
				return Result{}, true, p.crashed(err)
			}
		}
		return Result{}, false, nil
	case TypeResult:
		var r ResultReport
		if err := decode(line, &r); err != nil {
			p.kill()
			return Result{}, true, err
		}
		return r.Result, true, nil
	case TypeFailed:
		var failed FailedReport
		if err := decode(line, &failed); err != nil {
			p.kill()
			return Result{}, true, err
		}
		return Result{}, true, &failed.Failure
	}
	p.kill()
	return Result{}, true, fmt.Errorf("worker: message type %q is not known", message.Type)
}

// Predict scores rows with the directory that a job with Output wrote.
func (p *Process) Predict(ctx context.Context, request PredictRequest) ([]Prediction, error) {
	if err := p.start(ctx); err != nil {
		return nil, err
	}
	request.Type = TypePredict
	if err := p.worker.send(request); err != nil {
		return nil, p.crashed(err)
	}
	line, err := p.receive(ctx)
	if err != nil {
		return nil, err
	}
	var answer PredictionsReport
	if err := p.expect(line, TypeScores, &answer); err != nil {
		return nil, err
	}
	if len(answer.Predictions) != len(request.Rows) {
		return nil, fmt.Errorf("worker: %d predictions for %d rows", len(answer.Predictions), len(request.Rows))
	}
	return answer.Predictions, nil
}

// Close implements Evaluator.
func (p *Process) Close() error {
	if p.worker != nil {
		p.kill()
	}
	return nil
}

// start runs the worker if none is running.
func (p *Process) start(ctx context.Context) error {
	if p.worker != nil {
		return nil
	}
	worker, err := startWorker(p.options)
	if err != nil {
		return err
	}
	p.worker = worker
	if err := worker.send(p.options.Hello); err != nil {
		return fmt.Errorf("starting the worker: %w", p.crashed(err))
	}
	line, err := p.receive(ctx)
	if err != nil {
		return fmt.Errorf("starting the worker: %w", err)
	}
	if err := p.expect(line, TypeReady, &p.ready); err != nil {
		p.kill()
		return fmt.Errorf("starting the worker: %w", err)
	}
	if p.ready.Protocol != ProtocolVersion {
		p.kill()
		return fmt.Errorf("the worker speaks protocol %d, this program %d: use programs of one version", p.ready.Protocol, ProtocolVersion)
	}
	return nil
}

// receive waits for the next line; it kills the worker when ctx ends first.
func (p *Process) receive(ctx context.Context) ([]byte, error) {
	select {
	case <-ctx.Done():
		p.kill()
		return nil, ctx.Err()
	case line, ok := <-p.worker.lines:
		if !ok {
			return nil, errors.New(p.crashed(nil).(*Failure).Message)
		}
		return line, nil
	}
}

// expect decodes a line of the wanted type; a failed message becomes its text.
func (p *Process) expect(line []byte, want string, into any) error {
	var message struct {
		Type    string `json:"type"`
		Message string `json:"message"`
	}
	if err := decode(line, &message); err != nil {
		return err
	}
	switch message.Type {
	case want:
		return decode(line, into)
	case TypeFailed:
		return errors.New(message.Message)
	}
	return fmt.Errorf("worker: %q came where %q was due", message.Type, want)
}

// crashed collects the worker that has ended and says how, as a *Failure. sendErr is the write that
// failed, if that is how it was noticed.
func (p *Process) crashed(sendErr error) error {
	worker := p.worker
	if sendErr != nil { // the pipe is broken, the process may still be ending
		worker.cmd.Process.Kill()
	}
	p.worker = nil
	state := worker.wait()
	failure := &Failure{Kind: FailureCrashed, Message: "the worker ended: " + state.String()}
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() && status.Signal() == syscall.SIGKILL {
		failure.Message = "the worker was killed, by hand or because memory ran out"
	}
	if tail := worker.log.tail(); tail != "" {
		failure.Message += "; its last words: " + tail
	}
	return failure
}

// kill ends the worker at once.
func (p *Process) kill() {
	worker := p.worker
	p.worker = nil
	worker.stdin.Close() // a worker reads the end of its input as the order to exit
	select {
	case <-worker.ended:
	case <-time.After(time.Second):
		worker.cmd.Process.Kill()
	}
	for range worker.lines { // let its reader finish
	}
	worker.wait()
}

// worker is one running process.
type worker struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines chan []byte   // from its stdout; closed at the end
	ended chan struct{} // closed when stdout ends
	log   *tailWriter
	wait  func() *os.ProcessState // of the first call; the others return the same
}

func startWorker(options ProcessOptions) (*worker, error) {
	if len(options.Command) == 0 {
		return nil, errors.New("no worker command is given")
	}
	w := &worker{cmd: exec.Command(options.Command[0], options.Command[1:]...), log: &tailWriter{next: options.Log},
		lines: make(chan []byte), ended: make(chan struct{})}
	w.cmd.Stderr = w.log
	w.cmd.Env = WorkerEnv(os.Environ(), options.Hello.Settings.Threads)
	// Ctrl-C in the terminal goes to the supervisor alone, which ends the worker in order.
	w.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var err error
	if w.stdin, err = w.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("starting the worker: %w", err)
	}
	stdout, err := w.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("starting the worker: %w", err)
	}
	if err := w.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the worker %s: %w", options.Command[0], err)
	}
	w.wait = sync.OnceValue(func() *os.ProcessState {
		w.stdin.Close()
		w.cmd.Wait() // its error is the state's
		return w.cmd.ProcessState
	})
	go w.read(stdout)
	return w, nil
}

func (w *worker) read(stdout io.Reader) {
	defer close(w.lines)
	defer close(w.ended)
	scanner := bufio.NewScanner(stdout)
	scanner.Buffer(nil, maxLine)
	for scanner.Scan() {
		w.lines <- bytes.Clone(scanner.Bytes())
	}
	io.Copy(io.Discard, stdout) // after a line that is too long
}

func (w *worker) send(message any) error {
	line, err := json.Marshal(message)
	if err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	if _, err := w.stdin.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	return nil
}

func decode(line []byte, into any) error {
	if err := json.Unmarshal(line, into); err != nil {
		return fmt.Errorf("worker: line %.80q is not the protocol's: %w", line, err)
	}
	return nil
}

// WorkerEnv adds to a worker's environment what libtorch, OpenMP and glibc read when the program loads;
// what the user has set stays. Idle OpenMP threads sleep, since active waiting makes a step ten times
// slower as soon as another process wants the core.
func WorkerEnv(env []string, threads int) []string {
	for _, setting := range []string{
		"OMP_NUM_THREADS=" + strconv.Itoa(max(threads, 1)),
		"OMP_WAIT_POLICY=passive",
		"ONEDNN_PRIMITIVE_CACHE_CAPACITY=8192",
		"LRU_CACHE_CAPACITY=8192",
		"GLIBC_TUNABLES=glibc.malloc.hugetlb=1",
	} {
		name, _, _ := strings.Cut(setting, "=")
		if _, set := os.LookupEnv(name); !set {
			env = append(env, setting)
		}
	}
	return env
}

// tailWriter passes on what it is given and keeps the last lines for the message about a crash.
type tailWriter struct {
	next io.Writer
	mu   sync.Mutex
	last []byte // guarded by mu
}

func (t *tailWriter) Write(b []byte) (int, error) {
	const keep = 600
	t.mu.Lock()
	t.last = append(t.last, b...)
	t.last = t.last[max(0, len(t.last)-keep):]
	t.mu.Unlock()
	if t.next != nil {
		return t.next.Write(b)
	}
	return len(b), nil
}

func (t *tailWriter) tail() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.last))
}
