// Command studies measures what a search costs beside its trainings, and how long the commands that look at a study
// take, with 10,000 and 100,000 trials in it.
//
//	go run ./benchmarks/studies -bin bin/peftsearch -out benchmarks/results/studies.json
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"peftsearch/evaluator"
	"peftsearch/space"
	"peftsearch/studies"
	"peftsearch/studies/config"
	"peftsearch/studies/store"
	"peftsearch/studies/store/storetest"
)

// result is what is measured at one size of a study.
type result struct {
	Trials   int64              `json:"trials"`
	Bytes    int64              `json:"database_bytes"` // of two such studies
	Loop     loopResult         `json:"loop"`
	Commands map[string]command `json:"commands"` // median of five
}

// loopResult is what a run costs that continues the study with trials of no training, and random search.
type loopResult struct {
	StartSeconds float64 `json:"start_seconds"`    // from opening the database to the first trial
	MS           float64 `json:"ms_per_trial"`     // median, with all that is stored
	CPUMS        float64 `json:"cpu_ms_per_trial"` // mean; other programs on the machine change it less
}

type command struct {
	Seconds float64 `json:"seconds"`
	CPU     float64 `json:"cpu_seconds"`
	MiB     int64   `json:"peak_mib"`
}

func main() {
	sizes := flag.String("trials", "10000,100000", "sizes of the study")
	model := flag.String("model", "models/all-MiniLM-L6-v2", "checkpoint, whose layers make the search space")
	binary := flag.String("bin", "bin/peftsearch", "the program")
	out := flag.String("out", "", "JSON file; empty is stdout")
	part := flag.String("part", "", "used by the program itself: fill or loop, in a directory")
	flag.Parse()
	var err error
	switch *part {
	case "":
		err = run(*sizes, *model, *binary, *out)
	default:
		err = runPart(*part, *sizes, *model, *out)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}

func run(sizes, model, binary, out string) error {
	var results []result
	for text := range strings.SplitSeq(sizes, ",") {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return err
		}
		r, err := measure(n, model, binary)
		if err != nil {
			return err
		}
		results = append(results, r)
	}
	machine := fmt.Sprintf("%s/%s, %d cores", runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
	encoded, err := json.MarshalIndent(map[string]any{"machine": machine, "sizes": results}, "", "  ")
	if err != nil {
		return err
	}
	encoded = append(encoded, '\n')
	if out == "" {
		_, err = os.Stdout.Write(encoded)
		return err
	}
	return os.WriteFile(out, encoded, 0o644)
}

// runPart does what takes memory, in a process of its own: the system counts the memory of a parent as its children's.
func runPart(part, sizes, model, dir string) error {
	n, err := strconv.ParseInt(sizes, 10, 64)
	if err != nil {
		return err
	}
	if part == "fill" {
		return errors.Join(fill(dir, "first", model, n, 1), fill(dir, "second", model, n, 2))
	}
	measured, err := loop(dir, model, n)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(measured)
}

// another runs a part of this program.
func another(part string, n int64, model, dir string) ([]byte, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, "-part", part, "-trials", strconv.FormatInt(n, 10), "-model", model, "-out", dir)
	cmd.Stderr = os.Stderr
	return cmd.Output()
}

const studyFile = `study: %s
model: {path: %s}
task:
  kind: classification
  train: train.tsv
  columns: {text: text, label: label}
budget: {trials: %d}
search: {sampler: random, seed: 1}
evaluator: {analytic: true}
`

// studyOf writes a study file and opens its study.
func studyOf(dir, name, model string, trials int64) (*studies.Study, *config.Inputs, *store.Store, error) {
	path := filepath.Join(dir, name+".yaml")
	if err := os.WriteFile(path, fmt.Appendf(nil, studyFile, name, model, trials), 0o644); err != nil {
		return nil, nil, nil, err
	}
	file, err := config.Read(path)
	if err != nil {
		return nil, nil, nil, err
	}
	inputs, err := file.Open()
	if err != nil {
		return nil, nil, nil, err
	}
	db, err := store.Open(filepath.Join(dir, "studies.db"))
	if err != nil {
		return nil, nil, nil, err
	}
	study, err := studies.Start(context.Background(), db, file, inputs)
	return study, inputs, db, err
}

// fill makes a study of so many trials.
func fill(dir, name, model string, n int64, seed uint64) error {
	study, inputs, db, err := studyOf(dir, name, model, n)
	if err != nil {
		return err
	}
	if err := db.Close(); err != nil {
		return err
	}
	rng := rand.New(rand.NewPCG(seed, 0))
	taken := map[string]bool{}
	return storetest.Fill(filepath.Join(dir, "studies.db"), study.Record(), n, func(int64) (store.Proposal,
		float64, error) {
		point := make(space.Point, len(inputs.Space.Dimensions()))
		for len(point) == 0 || taken[inputs.Space.Key(point)] || !inputs.Space.Feasible(point) {
			density := rng.Float64()
			for i, d := range inputs.Space.Dimensions() {
				if point[i] = 0; rng.Float64() < density {
					point[i] = rng.IntN(len(d.Levels))
				}
			}
		}
		taken[inputs.Space.Key(point)] = true
		candidate, err := inputs.Space.Candidate(point)
		score := 0.6 + 0.3*rng.Float64()
		return store.Proposal{Origin: "random", Reason: "chosen in the study file", Point: point, Candidate: candidate,
			Params: inputs.Space.Params(point)}, score, err
	})
}

func measure(n int64, model, binary string) (r result, err error) {
	r = result{Trials: n, Commands: map[string]command{}}
	if model, err = filepath.Abs(model); err != nil {
		return r, err
	}
	dir, err := os.MkdirTemp("", "bench-studies-")
	if err != nil {
		return r, err
	}
	defer os.RemoveAll(dir)
	var rows strings.Builder
	rows.WriteString("text\tlabel\n")
	for i := range 100 {
		fmt.Fprintf(&rows, "sentence number %d\t%s\n", i, []string{"no", "yes"}[i%2])
	}
	if err := os.WriteFile(filepath.Join(dir, "train.tsv"), []byte(rows.String()), 0o644); err != nil {
		return r, err
	}
	if _, err := another("fill", n, model, dir); err != nil {
		return r, err
	}
	database := filepath.Join(dir, "studies.db")
	info, err := os.Stat(database)
	if err != nil {
		return r, err
	}
	r.Bytes = info.Size()
	for _, verb := range []string{"ls", "front first", "show first", "show first --trial 7", "show first --all",
		"show first --json", "show first --csv", "report first --json", "compare first second"} {
		if r.Commands[verb], err = timed(binary, append(strings.Fields(verb), "--db", database)...); err != nil {
			return r, err
		}
	}
	measured, err := another("loop", n, model, dir)
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal(measured, &r.Loop)
}

// timed runs a command of the program five times.
func timed(binary string, args ...string) (command, error) {
	var all []command
	for range 5 {
		cmd := exec.Command(binary, args...)
		start := time.Now()
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		if err := cmd.Run(); err != nil {
			return command{}, fmt.Errorf("%v: %w: %.500s", args, err, stderr.Bytes())
		}
		used := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
		peak := cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss >> 10
		all = append(all, command{time.Since(start).Seconds(), used.Seconds(), peak})
	}
	slices.SortFunc(all, func(a, b command) int { return int(1e6 * (a.Seconds - b.Seconds)) })
	return all[2], nil
}

// loop continues the study for some more trials.
func loop(dir, model string, n int64) (r loopResult, err error) {
	const more = 200
	begin := time.Now()
	study, _, db, err := studyOf(dir, "first", model, n+more)
	if err != nil {
		return r, err
	}
	var at []time.Time
	var cpu []float64
	open := func(context.Context, studies.Loading) (evaluator.Evaluator, error) { return study.Analytic(), nil }
	_, err = study.Run(context.Background(), open,
		studies.RunOptions{Events: func(e studies.Event) {
			if e.Kind == studies.EventFinished || e.Kind == studies.EventStarted && len(at) == 0 {
				at, cpu = append(at, time.Now()), append(cpu, processor())
			}
		}})
	if err := errors.Join(err, db.Close()); err != nil {
		return r, err
	}
	last := len(at) - 1
	if last != more {
		return r, fmt.Errorf("%d of %d trials ran", last, more)
	}
	r.StartSeconds = at[0].Sub(begin).Seconds()
	r.CPUMS = 1e3 * (cpu[last] - cpu[1]) / float64(last-1)
	var took []float64
	for i := 2; i <= last; i++ {
		took = append(took, at[i].Sub(at[i-1]).Seconds())
	}
	slices.Sort(took)
	r.MS = 1e3 * took[len(took)/2]
	return r, nil
}

// processor is the time that this process has used of it, in seconds.
func processor() float64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
}
