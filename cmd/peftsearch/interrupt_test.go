package main

import (
	"syscall"
	"testing"
)

// The signal of a job that ends soon is heeded however early it comes: nothing is claimed after it.
func TestASignalBeforeTheSearch(t *testing.T) {
	signals := heedSchedulers()
	signals <- syscall.SIGUSR1
	told := false
	ctx, i := watchInterrupts(t.Context(), signals, func() { told = true }, func() {})
	defer i.stop()
	if !i.interrupted() || !told || !i.planned.Load() || ctx.Err() != nil {
		t.Errorf("interrupted %t, told %t, planned %t, context %v", i.interrupted(), told, i.planned.Load(), ctx.Err())
	}
}
