// Command peftsearch searches for parameter-efficient fine-tuning configurations: it runs studies, shows
// their fronts, and trains and exports what they found. It needs no libtorch; peftsearch-worker trains.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime/debug"
)

func main() { os.Exit(execute(context.Background())) }

// execute runs the command line and returns the exit code.
func execute(ctx context.Context) int {
	surviveClosedPipes()
	stderr := newNotices(os.Stderr)
	defer stderr.close()
	return guard(stderr, func() error {
		stdout := newOutput()
		root := newRoot()
		root.SetOut(stdout)
		root.SetErr(stderr)
		if err := root.ExecuteContext(ctx); err != nil {
			return err
		}
		return stdout.failure()
	})
}

// guard prints the error of a run, or that a panic is a bug, and returns the exit code.
func guard(stderr io.Writer, run func() error) (code int) {
	defer func() {
		if bug := recover(); bug != nil {
			fmt.Fprintf(stderr, "Error: this is a bug of peftsearch: %v\n%s", bug, debug.Stack())
			code = exitUnexpected
		}
	}()
	if err := run(); err != nil {
		return printError(stderr, err)
	}
	return 0
}
