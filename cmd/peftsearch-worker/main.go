// Command peftsearch-worker trains and scores plans for peftsearch. It speaks the worker protocol on
// stdin and stdout; people do not call it.
package main

import (
	"fmt"
	"os"
	"runtime"
	"syscall"

	"peftsearch/evaluator"
	"peftsearch/evaluator/torch"
	"peftsearch/evaluator/worker"
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == "version" {
		fmt.Printf("peftsearch-worker protocol %d, %s, libtorch %s\n", evaluator.ProtocolVersion, runtime.Version(), torch.Version())
		return
	}
	if len(os.Args) > 1 {
		fmt.Fprintln(os.Stderr, "Error: peftsearch-worker takes no arguments\nTry:   peftsearch run study.yaml, which starts it")
		os.Exit(2)
	}
	if err := serve(); err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}

// serve keeps stdout for the protocol: whatever a library prints goes to stderr.
func serve() error {
	protocol, err := syscall.Dup(syscall.Stdout)
	if err != nil {
		return fmt.Errorf("duplicating stdout: %w", err)
	}
	if err := syscall.Dup3(syscall.Stderr, syscall.Stdout, 0); err != nil {
		return fmt.Errorf("redirecting stdout: %w", err)
	}
	return worker.Serve(os.Stdin, os.NewFile(uintptr(protocol), "protocol"))
}
