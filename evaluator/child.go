package evaluator

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"peftsearch/data/quote"
)

const (
	// MaxLine bounds a line of the protocol, in bytes.
	MaxLine = 16 << 20
	// lingering is how long the pipes of a worker that has ended are read: a process that left its group may
	// hold them for ever.
	lingering = time.Second
	// unkillable is how long the kernel may take to end a killed process; one that hangs in a file system
	// can take for ever.
	unkillable = 5 * time.Second
)

// child is a running worker in a process group of its own, which a guard leads. The group ends with the worker, and
// with this program. Three goroutines serve a child; they end soon after the worker, whoever holds its pipes. The
// methods are for one goroutine.
type child struct {
	pid            int
	guard          *guard
	stdin          *os.File
	stdout, stderr *os.File
	lines          chan line     // the messages on stdout; closed at its end
	logged         chan struct{} // closed at the end of stderr
	log            *childLog

	exited    chan struct{}    // closed when the group is dead
	abandoned chan struct{}    // closed when nobody takes lines any more
	state     *os.ProcessState // of the worker; set before exited
}

// line is one message of a worker.
type line struct {
	text []byte
	long bool // above MaxLine: text is its beginning
}

func startChild(command []string, dir string, env []string, log io.Writer) (*child, error) {
	if len(command) == 0 {
		return nil, errors.New("no worker command is given")
	}
	var theirs []*os.File
	defer func() {
		for _, file := range theirs {
			file.Close()
		}
	}()
	var pipes [3]*os.File
	for i := range pipes {
		reader, writer, err := os.Pipe()
		if err != nil {
			return nil, errors.Join(err, closeAll(pipes[:i]))
		}
		if pipes[i] = reader; i == 0 {
			pipes[i], writer = writer, reader
		}
		theirs = append(theirs, writer)
	}
	c := &child{stdin: pipes[0], stdout: pipes[1], stderr: pipes[2], log: &childLog{next: log}, lines: make(chan line),
		logged: make(chan struct{}), exited: make(chan struct{}), abandoned: make(chan struct{})}
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Dir, cmd.Env = dir, env
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs[0], theirs[1], theirs[2]
	var err error
	if c.guard, err = startGuard(); err != nil {
		return nil, errors.Join(err, closeAll(pipes[:]))
	}
	// Ctrl-C in the terminal goes to the supervisor alone, which ends the worker in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pgid: c.guard.group}
	if err := cmd.Start(); err != nil {
		c.guard.kill()
		c.guard.release()
		return nil, errors.Join(err, closeAll(pipes[:]))
	}
	c.pid = cmd.Process.Pid
	go c.supervise(cmd)
	go c.readLines()
	go c.readLog()
	return c, nil
}

func closeAll(files []*os.File) error {
	var errs []error
	for _, file := range files {
		errs = append(errs, file.Close())
	}
	return errors.Join(errs...)
}

// supervise waits for the worker's end and ends its group.
func (c *child) supervise(cmd *exec.Cmd) {
	cmd.Wait() // its error is the state's
	c.guard.kill()
	c.guard.release()
	c.state = cmd.ProcessState
	close(c.exited)
	c.stdout.SetReadDeadline(time.Now())
	c.stderr.SetReadDeadline(time.Now())
}

// lastReader reads a pipe to its end or, once it has reached a deadline, for a short time more.
type lastReader struct {
	file *os.File
	last bool
}

func (r *lastReader) Read(b []byte) (int, error) {
	n, err := r.file.Read(b)
	if errors.Is(err, os.ErrDeadlineExceeded) && !r.last {
		r.last = true
		if err := r.file.SetReadDeadline(time.Now().Add(lingering)); err != nil {
			return n, err
		}
		return r.file.Read(b)
	}
	return n, err
}

// readLines sorts stdout: objects are messages, everything else belongs to the log.
func (c *child) readLines() {
	defer close(c.lines)
	defer c.stdout.Close()
	reader := bufio.NewReaderSize(&lastReader{file: c.stdout}, 64<<10)
	for {
		text, err := readLine(reader)
		if err != nil && !errors.Is(err, errLongLine) {
			c.log.Write(text) // a line without an end is no message
			return
		}
		if err == nil && !bytes.HasPrefix(text, []byte("{")) {
			c.log.Write(append(text, '\n'))
			continue
		}
		select {
		case c.lines <- line{text, err != nil}:
		case <-c.abandoned:
			return
		}
		if err != nil {
			return
		}
	}
}

var errLongLine = errors.New("the line is too long")

// readLine reads a line of at most MaxLine bytes, without the space around it. The error errLongLine comes with
// the line's beginning, any other with what stands before the end of the input.
func readLine(r *bufio.Reader) ([]byte, error) {
	var text []byte
	for {
		part, err := r.ReadSlice('\n')
		text = append(text, part...)
		switch {
		case len(text) > MaxLine:
			return text[:1024:1024], errLongLine
		case err == nil:
			return bytes.TrimSpace(text), nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return text, err
		}
	}
}

func (c *child) readLog() {
	defer close(c.logged)
	defer c.stderr.Close()
	io.Copy(c.log, &lastReader{file: c.stderr})
}

// send writes a line. It gives up at the deadline (zero: never) or when ctx ends; what was written is then no
// whole line, and the worker is of no further use.
func (c *child) send(ctx context.Context, text []byte, deadline time.Time) error {
	c.stdin.SetWriteDeadline(deadline)
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		c.stdin.SetWriteDeadline(time.Now())
		close(interrupted)
	})
	_, err := c.stdin.Write(append(text, '\n'))
	if !stop() {
		<-interrupted
	}
	return err
}

// end orders the worker to exit by closing its stdin, and kills its group if it lives after the grace. It
// returns how the worker ended, nil for one that the kernel does not let go.
func (c *child) end(grace time.Duration) *os.ProcessState {
	c.stdin.Close()
	select {
	case <-c.exited:
	case <-time.After(grace):
		c.guard.kill()
	}
	select {
	case <-c.exited:
	case <-time.After(unkillable):
		c.abandon()
		return nil
	}
	select { // the last words
	case <-c.logged:
	case <-time.After(2 * lingering):
	}
	c.abandon()
	return c.state
}

// abandon lets the readers end.
func (c *child) abandon() {
	close(c.abandoned)
	c.stdout.Close()
	c.stderr.Close()
}

// WorkerEnv adds to a worker's environment what libtorch, OpenMP and glibc read when the program loads;
// what env sets stays. Idle OpenMP threads sleep, since active waiting makes a step ten times slower as
// soon as another process wants the core.
func WorkerEnv(env []string, threads int) []string {
	set := map[string]bool{}
	for _, setting := range env {
		name, _, _ := strings.Cut(setting, "=")
		set[name] = true
	}
	env = env[:len(env):len(env)]
	for _, setting := range []string{
		"OMP_NUM_THREADS=" + strconv.Itoa(max(threads, 1)),
		"OMP_WAIT_POLICY=passive",
		"ONEDNN_PRIMITIVE_CACHE_CAPACITY=8192",
		"LRU_CACHE_CAPACITY=8192",
		"GLIBC_TUNABLES=glibc.malloc.hugetlb=1",
	} {
		if name, _, _ := strings.Cut(setting, "="); !set[name] {
			env = append(env, setting)
		}
	}
	return env
}

// childLog passes on what a worker writes and keeps the end of it for messages. Writing never fails: a worker
// must not stand still because its log cannot be written.
type childLog struct {
	passing sync.Mutex // one write at a time
	next    io.Writer  // nil after its first error; guarded by passing

	mu   sync.Mutex
	last []byte // guarded by mu
}

func (l *childLog) Write(b []byte) (int, error) {
	const keep = 600
	l.mu.Lock()
	l.last = append(l.last, b[max(0, len(b)-keep):]...)
	l.last = l.last[max(0, len(l.last)-keep):]
	l.mu.Unlock()
	l.passing.Lock()
	defer l.passing.Unlock()
	if l.next != nil {
		if _, err := l.next.Write(b); err != nil {
			l.next = nil
		}
	}
	return len(b), nil
}

// lastWords is the end of the log in brackets of a message, "" without a log.
func (l *childLog) lastWords() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if words := strings.TrimSpace(strings.ReplaceAll(string(l.last), "\r", "\n")); words != "" {
		return "; its last words: " + quote.Message(words)
	}
	return ""
}
