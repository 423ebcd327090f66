package evaluator

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"peftsearch/peft"
)

const (
	// stopGrace is how long a worker may take to end a job that was cancelled: some training steps.
	stopGrace = 10 * time.Second
	// exitGrace is how long a worker may take to exit when it is told to.
	exitGrace = time.Second
	// signalGrace is how long the cancellation may come after the end of a worker that was asked to end: a scheduler
	// sends its signal to all processes of a job, in any order.
	signalGrace = time.Second
)

// ErrWorker marks the error of a worker that cannot be started or started again, or that has loaded something
// else than it should: no job can run before somebody has seen to that.
var ErrWorker = errors.New("starting the worker")

// ErrKilled marks, beside ErrWorker, that somebody killed the worker while it loaded: the next one may live.
var ErrKilled = errors.New("it did not end by itself")

// ProcessOptions says how to run a worker.
type ProcessOptions struct {
	Command []string  // program and arguments
	Dir     string    // the program's working directory; "" is this program's
	Hello   Hello     // Type and Protocol are filled in
	Log     io.Writer // receives the worker's stderr, and what is no message on its stdout; nil discards it
	// Stall is the longest time without a message in which the worker loads or has a job; 0 is for ever.
	Stall  time.Duration
	Expect Expect
	// Loading gets what the worker does while NewProcess waits for it, by its caller's goroutine; nil discards it.
	Loading func(Progress)
}

// Expect is what a worker must have loaded. What is zero, here or in the worker's answer, is not compared. A
// worker that is started again must also have loaded what the first one had.
type Expect struct {
	Geometry    peft.Geometry
	Fingerprint Fingerprint
	Precision   string
}

// Process is an Evaluator that runs jobs in a worker process and checks all that it says. The process is
// started by NewProcess, and again by the job after one in which it ended or made a mistake. Like every
// Evaluator it belongs to one goroutine.
type Process struct {
	options ProcessOptions
	child   *child // nil when none runs
	ready   Ready
	scale   scale
	ended   map[int64]bool // trials of this child
	oom     oomWatch       // since the job began
	killed  bool           // the last child was killed, and not for memory
	pace    pace           // of what the child does beside steps
}

// NewProcess starts a worker and waits until it has loaded model and data. The error says what the
// worker said and wraps ErrWorker, or is ctx.Err(); it is never a *Failure.
func NewProcess(ctx context.Context, options ProcessOptions) (*Process, error) {
	options.Hello.Type, options.Hello.Protocol = TypeHello, ProtocolVersion
	p := &Process{options: options}
	if err := p.start(ctx, options.Loading); err != nil {
		return nil, err
	}
	return p, nil
}

// Describe starts a worker, asks what it has loaded, and ends it. The errors are those of NewProcess.
func Describe(ctx context.Context, options ProcessOptions) (Ready, error) {
	p, err := NewProcess(ctx, options)
	if err != nil {
		return Ready{}, err
	}
	return p.Ready(), p.Close()
}

// Ready says what the worker has loaded.
func (p *Process) Ready() Ready { return p.ready }

// Pid is the worker's process id, 0 if none is running.
func (p *Process) Pid() int {
	if p.child == nil {
		return 0
	}
	return p.child.pid
}

// Close implements Evaluator.
func (p *Process) Close() error {
	p.end(exitGrace)
	return nil
}

// end ends the worker, if one runs.
func (p *Process) end(grace time.Duration) {
	if p.child != nil {
		p.child.end(grace)
		p.child = nil
	}
}

// start runs the worker if none is running. loading gets what it does until it is ready.
func (p *Process) start(ctx context.Context, loading func(Progress)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if p.child != nil {
		select {
		case <-p.child.exited: // between two jobs
			p.end(0)
		default:
			return nil
		}
	}
	ready, err := p.launch(ctx, loading)
	if err != nil {
		p.end(0)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var failure *Failure // it is no job's
		if errors.As(err, &failure) {
			err = errors.New(failure.Message)
		}
		if p.killed {
			err = fmt.Errorf("%w: %w", err, ErrKilled)
		}
		return fmt.Errorf("%w: %w", ErrWorker, err)
	}
	p.ready, p.scale = ready, newScale(p.options.Hello.Task.Metric, ready.Metric)
	expect := &p.options.Expect
	expect.Geometry = cmp.Or(expect.Geometry, ready.Geometry)
	expect.Precision = cmp.Or(expect.Precision, ready.Precision)
	expect.Fingerprint.Model = cmp.Or(expect.Fingerprint.Model, ready.Fingerprint.Model)
	expect.Fingerprint.Data = cmp.Or(expect.Fingerprint.Data, ready.Fingerprint.Data)
	return nil
}

// launch starts the process and greets it.
func (p *Process) launch(ctx context.Context, loading func(Progress)) (Ready, error) {
	var err error
	p.child, err = startChild(p.options.Command, p.options.Dir,
		WorkerEnv(os.Environ(), p.options.Hello.Settings.Threads), p.options.Log)
	if err != nil {
		return Ready{}, err
	}
	p.ended, p.killed, p.pace = map[int64]bool{}, false, pace{}
	p.oom = watchOOM(p.child.pid)
	if err := p.send(ctx, p.options.Hello, p.options.Stall); err != nil {
		return Ready{}, err
	}
	text, err := p.answer(ctx, TypeReady, loading)
	if err != nil {
		return Ready{}, err
	}
	ready, err := decodeReady(text, p.options.Hello.Task.Metric)
	if err != nil {
		return Ready{}, err
	}
	return ready, p.options.Expect.check(ready)
}

// check compares what a worker has loaded with what it should have.
func (e Expect) check(r Ready) error {
	differ := func(what, want, got string) error {
		return fmt.Errorf("it has loaded another %s: %s, not %s", what, got, want)
	}
	other := func(want, got string) bool { return want != "" && got != "" && want != got }
	switch none := (peft.Geometry{}); {
	case e.Geometry != none && r.Geometry != none && e.Geometry != r.Geometry:
		return fmt.Errorf("it has loaded another model: %s", strings.Join(e.Geometry.Differences(r.Geometry), ", "))
	case other(e.Fingerprint.Model, r.Fingerprint.Model):
		return differ("model", brief(e.Fingerprint.Model), brief(r.Fingerprint.Model))
	case other(e.Fingerprint.Data, r.Fingerprint.Data):
		return differ("data set", brief(e.Fingerprint.Data), brief(r.Fingerprint.Data))
	case other(e.Precision, r.Precision):
		return differ("precision", e.Precision, r.Precision)
	}
	return nil
}

// brief is the beginning of a fingerprint.
func brief(fingerprint string) string { return fmt.Sprintf("%.12s…", fingerprint) }

// send writes a message within a time, 0 for any. A pipe that the worker has closed is no error: what it says
// or how it ends will tell more.
func (p *Process) send(ctx context.Context, message any, within time.Duration) error {
	text, err := json.Marshal(message)
	if err != nil {
		return fmt.Errorf("writing to the worker: %w", err)
	}
	var deadline time.Time
	if within > 0 {
		deadline = time.Now().Add(within)
	}
	err = p.child.send(ctx, text, deadline)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &slip{silence: true, what: "the worker does not read its stdin" + p.child.log.lastWords()}
	case errors.Is(err, syscall.EPIPE), err == nil:
		return nil
	}
	return fmt.Errorf("writing to the worker: %w", err)
}

// stall runs from the last sign of life; it never ends if it is 0.
type stall struct {
	after time.Duration
	timer *time.Timer
	C     <-chan time.Time
}

func newStall(after time.Duration) *stall {
	if after <= 0 {
		return &stall{}
	}
	timer := time.NewTimer(after)
	return &stall{after, timer, timer.C}
}

func (s *stall) reset() {
	if s.timer != nil {
		s.timer.Reset(s.after)
	}
}

// silent is the slip of a worker that says nothing.
func (p *Process) silent() error {
	return &slip{silence: true, what: fmt.Sprintf("the worker was silent for %s", p.options.Stall) +
		p.child.log.lastWords(),
		try: "progress messages are signs of life; evaluator.stall in the study file says how long to wait"}
}

// answer waits for a message of a type that answers a request which is no job. A failed message is an error of
// its words; progress is a sign of life, and says what the worker does to doing, if that is not nil.
func (p *Process) answer(ctx context.Context, want string, doing func(Progress)) ([]byte, error) {
	stall := newStall(p.options.Stall)
	for {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-stall.C:
			return nil, p.silent()
		case line, ok := <-p.child.lines:
			if !ok {
				return nil, p.gone(ctx)
			}
			h, err := decodeHeader(line)
			if err != nil {
				return nil, err
			}
			switch h.Type {
			case want:
				return line.text, nil
			case TypeProgress:
				stall.reset()
				d, err := decodeDoing(line.text)
				if err != nil {
					return nil, err
				}
				if d.What != "" && doing != nil {
					d.Left = p.pace.left(d)
					doing(Progress{Doing: d})
				}
			case TypeFailed:
				failure, err := decodeFailed(line.text)
				if err != nil {
					return nil, err
				}
				return nil, errors.New(failure.Message)
			default:
				return nil, slipIn(line.text, "", "the worker wrote %q where %q was due", h.Type, want)
			}
		}
	}
}

func decodeHeader(line line) (header, error) {
	if line.long {
		return header{}, slipIn(line.text, toStderr, "a line of more than %d MiB", MaxLine>>20)
	}
	var h header
	return h, decode(line.text, &h)
}

// gone collects a worker whose stdout has ended. The error says how it ended: a *slip or a *Failure. One that
// was asked to end may have been together with this program: ctx gets a moment to say so.
func (p *Process) gone(ctx context.Context) error {
	child := p.child
	p.child = nil
	lives := false
	select {
	case <-child.exited:
	case <-time.After(exitGrace):
		lives = true
	}
	state := child.end(0)
	words := child.log.lastWords()
	if lives {
		return &slip{what: "the worker closed its stdout" + words}
	}
	if state.Success() {
		return &slip{what: "the worker exited, with status 0" + words}
	}
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() && status.Signal() == syscall.SIGKILL {
		if p.oom.killed() {
			return &Failure{FailureOutOfMemory, "the kernel killed the worker because memory ran out" + words}
		}
		p.killed = true
		return &Failure{FailureCrashed, "the worker was killed" + words}
	}
	if askedToEnd(state) {
		select {
		case <-ctx.Done():
		case <-time.After(signalGrace):
		}
	}
	return &Failure{FailureCrashed, "the worker ended: " + state.String() + words}
}

// askedToEnd reports whether SIGTERM or SIGINT ended a process or, as shells put it, the program that it ran.
func askedToEnd(state *os.ProcessState) bool {
	status, ok := state.Sys().(syscall.WaitStatus)
	if !ok {
		return false
	}
	signal := status.Signal()
	if status.Exited() {
		signal = syscall.Signal(status.ExitStatus() - 128)
	}
	return signal == syscall.SIGTERM || signal == syscall.SIGINT
}

// pace is how fast a worker gets on with what it does beside steps.
type pace struct {
	what  string
	since time.Time
	first int64 // done then
}

// left estimates how many seconds the rest takes, 0 where that cannot be told.
func (p *pace) left(d Doing) float64 {
	if d.What != p.what || d.Done < p.first {
		*p = pace{d.What, time.Now(), d.Done}
	}
	done := d.Done - p.first
	if done == 0 || d.Of == 0 {
		return 0
	}
	return time.Since(p.since).Seconds() * float64(d.Of-d.Done) / float64(done)
}
