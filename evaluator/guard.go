package evaluator

import (
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
)

// guard is the leader of a worker's process group: a shell that does nothing but wait for the end of a pipe. Its other
// end is this program's, so that the kernel closes it however this program ends, and the guard then kills all that
// the worker has started. Pdeathsig would reach the worker alone. While the guard is not released, the number of its
// group belongs to nobody else.
type guard struct {
	group int

	mu       sync.Mutex
	cmd      *exec.Cmd
	pipe     *os.File
	released bool
}

// A worker may send signals to its group, which the guard survives unless they end everybody.
const guardScript = `trap "" HUP INT QUIT TERM USR1 USR2; read -r _; kill -s KILL 0`

func startGuard() (*guard, error) {
	reader, writer, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer reader.Close()
	cmd := exec.Command("/bin/sh", "-c", guardScript)
	cmd.Dir, cmd.Env, cmd.Stdin = "/", []string{}, reader
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		writer.Close()
		return nil, fmt.Errorf("starting the shell that ends a worker with this program: %w", err)
	}
	return &guard{group: cmd.Process.Pid, cmd: cmd, pipe: writer}, nil
}

// kill kills the group, guard and all, unless it is released. It is safe for concurrent use.
func (g *guard) kill() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.released {
		syscall.Kill(-g.group, syscall.SIGKILL)
	}
}

// release gives the number of a killed group free.
func (g *guard) release() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.cmd.Wait() // it was killed
	g.pipe.Close()
	g.released = true
}
