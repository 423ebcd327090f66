// Command peftsearch-worker trains and scores plans for peftsearch. It speaks the worker protocol on
// stdin and stdout; people do not call it.
//
// The benchmarks call `peftsearch-worker bench`, which measures one job, and `peftsearch-worker matmul`, which measures
// the matrix products alone; see package worker's Bench and Matmul.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"

	"peftsearch/evaluator"
	"peftsearch/evaluator/torch"
	"peftsearch/evaluator/worker"
)

func main() {
	var err error
	switch arguments := strings.Join(os.Args[1:], " "); arguments {
	case "":
		err = serve(worker.Serve)
	case "version":
		fmt.Printf("peftsearch-worker protocol %d, %s, libtorch %s\n", evaluator.ProtocolVersion, runtime.Version(),
			torch.Version())
	case "bench":
		err = bench()
	case "bench here":
		err = serve(worker.Bench)
	case "matmul":
		err = serve(worker.Matmul)
	default:
		fmt.Fprintln(os.Stderr,
			"Error: peftsearch-worker takes no arguments\nTry:   peftsearch run study.yaml, which starts it")
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}

// serve keeps stdout for the answers: whatever a library prints goes to stderr.
func serve(answer func(io.Reader, io.Writer) error) error {
	stdout, err := syscall.Dup(syscall.Stdout)
	if err != nil {
		return fmt.Errorf("duplicating stdout: %w", err)
	}
	if err := syscall.Dup3(syscall.Stderr, syscall.Stdout, 0); err != nil {
		return fmt.Errorf("redirecting stdout: %w", err)
	}
	return answer(os.Stdin, os.NewFile(uintptr(stdout), "answers"))
}

// bench measures in a process with the environment that a supervisor gives its workers: libraries read
// it when the program loads.
func bench() error {
	input, err := io.ReadAll(os.Stdin)
	if err != nil {
		return fmt.Errorf("reading what to measure: %w", err)
	}
	var hello evaluator.Hello
	if err := json.NewDecoder(bytes.NewReader(input)).Decode(&hello); err != nil {
		return fmt.Errorf("reading hello: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	process := exec.Command(self, "bench", "here")
	process.Env = evaluator.WorkerEnv(os.Environ(), hello.Settings.Threads)
	process.Stdin, process.Stdout, process.Stderr = bytes.NewReader(input), os.Stdout, os.Stderr
	process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // the parent that Pdeathsig watches is this thread
	return process.Run()
}
