// Command scale measures how many processes one PostgreSQL server and one study bear: trials a second with trials of
// one second, and what a proposal takes. docs/explain/scale.md says what was found.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"peftsearch/evaluator"
	"peftsearch/search"
	"peftsearch/studies"
	"peftsearch/studies/config"
	"peftsearch/studies/server"
	"peftsearch/studies/store"
)

const usage = `usage: scale throughput [-supervisors 1,8,32] [-samplers tpe,gp] [-each 20]  trials of a second
       scale proposals [-samplers tpe,gp] [-trials 100,300,1000]            seconds of a proposal`

func main() {
	if err := command(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}

func command(args []string) error {
	if len(args) == 3 && args[0] == "supervise" { // this program as one of many
		return supervise(context.Background(), args[1], args[2])
	}
	if len(args) == 0 {
		return errors.New(usage)
	}
	flags := flag.NewFlagSet(args[0], flag.ExitOnError)
	samplers := flags.String("samplers", "tpe,gp", "samplers")
	supervisors := flags.String("supervisors", "1,8,32", "numbers of processes")
	trials := flags.String("trials", "100,300,1000", "numbers of trials before a proposal")
	each := flags.Int("each", 20, "trials for each process")
	model := flags.String("model", "models/all-MiniLM-L6-v2", "model whose space is searched")
	flags.Parse(args[1:])
	path, err := filepath.Abs(*model)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "peftsearch-scale-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := bench{dir: dir, model: path, samplers: strings.Split(*samplers, ",")}
	switch args[0] {
	case "throughput":
		counts, err := numbers(*supervisors)
		if err != nil {
			return err
		}
		return b.throughput(counts, *each)
	case "proposals":
		counts, err := numbers(*trials)
		if err != nil {
			return err
		}
		return b.proposals(counts)
	}
	return errors.New(usage)
}

func numbers(text string) (all []int, err error) {
	for word := range strings.SplitSeq(text, ",") {
		var n int
		if _, err := fmt.Sscan(word, &n); err != nil || n < 1 {
			return nil, fmt.Errorf("%q: must be numbers of at least 1", text)
		}
		all = append(all, n)
	}
	return all, nil
}

type bench struct {
	dir, model string
	samplers   []string
}

const studyFile = `study: %s
model: {path: %s}
task: {kind: classification, train: train.tsv, columns: {text: text, label: label}, dev_share: 0.3}
search: {seed: 1, sampler: %s}
budget: {trials: %d, rungs: [1]}
evaluator: {analytic: true}
`

// study writes a study file and its data.
func (b bench) study(name, sampler string, trials int) (path string, err error) {
	var rows strings.Builder
	rows.WriteString("text\tlabel\n")
	for i := range 40 {
		fmt.Fprintf(&rows, "sentence number %d\t%s\n", i, []string{"no", "yes"}[i%2])
	}
	path = filepath.Join(b.dir, name+".yaml")
	return path, errors.Join(os.WriteFile(filepath.Join(b.dir, "train.tsv"), []byte(rows.String()), 0o644),
		os.WriteFile(path, fmt.Appendf(nil, studyFile, name, b.model, sampler, trials), 0o644))
}

// throughputRun is one line of the output.
type throughputRun struct {
	Sampler     string  `json:"sampler"`
	Supervisors int     `json:"supervisors"`
	Trials      int     `json:"trials"`
	PerSecond   float64 `json:"trials_per_second"`
	OfLinear    float64 `json:"of_linear"` // the share of what as many processes without anything in common would do
}

func (b bench) throughput(counts []int, each int) error {
	log, err := os.Create(filepath.Join(b.dir, "log"))
	if err != nil {
		return err
	}
	defer log.Close()
	if err := os.Chmod(b.dir, 0o711); err != nil { // the server may run as another user
		return err
	}
	s, err := server.Start(context.Background(), server.Options{Dir: b.dir, Data: filepath.Join(b.dir, "data"),
		Host: "127.0.0.1", Listen: "127.0.0.1", Log: log})
	if err != nil {
		return err
	}
	defer s.Stop()
	for _, sampler := range b.samplers {
		for _, n := range counts {
			r := throughputRun{Sampler: sampler, Supervisors: n, Trials: n * each}
			var err error
			if r.PerSecond, err = b.crowd(fmt.Sprintf("%s-%d", sampler, n), sampler, n, r.Trials); err != nil {
				return err
			}
			r.OfLinear = r.PerSecond / float64(n)
			if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
				return err
			}
		}
	}
	return nil
}

// crowd runs a study with many processes, and returns how many trials a second end while all of them are at work: the
// start of a process takes longer than a trial.
func (b bench) crowd(name, sampler string, processes, trials int) (perSecond float64, err error) {
	path, err := b.study(name, sampler, trials)
	if err != nil {
		return 0, err
	}
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	var all []*exec.Cmd
	for range processes {
		cmd := exec.Command(self, "supervise", path, b.dir)
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			return 0, err
		}
		all = append(all, cmd)
	}
	for _, cmd := range all {
		err = errors.Join(err, cmd.Wait())
	}
	if err != nil {
		return 0, err
	}
	db, err := store.View(b.dir)
	if err != nil {
		return 0, err
	}
	defer db.Close()
	record, err := db.Study(context.Background(), name)
	if err != nil {
		return 0, err
	}
	done, err := db.Trials(context.Background(), record)
	if err != nil {
		return 0, err
	}
	if len(done) != trials {
		return 0, fmt.Errorf("%d trials of %d", len(done), trials)
	}
	first, last := map[string]time.Time{}, map[string]time.Time{} // of each process
	for _, t := range done {
		if t.State != store.Complete || t.Attempts != 1 {
			return 0, fmt.Errorf("trial %d is %s after %d attempts", t.Number, t.State, t.Attempts)
		}
		if began, ok := first[t.Process]; !ok || t.Started.Before(began) {
			first[t.Process] = t.Started
		}
		if t.Finished.After(last[t.Process]) {
			last[t.Process] = t.Finished
		}
	}
	if len(first) != processes {
		return 0, fmt.Errorf("%d of %d processes ran a trial", len(first), processes)
	}
	from := slices.MaxFunc(slices.Collect(maps.Values(first)), time.Time.Compare)
	until := slices.MinFunc(slices.Collect(maps.Values(last)), time.Time.Compare)
	ended := 0
	for _, t := range done {
		if t.Finished.After(from) && !t.Finished.After(until) {
			ended++
		}
	}
	if !until.After(from) {
		return 0, errors.New("the processes were never all at work: more trials for each")
	}
	return float64(ended) / until.Sub(from).Seconds(), nil
}

// supervise runs a study with trials of a second.
func supervise(ctx context.Context, path, database string) (err error) {
	file, err := config.Read(path)
	if err != nil {
		return err
	}
	inputs, err := file.Open()
	if err != nil {
		return err
	}
	db, err := store.Open(database)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	study, err := studies.Start(ctx, db, file, inputs)
	if err != nil {
		return err
	}
	_, err = study.Run(ctx, func(context.Context, studies.Loading) (evaluator.Evaluator, error) {
		analytic := study.Analytic().(*evaluator.Analytic)
		analytic.Delay = time.Second
		return analytic, nil
	}, studies.RunOptions{})
	return err
}

// proposalRun is one line of the output.
type proposalRun struct {
	Sampler   string  `json:"sampler"`
	Trials    int     `json:"trials"`
	Seconds   float64 `json:"seconds"`   // of the median of some proposals
	Processor float64 `json:"processor"` // seconds of a processor, of that one's kin
}

// asks is how many proposals are timed.
const asks = 5

func (b bench) proposals(counts []int) error {
	path, err := b.study("proposals", "tpe", 10)
	if err != nil {
		return err
	}
	file, err := config.Read(path)
	if err != nil {
		return err
	}
	inputs, err := file.Open()
	if err != nil {
		return err
	}
	smallest, largest := inputs.Space.ParamRange()
	reference := search.Reference{Chance: 0.5, MinParams: smallest, MaxParams: largest}
	for _, n := range counts {
		random, err := search.NewOptimizer(inputs.Space, search.Options{Seed: 1, Sampler: "random", Initial: n,
			Reference: reference})
		if err != nil {
			return err
		}
		history, err := search.NewHistory(inputs.Space, nil)
		if err != nil {
			return err
		}
		rng := rand.New(rand.NewPCG(1, 2))
		for number := range int64(n) {
			s, err := random.Ask(history, number)
			if err != nil {
				return err
			}
			params := inputs.Space.Params(s.Point)
			score := 0.5 + 0.4*float64(params)/float64(largest) + 0.05*rng.NormFloat64()
			if err := history.Set(search.Observation{Number: number, Point: s.Point, Params: params, State: search.Complete,
				Score: score}); err != nil {
				return err
			}
		}
		for _, sampler := range b.samplers {
			optimizer, err := search.NewOptimizer(inputs.Space, search.Options{Seed: 1, Sampler: sampler, Initial: 1,
				Reference: reference})
			if err != nil {
				return err
			}
			var times, used []float64
			for i := range int64(asks) {
				start, before := time.Now(), processorSeconds()
				if _, err := optimizer.Ask(history, int64(n)+i); err != nil {
					return err
				}
				times, used = append(times, time.Since(start).Seconds()), append(used, processorSeconds()-before)
			}
			if err := json.NewEncoder(os.Stdout).Encode(proposalRun{sampler, n, median(times), median(used)}); err != nil {
				return err
			}
		}
	}
	return nil
}

// processorSeconds is what this process has used of the processors.
func processorSeconds() float64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err) // its arguments are right
	}
	return float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1e9
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}
