// Command peftsearch searches hybrid parameter-efficient fine-tuning configurations.
package main

import (
	"io"
	"os"
)

func main() { os.Exit(command(os.Args[1:], os.Stdout, os.Stderr)) }

// command is the whole program: it returns the exit code. Data goes to stdout, everything else to
// stderr.
func command(args []string, stdout, stderr io.Writer) int {
	app := &app{stdout: stdout, stderr: stderr}
	root := app.root()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	return app.exit(root.Execute())
}
