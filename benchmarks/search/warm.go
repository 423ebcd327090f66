package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"peftsearch/search"
	"peftsearch/space"
)

// shownAfter are the trials after which searches are compared.
var shownAfter = []int{6, 10, 14, 20, 23, 30, 40, 49, 60}

// warm compares searches by gp that know recorded trainings of another task on the same model with those that know
// nothing, or what is wrong: the same trainings with scores turned upside down among plans of about one size.
func warm(problems []string, record string, first, seeds, evaluations int, out io.Writer) error {
	fmt.Fprintln(out, "| problem | knows | after trials: share of the best known hypervolume |\n|---|---|---|")
	for _, name := range problems {
		best, err := bestKnown(name)
		if err != nil {
			return err
		}
		for _, arm := range []string{"nothing", record, record + ", upside down"} {
			shares := map[int][]float64{}
			for seed := first; seed < first+seeds; seed++ {
				e, err := newEpisode(name, seed)
				if err != nil {
					return err
				}
				options := search.Options{Seed: 1<<32 + uint64(seed), Sampler: "gp", Reference: e.reference}
				if arm != "nothing" {
					prior, err := recorded(e.problem, record, arm != record)
					if err != nil {
						return err
					}
					options.Prior = [][]search.Observation{prior}
				}
				if _, err := e.play(options, evaluations); err != nil {
					return err
				}
				for _, n := range shownAfter {
					if n <= evaluations {
						shares[n] = append(shares[n], search.Hypervolume(e.outcomes[:n], e.reference)/best)
					}
				}
			}
			var cells []string
			for _, n := range shownAfter {
				if len(shares[n]) > 0 {
					cells = append(cells, fmt.Sprintf("%d: %s", n, meanError(shares[n])))
				}
			}
			fmt.Fprintf(out, "| `%s` | %s | %s |\n", name, arm, strings.Join(cells, ", "))
		}
	}
	return nil
}

// bestKnown is the highest hypervolume that was ever found in a recorded task.
func bestKnown(name string) (float64, error) {
	content, err := os.ReadFile("benchmarks/search/optima.json")
	if err != nil {
		return 0, err
	}
	var optima map[string]Optimum
	if err := json.Unmarshal(content, &optima); err != nil {
		return 0, err
	}
	p, err := newProblem(name, 0)
	if err != nil {
		return 0, err
	}
	return optima[p.id()].Hypervolume, nil
}

// play lets a sampler of ours play the episode.
func (e *episode) play(options search.Options, evaluations int) (*search.History, error) {
	optimizer, err := search.NewOptimizer(e.space, options)
	if err != nil {
		return nil, err
	}
	history, err := search.NewHistory(e.space, nil)
	if err != nil {
		return nil, err
	}
	for number := range int64(evaluations) {
		suggestion, err := optimizer.Ask(history, number)
		if err != nil {
			return nil, err
		}
		if err := history.Set(search.Observation{Number: number, Point: suggestion.Point,
			Params: e.space.Params(suggestion.Point),
			State:  search.Complete, Score: e.evaluate(suggestion.Point)}); err != nil {
			return nil, err
		}
	}
	return history, nil
}

// recorded reads the trainings of a record, benchmarks/peftbench/NAME.jsonl.gz, at points of the problem's space. Those
// of TASK-shared are no trainings but what a map of shared weights estimates.
func recorded(p *problem, name string, wrong bool) (trials []search.Observation, err error) {
	content, err := os.ReadFile("benchmarks/peftbench/" + name + ".jsonl.gz")
	if err != nil {
		return nil, err
	}
	reader, err := gzip.NewReader(bytes.NewReader(content))
	if err != nil {
		return nil, err
	}
	lines := json.NewDecoder(reader)
	var table json.RawMessage
	if err := lines.Decode(&table); err != nil {
		return nil, err
	}
	for lines.More() {
		var t struct {
			Point   space.Point
			Params  int64
			Score   float64
			Failure any
		}
		if err := lines.Decode(&t); err != nil {
			return nil, err
		}
		if t.Failure == nil {
			trials = append(trials, search.Observation{Number: int64(len(trials)), Point: t.Point, Params: t.Params,
				State: search.Complete, Score: t.Score})
		}
	}
	if wrong {
		turn(trials)
	}
	return trials, nil
}

// turn takes every score to the other side of the mean of the trials of about its size.
func turn(trials []search.Observation) {
	scores := make([]float64, len(trials))
	for i, t := range trials {
		sum, n := 0.0, 0.0
		for _, other := range trials {
			if float64(other.Params) > float64(t.Params)/1.5 && float64(other.Params) < float64(t.Params)*1.5 {
				sum, n = sum+other.Score, n+1
			}
		}
		scores[i] = 2*sum/n - t.Score
	}
	for i := range trials {
		trials[i].Score = scores[i]
	}
}
