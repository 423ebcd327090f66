package main

import (
	"crypto/rand"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// tmux runs a command of the terminal of a script.
func tmux(ts *testscript.TestScript, args ...string) string {
	cmd := exec.Command("tmux", append([]string{"-u", "-f", os.DevNull, "-S", ts.Getenv("TERMINAL")}, args...)...)
	cmd.Env = append(
		os.Environ(),
		"PATH="+ts.Getenv("PATH"),
		"NO_COLOR="+ts.Getenv("NO_COLOR"),
		"FAKE_BLOCK="+ts.Getenv("FAKE_BLOCK"),
	)
	cmd.Dir = ts.MkAbs(".")
	out, err := cmd.CombinedOutput()
	if err != nil {
		ts.Fatalf("tmux %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// terminal runs a shell command in a terminal of a size, which stays when the command has ended, in place of the one
// before: terminal COLUMNS ROWS COMMAND.
func terminal(ts *testscript.TestScript, _ bool, args []string) {
	if ts.Getenv("TERMINAL") != "" {
		tmux(ts, "kill-server")
	}
	socket := ts.MkAbs("terminal") + rand.Text()[:6]
	ts.Setenv("TERMINAL", socket)
	tmux(ts, "new-session", "-d", "-x", args[0], "-y", args[1], args[2]+"; echo ended with $?; cat")
	ts.Defer(func() { exec.Command("tmux", "-S", socket, "kill-server").Run() })
}

// sees waits until the terminal shows a text, or no longer shows it: [!] sees REGEXP.
func sees(ts *testscript.TestScript, neg bool, args []string) {
	want, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	var shown string
	for deadline := time.Now().Add(3 * time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if shown = tmux(ts, "capture-pane", "-p"); want.MatchString(shown) != neg {
			return
		}
	}
	ts.Fatalf("the terminal shows\n%s", shown)
}

// keys types: keys KEY…, by tmux's names.
func keys(ts *testscript.TestScript, _ bool, args []string) {
	tmux(ts, append([]string{"send-keys"}, args...)...)
}

// resize changes the size of the terminal: resize COLUMNS ROWS.
func resize(ts *testscript.TestScript, _ bool, args []string) {
	tmux(ts, "resize-window", "-x", args[0], "-y", args[1])
}
