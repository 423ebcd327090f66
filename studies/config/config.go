// Package config reads the study file ([Config]): its keys, their defaults, and the mistakes in it with
// their places.
package config

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"peftsearch/data"
	"peftsearch/data/checkpoint"
	"peftsearch/data/metric"
	"peftsearch/data/tokenizer"
	"peftsearch/evaluator"
	"peftsearch/peft"
	"peftsearch/search"
	"peftsearch/space"
)

// Config is a study file. The tags are the single source of its keys: yaml names a key, doc says what
// it means, default is its value when it is left out (a key without one is required; one in words is
// filled in later). Template and documentation are generated from them.
type Config struct {
	Study     string          `yaml:"study" doc:"name of the study, unique in its database"`
	Model     ModelConfig     `yaml:"model" doc:"the pretrained model"`
	Task      TaskConfig      `yaml:"task" doc:"the labelled data and how it is scored"`
	Space     space.Config    `yaml:"space" doc:"what the search may choose; see also training"`
	Training  TrainingConfig  `yaml:"training" doc:"how every plan is trained"`
	Budget    BudgetConfig    `yaml:"budget" doc:"how much is trained"`
	Search    SearchConfig    `yaml:"search" doc:"how plans are proposed"`
	Evaluator EvaluatorConfig `yaml:"evaluator" doc:"where and how trials run; does not change their meaning"`
	Baselines []string        `yaml:"baselines" default:"[head]" doc:"plans from the literature that run first: head (only the head), lora-r8, pfeiffer-16, parallel-16, prefix-30, mam"`

	path string // of the file
	file *document
}

// ModelConfig is the section model.
type ModelConfig struct {
	Path string         `yaml:"path" doc:"Hugging Face directory: config.json, model.safetensors, tokenizer; relative to this file"`
	Head evaluator.Head `yaml:"head" default:"linear" doc:"what is put on the first token: linear, or dense (dense, tanh, linear)"`
}

// TaskConfig is the section task.
type TaskConfig struct {
	Kind        data.Kind   `yaml:"kind" doc:"classification or regression"`
	Metric      metric.Name `yaml:"metric" default:"accuracy, or spearman for regression" doc:"the score: accuracy, f1, f1_macro, mcc; spearman, pearson"`
	Train       string      `yaml:"train" doc:"training rows: a .tsv, .csv or .jsonl file, relative to this file"`
	Dev         string      `yaml:"dev" default:"carved out of train" doc:"rows that trials are scored on"`
	Test        string      `yaml:"test" default:"carved out of train" doc:"rows for the last word: train and confirm report them, the search never sees them"`
	Columns     Columns     `yaml:"columns" doc:"where the fields stand: a name of the header, or \"#1\" for the first column of a file without one"`
	TestColumns Columns     `yaml:"test_columns" default:"columns" doc:"the same for a test file with other columns"`
	Labels      []string    `yaml:"labels" default:"those of the training rows, sorted" doc:"classes in the order of the outputs"`
	DevShare    float64     `yaml:"dev_share" default:"0.1" doc:"share of train that becomes dev when there is no file"`
	TestShare   float64     `yaml:"test_share" default:"0.1" doc:"share of train that becomes test when there is no file"`
	SplitSeed   uint64      `yaml:"split_seed" default:"0" doc:"seed of the carving"`
	MaxLength   int         `yaml:"max_length" default:"128" doc:"longest input in tokens; the longer sentence of a pair is cut first"`
}

// Columns is a column mapping in the study file.
type Columns struct {
	Text     string `yaml:"text" default:"" doc:"the sentence, or the first of a pair"`
	TextPair string `yaml:"text_pair" default:"" doc:"the second sentence of a pair"`
	Label    string `yaml:"label" default:"" doc:"the class or the number"`
}

// TrainingConfig is the section training.
type TrainingConfig struct {
	LearningRate float64            `yaml:"learning_rate" default:"1e-3" doc:"peak learning rate of AdamW, unless space.learning_rate searches it"`
	Schedule     evaluator.Schedule `yaml:"schedule" default:"linear" doc:"linear or cosine to 0, or constant"`
	WarmupRatio  float64            `yaml:"warmup_ratio" default:"0.1" doc:"share of the steps in which the rate rises"`
	WeightDecay  float64            `yaml:"weight_decay" default:"0" doc:"decoupled weight decay, not on biases"`
	BatchSize    int                `yaml:"batch_size" default:"32" doc:"examples per step"`
	MaxGradNorm  float64            `yaml:"max_grad_norm" default:"1" doc:"longer gradients are scaled down to this norm; 0 never"`
	PrefixMLP    int                `yaml:"prefix_mlp" default:"0" doc:"width of an MLP that generates the prefixes in training; 0 trains them directly"`
	Dropout      float64            `yaml:"dropout" default:"0" doc:"dropout inside the frozen backbone; 0 is faster"`
}

// BudgetConfig is the section budget.
type BudgetConfig struct {
	Trials      int       `yaml:"trials" default:"100" doc:"trials of the study, baselines included; raise it to continue a finished study"`
	Epochs      float64   `yaml:"epochs" default:"3" doc:"passes over the training rows in a trial; 0.5 is half of one"`
	TrainRows   int       `yaml:"train_rows" default:"0" doc:"train on a fixed random subset of so many rows; 0 is all"`
	Rungs       []float64 `yaml:"rungs" default:"[0.25, 0.5, 0.75, 1]" doc:"when a trial is scored on dev, as shares of its budget, ending in 1; the best counts"`
	Patience    int       `yaml:"patience" default:"0" doc:"stop a trial after so many rungs without a better score; 0 never"`
	MaxFailures float64   `yaml:"max_failures" default:"0.3" doc:"stop the search when more than this share of the trials failed (from the fifth trial on)"`
	Train       Full      `yaml:"train" doc:"the budget of peftsearch train, which trains one plan in full"`
}

// Full is the section budget.train.
type Full struct {
	Epochs   float64 `yaml:"epochs" default:"10" doc:"most passes over all training rows"`
	Patience int     `yaml:"patience" default:"3" doc:"stop after so many epochs without a better dev score; 0 never"`
}

// SearchConfig is the section search.
type SearchConfig struct {
	Sampler string `yaml:"sampler" default:"auto" doc:"auto, gp, tpe, nsga2, random, or tpe-univariate: the best score alone, within space.max_params"`
	Pruner  string `yaml:"pruner" default:"none" doc:"none, or front: stop a trial at a rung when its predicted final score can hardly enter the front at its own size"`
	Seed    uint64 `yaml:"seed" default:"0" doc:"everything random follows from it; the same seed gives the same search with one worker"`
	Initial int    `yaml:"initial" default:"0" doc:"trials of the cost-stratified start; 0 chooses by the size of the space"`
}

// EvaluatorConfig is the section evaluator.
type EvaluatorConfig struct {
	Workers     Workers  `yaml:"workers" default:"1" doc:"trials that run at the same time, each in a process of its own; auto measures what is fastest here"`
	Threads     int      `yaml:"threads" default:"0" doc:"threads of each worker; 0 shares the cores among the workers"`
	Device      string   `yaml:"device" default:"cpu" doc:"cpu, cuda or cuda:N"`
	Precision   string   `yaml:"precision" default:"auto" doc:"of frozen weights and activations: float32, bfloat16, or auto (bfloat16 where it is fast)"`
	CacheMemory float64  `yaml:"cache_memory" default:"1" doc:"GiB in each worker for what frozen layers compute, so that it is computed once"`
	CacheDisk   float64  `yaml:"cache_disk" default:"4" doc:"GiB of files for what does not fit in cache_memory, in the user's cache directory, for all studies together; 0 writes none"`
	Command     []string `yaml:"command" default:"[]" doc:"another program that speaks the worker protocol, with its arguments, started in the directory of this file; empty is peftsearch-worker"`
	Stall       float64  `yaml:"stall" default:"30" doc:"minutes in which a worker must give a sign of life while it loads or trains; a silent one is ended and its trial has failed; 0 waits for ever"`
	Analytic    bool     `yaml:"analytic" default:"false" doc:"score plans by a formula instead of training, to try the commands"`
}

// Workers is the value of evaluator.workers.
type Workers int

// AutoWorkers stands for a number that is measured before it is used.
const AutoWorkers Workers = 0

// UnmarshalYAML reads a number or the word auto.
func (w *Workers) UnmarshalYAML(unmarshal func(any) error) error {
	var word string
	if err := unmarshal(&word); err == nil && word == "auto" {
		*w = AutoWorkers
		return nil
	}
	var n int
	if err := unmarshal(&n); err != nil || n < 1 {
		return errors.New("must be auto or a number of at least 1")
	}
	*w = Workers(n)
	return nil
}

// The values of search.pruner.
const (
	PrunerNone  = "none"
	PrunerFront = "front"
)

// Read reads a study file. The error joins one *Error for every mistake in it.
func Read(path string) (*Config, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, &Error{File: path, Message: fileProblem(err), Hint: "peftsearch init writes a study file to start from"}
	}
	c, err := Parse(path, content)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// Parse reads a study file's content; path locates it for messages and relative paths.
func Parse(path string, content []byte) (*Config, error) {
	c := &Config{path: path}
	var errs []error
	c.file, errs = decodeDocument(path, content, c)
	if c.file != nil {
		errs = append(errs, c.validate()...)
	}
	if len(errs) > 0 {
		slices.SortStableFunc(errs, byPosition)
		return nil, errors.Join(errs...)
	}
	return c, nil
}

func fileProblem(err error) string {
	if errors.Is(err, fs.ErrNotExist) {
		return "there is no such file"
	}
	return err.Error()
}

// validate checks what can be checked without opening the model and the data.
func (c *Config) validate() []error {
	var errs []error
	fail := func(key, hint, format string, args ...any) {
		errs = append(errs, c.file.errorAt(key, hint, key+" "+format, args...))
	}
	oneOf := func(key string, value string, allowed ...string) {
		if !slices.Contains(allowed, value) {
			fail(key, nearest(value, allowed), "%q: must be one of %s", value, strings.Join(allowed, ", "))
		}
	}
	within := func(key string, value, low, high float64) {
		if !(value >= low && value <= high) {
			fail(key, "", "%g: must be between %g and %g", value, low, high)
		}
	}
	if strings.ContainsAny(c.Study, "/\n") {
		fail("study", "", "%q: a name has no slash and no line break", c.Study)
	}
	oneOf("model.head", string(c.Model.Head), string(evaluator.HeadLinear), string(evaluator.HeadDense))
	if c.Task.Metric == "" && data.Metrics[c.Task.Kind] != nil {
		c.Task.Metric = data.Metrics[c.Task.Kind][0]
	}
	if !c.file.failed("task") {
		if err := c.task().Validate(); err != nil {
			for _, problem := range flatten(err) {
				key, _, _ := strings.Cut(problem.Error(), " ")
				errs = append(errs, c.file.errorAt("task."+strings.TrimSuffix(key, ":"), "", "%v", problem))
			}
		}
	}
	t := c.Training
	within("training.learning_rate", t.LearningRate, 1e-12, 1)
	oneOf("training.schedule", string(t.Schedule), labels(evaluator.Schedules)...)
	within("training.warmup_ratio", t.WarmupRatio, 0, 1)
	within("training.weight_decay", t.WeightDecay, 0, 1)
	within("training.batch_size", float64(t.BatchSize), 1, 1<<16)
	within("training.max_grad_norm", t.MaxGradNorm, 0, 1e9)
	within("training.prefix_mlp", float64(t.PrefixMLP), 0, 1<<16)
	within("training.dropout", t.Dropout, 0, 0.9)
	b := c.Budget
	within("budget.trials", float64(b.Trials), 1, 1e7)
	within("budget.epochs", b.Epochs, 1e-6, 1e6)
	within("budget.train_rows", float64(b.TrainRows), 0, 1e12)
	if n := len(b.Rungs); n == 0 || b.Rungs[n-1] != 1 || b.Rungs[0] <= 0 || !slices.IsSorted(b.Rungs) {
		fail("budget.rungs", "", "%v: must be ascending shares above 0 that end in 1", b.Rungs)
	}
	within("budget.patience", float64(b.Patience), 0, 1e6)
	within("budget.max_failures", b.MaxFailures, 0, 1)
	within("budget.train.epochs", b.Train.Epochs, 1e-6, 1e6)
	within("budget.train.patience", float64(b.Train.Patience), 0, 1e6)
	oneOf("search.sampler", c.Search.Sampler, search.Samplers()...)
	oneOf("search.pruner", c.Search.Pruner, PrunerNone, PrunerFront)
	within("search.initial", float64(c.Search.Initial), 0, 1e6)
	e := c.Evaluator
	if e.Workers != AutoWorkers {
		within("evaluator.workers", float64(e.Workers), 1, 1024)
	} else if e.Device != "cpu" {
		fail("evaluator.workers", "give a number", "auto: measures workers on the CPU, evaluator.device is %s", e.Device)
	}
	within("evaluator.threads", float64(e.Threads), 0, 1024)
	oneOf("evaluator.precision", e.Precision, "auto", "float32", "bfloat16")
	within("evaluator.cache_memory", e.CacheMemory, 0, 1<<20)
	within("evaluator.cache_disk", e.CacheDisk, 0, 1<<20)
	within("evaluator.stall", e.Stall, 0, 1e6)
	if e.Analytic && len(e.Command) > 0 {
		fail("evaluator.analytic", "", "and evaluator.command exclude each other")
	}
	for i, name := range c.Baselines {
		if !slices.Contains(peft.Presets(), name) {
			fail("baselines", nearest(name, peft.Presets()), "%q: must be one of %s", name, strings.Join(peft.Presets(), ", "))
		} else if slices.Contains(c.Baselines[:i], name) {
			fail("baselines", "", "%q stands twice", name)
		}
	}
	return errs
}

// flatten lists the parts of a joined error.
func flatten(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return []error{err}
}

func labels[T ~string](values []T) []string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = string(v)
	}
	return out
}

// File is the absolute path of the study file.
func (c *Config) File() string { return c.resolve(filepath.Base(c.path)) }

// Text is the content of the study file.
func (c *Config) Text() string { return strings.Join(c.file.lines, "\n") }

// resolve makes a path of the study file absolute.
func (c *Config) resolve(path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	absolute, err := filepath.Abs(filepath.Join(filepath.Dir(c.path), path))
	if err != nil {
		return filepath.Join(filepath.Dir(c.path), path)
	}
	return absolute
}

// task is the section task for package data.
func (c *Config) task() data.Task {
	t := c.Task
	return data.Task{Kind: t.Kind, Metric: t.Metric, Train: c.resolve(t.Train), Dev: c.resolve(t.Dev), Test: c.resolve(t.Test),
		Columns: data.Columns(t.Columns), TestColumns: data.Columns(t.TestColumns), Labels: t.Labels,
		DevShare: t.DevShare, TestShare: t.TestShare, SplitSeed: t.SplitSeed, MaxLength: t.MaxLength}
}

func (c *Config) training() evaluator.Training {
	t := c.Training
	return evaluator.Training{LearningRate: t.LearningRate, Schedule: t.Schedule, WarmupRatio: t.WarmupRatio,
		WeightDecay: t.WeightDecay, BatchSize: t.BatchSize, MaxGradNorm: t.MaxGradNorm, PrefixMLP: t.PrefixMLP, Dropout: t.Dropout}
}

// TrialBudget is the budget of a trial.
func (c *Config) TrialBudget() evaluator.Budget {
	b := c.Budget
	return evaluator.Budget{Epochs: b.Epochs, TrainRows: b.TrainRows, Rungs: b.Rungs, Patience: b.Patience}
}

// FullBudget is the budget of full training: all rows, a rung after every epoch.
func (c *Config) FullBudget() evaluator.Budget {
	full := c.Budget.Train
	budget := evaluator.Budget{Epochs: full.Epochs, Patience: full.Patience}
	for epoch := 1.0; epoch < full.Epochs; epoch++ {
		budget.Rungs = append(budget.Rungs, epoch/full.Epochs)
	}
	budget.Rungs = append(budget.Rungs, 1)
	return budget
}

// TrialSeconds estimates what a trial takes on two cores, from the study file and its rows alone; 0 if it cannot be told.
// A step takes the forward pass through the frozen layers and the way back to their inputs, 2 operations each for every
// weight and token.
func (c *Config) TrialSeconds(in *Inputs) float64 {
	const (
		operations   = 1e11 // in a second
		bytesOfToken = 4.5  // of English text
	)
	switch {
	case c.Evaluator.Analytic:
		return 1e-3
	case len(c.Evaluator.Command) > 0:
		return 0
	}
	tokens := func(examples []data.Example) float64 {
		total := 0.0
		for _, e := range examples {
			total += min(float64(len(e.Text)+len(e.TextPair))/bytesOfToken, float64(c.Task.MaxLength))
		}
		return total
	}
	trained := tokens(in.Dataset.Train) * c.Budget.Epochs
	if rows := c.Budget.TrainRows; rows > 0 && rows < len(in.Dataset.Train) {
		trained *= float64(rows) / float64(len(in.Dataset.Train))
	}
	scored := tokens(in.Dataset.Dev) * float64(len(c.Budget.Rungs))
	g := in.Geometry
	weights := float64(g.Layers) * float64(4*g.Hidden*g.Hidden+2*g.Hidden*g.FFN)
	return weights * (4*trained + 2*scored) / operations
}

// Inputs is what a study file names, opened.
type Inputs struct {
	Model       string // directory
	Geometry    peft.Geometry
	Fingerprint evaluator.Fingerprint
	Dataset     *data.Dataset
	Splits      evaluator.Splits // rows that are trained and scored on
	Space       *space.Space
	Training    evaluator.Training // of plans outside the space; the space may search some of it
}

// Expect is what a worker with these inputs must have loaded.
func (in *Inputs) Expect() evaluator.Expect {
	return evaluator.Expect{Geometry: in.Geometry, Fingerprint: in.Fingerprint}
}

// Open opens the model, the data and the space. It reads all of them, and trains nothing. The error
// joins every problem.
func (c *Config) Open() (*Inputs, error) { return c.OpenLoaded(evaluator.Ready{}) }

// OpenLoaded is Open for the worker of evaluator.command: what it says that it has loaded replaces what the
// files say, so that it may know models that this program cannot read.
func (c *Config) OpenLoaded(ready evaluator.Ready) (*Inputs, error) {
	in := &Inputs{Model: c.resolve(c.Model.Path), Training: c.training()}
	var errs []error
	if err := c.openModel(in, ready); err != nil {
		errs = append(errs, c.file.errorAt("model.path", "", "%v", err))
	} else if in.Space, err = space.New(c.Space, in.Training, in.Geometry); err != nil {
		for _, problem := range flatten(err) {
			var key *space.KeyError
			if errors.As(problem, &key) {
				errs = append(errs, c.file.errorAt(key.Key, "", "%s", key.Message))
			} else {
				errs = append(errs, problem)
			}
		}
	}
	var err error
	if in.Dataset, err = data.Load(c.task()); err != nil {
		errs = append(errs, c.file.errorAt("task", "", "%v", err))
	} else {
		d := in.Dataset
		in.Fingerprint.Data = cmp.Or(ready.Fingerprint.Data, d.Fingerprint)
		in.Splits = cmp.Or(ready.Splits, evaluator.Splits{Train: evaluator.Split{Rows: len(d.Train)},
			Dev: evaluator.Split{Rows: len(d.Dev)}, Test: evaluator.Split{Rows: len(d.Test)}})
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return in, nil
}

func (c *Config) openModel(in *Inputs, ready evaluator.Ready) (err error) {
	if ready.Geometry != (peft.Geometry{}) {
		in.Geometry, in.Fingerprint.Model = ready.Geometry, ready.Fingerprint.Model
		return nil
	}
	checkpoint, err := checkpoint.Open(in.Model)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, checkpoint.Close()) }()
	if limit := checkpoint.Config.MaxLength(); c.Task.MaxLength > limit {
		return fmt.Errorf("task.max_length is %d, the model reads at most %d tokens", c.Task.MaxLength, limit)
	}
	if _, err := tokenizer.Load(in.Model); err != nil {
		return err
	}
	in.Geometry = peft.GeometryOf(checkpoint)
	in.Fingerprint.Model, err = checkpoint.Fingerprint()
	return err
}

// Stall is evaluator.stall.
func (c *Config) Stall() time.Duration {
	return time.Duration(c.Evaluator.Stall * float64(time.Minute))
}

// Dir is the directory of the file.
func (c *Config) Dir() string { return filepath.Dir(c.File()) }

// Hello is the greeting for a worker of this study; cores are shared among the workers unless threads
// are given.
func (c *Config) Hello(cores int) evaluator.Hello {
	e := c.Evaluator
	threads := e.Threads
	if threads == 0 {
		threads = max(1, cores/max(1, int(e.Workers)))
	}
	gib := func(n float64) int64 { return int64(n * (1 << 30)) }
	return evaluator.Hello{Model: c.resolve(c.Model.Path), Head: c.Model.Head, Task: c.task(), Settings: evaluator.Settings{
		Device: e.Device, Precision: e.Precision, Threads: threads, CacheMemory: gib(e.CacheMemory), CacheDisk: gib(e.CacheDisk)}}
}
