package main

import (
	"context"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
)

// interrupts waits for signals that ask the program to end. The first one closes drain, the second one cancels the
// context, and the third ends the program as usual. Two are a scheduler's: SIGUSR1 says that the time is nearly over,
// and only drains; SIGTERM in a job comes once, some seconds before the end, and cancels at once.
type interrupts struct {
	drain   chan struct{}
	planned atomic.Bool // all signals so far were SIGUSR1
	stop    func()
}

// watchInterrupts calls first on the first signal. The caller calls stop at the end.
func watchInterrupts(ctx context.Context, first func()) (context.Context, *interrupts) {
	ctx, cancel := context.WithCancel(ctx)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, append(endings(), syscall.SIGUSR1)...)
	i := &interrupts{drain: make(chan struct{}), stop: func() {
		signal.Stop(signals)
		cancel()
	}}
	i.planned.Store(true)
	go func() {
		asked := 0
		for {
			select {
			case s := <-signals:
				if s != syscall.SIGUSR1 {
					asked++
					i.planned.Store(false)
				}
				if !i.interrupted() {
					close(i.drain)
					first()
				}
				if asked > 1 || s == syscall.SIGTERM && inJob() {
					signal.Stop(signals)
					cancel()
				}
			case <-ctx.Done():
				return
			}
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
