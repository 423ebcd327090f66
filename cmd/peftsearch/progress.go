package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"
	"golang.org/x/term"
)

// display shows progress on stderr: one line that is rewritten on a terminal, a log line for each event
// elsewhere. It is used by one goroutine at a time.
type display struct {
	w        io.Writer
	terminal bool
	width    int
	quiet    bool
	log      *slog.Logger
	shown    time.Time
	dirty    bool   // a line is on the screen
	status   string // of the search, and
	progress string // of the trial that reported last
}

func (a *app) display() *display {
	d := &display{w: a.stderr, quiet: a.quiet, log: slog.New(slog.NewTextHandler(a.stderr, nil))}
	if f, ok := a.stderr.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		d.terminal, d.width = true, 100
		if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 20 {
			d.width = width - 1
		}
	}
	return d
}

// line rewrites the progress line, a few times a second at most.
func (d *display) line(format string, args ...any) {
	if !d.terminal || d.quiet || time.Since(d.shown) < 150*time.Millisecond {
		return
	}
	d.shown, d.dirty = time.Now(), true
	fmt.Fprintf(d.w, "\r\x1b[K%s", text.Trim(fmt.Sprintf(format, args...), d.width))
}

// event reports something that stays: a line above the progress line, or a log line.
func (d *display) event(message string, attributes ...any) {
	if d.quiet {
		return
	}
	if !d.terminal {
		d.log.Info(message, attributes...)
		return
	}
	d.clear()
	fmt.Fprint(d.w, message)
	for i := 0; i+1 < len(attributes); i += 2 {
		fmt.Fprintf(d.w, "  %v %v", attributes[i], attributes[i+1])
	}
	fmt.Fprintln(d.w)
	d.shown = time.Time{}
}

// clear removes the progress line.
func (d *display) clear() {
	if d.dirty {
		fmt.Fprint(d.w, "\r\x1b[K")
		d.dirty = false
	}
}
