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
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"peftsearch/evaluator"
	"peftsearch/peft"
	"peftsearch/search"
	"peftsearch/space"
	"peftsearch/studies"
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
	Budget      evaluator.Budget      `json:"budget"`
}

// Dimension is one coordinate of the points.
type Dimension struct {
	Name   string   `json:"name"`
	Levels []string `json:"levels"`
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

// again reports whether a plan is trained with a second seed: a quarter of them, of all sizes (the sizes of
// the stratified draw have a period of powers of two).
func again(plan int) bool { return plan%32 < 8 }

// seedOf is the training seed of a plan's replicate.
func seedOf(plan, replicate int) uint64 { return uint64(2*plan + replicate) }

// recorder appends to a record.
type recorder struct {
	table   Table
	trials  []Trial
	file    *os.File
	seconds float64 // of the trainings of this run
	trained int     // in this run
}

// record trains plans of a study until so many are in its record beside the study file, which it continues
// if there is one. While it runs the record is plain, STUDY.jsonl, a line for each training; at the end it is
// compressed, STUDY.jsonl.gz.
func record(ctx context.Context, path string, plans int, worker string) (err error) {
	config, err := studies.ReadConfig(path)
	if err != nil {
		return err
	}
	inputs, err := config.Open()
	if err != nil {
		return err
	}
	smallest, largest := inputs.Space.ParamRange()
	r := &recorder{table: Table{Study: config.Study, Metric: string(config.Task.Metric),
		Sampler: config.Search.Sampler, Seed: config.Search.Seed, Geometry: inputs.Geometry,
		Reference:   search.Reference{Chance: inputs.Dataset.Chance(), MinParams: smallest, MaxParams: largest},
		Fingerprint: inputs.Fingerprint, Training: inputs.Training, Budget: config.TrialBudget()}}
	for _, d := range inputs.Space.Dimensions() {
		r.table.Dimensions = append(r.table.Dimensions, Dimension{d.Name, d.Levels})
	}
	optimizer, err := search.NewOptimizer(inputs.Space, search.Options{Seed: config.Search.Seed, Sampler: config.Search.Sampler,
		Initial: config.Search.Initial, Reference: r.table.Reference})
	if err != nil {
		return err
	}
	plain := strings.TrimSuffix(path, filepath.Ext(path)) + ".jsonl"
	if err := r.open(plain); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.file.Close()) }()
	if err := r.train(ctx, config, inputs, optimizer, plans, worker); err != nil {
		return err
	}
	return compress(plain)
}

// train trains what is missing, plan by plan.
func (r *recorder) train(ctx context.Context, config *studies.Config, inputs *studies.Inputs, optimizer *search.Optimizer, plans int, worker string) (err error) {
	process, err := evaluator.NewProcess(ctx, evaluator.ProcessOptions{Command: []string{worker}, Hello: config.Hello(1)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, process.Close()) }()
	done := map[uint64]bool{}
	var history []search.Observation
	for _, t := range r.trials {
		done[t.Seed] = true
		if t.Seed == seedOf(t.Plan, 0) {
			history = append(history, r.observation(t))
		}
	}
	for plan := range plans {
		var point space.Point
		if plan < len(history) {
			point = history[plan].Point
		} else {
			suggestion, err := optimizer.Ask(history, int64(plan))
			if err != nil {
				return err
			}
			point = suggestion.Point
		}
		for replicate := range 2 {
			seed := seedOf(plan, replicate)
			if done[seed] || replicate == 1 && !again(plan) {
				continue
			}
			trial, err := r.evaluate(ctx, process, inputs.Space, Trial{Plan: plan, Seed: seed, Point: point})
			if err != nil {
				return err
			}
			if err := r.append(trial); err != nil {
				return err
			}
			if replicate == 0 {
				history = append(history, r.observation(trial))
			}
			r.progress(trial, plans)
		}
	}
	return nil
}

func (r *recorder) observation(t Trial) search.Observation {
	o := search.Observation{Number: int64(t.Plan), Point: t.Point, Params: t.Params, State: search.Complete, Score: t.Score}
	if t.Failure != nil {
		o.State = search.Failed
	}
	return o
}

// evaluate trains one plan. A failure is an outcome, unless the worker ended.
func (r *recorder) evaluate(ctx context.Context, process *evaluator.Process, s *space.Space, t Trial) (Trial, error) {
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
func (r *recorder) progress(t Trial, plans int) {
	r.trained++
	r.seconds += t.WallS
	total := 0
	for plan := range plans {
		total++
		if again(plan) {
			total++
		}
	}
	left := time.Duration(r.seconds / float64(r.trained) * float64(total-len(r.trials)) * float64(time.Second))
	fmt.Fprintf(os.Stderr, "%s  %d of %d  %d parameters  %s %.4f  %.1f s  %s left\n", r.table.Study, len(r.trials), total,
		t.Params, r.table.Metric, t.Score, t.WallS, left.Round(time.Minute))
}

// open reads the record and makes it ready to be continued; a line that was torn by an interruption goes.
func (r *recorder) open(plain string) error {
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

// compress replaces the plain record by the compressed one.
func compress(plain string) error {
	content, err := os.ReadFile(plain)
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
	if err := os.WriteFile(plain+".gz", packed.Bytes(), 0o644); err != nil {
		return err
	}
	return os.Remove(plain)
}
