package studies

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"peftsearch/data"
	"peftsearch/evaluator"
	"peftsearch/peft"
	"peftsearch/search"
	"peftsearch/space"
)

// Config is a study file. The tags are its documentation: yaml is the key, doc the meaning, default
// the value of a key that is left out (in parentheses if it is worked out later), example what the
// template shows for a key that must be given. A list that is left out is nil in its Go form until
// ReadConfig or package space gives it its default.
type Config struct {
	Study       string          `yaml:"study" example:"my-study" doc:"name of the study in the database: letters, digits, '.', '_' and '-'"`
	Model       ModelConfig     `yaml:"model" doc:"the pretrained model"`
	Task        TaskConfig      `yaml:"task" doc:"the data and how predictions are scored"`
	Space       space.Config    `yaml:"space" doc:"the plans to choose from"`
	Training    TrainingConfig  `yaml:"training" doc:"how every plan is trained (AdamW)"`
	Budget      BudgetConfig    `yaml:"budget" doc:"how much is trained"`
	Search      SearchConfig    `yaml:"search" doc:"how plans are proposed"`
	Evaluator   EvaluatorConfig `yaml:"evaluator" doc:"where and how trials run; may be changed while a study goes on"`
	Baselines   []string        `yaml:"baselines" default:"head" doc:"plans from the literature to run first: head (only the head is trained), lora-r8, pfeiffer-16, parallel-16, prefix-30, mam, full (fine-tuning of all weights)"`
	MaxFailures float64         `yaml:"max_failures" default:"0.3" doc:"stop when more than this share of the trials of a run has failed, 0 to 1; looked at from the fifth trial on"`

	source source
}

// ModelConfig is the section `model`.
type ModelConfig struct {
	Path string         `yaml:"path" example:"models/all-MiniLM-L6-v2" doc:"Hugging Face directory of a BERT or RoBERTa (config.json, model.safetensors, tokenizer files)"`
	Head evaluator.Head `yaml:"head" default:"linear" doc:"head on the first token: linear, or dense (dense, tanh, linear)"`
}

// TaskConfig is the section `task`.
type TaskConfig struct {
	Kind        data.Kind     `yaml:"kind" example:"classification" doc:"classification or regression"`
	Metric      data.Metric   `yaml:"metric" default:"(accuracy, or spearman for regression)" doc:"dev score that is maximised: accuracy, f1, f1_macro, mcc; pearson, spearman"`
	Train       string        `yaml:"train" example:"data/train.tsv" doc:"file with the training rows: .tsv, .csv or .jsonl"`
	Dev         string        `yaml:"dev" default:"" doc:"file with the dev rows, on which plans are compared; without one, dev_share of train"`
	Test        string        `yaml:"test" default:"" doc:"file with the test rows, which the search never sees; without one, test_share of train"`
	Columns     ColumnsConfig `yaml:"columns" doc:"columns by name, or #1, #2, … in files without a header"`
	TestColumns ColumnsConfig `yaml:"test_columns" optional:"true" doc:"columns of the test file, if they differ"`
	Labels      []string      `yaml:"labels" default:"(the sorted labels of the training rows)" doc:"class names in the order of the outputs"`
	DevShare    float64       `yaml:"dev_share" default:"0.1" doc:"share of train that becomes dev if there is no file, 0 to 0.5"`
	TestShare   float64       `yaml:"test_share" default:"0.1" doc:"share of train that becomes test if there is no file, 0 to 0.5"`
	SplitSeed   uint64        `yaml:"split_seed" default:"0" doc:"seed of these splits"`
	MaxLength   int           `yaml:"max_length" default:"128" doc:"longest input in tokens; longer ones are truncated"`
}

// ColumnsConfig maps the columns of a file.
type ColumnsConfig struct {
	Text     string `yaml:"text" example:"sentence" doc:"the text, or the first of two"`
	TextPair string `yaml:"text_pair" default:"" doc:"the second text; empty for single sentences"`
	Label    string `yaml:"label" example:"label" doc:"the label: a class name, or a number for regression"`
}

// TrainingConfig is the section `training`.
type TrainingConfig struct {
	LearningRate float64            `yaml:"learning_rate" default:"0.001" doc:"peak learning rate, above 0"`
	Schedule     evaluator.Schedule `yaml:"schedule" default:"linear" doc:"learning rate after the warm-up: linear, cosine, constant"`
	WarmupRatio  float64            `yaml:"warmup_ratio" default:"0.06" doc:"share of the steps with a rising learning rate, 0 to 1"`
	WeightDecay  float64            `yaml:"weight_decay" default:"0.01" doc:"decoupled weight decay, not on biases; 0 to 1"`
	BatchSize    int                `yaml:"batch_size" default:"32" doc:"examples per step"`
	MaxGradNorm  float64            `yaml:"max_grad_norm" default:"1" doc:"gradients are scaled down to this norm; 0 means never"`
	PrefixMLP    int                `yaml:"prefix_mlp" default:"0" doc:"width of an MLP that generates the prefixes in training; 0 trains them directly"`
	Dropout      float64            `yaml:"dropout" default:"0" doc:"dropout inside the frozen backbone, below 1"`
}

// BudgetConfig is the section `budget`.
type BudgetConfig struct {
	Trials    int64     `yaml:"trials" default:"50" doc:"trials of the study, baselines included; may be raised later to go on"`
	Epochs    float64   `yaml:"epochs" default:"3" doc:"passes over the training rows in one trial; 0.5 is half of them"`
	TrainRows int       `yaml:"train_rows" default:"0" doc:"train on a random subset of so many rows; 0 means all"`
	Rungs     []float64 `yaml:"rungs" default:"0.25, 0.5, 0.75, 1" doc:"dev evaluations of a trial, as ascending shares of its budget that end in 1"`
	Patience  int       `yaml:"patience" default:"0" doc:"end a trial after so many rungs without a better score; 0 means never"`
}

// SearchConfig is the section `search`.
type SearchConfig struct {
	Sampler string `yaml:"sampler" default:"auto" doc:"how plans are proposed: auto, gp, tpe, random"`
	Seed    uint64 `yaml:"seed" default:"0" doc:"seed of the whole study, below 2^53"`
	Initial int    `yaml:"initial" default:"0" doc:"trials of the cost-stratified start; 0 chooses by the size of the space"`
}

// EvaluatorConfig is the section `evaluator`.
type EvaluatorConfig struct {
	Workers     int      `yaml:"workers" default:"1" doc:"trials that run at the same time, each in its own process"`
	Device      string   `yaml:"device" default:"cpu" doc:"cpu, cuda or cuda:N"`
	Precision   string   `yaml:"precision" default:"auto" doc:"of frozen weights and activations: auto, float32, bfloat16"`
	Threads     int      `yaml:"threads" default:"0" doc:"threads of each worker; 0 divides the cores among the workers"`
	CacheMemory int64    `yaml:"cache_memory" default:"1024" doc:"MiB of each worker for hidden states of frozen layers; 0 keeps none"`
	Command     []string `yaml:"command" default:"(peftsearch-worker)" doc:"program and arguments of a trainer of your own that speaks the worker protocol"`
	Analytic    bool     `yaml:"analytic" default:"false" doc:"score plans by a formula instead of training, to try things out"`
}

// BaselineFull is the baseline that trains every weight of the backbone. The others are peft's presets.
const BaselineFull = "full"

// ReadConfig reads a study file. Relative paths in it are relative to its directory. Every mistake of
// the file is in the error, which is a ConfigErrors.
func ReadConfig(path string) (*Config, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("study file: %w", err)
	}
	return ParseConfig(path, content)
}

// ParseConfig is ReadConfig with the content of the file at path.
func ParseConfig(path string, content []byte) (*Config, error) {
	c := &Config{source: newSource(path, content)}
	setDefaults(c)
	c.source.decode(c)
	if c.source.syntax {
		return nil, c.source.errs
	}
	if c.Task.Metric == "" && len(data.Metrics[c.Task.Kind]) > 0 {
		c.Task.Metric = data.Metrics[c.Task.Kind][0]
	}
	if c.Budget.Rungs == nil {
		c.Budget.Rungs = []float64{0.25, 0.5, 0.75, 1}
	}
	if c.Baselines == nil {
		c.Baselines = []string{"head"}
	}
	c.validate()
	if len(c.source.errs) > 0 {
		return nil, c.source.sorted()
	}
	return c, nil
}

var (
	studyName  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)
	deviceName = regexp.MustCompile(`^(cpu|cuda(:[0-9]+)?)$`)
)

// validate reports mistakes in the values. Those of package space need the model and come later.
func (c *Config) validate() {
	check := func(ok bool, key, format string, args ...any) {
		if !ok {
			c.source.fail(key, fmt.Sprintf(format, args...))
		}
	}
	within := func(key string, value, low, high float64) {
		check(value >= low && value <= high, key, "%g: must be from %g to %g", value, low, high)
	}
	positive := func(key string, value, high float64) {
		check(value > 0 && value <= high, key, "%g: must be above 0 and at most %g", value, high)
	}

	if c.Study == "" {
		check(false, "study", "missing: give the study a name")
	} else {
		check(studyName.MatchString(c.Study), "study", "%q: must be letters, digits, '.', '_' and '-', at most 100", c.Study)
	}
	check(c.Model.Head == evaluator.HeadLinear || c.Model.Head == evaluator.HeadDense, "model.head", "%q: must be linear or dense", c.Model.Head)

	if c.Model.Path == "" {
		check(false, "model.path", "missing: name the directory of a Hugging Face checkpoint")
	} else if info, err := os.Stat(c.resolve(c.Model.Path)); err != nil || !info.IsDir() {
		check(false, "model.path", "%s is not a directory: download the checkpoint there, or correct the path", c.resolve(c.Model.Path))
	}
	c.validateTask()

	t := c.Training
	positive("training.learning_rate", t.LearningRate, 1)
	check(slices.Contains(evaluator.Schedules, t.Schedule), "training.schedule", "%q: must be one of %v", t.Schedule, evaluator.Schedules)
	within("training.warmup_ratio", t.WarmupRatio, 0, 1)
	within("training.weight_decay", t.WeightDecay, 0, 1)
	within("training.batch_size", float64(t.BatchSize), 1, 65536)
	within("training.max_grad_norm", t.MaxGradNorm, 0, 1e6)
	within("training.prefix_mlp", float64(t.PrefixMLP), 0, 65536)
	check(t.Dropout >= 0 && t.Dropout < 1, "training.dropout", "%g: must be from 0 to below 1", t.Dropout)

	b := c.Budget
	within("budget.trials", float64(b.Trials), 1, 1e6)
	positive("budget.epochs", b.Epochs, 1e4)
	within("budget.train_rows", float64(b.TrainRows), 0, math.MaxInt32)
	within("budget.patience", float64(b.Patience), 0, 1e6)
	ascending := len(b.Rungs) > 0 && b.Rungs[0] > 0 && b.Rungs[len(b.Rungs)-1] == 1
	for i := 1; i < len(b.Rungs); i++ {
		ascending = ascending && b.Rungs[i] > b.Rungs[i-1]
	}
	check(ascending, "budget.rungs", "%v: must be ascending shares above 0 that end in 1", b.Rungs)

	check(slices.Contains(search.Samplers(), c.Search.Sampler), "search.sampler", "%q: must be one of %v", c.Search.Sampler, search.Samplers())
	check(c.Search.Seed < maxSeed, "search.seed", "%d: must be below 2^53", c.Search.Seed)
	within("search.initial", float64(c.Search.Initial), 0, 1e6)

	e := c.Evaluator
	within("evaluator.workers", float64(e.Workers), 1, 1024)
	check(deviceName.MatchString(e.Device), "evaluator.device", "%q: must be cpu, cuda or cuda:N", e.Device)
	check(slices.Contains([]string{"auto", "float32", "bfloat16"}, e.Precision), "evaluator.precision", "%q: must be auto, float32 or bfloat16", e.Precision)
	within("evaluator.threads", float64(e.Threads), 0, 4096)
	within("evaluator.cache_memory", float64(e.CacheMemory), 0, 1<<30)

	known := append(peft.Presets(), BaselineFull)
	for i, name := range c.Baselines {
		check(slices.Contains(known, name), "baselines", "%q: must be one of %v", name, known)
		check(!slices.Contains(c.Baselines[:i], name), "baselines", "%q stands twice", name)
	}
	within("max_failures", c.MaxFailures, 0, 1)
}

func (c *Config) validateTask() {
	t := c.Task
	if t.Columns.Text == "" {
		c.source.fail("task.columns.text", "missing: name the column of the text")
	}
	if t.Columns.Label == "" {
		c.source.fail("task.columns.label", "missing: name the column of the label")
	}
	for _, file := range []struct{ key, path string }{{"task.train", t.Train}, {"task.dev", t.Dev}, {"task.test", t.Test}} {
		if file.path == "" {
			continue
		}
		switch info, err := os.Stat(c.resolve(file.path)); {
		case errors.Is(err, fs.ErrNotExist):
			c.source.fail(file.key, fmt.Sprintf("file %s does not exist", c.resolve(file.path)))
		case err != nil:
			c.source.fail(file.key, err.Error())
		case info.IsDir():
			c.source.fail(file.key, fmt.Sprintf("%s is a directory: name a .tsv, .csv or .jsonl file", c.resolve(file.path)))
		}
	}
	// Package data begins each message with the key.
	for _, err := range split(c.DataTask().Validate()) {
		key, _, _ := strings.Cut(err.Error(), " ")
		key = strings.TrimSuffix(key, ":")
		if key == "columns" { // reported above, column by column
			continue
		}
		message := strings.TrimSpace(strings.TrimPrefix(strings.TrimPrefix(err.Error(), key), ":"))
		c.source.fail("task."+key, message)
	}
}

// split takes apart what errors.Join has joined.
func split(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	if err == nil {
		return nil
	}
	return []error{err}
}

// located gives the mistakes that package space finds their places in the file.
func (c *Config) located(err error) error {
	var errs ConfigErrors
	for _, e := range split(err) {
		var mistake *space.KeyError
		if !errors.As(e, &mistake) {
			return err
		}
		errs = append(errs, c.source.at(mistake.Key, mistake.Message))
	}
	return errs
}

// resolve makes a path of the file relative to the process.
func (c *Config) resolve(path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(filepath.Dir(c.source.path), path)
}

// ModelDir is the checkpoint's directory.
func (c *Config) ModelDir() string { return c.resolve(c.Model.Path) }

// DataTask is the task in the form of package data, with resolved paths.
func (c *Config) DataTask() data.Task {
	t := c.Task
	return data.Task{
		Kind: t.Kind, Metric: t.Metric, Train: c.resolve(t.Train), Dev: c.resolve(t.Dev), Test: c.resolve(t.Test),
		Columns: data.Columns(t.Columns), TestColumns: data.Columns(t.TestColumns), Labels: t.Labels,
		DevShare: t.DevShare, TestShare: t.TestShare, SplitSeed: t.SplitSeed, MaxLength: t.MaxLength,
	}
}

// EvaluatorTraining is the section `training` in the form of package evaluator.
func (c *Config) EvaluatorTraining() evaluator.Training {
	t := c.Training
	return evaluator.Training{
		LearningRate: t.LearningRate, Schedule: t.Schedule, WarmupRatio: t.WarmupRatio, WeightDecay: t.WeightDecay,
		BatchSize: t.BatchSize, MaxGradNorm: t.MaxGradNorm, PrefixMLP: t.PrefixMLP, Dropout: t.Dropout,
	}
}

// EvaluatorBudget is the budget of one trial.
func (c *Config) EvaluatorBudget() evaluator.Budget {
	b := c.Budget
	return evaluator.Budget{Epochs: b.Epochs, TrainRows: b.TrainRows, Rungs: b.Rungs, Patience: b.Patience}
}

// Hello is what a worker of the study is told first.
func (c *Config) Hello() evaluator.Hello {
	e := c.Evaluator
	threads := cmp.Or(e.Threads, max(1, runtime.NumCPU()/e.Workers))
	return evaluator.Hello{Model: c.ModelDir(), Head: c.Model.Head, Task: c.DataTask(), Settings: evaluator.Settings{
		Device: e.Device, Precision: e.Precision, Threads: threads, CacheMemory: e.CacheMemory << 20,
	}}
}
