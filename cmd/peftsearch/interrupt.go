package main

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
)

// interrupts counts Ctrl-C, Ctrl-\, SIGTERM and the end of the terminal: the first closes drain, the second cancels
// the context, and the third ends the program where it stands. Two signals are a scheduler's: SIGUSR1 says that the
// time is nearly over, and only drains; SIGTERM in a job comes once, some seconds before the end, and cancels at once.
type interrupts struct {
	drain   chan struct{}
	planned atomic.Bool // all signals so far were SIGUSR1
	stop    func()
}

// heedSchedulers keeps SIGUSR1 from now on for watchInterrupts: the time of a job may be nearly over before its search
// begins.
func heedSchedulers() chan os.Signal {
	signals := make(chan os.Signal, 4) // as many as may come at once
	signal.Notify(signals, syscall.SIGUSR1)
	return signals
}

// watchInterrupts calls first on the first of the signals, or of those that end the program, and last before it ends
// it. What has come before is heeded when it returns. The caller calls stop at the end.
func watchInterrupts(ctx context.Context, signals chan os.Signal, first, last func()) (context.Context, *interrupts) {
	ctx, cancel := context.WithCancel(ctx)
	signal.Notify(signals, endings()...)
	stopped := make(chan struct{})
	i := &interrupts{drain: make(chan struct{}), stop: sync.OnceFunc(func() {
		signal.Stop(signals)
		close(stopped)
		cancel()
	})}
	i.planned.Store(true)
	asked := 0
	take := func(s os.Signal) {
		switch {
		case s == syscall.SIGUSR1:
		case s == syscall.SIGTERM && inJob():
			asked = max(2, asked+1)
		default:
			asked++
		}
		if asked > 0 {
			i.planned.Store(false)
		}
		if !i.interrupted() {
			close(i.drain)
			first()
		}
		if asked > 1 {
			cancel()
		}
		if asked > 2 {
			last()
			os.Exit(exitInterrupted)
		}
	}
	for len(signals) > 0 {
		take(<-signals)
	}
	go func() {
		for {
			select {
			case s := <-signals:
				take(s)
			case <-stopped:
				return
			}
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
