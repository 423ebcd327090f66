package evaluator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Throughput is how fast a number of workers trained at the same time.
type Throughput struct {
	Workers, Threads int     // threads of each
	StepsPerS        float64 // of all workers together
	PeakB            int64   // highest resident memory of one worker, in bytes
}

// measureSteps is what each worker does at least while it is measured.
const measureSteps = 16

// MeasureThroughput starts workers with a number of threads, and stops them when all of them have trained
// job at the same time for a while. The job must be longer.
func MeasureThroughput(ctx context.Context, options ProcessOptions, job Job, workers, threads int,
	while time.Duration) (Throughput, error) {
	options.Hello.Settings.Threads = threads
	t := Throughput{Workers: workers, Threads: threads}
	var mu sync.Mutex // guards t and training
	training := 0
	group, ctx := errgroup.WithContext(ctx)
	for range workers {
		group.Go(func() (err error) {
			process, err := NewProcess(ctx, options)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, process.Close()) }()
			var began time.Time // zero until all workers train
			var first, steps int
			var rate float64
			_, err = process.Evaluate(ctx, job, func(p Progress) Verdict {
				mu.Lock()
				defer mu.Unlock()
				if steps == 0 {
					training++
				}
				steps = p.Step
				switch {
				case training < workers:
				case began.IsZero():
					began, first = time.Now(), p.Step
				case time.Since(began) >= while && p.Step-first >= measureSteps:
					if rate == 0 {
						rate = float64(p.Step-first) / time.Since(began).Seconds()
					}
					return Verdict{Stop: true, Reason: "measured"}
				}
				return Verdict{}
			})
			if rate == 0 {
				return fmt.Errorf("measuring %d workers with %d threads: the job ended early: %w", workers, threads,
					cmp.Or(err, io.EOF))
			}
			mu.Lock()
			defer mu.Unlock()
			t.StepsPerS += rate
			t.PeakB = max(t.PeakB, peakMemory(process.Pid()))
			return nil // a job that is stopped before its first rung fails
		})
	}
	err := group.Wait()
	return t, err
}

// peakMemory is the highest resident memory of a running process in bytes, 0 if it cannot be read.
func peakMemory(pid int) int64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	var kib int64
	_, line, _ := strings.Cut(string(status), "VmHWM:")
	fmt.Sscan(line, &kib) // stays 0 on a system that does not say
	return kib << 10
}

// worthwhile is the gain for which more workers are taken: they need more memory, and with more than one
// a search is not repeated exactly.
const worthwhile = 1.05

// Fits reports whether t's workers fit in so many bytes of memory, if each may grow by spare.
func (t Throughput) Fits(available, spare int64) bool {
	return int64(t.Workers)*(t.PeakB+spare) <= available
}

// Fastest is the best of several throughputs, by ascending number of workers.
func Fastest(measured []Throughput) Throughput {
	best := measured[0]
	for _, t := range measured[1:] {
		if t.StepsPerS > best.StepsPerS*worthwhile {
			best = t
		}
	}
	return best
}
