package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// surviveClosedPipes makes writes to a pipe without a reader fail, where they would end the program. (To
// ignore the signal would make every worker ignore it too.)
func surviveClosedPipes() { signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) }

// output is stdout. It keeps the first error of a write, so that one place looks at it; for who writes, what follows
// is written.
type output struct {
	w    io.Writer
	err  error
	used bool // there was something to write
}

func (o *output) Write(b []byte) (int, error) {
	if o.used = true; o.err == nil {
		_, o.err = o.w.Write(b)
	}
	return len(b), nil
}

// newOutput is stdout, all of whose writes fail if there is none.
func newOutput() *output {
	if stdoutClosed() {
		return &output{err: errors.New("stdout is closed"), w: io.Discard}
	}
	return &output{w: os.Stdout}
}

// failure is what the user must know of; a reader that had enough is no error.
func (o *output) failure() error {
	if o.err == nil || !o.used || errors.Is(o.err, syscall.EPIPE) {
		return nil
	}
	return fmt.Errorf("writing the output: %w", o.err)
}

const (
	noticesKept = 1 << 10     // writes that wait for a slow reader; later ones are dropped
	noticesWait = time.Second // for such a reader at the end
)

// notices is stderr. A write never blocks for long: a reader that no longer reads must not hold up a search
// or its end. It is safe for concurrent use.
type notices struct {
	queue chan []byte
	done  chan struct{} // closed when all is written
	once  sync.Once
}

func newNotices(w io.Writer) *notices {
	n := &notices{queue: make(chan []byte, noticesKept), done: make(chan struct{})}
	go func() {
		defer close(n.done)
		for b := range n.queue {
			w.Write(b) // there is nowhere left to report an error
		}
	}()
	return n
}

func (n *notices) Write(b []byte) (int, error) {
	select {
	case n.queue <- append([]byte(nil), b...):
	default:
	}
	return len(b), nil
}

// close waits a moment until everything is written. Nothing may be written afterwards.
func (n *notices) close() {
	n.once.Do(func() { close(n.queue) })
	select {
	case <-n.done:
	case <-time.After(noticesWait):
	}
}
