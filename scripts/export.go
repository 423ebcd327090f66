//go:build ignore

// Command export writes a trained directory in another format, for check_exports.py:
//
//	export TRAINED FORMAT DIR
package main

import (
	"fmt"
	"os"

	"peftsearch/peft"
)

func main() {
	source, err := peft.ReadTrained(os.Args[1])
	if err == nil {
		_, err = peft.Export(peft.Format(os.Args[2]), source, os.Args[3], false)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}
