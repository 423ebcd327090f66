package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"gonum.org/v1/gonum/stat"

	"peftsearch/search"
	"peftsearch/space"
)

// The pruners.
const (
	prunerNone  = "none"
	prunerFront = "front"
)

// runPruned plays a planned run on a recorded task: trials until the evaluations, in whole trainings, are spent. The
// volumes are those of the fronts that the search found, with the scores of their plans that have no noise; a pruned
// trial is on no front.
func runPruned(planned Run) (Run, error) {
	p, err := newProblem(planned.Problem, planned.Seed)
	if err != nil {
		return Run{}, err
	}
	if p.curve == nil {
		return Run{}, fmt.Errorf("problem %s has no learning curves", p.name)
	}
	optimizer, err := search.NewOptimizer(p.space, search.Options{Seed: 1<<32 + uint64(planned.Seed),
		Sampler: planned.sampler(), Reference: p.reference})
	if err != nil {
		return Run{}, err
	}
	front := search.FrontPruner{Space: p.space, Reference: p.reference, Growth: search.DefaultGrowth}
	r := planned
	r.Volumes, r.Versions = map[string]float64{}, map[string]string{"peftsearch": commit()}
	history, err := search.NewHistory(p.space, nil)
	if err != nil {
		return Run{}, err
	}
	points := map[int64]space.Point{}
	var complete []search.Outcome
	var at []float64 // spent when each of them was there
	for spent := 0.0; spent < float64(planned.Evaluations); r.Trials++ {
		number := int64(r.Trials)
		suggestion, err := optimizer.Ask(history, number)
		if err != nil {
			return Run{}, err
		}
		o := search.Observation{Number: number, Point: suggestion.Point, Params: p.space.Params(suggestion.Point),
			State: search.Complete}
		for _, rung := range p.curve(o.Point, keyed(planned.Seed, p.space.Key(o.Point))) {
			o.Curve, o.Score = append(o.Curve, rung), rung.Score
			if planned.Pruner != prunerFront {
				continue
			}
			if verdict, forecast := front.Outlook(history.Observations(), rung.Share).Decide(o); verdict.Stop {
				o.State, o.Score, o.SD = search.Pruned, forecast.Score, forecast.SD
				r.Stopped++
				break
			}
		}
		spent += o.Curve[len(o.Curve)-1].Share
		if o.State == search.Complete {
			complete, at = append(complete, search.Outcome{Number: number, Params: o.Params, Score: o.Score}), append(at, spent)
		}
		points[number] = o.Point
		if err := history.Set(o); err != nil {
			return Run{}, err
		}
	}
	for _, n := range checkpoints {
		if n > planned.Evaluations {
			break
		}
		later := slices.IndexFunc(at, func(spent float64) bool { return spent > float64(n) })
		if later < 0 {
			later = len(at)
		}
		found := search.Front(complete[:later])
		for i, o := range found {
			found[i].Score = p.score(points[o.Number])
		}
		r.Volumes[fmt.Sprint(n)] = rounded(search.Hypervolume(found, p.reference))
	}
	return r, nil
}

// writePruned writes what pruning changes in each problem for each sampler: means over the seeds that have both runs, ±
// their standard errors.
func writePruned(path string, out io.Writer) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	runs := map[[2]string]map[int]map[string]Run{} // by problem and arm, seed, pruner
	var order [][2]string
	for lines := bufio.NewScanner(file); lines.Scan(); {
		var run Run
		if err := json.Unmarshal(lines.Bytes(), &run); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		group := [2]string{run.Problem, run.Arm}
		if runs[group] == nil {
			runs[group], order = map[int]map[string]Run{}, append(order, group)
		}
		if runs[group][run.Seed] == nil {
			runs[group][run.Seed] = map[string]Run{}
		}
		runs[group][run.Seed][run.Pruner] = run
	}
	slices.SortFunc(order, func(a, b [2]string) int { return slices.Compare(a[:], b[:]) })
	fmt.Fprintln(out, "| problem | sampler | seeds | stopped | trials | after trainings: hypervolume with pruning, "+
		"relative to that without |\n|---|---|---|---|---|---|")
	for _, group := range order {
		var stopped, trials []float64
		gains := map[int][]float64{}
		for _, pair := range runs[group] {
			with, without := pair[prunerFront], pair[prunerNone]
			if with.Trials == 0 || without.Trials == 0 {
				continue
			}
			stopped = append(stopped, float64(with.Stopped)/float64(with.Trials))
			trials = append(trials, float64(with.Trials)/float64(without.Trials))
			for _, n := range checkpoints {
				if before := without.Volumes[fmt.Sprint(n)]; before > 0 {
					gains[n] = append(gains[n], with.Volumes[fmt.Sprint(n)]/before)
				}
			}
		}
		var cells []string
		for _, n := range checkpoints {
			if len(gains[n]) > 0 {
				cells = append(cells, fmt.Sprintf("%d: %s", n, meanError(gains[n])))
			}
		}
		fmt.Fprintf(out, "| `%s` | %s | %d | %s | × %s | %s |\n", group[0], group[1], len(stopped), meanError(stopped),
			meanError(trials), strings.Join(cells, ", "))
	}
	return nil
}

func meanError(values []float64) string {
	mean, sd := stat.MeanStdDev(values, nil)
	return fmt.Sprintf("%.3f ± %.3f", mean, stat.StdErr(sd, float64(len(values))))
}
