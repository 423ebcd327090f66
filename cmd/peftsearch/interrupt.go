package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// interrupts counts Ctrl-C and SIGTERM: the first closes drain, the second cancels the context, and the
// third ends the program as usual.
type interrupts struct {
	drain chan struct{}
	stop  func()
}

// watchInterrupts calls first on the first signal. The caller calls stop at the end.
func watchInterrupts(ctx context.Context, first func()) (context.Context, *interrupts) {
	ctx, cancel := context.WithCancel(ctx)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
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

// interrupted reports whether there was a signal.
func (i *interrupts) interrupted() bool {
	select {
	case <-i.drain:
		return true
	default:
		return false
	}
}
