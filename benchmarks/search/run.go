package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"strings"
	"time"

	"peftsearch/search"
	"peftsearch/space"
)

// Run is one line of a result file: one arm on one problem with one seed.
type Run struct {
	Problem     string             `json:"problem"`
	Instance    int                `json:"instance"`
	Arm         string             `json:"arm"`
	Design      string             `json:"design"`           // of the start: the arm's own, or shared by the arms
	Pruner      string             `json:"pruner,omitempty"` // of a search among recorded curves
	Seed        int                `json:"seed"`
	Evaluations int                `json:"evaluations"`       // with a pruner, whole trainings
	Trials      int                `json:"trials,omitempty"`  // with a pruner
	Stopped     int                `json:"stopped,omitempty"` // of them
	Volumes     map[string]float64 `json:"volumes"`           // hypervolume, after so many evaluations
	Seconds     map[string]float64 `json:"seconds"`           // for a suggestion, mean since the checkpoint before
	Repeats     int                `json:"repeats"`           // evaluations of plans that had been evaluated
	Versions    map[string]string  `json:"versions"`
}

// The designs.
const (
	designOwn    = "own"
	designShared = "shared"
	sharedSize   = 20
)

// run describes the episode so far; times are the seconds of each suggestion.
func (e *episode) run(times []float64) Run {
	r := Run{Problem: e.name, Instance: e.instance, Seed: e.seed, Evaluations: len(e.outcomes), Repeats: e.repeats,
		Volumes: map[string]float64{}, Seconds: map[string]float64{}}
	before := 0
	for _, n := range checkpoints {
		if n > len(e.outcomes) {
			break
		}
		key := fmt.Sprint(n)
		r.Volumes[key] = rounded(search.Hypervolume(e.outcomes[:n], e.reference))
		total := 0.0
		for _, t := range times[before:n] {
			total += t
		}
		r.Seconds[key] = rounded(total / float64(n-before))
		before = n
	}
	return r
}

func rounded(value float64) float64 { return math.Round(1e6*value) / 1e6 }

// runSampler plays a planned run of one of our samplers.
func runSampler(planned Run) (Run, error) {
	e, err := newEpisode(planned.Problem, planned.Seed)
	if err != nil {
		return Run{}, err
	}
	var shared []space.Point
	if planned.Design == designShared {
		if shared, err = e.initial(); err != nil {
			return Run{}, err
		}
	}
	// The generator of a seed must not be that of the shared design.
	optimizer, err := search.NewOptimizer(e.space, search.Options{Seed: 1<<32 + uint64(planned.Seed),
		Sampler: planned.sampler(), Initial: len(shared), Reference: e.reference})
	if err != nil {
		return Run{}, err
	}
	history, err := search.NewHistory(e.space, nil)
	if err != nil {
		return Run{}, err
	}
	var times []float64
	for number := range planned.Evaluations {
		start := time.Now()
		var point space.Point
		if number < len(shared) {
			point = shared[number]
		} else {
			suggestion, err := optimizer.Ask(history, int64(number))
			if err != nil {
				return Run{}, err
			}
			point = suggestion.Point
		}
		times = append(times, time.Since(start).Seconds())
		if err := history.Set(search.Observation{Number: int64(number), Point: point, Params: e.space.Params(point),
			State: search.Complete, Score: e.evaluate(point)}); err != nil {
			return Run{}, err
		}
	}
	r := e.run(times)
	r.Arm, r.Design, r.Versions = planned.Arm, planned.Design, map[string]string{"peftsearch": commit()}
	return r, nil
}

// commit is the state of the sources, if this is run among them.
func commit() string {
	out, err := exec.Command("git", "describe", "--always", "--dirty").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

// results is an append-only file of runs.
type results struct {
	file *os.File
	done map[string]int // evaluations of the runs in it
}

func openResults(path string) (*results, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	r := &results{file: file, done: map[string]int{}}
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		var run Run
		if err := json.Unmarshal(lines.Bytes(), &run); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		key := run.key()
		r.done[key] = max(r.done[key], run.Evaluations)
	}
	return r, lines.Err()
}

func (r Run) key() string {
	return fmt.Sprint(r.Problem, "|", r.Arm, "|", r.Design, "|", r.Pruner, "|", r.Seed)
}

func (r *results) add(run Run) error {
	line, err := json.Marshal(run)
	if err != nil {
		return err
	}
	_, err = r.file.Write(append(line, '\n'))
	return err
}

// runMissing plays the planned runs that are not in a result file, and appends them to it.
func runMissing(path string, planned []Run, play func(Run) (Run, error)) error {
	r, err := openResults(path)
	if err != nil {
		return err
	}
	defer r.file.Close()
	for _, next := range planned {
		if r.done[next.key()] >= next.Evaluations {
			continue
		}
		run, err := play(next)
		if err != nil {
			return fmt.Errorf("%s, %s, seed %d: %w", next.Problem, next.Arm, next.Seed, err)
		}
		if err := r.add(run); err != nil {
			return err
		}
		fmt.Fprintln(os.Stderr, strings.Join([]string{run.Problem, run.Arm, run.Design, run.Pruner, fmt.Sprint(run.Seed),
			fmt.Sprint(run.Volumes)}, "  "))
	}
	return nil
}

const ours = "peftsearch " // begins the names of our arms

// sampler is the sampler of an arm of ours.
func (r Run) sampler() string { return strings.TrimPrefix(r.Arm, ours) }

// plan lists runs of our samplers, seed by seed from the first.
func plan(problems, samplers []string, first, seeds, evaluations int, variants ...Run) []Run {
	var planned []Run
	for seed := first; seed < first+seeds; seed++ {
		for _, problem := range problems {
			for _, sampler := range samplers {
				for _, run := range variants {
					run.Problem, run.Arm, run.Seed, run.Evaluations = problem, ours+sampler, seed, evaluations
					planned = append(planned, run)
				}
			}
		}
	}
	return planned
}

// serve plays one episode with another program over lines of JSON. It greets with the problem; then
// {"cost": [points]} asks for costs, {"evaluate": point} for a noisy score, and {"finish": [seconds of
// each suggestion]} for the run, which ends the episode.
func serve(problem string, seed int, in io.Reader, out io.Writer) error {
	e, err := newEpisode(problem, seed)
	if err != nil {
		return err
	}
	initial, err := e.initial()
	if err != nil {
		return err
	}
	var levels []int
	for _, d := range e.space.Dimensions() {
		levels = append(levels, len(d.Levels))
	}
	encoder := json.NewEncoder(out)
	if err := encoder.Encode(map[string]any{"levels": levels, "initial": initial,
		"chance": e.reference.Chance}); err != nil {
		return err
	}
	decoder := json.NewDecoder(in)
	for {
		var request struct {
			Cost     []space.Point
			Evaluate space.Point
			Finish   []float64
		}
		if err := decoder.Decode(&request); err != nil {
			return err
		}
		var answer any
		switch {
		case request.Finish != nil:
			return encoder.Encode(e.run(request.Finish))
		case request.Evaluate != nil:
			answer = map[string]float64{"score": e.evaluate(request.Evaluate), "cost": e.cost(request.Evaluate)}
		default:
			costs := make([]float64, len(request.Cost))
			for i, p := range request.Cost {
				costs[i] = e.cost(p)
			}
			answer = costs
		}
		if err := encoder.Encode(answer); err != nil {
			return err
		}
	}
}
