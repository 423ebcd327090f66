package main

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// interrupts counts Ctrl-C, Ctrl-\, SIGTERM and the end of the terminal: the first closes drain, the second cancels the
// context, and the third ends the program where it stands.
type interrupts struct {
	drain chan struct{}
	stop  func()
}

// watchInterrupts calls first on the first signal. The caller calls stop at the end.
func watchInterrupts(ctx context.Context, first func()) (context.Context, *interrupts) {
	ctx, cancel := context.WithCancel(ctx)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, endings()...)
	stopped := make(chan struct{})
	i := &interrupts{drain: make(chan struct{}), stop: sync.OnceFunc(func() {
		signal.Stop(signals)
		close(stopped)
		cancel()
	})}
	go func() {
		select {
		case <-signals:
			close(i.drain)
			first()
		case <-stopped:
			return
		}
		select {
		case <-signals:
			cancel()
		case <-stopped:
			return
		}
		select {
		case <-signals:
			os.Exit(exitInterrupted)
		case <-stopped:
		}
	}()
	return ctx, i
}

// endings are the signals that ask the program to end. Under nohup the end of the terminal is none of them.
func endings() []os.Signal {
	signals := []os.Signal{os.Interrupt, syscall.SIGQUIT, syscall.SIGTERM}
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
