package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"

	"gonum.org/v1/gonum/stat"

	"peftsearch/evaluator"
	"peftsearch/search"
	"peftsearch/space"
)

// orders is how many replays a record has whose plans were drawn at random.
const orders = 20

// growths are what the pruner asks for.
var growths = []float64{0.25, search.DefaultGrowth, 1}

// levels are the shares of the whole search's hypervolume up to which training is counted.
var levels = []float64{0.9, 0.95, 0.99}

// Replay is a recorded search with the pruner, relative to the same search without it.
type Replay struct {
	Trials int     `json:"trials"`
	Pruned int     `json:"pruned"`
	Spent  float64 `json:"spent"`  // share of the training
	Volume float64 `json:"volume"` // share of the hypervolume of the final front, with full trainings
	// Retrained is the same share with the mean scores of new trainings of the plans on both fronts, 0 if one is missing.
	Retrained float64   `json:"retrained,omitempty"`
	Faster    []float64 `json:"faster"` // training until each level, how many times less; 0 where it was not reached

	fronts [2][]search.Outcome // without the pruner, with it; the numbers are those of the plans
}

// Replays are those of one record with one pruner.
type Replays struct {
	Study   string   `json:"study"`
	Sampler string   `json:"sampler"`
	Pruner  string   `json:"pruner"`
	Replays []Replay `json:"replays"`
}

// oracle stops at its first rung every trial that will not enter the front: no pruner under which the front is
// the same at every time can spend less.
type oracle struct{ trials []Trial } // by number

func (o oracle) Outlook(history []search.Observation, _ float64) search.Outlook {
	return oracleOutlook{o, history}
}

type oracleOutlook struct {
	oracle
	history []search.Observation
}

func (o oracleOutlook) Decide(trial search.Observation) (evaluator.Verdict, search.Forecast) {
	forecast := search.Forecast{Score: o.trials[trial.Number].Score}
	for _, other := range o.history {
		if other.State == search.Complete && other.Params <= trial.Params && other.Score >= forecast.Score {
			return evaluator.Verdict{Stop: true}, forecast
		}
	}
	return evaluator.Verdict{}, forecast
}

// pruning replays records and writes a table to out, and all figures to the file.
func pruning(paths []string, file string, out io.Writer) error {
	fmt.Fprintf(out, "| record | sampler | pruner | replays | trials | pruned | training spent | final hypervolume | "+
		"retrained |")
	for _, level := range levels {
		fmt.Fprintf(out, " to %.0f %%: times less |", 100*level)
	}
	fmt.Fprintf(out, "\n|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	var all []Replays
	for _, path := range paths {
		table, trials, err := readRecord(path)
		if err != nil {
			return err
		}
		again, err := rescores(path)
		if err != nil {
			return err
		}
		plans, err := table.space()
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		sequences := searches(table, trials)
		add := func(name string, pruner func(order []Trial) search.Pruner) {
			r := Replays{Study: table.Study, Sampler: table.Sampler, Pruner: name,
				Replays: replays(table, sequences, pruner)}
			for i, one := range r.Replays {
				if whole := retrainedVolume(one.fronts[0], again, table.Reference); whole > 0 {
					r.Replays[i].Retrained = retrainedVolume(one.fronts[1], again, table.Reference) / whole
				}
			}
			r.write(out)
			all = append(all, r)
		}
		for _, growth := range growths {
			add(fmt.Sprintf("front, %g", growth), func([]Trial) search.Pruner { return frontPruner(table, plans, growth) })
		}
		add("oracle", func(order []Trial) search.Pruner { return oracle{order} })
	}
	content, err := json.MarshalIndent(all, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(content, '\n'), 0o644)
}

func frontPruner(table Table, plans *space.Space, growth float64) search.Pruner {
	return search.FrontPruner{Space: plans, Reference: table.Reference, Growth: growth}
}

// replays replays each sequence, as many at once as there are processors.
func replays(table Table, sequences [][]Trial, pruner func(order []Trial) search.Pruner) []Replay {
	out := make([]Replay, len(sequences))
	var all sync.WaitGroup
	turns := make(chan struct{}, runtime.NumCPU())
	for i, order := range sequences {
		all.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			out[i] = replay(table, order, pruner(order))
		})
	}
	all.Wait()
	return out
}

// finalists are the plans on the fronts that the replays of a record end with, by number.
func finalists(table Table, trials []Trial) ([]int, error) {
	space, err := table.space()
	if err != nil {
		return nil, err
	}
	var plans []int
	sequences := searches(table, trials)
	for _, growth := range growths {
		for _, one := range replays(table, sequences, func([]Trial) search.Pruner {
			return frontPruner(table, space, growth)
		}) {
			for _, front := range one.fronts {
				for _, o := range front {
					plans = append(plans, int(o.Number))
				}
			}
		}
	}
	slices.Sort(plans)
	return slices.Compact(plans), nil
}

// rescores reads the mean scores of the plans that were trained anew; none if there is no such record.
func rescores(path string) (map[int64]float64, error) {
	_, trials, err := readRecord(strings.TrimSuffix(path, ".jsonl.gz") + retrained + ".jsonl.gz")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	scores, trainings := map[int64]float64{}, map[int64]float64{}
	for _, t := range trials {
		if plan := int64(t.Plan); t.Failure == nil {
			trainings[plan]++
			scores[plan] += (t.Score - scores[plan]) / trainings[plan]
		}
	}
	return scores, err
}

// retrainedVolume is the hypervolume of a front with other scores; 0 if one is missing.
func retrainedVolume(front []search.Outcome, scores map[int64]float64, reference search.Reference) float64 {
	front = slices.Clone(front)
	for i, o := range front {
		score, ok := scores[o.Number]
		if !ok {
			return 0
		}
		front[i].Score = score
	}
	return search.Hypervolume(front, reference)
}

func readRecord(path string) (table Table, trials []Trial, err error) {
	content, err := unpack(path)
	if err != nil {
		return table, nil, err
	}
	first, rest, _ := bytes.Cut(content, []byte("\n"))
	if err := json.Unmarshal(first, &table); err != nil {
		return table, nil, fmt.Errorf("%s: %w", path, err)
	}
	trials, err = readTrials(bytes.NewReader(rest))
	return table, trials, err
}

// searches are the sequences of trials to replay: the recorded one if a sampler made it from the scores, else
// random ones.
func searches(table Table, trials []Trial) [][]Trial {
	trials = slices.DeleteFunc(slices.Clone(trials), func(t Trial) bool {
		return t.Failure != nil || t.Seed != seedOf(t.Plan, 0)
	})
	if table.Sampler != "random" {
		return [][]Trial{trials}
	}
	var all [][]Trial
	for seed := range uint64(orders) {
		order := slices.Clone(trials)
		rand.New(rand.NewPCG(seed, 0)).Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		all = append(all, order)
	}
	return all
}

// replay shows a search's curves to a pruner in their order, and stops where it says so.
func replay(table Table, trials []Trial, pruner search.Pruner) Replay {
	whole, pruned := &spending{reference: table.Reference}, &spending{reference: table.Reference}
	var history []search.Observation
	r := Replay{Trials: len(trials)}
	for number, t := range trials {
		whole.add(t)
		o := search.Observation{Number: int64(number), Point: t.Point, Params: t.Params}
		var verdict evaluator.Verdict
		var forecast search.Forecast
		for i, score := range t.Curve {
			o.Curve = append(o.Curve, search.Rung{Share: table.Budget.Rungs[i], Score: score})
			if verdict, forecast = pruner.Outlook(history, table.Budget.Rungs[i]).Decide(o); verdict.Stop {
				break
			}
		}
		if verdict.Stop {
			o.State, o.Score, o.SD = search.Pruned, forecast.Score, forecast.SD
			pruned.spent += o.Curve[len(o.Curve)-1].Share
			r.Pruned++
		} else {
			o.State, o.Score = search.Complete, t.Score
			pruned.add(t)
		}
		history = append(history, o)
	}
	r.fronts = [2][]search.Outcome{search.Front(whole.outcomes), search.Front(pruned.outcomes)}
	r.Spent, r.Volume = pruned.spent/whole.spent, pruned.volume()/whole.volume()
	for _, level := range levels {
		faster := 0.0
		if with := pruned.until(level * whole.volume()); with > 0 {
			faster = whole.until(level*whole.volume()) / with
		}
		r.Faster = append(r.Faster, faster)
	}
	return r
}

// spending is the hypervolume of a search over the training that it spent, in whole trainings.
type spending struct {
	reference search.Reference
	spent     float64
	outcomes  []search.Outcome
	at        []float64 // spent when each outcome was there
}

// add adds a whole training.
func (s *spending) add(t Trial) {
	s.spent++
	s.outcomes = append(s.outcomes, search.Outcome{Number: int64(t.Plan), Params: t.Params, Score: t.Score})
	s.at = append(s.at, s.spent)
}

func (s *spending) volume() float64 { return search.Hypervolume(s.outcomes, s.reference) }

// until is what was spent when the hypervolume was reached; 0 if it never was.
func (s *spending) until(volume float64) float64 {
	for i := range s.outcomes {
		if search.Hypervolume(s.outcomes[:i+1], s.reference) >= volume {
			return s.at[i]
		}
	}
	return 0
}

// write writes a row of the table: means and their standard errors; those of the levels over the replays that
// reached them, whose number follows where it is not all.
func (r Replays) write(out io.Writer) {
	cell := func(value func(Replay) float64) {
		var values []float64
		for _, replay := range r.Replays {
			if v := value(replay); v > 0 {
				values = append(values, v)
			}
		}
		switch mean, sd := stat.MeanStdDev(values, nil); len(values) {
		case 0:
			fmt.Fprint(out, " – |")
			return
		case 1:
			fmt.Fprintf(out, " %.3f", mean)
		default:
			fmt.Fprintf(out, " %.3f ± %.3f", mean, stat.StdErr(sd, float64(len(values))))
		}
		if len(values) < len(r.Replays) {
			fmt.Fprintf(out, " (%d)", len(values))
		}
		fmt.Fprint(out, " |")
	}
	fmt.Fprintf(out, "| `%s` | %s | %s | %d | %d |", r.Study, r.Sampler, r.Pruner, len(r.Replays), r.Replays[0].Trials)
	cell(func(r Replay) float64 { return float64(r.Pruned) / float64(r.Trials) })
	cell(func(r Replay) float64 { return r.Spent })
	cell(func(r Replay) float64 { return r.Volume })
	cell(func(r Replay) float64 { return r.Retrained })
	for i := range levels {
		cell(func(r Replay) float64 { return r.Faster[i] })
	}
	fmt.Fprintln(out)
}
