package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"peftsearch/evaluator"
	"peftsearch/peft"
	"peftsearch/search"
	"peftsearch/space"
	"peftsearch/studies/config"
)

// Table is the first line of a record: all that its trials share.
type Table struct {
	Study       string                `json:"study"`
	Metric      string                `json:"metric"`
	Sampler     string                `json:"sampler"` // that drew the plans
	Seed        uint64                `json:"seed"`    // of the sampler
	Geometry    peft.Geometry         `json:"geometry"`
	Dimensions  []Dimension           `json:"dimensions"`
	Reference   search.Reference      `json:"reference"`
	Fingerprint evaluator.Fingerprint `json:"fingerprint"` // of model and rows
	Training    evaluator.Training    `json:"training"`
	Version     int                   `json:"training_version"` // evaluator.TrainingVersion, 0 in records of version 1
	Budget      evaluator.Budget      `json:"budget"`
}

// Dimension is one coordinate of the points.
type Dimension struct {
	Name   string   `json:"name"`
	Levels []string `json:"levels"`
}

// space is the one that the points are in.
func (t Table) space() (*space.Space, error) {
	s, err := space.New(space.Config{}, t.Training, t.Geometry)
	if err != nil {
		return nil, err
	}
	var dimensions []Dimension
	for _, d := range s.Dimensions() {
		dimensions = append(dimensions, Dimension{d.Name, d.Levels})
	}
	if !reflect.DeepEqual(dimensions, t.Dimensions) {
		return nil, errors.New("its plans are not of the default space")
	}
	return s, nil
}

// Trial is every further line: one training of one plan with the whole budget.
type Trial struct {
	Plan    int                `json:"plan"` // number of the plan
	Seed    uint64             `json:"seed"` // of the training
	Point   space.Point        `json:"point"`
	Params  int64              `json:"params"`
	Curve   []float64          `json:"curve,omitempty"` // dev score at each rung
	Score   float64            `json:"score"`           // best of them
	Dev     map[string]float64 `json:"dev,omitempty"`   // every metric at the best rung
	WallS   float64            `json:"wall_s"`
	Failure *evaluator.Failure `json:"failure,omitempty"` // of a training that gave no score
}

// replicates is with how many seeds a plan is trained: a quarter of them, of all sizes, with two (the sizes of
// the stratified draw have a period of powers of two).
func replicates(plan int) int {
	if plan%32 < 8 {
		return 2
	}
	return 1
}

// seedOf is the training seed of a plan's replicate.
func seedOf(plan, replicate int) uint64 { return uint64(2*plan + replicate) }

// recorder appends to a record.
type recorder struct {
	config  *config.Config
	inputs  *config.Inputs
	table   Table
	trials  []Trial
	plain   string // file
	file    *os.File
	seconds float64 // of the trainings of this run
	trained int     // in this run
}

// newRecorder opens the record of a study, STUDY.jsonl.gz beside its study file, or another of its trainings.
// While it is open the record is plain, a line for each training; close compresses it.
func newRecorder(path, suffix string) (*recorder, error) {
	file, err := config.Read(path)
	if err != nil {
		return nil, err
	}
	inputs, err := file.Open()
	if err != nil {
		return nil, err
	}
	smallest, largest := inputs.Space.ParamRange()
	r := &recorder{config: file, inputs: inputs, table: Table{Study: file.Study, Metric: string(file.Task.Metric),
		Sampler: file.Search.Sampler, Seed: file.Search.Seed, Geometry: inputs.Geometry,
		Reference:   search.Reference{Chance: inputs.Dataset.Chance(), MinParams: smallest, MaxParams: largest},
		Fingerprint: inputs.Fingerprint, Training: inputs.Training, Version: evaluator.TrainingVersion,
		Budget: file.TrialBudget()}}
	for _, d := range inputs.Space.Dimensions() {
		r.table.Dimensions = append(r.table.Dimensions, Dimension{d.Name, d.Levels})
	}
	return r, r.open(strings.TrimSuffix(path, filepath.Ext(path)) + suffix + ".jsonl")
}

// train has a worker train the missing ones of so many trainings.
func (r *recorder) train(ctx context.Context, worker string, trainings int,
	missing iter.Seq2[Trial, error]) (err error) {
	defer func() { err = errors.Join(err, r.close()) }()
	process, err := evaluator.NewProcess(ctx, evaluator.ProcessOptions{Command: []string{worker}, Hello: r.config.Hello(1),
		Expect: r.config.Expect(r.inputs)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, process.Close()) }()
	for trial, err := range missing {
		if err != nil {
			return err
		}
		if trial, err = r.evaluate(ctx, process, trial); err != nil {
			return err
		}
		if err := r.append(trial); err != nil {
			return err
		}
		r.progress(trial, trainings)
	}
	return nil
}

// record trains plans of a study until so many are in its record, which it continues if there is one.
func record(ctx context.Context, path string, plans int, worker string) error {
	r, err := newRecorder(path, "")
	if err != nil {
		return err
	}
	optimizer, err := search.NewOptimizer(r.inputs.Space, search.Options{Seed: r.config.Search.Seed,
		Sampler: r.config.Search.Sampler,
		Initial: r.config.Search.Initial, Reference: r.table.Reference})
	if err != nil {
		return err
	}
	trainings := 0
	for plan := range plans {
		trainings += replicates(plan)
	}
	return r.train(ctx, worker, trainings, func(yield func(Trial, error) bool) {
		done := r.done()
		for plan := range plans {
			var known []search.Observation
			for _, t := range r.trials {
				if t.Seed == seedOf(t.Plan, 0) {
					known = append(known, r.observation(t))
				}
			}
			var point space.Point
			if plan < len(known) {
				point = known[plan].Point
			} else {
				history, err := search.NewHistory(r.inputs.Space, known)
				if err != nil {
					yield(Trial{}, err)
					return
				}
				suggestion, err := optimizer.Ask(history, int64(plan))
				if err != nil {
					yield(Trial{}, err)
					return
				}
				point = suggestion.Point
			}
			for replicate := range replicates(plan) {
				seed := seedOf(plan, replicate)
				if !done[seed] && !yield(Trial{Plan: plan, Seed: seed, Point: point}, nil) {
					return
				}
			}
		}
	})
}

const (
	retrained   = "-retrained" // ends the name of the record of the plans that were trained anew
	retrainings = 3            // of such a plan
)

// retrain trains anew, with seeds of their own, the plans on the fronts that replays of a record end with.
func retrain(ctx context.Context, path, worker string) error {
	table, trials, err := readRecord(strings.TrimSuffix(path, filepath.Ext(path)) + ".jsonl.gz")
	if err != nil {
		return err
	}
	points := map[int]space.Point{}
	for _, t := range trials {
		points[t.Plan] = t.Point
	}
	plans, err := finalists(table, trials)
	if err != nil {
		return err
	}
	r, err := newRecorder(path, retrained)
	if err != nil {
		return err
	}
	done := r.done()
	var missing []Trial
	for training := range uint64(retrainings) {
		for _, plan := range plans {
			if seed := (training+1)<<32 + uint64(plan); !done[seed] {
				missing = append(missing, Trial{Plan: plan, Seed: seed, Point: points[plan]})
			}
		}
	}
	return r.train(ctx, worker, len(r.trials)+len(missing), func(yield func(Trial, error) bool) {
		for _, trial := range missing {
			if !yield(trial, nil) {
				return
			}
		}
	})
}

// done has the seeds of the trainings that are recorded.
func (r *recorder) done() map[uint64]bool {
	seeds := map[uint64]bool{}
	for _, t := range r.trials {
		seeds[t.Seed] = true
	}
	return seeds
}

func (r *recorder) observation(t Trial) search.Observation {
	o := search.Observation{Number: int64(t.Plan), Point: t.Point, Params: t.Params, State: search.Complete,
		Score: t.Score}
	if t.Failure != nil {
		o.State = search.Failed
	}
	return o
}

// evaluate trains one plan. A failure is an outcome, unless the worker ended.
func (r *recorder) evaluate(ctx context.Context, process *evaluator.Process, t Trial) (Trial, error) {
	s := r.inputs.Space
	candidate, err := s.Candidate(t.Point)
	if err != nil {
		return t, err
	}
	t.Params = s.Params(t.Point)
	job := evaluator.Job{Trial: int64(t.Seed), Candidate: candidate, Seed: t.Seed, Budget: r.table.Budget}
	start := time.Now()
	result, err := process.Evaluate(ctx, job, func(p evaluator.Progress) evaluator.Verdict {
		if p.Score != nil {
			t.Curve = append(t.Curve, round(*p.Score))
		}
		return evaluator.Verdict{}
	})
	if errors.As(err, &t.Failure) && t.Failure.Kind != evaluator.FailureCrashed {
		t.WallS = round(time.Since(start).Seconds())
		return t, nil
	}
	if err != nil {
		return t, err
	}
	t.Score, t.WallS, t.Dev = round(result.Score), round(result.WallS), result.Dev
	for name, value := range t.Dev {
		t.Dev[name] = round(value)
	}
	return t, nil
}

func round(value float64) float64 { return math.Round(value*1e6) / 1e6 }

// progress says how far the record is.
func (r *recorder) progress(t Trial, total int) {
	r.trained++
	r.seconds += t.WallS
	left := time.Duration(r.seconds / float64(r.trained) * float64(total-len(r.trials)) * float64(time.Second))
	fmt.Fprintf(os.Stderr, "%s  %d of %d  %d parameters  %s %.4f  %.1f s  %s left\n", r.table.Study, len(r.trials), total,
		t.Params, r.table.Metric, t.Score, t.WallS, left.Round(time.Minute))
}

// open reads the record and makes it ready to be continued; a line that was torn by an interruption goes.
func (r *recorder) open(plain string) error {
	r.plain = plain
	content, err := os.ReadFile(plain)
	if errors.Is(err, fs.ErrNotExist) {
		content, err = unpack(plain + ".gz")
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	content = content[:bytes.LastIndexByte(content, '\n')+1]
	if err := os.WriteFile(plain+".tmp", content, 0o644); err != nil {
		return err
	}
	if err := os.Rename(plain+".tmp", plain); err != nil {
		return err
	}
	if r.file, err = os.OpenFile(plain, os.O_APPEND|os.O_WRONLY, 0); err != nil {
		return err
	}
	header, err := json.Marshal(r.table)
	if err != nil {
		return err
	}
	if len(content) == 0 {
		_, err := r.file.Write(append(header, '\n'))
		return err
	}
	first, rest, _ := bytes.Cut(content, []byte("\n"))
	if !bytes.Equal(first, header) {
		return fmt.Errorf("%s holds trainings of another study file, model or data; move it away to record anew", plain)
	}
	r.trials, err = readTrials(bytes.NewReader(rest))
	return err
}

func (r *recorder) append(t Trial) error {
	line, err := json.Marshal(t)
	if err != nil {
		return err
	}
	r.trials = append(r.trials, t)
	_, err = r.file.Write(append(line, '\n'))
	return err
}

func readTrials(reader io.Reader) (trials []Trial, err error) {
	lines := bufio.NewScanner(reader)
	for lines.Scan() {
		var t Trial
		if err := json.Unmarshal(lines.Bytes(), &t); err != nil {
			return nil, fmt.Errorf("trial %d: %w", len(trials), err)
		}
		trials = append(trials, t)
	}
	return trials, lines.Err()
}

func unpack(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	reader, err := gzip.NewReader(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return io.ReadAll(reader)
}

// close replaces the plain record by the compressed one.
func (r *recorder) close() error {
	if err := r.file.Close(); err != nil {
		return err
	}
	content, err := os.ReadFile(r.plain)
	if err != nil {
		return err
	}
	var packed bytes.Buffer
	writer, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := writer.Write(content); err != nil {
		return err
	}
	if err := writer.Close(); err != nil {
		return err
	}
	if err := os.WriteFile(r.plain+".gz", packed.Bytes(), 0o644); err != nil {
		return err
	}
	return os.Remove(r.plain)
}
