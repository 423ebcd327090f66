package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
	"syscall"

	"peftsearch/search"
	"peftsearch/space"
)

// The simulated trials: their mean, and the standard deviation of the logarithm of what each takes.
const (
	trialSeconds = 360.0
	trialSpread  = 0.3
)

// crowdRun is one line of a result file: a search by many workers, on the simulated clock.
type crowdRun struct {
	Problem string             `json:"problem"`
	Sampler string             `json:"sampler"`
	Workers int                `json:"workers"`
	Seed    int                `json:"seed"`
	Trials  int                `json:"trials"`
	Hours   float64            `json:"hours"`    // until the last trial ended
	Asked   float64            `json:"asked"`    // seconds of a processor that all proposals took, one after another
	Waited  float64            `json:"waited"`   // share of the workers' time in which they waited for proposals
	Volumes map[string]float64 `json:"volumes"`  // hypervolume after so many trials, without noise
	AtHours map[string]float64 `json:"at_hours"` // and after so many hours
	Version string             `json:"version"`
}

var (
	crowdCheckpoints = []int{50, 100, 200, 400, 1000, 2000}
	crowdHours       = []float64{0.25, 0.5, 1, 2, 4, 8, 16, 32}
)

// runCrowd plays a search with so many workers on recorded trials: a worker asks when it is free, knows what has ended
// by then and what runs, and waits while others' proposals are made. A proposal takes what it took one processor here.
func runCrowd(problem, sampler string, workers, trials, seed int) (crowdRun, error) {
	e, err := newEpisode(problem, seed)
	if err != nil {
		return crowdRun{}, err
	}
	optimizer, err := search.NewOptimizer(e.space, search.Options{Seed: 1<<32 + uint64(seed), Sampler: sampler,
		Reference: e.reference, TrialSeconds: trialSeconds})
	if err != nil {
		return crowdRun{}, err
	}
	history, err := search.NewHistory(e.space, nil)
	if err != nil {
		return crowdRun{}, err
	}
	type trial struct {
		number int64
		point  space.Point
		end    float64
	}
	free := make([]float64, workers) // when each worker is
	var running, ended []trial
	finish := func(until float64) error {
		slices.SortFunc(running, func(a, b trial) int { return cmp.Compare(a.end, b.end) })
		for len(running) > 0 && running[0].end <= until {
			t := running[0]
			running, ended = running[1:], append(ended, t)
			if err := history.Set(search.Observation{Number: t.number, Point: t.point, Params: e.space.Params(t.point),
				State: search.Complete, Score: e.evaluate(t.point)}); err != nil {
				return err
			}
		}
		return nil
	}
	r := crowdRun{Problem: problem, Sampler: sampler, Workers: workers, Seed: seed, Trials: trials, Version: commit(),
		Volumes: map[string]float64{}, AtHours: map[string]float64{}}
	proposer, waited := 0.0, 0.0 // when the last proposal was made; what workers waited
	for number := range int64(trials) {
		slices.Sort(free)
		begin := max(free[0], proposer)
		if err := finish(begin); err != nil {
			return r, err
		}
		start, err := processorSeconds()
		if err != nil {
			return r, err
		}
		suggestion, err := optimizer.Ask(history, number)
		if err != nil {
			return r, err
		}
		end, err := processorSeconds()
		if err != nil {
			return r, err
		}
		took := end - start
		proposer = begin + took
		waited += proposer - free[0]
		r.Asked += took
		spread := trialSpread * keyed(seed, fmt.Sprint("time ", number)).NormFloat64()
		seconds := trialSeconds * math.Exp(spread-trialSpread*trialSpread/2)
		free[0] = proposer + seconds
		running = append(running, trial{number, suggestion.Point, free[0]})
		if err := history.Set(search.Observation{Number: number, Point: suggestion.Point,
			Params: e.space.Params(suggestion.Point), State: search.Running}); err != nil {
			return r, err
		}
	}
	if err := finish(math.Inf(1)); err != nil {
		return r, err
	}
	last := ended[len(ended)-1].end
	r.Hours, r.Asked, r.Waited = rounded(last/3600), rounded(r.Asked), rounded(waited/(last*float64(workers)))
	volume := func(n int) float64 { return rounded(search.Hypervolume(e.outcomes[:n], e.reference)) }
	for _, n := range crowdCheckpoints {
		if n <= len(ended) {
			r.Volumes[fmt.Sprint(n)] = volume(n)
		}
	}
	for _, hours := range crowdHours {
		n, _ := slices.BinarySearchFunc(ended, hours*3600, func(t trial, at float64) int { return cmp.Compare(t.end, at) })
		if n > 0 && hours*3600 <= last {
			r.AtHours[fmt.Sprint(hours)] = volume(n)
		}
	}
	return r, nil
}

// processorSeconds is what this process has used of the processors.
func processorSeconds() (float64, error) {
	var usage syscall.Rusage
	err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1e9, err
}

// runCrowds plays what is missing in a file.
func runCrowds(path string, problems, samplers []string, workers []int, trials, first, seeds int) error {
	key := func(r crowdRun) string {
		return fmt.Sprint(r.Problem, "|", r.Sampler, "|", r.Workers, "|", r.Trials, "|", r.Seed)
	}
	done := map[string]bool{}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer file.Close()
	for lines := json.NewDecoder(file); lines.More(); {
		var r crowdRun
		if err := lines.Decode(&r); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		done[key(r)] = true
	}
	for seed := first; seed < first+seeds; seed++ {
		for _, problem := range problems {
			for _, sampler := range samplers {
				for _, n := range workers {
					if done[key(crowdRun{Problem: problem, Sampler: sampler, Workers: n, Trials: trials, Seed: seed})] {
						continue
					}
					r, err := runCrowd(problem, sampler, n, trials, seed)
					if err != nil {
						return err
					}
					if err := json.NewEncoder(file).Encode(r); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}
