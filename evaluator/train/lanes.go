package train

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"peftsearch/evaluator/torch"
)

// lanes are threads that each compute a part of a batch from its tokens to its gradient. Threads inside
// libtorch's operators would meet hundreds of times in a step, and sleep and wake each time; lanes meet
// once.
//
// The calling goroutine is the first lane, so that one thread means no other goroutine.
type lanes struct {
	threads int // of libtorch, shared by the lanes that have work
	others  []chan func()
	ended   sync.WaitGroup
}

// newLanes starts count lanes, the calling goroutine included.
func newLanes(count, threads int) *lanes {
	l := &lanes{threads: threads}
	for range count - 1 {
		work := make(chan func())
		l.others = append(l.others, work)
		l.ended.Go(func() {
			runtime.LockOSThread() // libtorch keeps its state per thread; the thread ends with the goroutine
			for do := range work {
				do()
			}
		})
	}
	return l
}

func (l *lanes) count() int { return 1 + len(l.others) }

// run calls do for the parts 0 to parts-1, several at once, and returns the error of the first part that
// failed. It leaves out parts after a failed one.
func (l *lanes) run(parts int, do func(part int) error) error {
	busy := min(l.count(), parts)
	errs := make([]error, parts)
	var next atomic.Int64
	var failed atomic.Bool
	lane := func() {
		torch.Configure(max(1, l.threads/max(1, busy)))
		for part := int(next.Add(1)) - 1; part < parts && !failed.Load(); part = int(next.Add(1)) - 1 {
			if errs[part] = guarded(part, do); errs[part] != nil {
				failed.Store(true)
			}
		}
	}
	var wait sync.WaitGroup
	for i := range busy - 1 {
		wait.Add(1)
		l.others[i] <- func() {
			defer wait.Done()
			lane()
		}
	}
	lane()
	wait.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// guarded turns a panic into an error: on another goroutine it would end the worker.
func guarded(part int, do func(part int) error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	return do(part)
}

func (l *lanes) close() {
	for _, work := range l.others {
		close(work)
	}
	l.ended.Wait()
}
