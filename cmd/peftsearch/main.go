// Command peftsearch searches for parameter-efficient fine-tuning configurations: it runs studies, shows
// their fronts, and trains and exports what they found. It needs no libtorch; peftsearch-worker trains.
package main

import (
	"context"
	"os"
)

func main() { os.Exit(execute(context.Background())) }

// execute runs the command line and returns the exit code.
func execute(ctx context.Context) int {
	root := newRoot()
	if err := root.ExecuteContext(ctx); err != nil {
		return printError(os.Stderr, err)
	}
	return 0
}
