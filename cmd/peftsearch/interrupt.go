package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// interrupts counts Ctrl-C, SIGTERM and the end of the terminal: the first closes drain, the second cancels the context, and the
// third ends the program as usual.
type interrupts struct {
	drain chan struct{}
	stop  func()
}

// watchInterrupts calls first on the first signal. The caller calls stop at the end.
func watchInterrupts(ctx context.Context, first func()) (context.Context, *interrupts) {
	ctx, cancel := context.WithCancel(ctx)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, endings()...)
	i := &interrupts{drain: make(chan struct{}), stop: func() {
		signal.Stop(signals)
		cancel()
	}}
	go func() {
		select {
		case <-signals:
			close(i.drain)
			first()
		case <-ctx.Done():
			return
		}
		select {
		case <-signals:
			signal.Stop(signals)
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, i
}

// endings are the signals that ask the program to end. Under nohup the end of the terminal is none of them.
func endings() []os.Signal {
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		signals = append(signals, syscall.SIGHUP)
	}
	return signals
}

// interrupted reports whether there was a signal.
func (i *interrupts) interrupted() bool {
	select {
	case <-i.drain:
		return true
	default:
		return false
	}
}
