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

// Config is a study file. The tags are the single source of its keys: yaml names a key, doc says what
// it means, default is its value when it is left out (a key without one is required; one in words is
// filled in later). Template and documentation are generated from them. identity says whether a study's
// scores and proposals depend on the key (yes, contents, no; see keys.go). A key that is added later has
// in was the value that studies had before, unless that is the default.
type Config struct {
	Study     string          `yaml:"study" doc:"name of the study, unique in its database" identity:"no"`
	Model     ModelConfig     `yaml:"model" doc:"the pretrained model"`
	Task      TaskConfig      `yaml:"task" doc:"the labelled data and how it is scored; docs/reference/data.md says what files may look like"`
	Space     space.Config    `yaml:"space" doc:"what the search may choose; see also training"`
	Training  TrainingConfig  `yaml:"training" doc:"how every plan is trained"`
	Budget    BudgetConfig    `yaml:"budget" doc:"how much is trained"`
	Search    SearchConfig    `yaml:"search" doc:"how plans are proposed"`
	Evaluator EvaluatorConfig `yaml:"evaluator" doc:"where and how trials run" identity:"no"`
	Baselines []string        `yaml:"baselines" default:"[head]" doc:"plans from the literature that run first, each with the training that defines it: {presets}; head is the head alone" identity:"no"`

	path string // of the file
	text string
	file *document
}

// ModelConfig is the section model.
type ModelConfig struct {
	Path string         `yaml:"path" doc:"Hugging Face directory (config.json, model.safetensors, tokenizer; relative to this file), or the name of a model that peftsearch pull has brought" identity:"contents"`
	Head evaluator.Head `yaml:"head" default:"linear" doc:"what is put on the first token: linear, or dense (dense, tanh, linear)"`
}

// TaskConfig is the section task.
type TaskConfig struct {
	Kind        data.Kind   `yaml:"kind" doc:"classification, regression, token_classification, multiple_choice, coreference or multilabel"`
	Metric      metric.Name `yaml:"metric" default:"the kind's first" doc:"the score; docs/reference/data.md lists those of each kind"`
	Train       string      `yaml:"train" doc:"training rows: a .tsv, .csv or .jsonl file, relative to this file" identity:"contents"`
	Dev         string      `yaml:"dev" default:"carved out of train" doc:"rows that trials are scored on" identity:"contents"`
	Test        string      `yaml:"test" default:"carved out of train" doc:"rows for the last word: train and confirm report them, the search never sees them" identity:"contents"`
	Columns     Columns     `yaml:"columns" doc:"where the fields stand: a name of the header, or \"#1\" for the first column of a file without one" identity:"contents"`
	TestColumns Columns     `yaml:"test_columns" default:"columns" doc:"the same for a test file with other columns" identity:"contents"`
	Labels      []string    `yaml:"labels" default:"those of the training rows, sorted" doc:"classes in the order of the outputs" identity:"contents"`
	DevShare    float64     `yaml:"dev_share" default:"0.1" doc:"share of train that becomes dev when there is no file" identity:"contents"`
	TestShare   float64     `yaml:"test_share" default:"0.1" doc:"share of train that becomes test when there is no file" identity:"contents"`
	SplitSeed   uint64      `yaml:"split_seed" default:"0" doc:"seed of the carving" identity:"contents"`
	Split       string      `yaml:"split" default:"stratified" was:"random" doc:"how rows are carved: stratified keeps every class's share, random draws all alike" identity:"yes"`
	MaxLength   int         `yaml:"max_length" default:"128" doc:"longest input in tokens; the longer sentence of a pair is cut first"`
}

// Columns is a column mapping in the study file.
type Columns struct {
	Text     string `yaml:"text" default:"" doc:"the sentence, or the first of a pair"`
	TextPair string `yaml:"text_pair" default:"" doc:"the second sentence of a pair"`
	Label    string `yaml:"label" default:"" doc:"the class, the number, the tags, the right choice, or all labels"`

	Labels      []string `yaml:"labels" default:"[]" doc:"columns with a yes or no each: of a coreference's candidates, or of a multilabel's labels, which they are named after"`
	Question    string   `yaml:"question" default:"" doc:"what a multiple choice adds to the text; cause and effect are COPA's questions"`
	Choices     []string `yaml:"choices" default:"[]" doc:"columns with a choice each, or one with a list"`
	ChoiceNames string   `yaml:"choice_names" default:"" doc:"list of the names by which label calls the choices, if it does not call them by their place"`
	Spans       []string `yaml:"spans" default:"[]" doc:"a coreference's mention and then its candidates"`
	Offsets     []string `yaml:"offsets" default:"[]" doc:"where the spans begin in the text, in characters or words from 0"`
}

// TrainingConfig is the section training.
type TrainingConfig struct {
	LearningRate  Rate                    `yaml:"learning_rate" default:"auto" doc:"peak learning rate of AdamW, unless space.learning_rate searches it; or one for each method and the head, as in {lora: 2e-3, head: 1e-3, default: 1e-3}; auto finds one for each method before the search, with at most a tenth of budget.trials"`
	Schedule      evaluator.Schedule      `yaml:"schedule" default:"linear" doc:"linear or cosine to 0, or constant"`
	WarmupRatio   float64                 `yaml:"warmup_ratio" default:"0.1" doc:"share of the steps in which the rate rises"`
	WeightDecay   float64                 `yaml:"weight_decay" default:"0" doc:"decoupled weight decay, not on biases"`
	BatchSize     int                     `yaml:"batch_size" default:"32" doc:"examples per step"`
	MaxGradNorm   float64                 `yaml:"max_grad_norm" default:"1" doc:"longer gradients are scaled down to this norm; 0 never"`
	PrefixMLP     int                     `yaml:"prefix_mlp" default:"0" doc:"width of an MLP that generates the prefixes in training; 0 trains them directly"`
	LoRAPlus      float64                 `yaml:"lora_plus" default:"0" doc:"LoRA+: how many times the learning rate the second matrix of low-rank updates has; 0 is once"`
	PromptInit    evaluator.PromptInit    `yaml:"prompt_init" default:"" doc:"what a prompt begins as: random numbers, or vocabulary (random word embeddings), or text (those of prompt_text)"`
	PromptText    string                  `yaml:"prompt_text" default:"" doc:"text that a prompt begins as"`
	PromptEncoder evaluator.PromptEncoder `yaml:"prompt_encoder" default:"" doc:"mlp or lstm: what generates the prompt in training (P-tuning); left out, it is trained directly"`
	PromptWidth   int                     `yaml:"prompt_width" default:"0" doc:"width of prompt_encoder; 0 is that of the model"`
	AdapterDrop   int                     `yaml:"adapter_drop" default:"0" doc:"AdapterDrop: in every step a random number of the lowest layers, from 0 to this one, has no modules"`
	Dropout       float64                 `yaml:"dropout" default:"0" doc:"dropout inside the frozen backbone; 0 is faster"`
}

// BudgetConfig is the section budget.
type BudgetConfig struct {
	Trials      int       `yaml:"trials" default:"100" doc:"trainings of the study: trials, baselines included, those that calibrate rates, and further ones of the same plans; raise it to continue a finished study" identity:"no"`
	Hours       float64   `yaml:"hours" default:"0" doc:"hours that each worker trains; the search ends when these or budget.trials are used, and prefers plans that promise more a second; 0 is no limit" identity:"no"`
	Epochs      Epochs    `yaml:"epochs" default:"3" doc:"passes over the training rows in a trial; 0.5 is half of one; auto is 3, or as many more as make 300 steps"`
	TrainRows   int       `yaml:"train_rows" default:"0" doc:"train on a fixed random subset of so many rows; 0 is all"`
	Rungs       []float64 `yaml:"rungs" default:"[0.25, 0.5, 0.75, 1]" doc:"when a trial is scored on dev, as shares of its budget, ending in 1; the best counts"`
	Patience    int       `yaml:"patience" default:"0" doc:"stop a trial after so many rungs without a better score; 0 never"`
	MaxFailures float64   `yaml:"max_failures" default:"0.3" doc:"stop the search when more than this share of the trials failed (from the fifth trial on)" identity:"no"`
	Train       Full      `yaml:"train" doc:"the budget of peftsearch train, which trains one plan in full" identity:"no"`
}

// Full is the section budget.train.
type Full struct {
	Epochs   float64 `yaml:"epochs" default:"10" doc:"most passes over all training rows"`
	Patience int     `yaml:"patience" default:"3" doc:"stop after so many epochs without a better dev score; 0 never"`
}

// SearchConfig is the section search.
type SearchConfig struct {
	Sampler    string  `yaml:"sampler" default:"auto" doc:"auto, gp, tpe, nsga2, random, or tpe-univariate: the best score alone, within space.max_params" identity:"no"`
	Pruner     string  `yaml:"pruner" default:"none" doc:"none, or front: stop a trial at a rung when its predicted final score can hardly enter the front at its own size" identity:"no"`
	Seed       uint64  `yaml:"seed" default:"0" doc:"everything random follows from it; the same seed gives the same search with one worker"`
	WarmStart  string  `yaml:"warm_start" default:"auto" was:"none" doc:"auto: gp learns from the other studies of the database, and from maps, that have the same model and training; or none" identity:"no"`
	Replicates float64 `yaml:"replicates" default:"0" doc:"share of the budget, at its end, that trains plans which could be the best again with other seeds, at most three times each; their scores are means then; 0 trains each plan once" identity:"no"`
	Initial    int     `yaml:"initial" default:"0" doc:"trials of the cost-stratified start; 0 chooses by the size of the space" identity:"no"`
}

// EvaluatorConfig is the section evaluator.
type EvaluatorConfig struct {
	Workers     Workers  `yaml:"workers" default:"1" doc:"trials that run at the same time, each in a process of its own; auto measures what is fastest here, and is one for each GPU"`
	Threads     int      `yaml:"threads" default:"0" doc:"threads of each worker; 0 shares the cores among the workers"`
	Device      string   `yaml:"device" default:"cpu" doc:"cpu, cuda (its workers share all GPUs that are visible) or cuda:N"`
	Precision   string   `yaml:"precision" default:"auto" doc:"of frozen weights and activations: float32, bfloat16, or auto (bfloat16 where it is fast), which the first worker of a study decides for good"`
	CacheMemory float64  `yaml:"cache_memory" default:"1" doc:"GiB in each worker for what frozen layers compute and cache_disk has no room for"`
	CacheDisk   float64  `yaml:"cache_disk" default:"4" doc:"GiB of files for what frozen layers compute, in the user's cache directory, for all workers and studies together; 0 writes none"`
	Command     []string `yaml:"command" default:"[]" doc:"another program that speaks the worker protocol, with its arguments, started in the directory of this file; empty is peftsearch-worker" identity:"yes"`
	Stall       float64  `yaml:"stall" default:"30" doc:"minutes in which a worker must give a sign of life while it loads or trains; a silent one is ended and its trial has failed; 0 waits for ever"`
	Analytic    bool     `yaml:"analytic" default:"false" doc:"score plans by a formula instead of training, to try the commands" identity:"yes"`
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
	WarmStartAuto = "auto"
	WarmStartNone = "none"
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
	return data.Task{Kind: t.Kind, Metric: t.Metric,
		Train: c.resolve(t.Train), Dev: c.resolve(t.Dev), Test: c.resolve(t.Test),
		Columns: data.Columns(t.Columns), TestColumns: data.Columns(t.TestColumns), Labels: t.Labels,
		DevShare: t.DevShare, TestShare: t.TestShare, SplitSeed: t.SplitSeed, Split: split, MaxLength: t.MaxLength}
}

// TrialTraining is how plans are trained.
func (c *Config) TrialTraining() evaluator.Training {
	t := c.Training
	return evaluator.Training{LearningRate: t.LearningRate.Default(), Schedule: t.Schedule, WarmupRatio: t.WarmupRatio,
		WeightDecay: t.WeightDecay, BatchSize: t.BatchSize, MaxGradNorm: t.MaxGradNorm,
		PrefixMLP: t.PrefixMLP, Dropout: t.Dropout,
		Methods: evaluator.MethodTraining{Rates: t.LearningRate.Methods(), LoRAPlus: t.LoRAPlus,
			Prompt:      evaluator.PromptTraining{Init: t.PromptInit, Text: t.PromptText, Encoder: t.PromptEncoder, Width: t.PromptWidth},
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
