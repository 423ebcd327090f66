package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"peftsearch/evaluator"
	"peftsearch/studies"
	"peftsearch/studies/config"
)

const workerName = "peftsearch-worker"

var errNoWorker = errors.New(workerName + " is neither next to peftsearch nor in PATH")

// workerCommand is the study file's command, or peftsearch-worker: next to this program, else in PATH.
func workerCommand(configured []string) ([]string, error) {
	if len(configured) > 0 {
		return configured, nil
	}
	if self, err := os.Executable(); err == nil {
		if self, err = filepath.EvalSymlinks(self); err == nil {
			beside := filepath.Join(filepath.Dir(self), workerName)
			if info, err := os.Stat(beside); err == nil && info.Mode().IsRegular() {
				return []string{beside}, nil
			}
		}
	}
	path, err := exec.LookPath(workerName)
	if err != nil {
		return nil, environment("make build builds it; peftsearch doctor checks it", errNoWorker)
	}
	return []string{path}, nil
}

// workerOptions says how to run a worker of a study file on some of the cores; its log goes to log if verbose.
func (g *globals) workerOptions(file *config.Config, cores int, log io.Writer) (evaluator.ProcessOptions, error) {
	command, err := workerCommand(file.Evaluator.Command)
	options := evaluator.ProcessOptions{Command: command, Hello: file.Hello(cores), Stall: file.Stall()}
	if len(file.Evaluator.Command) > 0 {
		options.Dir = file.Dir()
	}
	if g.verbose {
		options.Log = log
	}
	return options, err
}

// precisionFlag is --precision of the verbs that train or use a single plan.
type precisionFlag string

func (p *precisionFlag) add(cmd *cobra.Command, standard string) {
	cmd.Flags().Var(p, "precision", "float32 or bfloat16, instead of "+standard)
	cmd.RegisterFlagCompletionFunc("precision",
		cobra.FixedCompletions([]string{"float32", "bfloat16"}, cobra.ShellCompDirectiveNoFileComp))
}

func (p *precisionFlag) String() string { return string(*p) }
func (p *precisionFlag) Type() string   { return "precision" }

func (p *precisionFlag) Set(text string) error {
	if text != "float32" && text != "bfloat16" {
		return errors.New("must be float32 or bfloat16")
	}
	*p = precisionFlag(text)
	return nil
}

// openInputs opens what a study file names. A worker of the user's own is asked what it has loaded.
func (g *globals) openInputs(ctx context.Context, file *config.Config, log io.Writer) (*config.Inputs, error) {
	if !g.quiet && isTerminal(os.Stderr) { // somebody wonders why nothing happens
		told := time.AfterFunc(readingIsLong, func() { fmt.Fprintln(log, "reading the model and the data") })
		defer told.Stop()
	}
	if len(file.Evaluator.Command) == 0 {
		return file.Open()
	}
	options, err := g.workerOptions(file, cores(), log)
	if err != nil {
		return nil, err
	}
	options.Expect = file.Expect(&config.Inputs{}) // before a study is made for a worker that is then refused
	ready, err := evaluator.Describe(ctx, options)
	if err != nil {
		return nil, err
	}
	return file.OpenLoaded(ready)
}

const readingIsLong = time.Second

// evaluators opens the evaluators of a study's workers; their logs go to log. On several GPUs each worker gets the one
// that has the fewest.
func (g *globals) evaluators(study *studies.Study, log io.Writer) studies.Open {
	file := study.Config()
	devices := newDevices(file.Evaluator.Device, gpus())
	return func(ctx context.Context, loading studies.Loading) (evaluator.Evaluator, error) {
		if file.Evaluator.Analytic {
			return study.Analytic(), nil
		}
		options, err := g.workerOptions(file, cores(), log)
		if err != nil {
			return nil, err
		}
		device, free := devices.take()
		options.Hello.Settings.Device, options.Loading = device, loading
		for {
			options.Hello.Settings.Precision, options.Expect = study.Precision(), study.Expect()
			worker, err := evaluator.NewProcess(ctx, options)
			if err != nil {
				free()
				return nil, err // not a nil worker in an interface
			}
			same, err := study.Settle(ctx, worker.Ready().Precision)
			if same && err == nil {
				return &placed{worker, free}, nil
			}
			if err := errors.Join(err, worker.Close()); err != nil {
				free()
				return nil, err
			}
		}
	}
}

// placed is a worker on a device, which is free again when the worker is closed.
type placed struct {
	*evaluator.Process
	free func()
}

func (p *placed) Close() error {
	defer p.free()
	return p.Process.Close()
}

// devices shares the GPUs among the workers of a run.
type devices struct {
	names []string

	mu      sync.Mutex
	workers []int // on each
}

// newDevices is for the device of a study file on a machine with a number of GPUs. cuda means all of them.
func newDevices(device string, gpus int) *devices {
	d := &devices{names: []string{device}}
	if device == "cuda" && gpus > 1 {
		d.names = nil
		for i := range gpus {
			d.names = append(d.names, fmt.Sprint("cuda:", i))
		}
	}
	d.workers = make([]int, len(d.names))
	return d
}

// take is the device with the fewest workers, which has one more until free is called.
func (d *devices) take() (name string, free func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	least := slices.Index(d.workers, slices.Min(d.workers))
	d.workers[least]++
	return d.names[least], sync.OnceFunc(func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.workers[least]--
	})
}

// measureFor is how long a number of workers is measured.
const measureFor = 5 * time.Second

// chooseWorkers replaces evaluator.workers: auto by what trains fastest on this machine and fits in its
// memory, with a share of the cores for each worker; with GPUs by one for each. It says what it measured on stderr.
func (g *globals) chooseWorkers(ctx context.Context, study *studies.Study, stderr io.Writer) error {
	file := study.Config()
	e := &file.Evaluator
	if e.Workers != config.AutoWorkers {
		return nil
	}
	if e.Analytic {
		e.Workers = 1
		return nil
	}
	if e.Device != "cpu" {
		e.Workers = config.Workers(len(newDevices(e.Device, gpus()).names))
		return nil
	}
	if g.quiet {
		stderr = io.Discard
	}
	options, err := g.workerOptions(file, cores(), stderr)
	if err != nil {
		return err
	}
	options.Expect = study.Expect()
	job, err := study.TimingJob()
	if err != nil {
		return err
	}
	available, err := availableMemory()
	if err != nil {
		return fmt.Errorf("evaluator.workers auto: %w", err)
	}
	fmt.Fprintln(stderr, "evaluator.workers auto: measuring, which takes about 10 seconds for each number of workers")
	slots := max(1, cores()/max(1, e.Threads))
	var measured []evaluator.Throughput
	for workers := 1; workers <= slots; workers++ {
		if slots%workers != 0 {
			continue
		}
		threads := cmp.Or(e.Threads, cores()/workers)
		if workers > 1 {
			next := evaluator.Throughput{Workers: workers, PeakB: measured[0].PeakB}
			if !next.Fits(available, options.Hello.Settings.CacheMemory) {
				fmt.Fprintf(stderr, "  %d workers do not fit in %.1f GiB of free memory\n", workers, float64(available)/(1<<30))
				break
			}
		}
		t, err := evaluator.MeasureThroughput(ctx, options, job, workers, threads, measureFor)
		if err != nil {
			return environment("give evaluator.workers a number; peftsearch doctor STUDY.yaml", err)
		}
		fmt.Fprintf(stderr, "  %d × %d threads: %.3g steps/s, %d MB each\n", t.Workers, t.Threads, t.StepsPerS, t.PeakB/1e6)
		measured = append(measured, t)
	}
	best := evaluator.Fastest(measured)
	e.Workers, e.Threads = config.Workers(best.Workers), best.Threads
	fmt.Fprintf(stderr, "evaluator.workers auto: chosen workers: %d, threads: %d; in the study file they are not "+
		"measured again\n", best.Workers, best.Threads)
	return nil
}
