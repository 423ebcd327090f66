package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"

	"gonum.org/v1/gonum/stat"

	"peftsearch/search"
	"peftsearch/space"
)

// The simulated trials: their mean unless a flag says otherwise, and the standard deviation of the logarithm of what
// each takes.
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
	Ahead   int                `json:"ahead,omitempty"` // proposals that are made before a worker asks for them
	Seconds float64            `json:"seconds"`         // mean time of a trial
	Hours   float64            `json:"hours"`           // until the last trial ended
	Waited  float64            `json:"waited"`          // share of the workers' time in which they waited for proposals
	Volumes map[string]float64 `json:"volumes"`         // hypervolume after so many trials, without noise
	AtHours map[string]float64 `json:"at_hours"`        // and after so many hours; a search that is over stays as it is
	Version string             `json:"version"`
}

var (
	crowdCheckpoints = []int{50, 100, 200, 400, 1000, 2000}
	crowdHours       = []float64{0.25, 0.5, 1, 2, 4, 8, 16, 32}
)

// proposalSeconds is what a proposal takes after so many finished trials. For gp it is what `scale proposals` measured
// in a space of 48 dimensions, 0.15 s at 100 trials and 0.56 s at 300, beyond which it models no more; every other
// sampler takes some milliseconds at most. No clock is read, so that a search is repeatable.
func proposalSeconds(sampler string, finished int) float64 {
	if sampler != "gp" {
		return 0
	}
	return 0.002 * float64(min(finished, 300))
}

// runCrowd plays a search with so many workers on recorded trials: a worker that is free takes a proposal, and waits
// while it is made. Proposals are made one after another, each as soon as there is room for it among those that are
// made ahead, with what has ended by then and what runs.
func runCrowd(r crowdRun) (crowdRun, error) {
	e, err := newEpisode(r.Problem, r.Seed)
	if err != nil {
		return crowdRun{}, err
	}
	optimizer, err := search.NewOptimizer(e.space, search.Options{Seed: 1<<32 + uint64(r.Seed), Sampler: r.Sampler,
		Reference: e.reference, TrialSeconds: r.Seconds})
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
		end    float64 // of a proposal: when it is made
	}
	free := make([]float64, r.Workers) // when each worker is
	var running, ended, stock []trial
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
	r.Version, r.Volumes, r.AtHours = commit(), map[string]float64{}, map[string]float64{}
	made, proposer := int64(0), 0.0 // proposals; when the last one was made
	propose := func(from float64) error {
		begin := max(from, proposer)
		if err := finish(begin); err != nil {
			return err
		}
		suggestion, err := optimizer.Ask(history, made)
		if err != nil {
			return err
		}
		proposer = begin + proposalSeconds(r.Sampler, len(ended))
		stock = append(stock, trial{made, suggestion.Point, proposer})
		made++
		return history.Set(search.Observation{Number: made - 1, Point: suggestion.Point,
			Params: e.space.Params(suggestion.Point), State: search.Running})
	}
	for range min(r.Ahead, r.Trials) {
		if err := propose(0); err != nil {
			return r, err
		}
	}
	waited := 0.0 // by workers
	for range r.Trials {
		slices.Sort(free)
		if made < int64(r.Trials) && r.Ahead == 0 {
			if err := propose(free[0]); err != nil {
				return r, err
			}
		}
		next := stock[0]
		stock = stock[1:]
		begin := max(free[0], next.end)
		waited += begin - free[0]
		spread := trialSpread * keyed(r.Seed, fmt.Sprint("time ", next.number)).NormFloat64()
		free[0] = begin + r.Seconds*math.Exp(spread-trialSpread*trialSpread/2)
		next.end = free[0]
		running = append(running, next)
		if made < int64(r.Trials) && r.Ahead > 0 {
			if err := propose(begin); err != nil {
				return r, err
			}
		}
	}
	if err := finish(math.Inf(1)); err != nil {
		return r, err
	}
	last := ended[len(ended)-1].end
	r.Hours, r.Waited = rounded(last/3600), rounded(waited/(last*float64(r.Workers)))
	volume := func(n int) float64 { return rounded(search.Hypervolume(e.outcomes[:n], e.reference)) }
	for _, n := range crowdCheckpoints {
		if n <= len(ended) {
			r.Volumes[fmt.Sprint(n)] = volume(n)
		}
	}
	for _, hours := range crowdHours {
		n, _ := slices.BinarySearchFunc(ended, hours*3600, func(t trial, at float64) int { return cmp.Compare(t.end, at) })
		if n > 0 {
			r.AtHours[fmt.Sprint(hours)] = volume(n)
		}
	}
	return r, nil
}

// crowds says which searches a call plays and shows.
type crowds struct {
	problems, samplers []string
	workers            []int
	like               crowdRun // in all else
	first, seeds       int
}

// arms lists the searches of one seed.
func (c crowds) arms(seed int) (runs []crowdRun) {
	for _, problem := range c.problems {
		for _, sampler := range c.samplers {
			for _, n := range c.workers {
				r := c.like
				r.Problem, r.Sampler, r.Workers, r.Seed = problem, sampler, n, seed
				runs = append(runs, r)
			}
		}
	}
	return runs
}

// key tells runs apart that were told different things.
func (r crowdRun) key() string {
	return fmt.Sprint(r.Problem, "|", r.Sampler, "|", r.Workers, "|", r.Trials, "|", r.Ahead, "|", r.Seconds, "|", r.Seed)
}

// play plays what is missing in a file, and prints a table of what it has of them.
func (c crowds) play(path string, table io.Writer) error {
	done := map[string]crowdRun{}
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
		done[r.key()] = r
	}
	for seed := c.first; seed < c.first+c.seeds; seed++ {
		for _, r := range c.arms(seed) {
			key := r.key()
			if _, ok := done[key]; ok {
				continue
			}
			r, err := runCrowd(r)
			if err != nil {
				return err
			}
			if err := json.NewEncoder(file).Encode(r); err != nil {
				return err
			}
			done[key] = r
		}
	}
	c.write(table, done)
	return nil
}

// The columns of the table.
var (
	shownTrials = []string{"100", "400", "1000"}
	shownHours  = []string{"0.25", "1", "2"}
)

// write prints a table of the means over seeds, with their standard errors, of searches that have ended.
func (c crowds) write(w io.Writer, done map[string]crowdRun) {
	fmt.Fprintf(w, "| task, sampler | workers | hours | waiting | after %s trials | after %s h |\n|%s\n",
		strings.Join(shownTrials, " | "), strings.Join(shownHours, " | "), strings.Repeat("---|", 10))
	for _, arm := range c.arms(c.first) {
		var runs []crowdRun
		for seed := c.first; seed < c.first+c.seeds; seed++ {
			arm.Seed = seed
			runs = append(runs, done[arm.key()])
		}
		mean := func(of func(crowdRun) float64) (mean, deviation float64) {
			values := make([]float64, len(runs))
			for i, r := range runs {
				values[i] = of(r)
			}
			return stat.MeanStdDev(values, nil)
		}
		hours, _ := mean(func(r crowdRun) float64 { return r.Hours })
		waited, _ := mean(func(r crowdRun) float64 { return r.Waited })
		fmt.Fprintf(w, "| %s, `%s` | %d | %.3g | %.2g %%", arm.Problem, arm.Sampler, arm.Workers, hours, 100*waited)
		for _, trials := range shownTrials {
			volume, deviation := mean(func(r crowdRun) float64 { return r.Volumes[trials] })
			switch {
			case volume == 0: // there are fewer trials
				fmt.Fprint(w, " | ")
			case len(runs) == 1:
				fmt.Fprintf(w, " | %.3f", volume)
			default:
				fmt.Fprintf(w, " | %.3f ± %.3f", volume, stat.StdErr(deviation, float64(len(runs))))
			}
		}
		for _, hours := range shownHours {
			volume, _ := mean(func(r crowdRun) float64 { return r.AtHours[hours] })
			fmt.Fprintf(w, " | %.3f", volume)
		}
		fmt.Fprintln(w, " |")
	}
}
