package main

import (
	"bytes"
	"context"
	"os"
	"sync"
	"syscall"

	tea "charm.land/bubbletea/v2"

	"peftsearch/studies"
	"peftsearch/studies/store"
)

// runView is the view of watch on a search of this process. What is written to it is shown below, and stays on the
// terminal when the view ends.
type runView struct {
	program *tea.Program
	ended   chan struct{} // closed with the program
	queue   chan note     // for the program, which may be slow

	mu    sync.Mutex
	part  []byte // of a line that has no end yet
	lines []string
}

// note is a line that is shown below.
type note string

const notesStay = 200 // lines that stay when the view ends

// newRunView starts a view on stderr.
func (g *globals) newRunView(ctx context.Context, db *store.Store, record *store.Record) (*runView, error) {
	watcher := studies.Watch(db, record, nil)
	overview, err := watcher.Look(ctx)
	if err != nil {
		return nil, err
	}
	v := &runView{ended: make(chan struct{}), queue: make(chan note, notesStay)}
	model := &watchModel{overview: overview, cursor: len(overview.Front.Members) - 1,
		keys: "←/→ along the front   Ctrl-C lets the running trials end, again stops them",
		look: func() tea.Msg {
			o, err := watcher.Look(ctx)
			return looked{o, err}
		},
		// The terminal sends a key where it would send a signal.
		interrupt: func() { syscall.Kill(os.Getpid(), syscall.SIGINT) }}
	v.program = g.newProgram(ctx, model, tea.WithOutput(os.Stderr), tea.WithoutSignalHandler())
	go func() {
		for {
			select {
			case n := <-v.queue:
				v.program.Send(n)
			case <-v.ended:
				return
			}
		}
	}()
	go func() {
		defer close(v.ended)
		v.program.Run() // without the view the search goes on, and its lines are written when it ends
	}()
	return v, nil
}

func (v *runView) Write(b []byte) (int, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.part = append(v.part, b...)
	for {
		end := bytes.IndexByte(v.part, '\n')
		if end < 0 {
			return len(b), nil
		}
		line := inLine(string(v.part[:end]))
		v.part = v.part[end+1:]
		v.lines = append(v.lines, line)
		v.lines = v.lines[max(0, len(v.lines)-notesStay):]
		select {
		case v.queue <- note(line):
		default: // it stays among the lines
		}
	}
}

// close ends the view, and writes what was said meanwhile.
func (v *runView) close() {
	v.program.Quit()
	<-v.ended
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, line := range v.lines {
		os.Stderr.WriteString(line + "\n")
	}
	v.lines = nil
}
