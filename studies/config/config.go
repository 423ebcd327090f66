// Package config reads the study file ([Config]): its keys, their defaults, and the mistakes in it with
// their places.
package config

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"

	"peftsearch/data"
	"peftsearch/data/files"
	"peftsearch/data/metric"
	"peftsearch/evaluator"
	"peftsearch/space"
)

// Config is a study file. The tags are the single source of its keys: yaml names a key, which docs
// explains, default is its value when it is left out (a key without one is required; one in words is
// filled in later). Template and documentation are generated from them. identity says whether a study's
// scores and proposals depend on the key (yes, contents, no; see keys.go). A key that is added later has
// in was the value that studies had before, unless that is the default.
type Config struct {
	Study     string          `yaml:"study" identity:"no"`
	Model     ModelConfig     `yaml:"model"`
	Task      TaskConfig      `yaml:"task"`
	Space     space.Config    `yaml:"space"`
	Training  TrainingConfig  `yaml:"training"`
	Budget    BudgetConfig    `yaml:"budget"`
	Search    SearchConfig    `yaml:"search"`
	Evaluator EvaluatorConfig `yaml:"evaluator" identity:"no"`
	Baselines []string        `yaml:"baselines" default:"[head]" identity:"no"`

	path string // of the file
	text string
	file *document
}

// ModelConfig is the section model.
type ModelConfig struct {
	Path string         `yaml:"path" identity:"contents"`
	Head evaluator.Head `yaml:"head" default:"linear"`
}

// TaskConfig is the section task.
type TaskConfig struct {
	Kind        data.Kind   `yaml:"kind"`
	Metric      metric.Name `yaml:"metric" default:"the kind's first"`
	Train       string      `yaml:"train" identity:"contents"`
	Dev         string      `yaml:"dev" default:"carved out of train" identity:"contents"`
	Test        string      `yaml:"test" default:"carved out of train" identity:"contents"`
	Columns     Columns     `yaml:"columns" identity:"contents"`
	TestColumns Columns     `yaml:"test_columns" default:"columns" identity:"contents"`
	Labels      []string    `yaml:"labels" default:"those of the training rows, sorted" identity:"contents"`
	DevShare    float64     `yaml:"dev_share" default:"0.1" identity:"contents"`
	TestShare   float64     `yaml:"test_share" default:"0.1" identity:"contents"`
	SplitSeed   uint64      `yaml:"split_seed" default:"0" identity:"contents"`
	Split       string      `yaml:"split" default:"stratified" was:"random" identity:"yes"`
	MaxLength   int         `yaml:"max_length" default:"128"`
	Template    string      `yaml:"template" default:"\"{text} {label}\"" was:"" identity:"yes"`
	Generation  Generation  `yaml:"generation" identity:"yes"`
}

// defaultTemplate is task.template of a text where the file has none.
const defaultTemplate = "{text} {label}"

// Generation is the section task.generation.
type Generation struct {
	MaxNewTokens      int                `yaml:"max_new_tokens" default:"32"`
	MinNewTokens      int                `yaml:"min_new_tokens" default:"0"`
	NumBeams          int                `yaml:"num_beams" default:"1"`
	LengthPenalty     float64            `yaml:"length_penalty" default:"1"`
	EarlyStopping     data.EarlyStopping `yaml:"early_stopping" default:"false"`
	NoRepeatNgramSize int                `yaml:"no_repeat_ngram_size" default:"0"`
}

// Columns is a column mapping in the study file.
type Columns struct {
	Text     string `yaml:"text" default:""`
	TextPair string `yaml:"text_pair" default:""`
	Label    string `yaml:"label" default:""`

	Labels      []string `yaml:"labels" default:"[]"`
	Question    string   `yaml:"question" default:""`
	Choices     []string `yaml:"choices" default:"[]"`
	ChoiceNames string   `yaml:"choice_names" default:""`
	Spans       []string `yaml:"spans" default:"[]"`
	Offsets     []string `yaml:"offsets" default:"[]"`
}

// TrainingConfig is the section training.
type TrainingConfig struct {
	LearningRate  Rate                    `yaml:"learning_rate" default:"auto"`
	Schedule      evaluator.Schedule      `yaml:"schedule" default:"linear"`
	WarmupRatio   float64                 `yaml:"warmup_ratio" default:"0.1"`
	WeightDecay   float64                 `yaml:"weight_decay" default:"0"`
	BatchSize     int                     `yaml:"batch_size" default:"32"`
	MaxGradNorm   float64                 `yaml:"max_grad_norm" default:"1"`
	PrefixMLP     int                     `yaml:"prefix_mlp" default:"0"`
	LoRAPlus      float64                 `yaml:"lora_plus" default:"0"`
	PromptInit    evaluator.PromptInit    `yaml:"prompt_init" default:""`
	PromptText    string                  `yaml:"prompt_text" default:""`
	PromptEncoder evaluator.PromptEncoder `yaml:"prompt_encoder" default:""`
	PromptWidth   int                     `yaml:"prompt_width" default:"0"`
	AdapterDrop   int                     `yaml:"adapter_drop" default:"0"`
	Dropout       float64                 `yaml:"dropout" default:"0"`
}

// BudgetConfig is the section budget.
type BudgetConfig struct {
	Trials      int       `yaml:"trials" default:"100" identity:"no"`
	Hours       float64   `yaml:"hours" default:"0" identity:"no"`
	Epochs      Epochs    `yaml:"epochs" default:"3"`
	TrainRows   int       `yaml:"train_rows" default:"0"`
	Rungs       []float64 `yaml:"rungs" default:"[0.25, 0.5, 0.75, 1]"`
	Patience    int       `yaml:"patience" default:"0"`
	MaxFailures float64   `yaml:"max_failures" default:"0.3" identity:"no"`
	Train       Full      `yaml:"train" identity:"no"`
}

// Full is the section budget.train.
type Full struct {
	Epochs   float64 `yaml:"epochs" default:"10"`
	Patience int     `yaml:"patience" default:"3"`
}

// SearchConfig is the section search.
type SearchConfig struct {
	Sampler    string  `yaml:"sampler" default:"auto" identity:"no"`
	Pruner     string  `yaml:"pruner" default:"none" identity:"no"`
	Seed       uint64  `yaml:"seed" default:"0"`
	WarmStart  string  `yaml:"warm_start" default:"auto" was:"none" identity:"no"`
	Replicates float64 `yaml:"replicates" default:"0" identity:"no"`
	Initial    int     `yaml:"initial" default:"0" identity:"no"`
}

// EvaluatorConfig is the section evaluator.
type EvaluatorConfig struct {
	Workers     Workers  `yaml:"workers" default:"1"`
	Threads     int      `yaml:"threads" default:"0"`
	Device      string   `yaml:"device" default:"cpu"`
	Precision   string   `yaml:"precision" default:"auto"`
	CacheMemory float64  `yaml:"cache_memory" default:"1"`
	CacheDisk   float64  `yaml:"cache_disk" default:"4"`
	Command     []string `yaml:"command" default:"[]" identity:"yes"`
	Stall       float64  `yaml:"stall" default:"30"`
	Analytic    bool     `yaml:"analytic" default:"false" identity:"yes"`
}

// Epochs is the value of budget.epochs.
type Epochs float64

// AutoEpochs stands for a number that depends on the rows.
const AutoEpochs Epochs = 0

// UnmarshalText reads a number or the word auto.
func (e *Epochs) UnmarshalText(text []byte) error {
	if string(text) == "auto" {
		*e = AutoEpochs
		return nil
	}
	n, err := strconv.ParseFloat(string(text), 64)
	if err != nil || !(n >= 1e-6 && n <= 1e6) || strings.ContainsAny(string(text), "_xX") {
		return errors.New("must be a finite number between 1e-06 and 1e+06, or auto")
	}
	*e = Epochs(n)
	return nil
}

// Workers is the value of evaluator.workers.
type Workers int

// AutoWorkers stands for a number that is measured before it is used.
const AutoWorkers Workers = 0

// UnmarshalText reads a number or the word auto.
func (w *Workers) UnmarshalText(text []byte) error {
	n, err := strconv.Atoi(string(text))
	switch {
	case string(text) == "auto":
		*w = AutoWorkers
	case err != nil || n < 1:
		return errors.New("must be auto or a number of at least 1")
	default:
		*w = Workers(n)
	}
	return nil
}

// MaxTrials is the largest budget.trials, and stands for no limit beside that of budget.hours.
const MaxTrials = 1e7

// AutoPrecision is the value of evaluator.precision that leaves the choice to the worker.
const AutoPrecision = "auto"

// The values of task.split.
const (
	SplitStratified = data.Stratified
	SplitRandom     = "random"
)

// The values of search.warm_start.
const (
	WarmStartAuto   = "auto"
	WarmStartShared = "shared" // as auto, and a map of shared weights where that finds nothing
	WarmStartNone   = "none"
)

// The values of search.pruner.
const (
	PrunerNone  = "none"
	PrunerFront = "front"
)

// Read reads a study file. The error joins one *Error for every mistake in it.
func Read(path string) (*Config, error) {
	content, err := files.Read(path, files.Document)
	if err != nil {
		return nil, &Error{File: path, Message: fileProblem(path, err),
			Hint: "peftsearch init writes a study file to start from"}
	}
	return Parse(path, content)
}

// Parse reads a study file's content; path locates it for messages and relative paths.
func Parse(path string, content []byte) (*Config, error) {
	c := &Config{path: path, text: string(content)}
	var errs []error
	c.file, errs = decodeDocument(path, content, c)
	if c.file != nil {
		errs = append(errs, c.validate()...)
	}
	if len(errs) > 0 {
		return nil, errors.Join(byLine(path, errs)...)
	}
	return c, nil
}

func fileProblem(path string, err error) string {
	if errors.Is(err, fs.ErrNotExist) {
		return "there is no such file"
	}
	return strings.TrimLeft(strings.TrimPrefix(err.Error(), path), ": ")
}

// File is the absolute path of the study file.
func (c *Config) File() string { return c.resolve(filepath.Base(c.path)) }

// Builtin reports whether peftsearch-worker trains the study.
func (c *Config) Builtin() bool { return !c.Evaluator.Analytic && len(c.Evaluator.Command) == 0 }

// Text is the content of the study file.
func (c *Config) Text() string { return c.text }

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
	split := t.Split
	if split == SplitRandom {
		split = ""
	}
	task := data.Task{Kind: t.Kind, Metric: t.Metric,
		Train: c.resolve(t.Train), Dev: c.resolve(t.Dev), Test: c.resolve(t.Test),
		Columns: data.Columns(t.Columns), TestColumns: data.Columns(t.TestColumns), Labels: t.Labels,
		DevShare: t.DevShare, TestShare: t.TestShare, SplitSeed: t.SplitSeed, Split: split, MaxLength: t.MaxLength}
	if t.Kind == data.KindText { // others have no such keys
		task.Template, task.Generation = t.Template, data.Generation(t.Generation)
	}
	return task
}

// TrialTraining is how plans are trained.
func (c *Config) TrialTraining() evaluator.Training {
	t := c.Training
	return evaluator.Training{LearningRate: t.LearningRate.Default(), Schedule: t.Schedule, WarmupRatio: t.WarmupRatio,
		WeightDecay: t.WeightDecay, BatchSize: t.BatchSize, MaxGradNorm: t.MaxGradNorm,
		PrefixMLP: t.PrefixMLP, Dropout: t.Dropout,
		Methods: evaluator.MethodTraining{Rates: t.LearningRate.Methods(), LoRAPlus: t.LoRAPlus,
			Prompt: evaluator.PromptTraining{Init: t.PromptInit, Text: t.PromptText, Encoder: t.PromptEncoder,
				Width: t.PromptWidth},
			AdapterDrop: t.AdapterDrop}}
}

// Record makes the file's study one that tries plans of every size for a map, and learns from no other.
func (c *Config) Record(plans int) {
	c.Budget.Trials, c.Budget.Hours = plans, 0
	c.Search.Sampler, c.Search.WarmStart, c.Search.Pruner, c.Search.Replicates = "random", WarmStartNone, PrunerNone, 0
}

// TrialBudget is the budget of a trial.
func (c *Config) TrialBudget() evaluator.Budget {
	b := c.Budget
	return evaluator.Budget{Epochs: float64(b.Epochs), TrainRows: b.TrainRows, Rungs: b.Rungs, Patience: b.Patience}
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
