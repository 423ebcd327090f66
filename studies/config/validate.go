package config

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"peftsearch/data"
	"peftsearch/data/quote"
	"peftsearch/evaluator"
	"peftsearch/peft"
	"peftsearch/search"
)

var device = regexp.MustCompile(`^(cpu|cuda(:\d{1,3})?)$`)

// validateText fills in the template of a text, and refuses keys of texts for other kinds.
func (c *Config) validateText(fail func(key, hint, format string, args ...any)) {
	if c.Task.Kind == data.KindText {
		c.Task.Template = cmp.Or(c.Task.Template, defaultTemplate)
		if c.Model.Head != evaluator.HeadLinear {
			fail("model.head", "", "%s: a %s is written with the model's own head", c.Model.Head, data.KindText)
		}
		return
	}
	if c.Task.Template == defaultTemplate {
		c.Task.Template = ""
	}
	if c.Task.Template != "" {
		fail("task.template", "", "is a key of the kind %s", data.KindText)
	}
	var standard Generation
	walk(reflect.ValueOf(&standard).Elem(), "task.generation.", "", func(k key, value reflect.Value) {
		parseDefault(k.standard, value)
	})
	if c.Task.Generation != standard {
		fail("task.generation", "", "is a section of the kind %s", data.KindText)
	}
}

// validate checks what can be checked without opening the model and the data.
func (c *Config) validate() []error {
	var errs []error
	fail := func(key, hint, format string, args ...any) {
		if !c.file.failed(key) {
			errs = append(errs, c.file.errorAt(key, hint, key+" "+format, args...))
		}
	}
	oneOf := func(key string, value string, allowed ...string) {
		if !slices.Contains(allowed, value) {
			fail(key, nearest(value, allowed), "%s: must be one of %s", quote.Text(value), strings.Join(allowed, ", "))
		}
	}
	within := func(key string, value, low, high float64) {
		if !(value >= low && value <= high) {
			fail(key, "", "%g: must be between %g and %g", value, low, high)
		}
	}
	if err := checkName(c.Study); err != nil {
		fail("study", "", "%s: %v", quote.Text(c.Study), err)
	}
	oneOf("task.split", c.Task.Split, SplitStratified, SplitRandom)
	oneOf("model.head", string(c.Model.Head), string(evaluator.HeadLinear), string(evaluator.HeadDense))
	if metrics := c.Task.Kind.Metrics(); c.Task.Metric == "" && metrics != nil {
		c.Task.Metric = metrics[0]
	}
	c.validateText(fail)
	if !c.file.failed("task") {
		if err := c.task().Validate(); err != nil {
			for _, problem := range flatten(err) {
				key, _, _ := strings.Cut(problem.Error(), " ")
				errs = append(errs, c.file.errorAt("task."+strings.TrimSuffix(key, ":"), "", "task.%v", problem))
			}
		}
	}
	within("space.groups", float64(c.Space.Groups), 1, peft.MaxLayers)
	within("space.lora.scale", c.Space.LoRA.Scale, peft.MinScale, peft.MaxScale)
	if !c.Builtin() || len(c.Space.LearningRate) > 0 { // nothing to calibrate
		c.Training.LearningRate = c.Training.LearningRate.orStandard()
	}
	t := c.Training
	within("training.learning_rate", t.LearningRate.Default(), 1e-12, 1)
	if err := t.LearningRate.Methods().Validate(); err != nil {
		fail("training.learning_rate", "", "training.learning_rate: %v", err)
	}
	within("training.lora_plus", t.LoRAPlus, 0, 1e6)
	if err := c.TrialTraining().Methods.Prompt.Validate(); err != nil {
		fail("training.prompt_init", "", "training.prompt_*: %v", err)
	}
	within("training.adapter_drop", float64(t.AdapterDrop), 0, peft.MaxLayers)
	oneOf("training.schedule", string(t.Schedule), labels(evaluator.Schedules)...)
	within("training.warmup_ratio", t.WarmupRatio, 0, 1)
	within("training.weight_decay", t.WeightDecay, 0, 1)
	within("training.batch_size", float64(t.BatchSize), 1, 1<<16)
	within("training.max_grad_norm", t.MaxGradNorm, 0, 1e9)
	within("training.prefix_mlp", float64(t.PrefixMLP), 0, 1<<16)
	within("training.dropout", t.Dropout, 0, 0.9)
	if _, named := c.file.where["budget.trials"]; c.Budget.Hours > 0 && !named {
		c.Budget.Trials = MaxTrials
	}
	b := c.Budget
	within("budget.trials", float64(b.Trials), 1, MaxTrials)
	within("budget.hours", b.Hours, 0, 1e6)
	within("budget.train_rows", float64(b.TrainRows), 0, 1e12)
	if err := checkRungs(b.Rungs); err != nil {
		fail("budget.rungs", "", "%v: must be ascending shares above 0 that end in 1", err)
	}
	within("budget.patience", float64(b.Patience), 0, 1e6)
	within("budget.max_failures", b.MaxFailures, 0, 1)
	within("budget.train.epochs", b.Train.Epochs, 1e-6, 1e6)
	within("budget.train.patience", float64(b.Train.Patience), 0, 1e6)
	oneOf("search.sampler", c.Search.Sampler, search.Samplers()...)
	oneOf("search.pruner", c.Search.Pruner, PrunerNone, PrunerFront)
	oneOf("search.warm_start", c.Search.WarmStart, WarmStartAuto, WarmStartShared, WarmStartNone)
	within("search.replicates", c.Search.Replicates, 0, 0.9)
	within("search.initial", float64(c.Search.Initial), 0, 1e6)
	e := c.Evaluator
	if e.Workers != AutoWorkers {
		within("evaluator.workers", float64(e.Workers), 1, 1024)
	}
	if !device.MatchString(e.Device) {
		fail("evaluator.device", "", "%s: must be cpu, cuda or cuda:N", quote.Text(e.Device))
	}
	within("evaluator.threads", float64(e.Threads), 0, 1024)
	oneOf("evaluator.precision", e.Precision, AutoPrecision, "float32", "bfloat16")
	within("evaluator.cache_memory", e.CacheMemory, 0, 1<<20)
	within("evaluator.cache_disk", e.CacheDisk, 0, 1<<20)
	within("evaluator.stall", e.Stall, 0, 1e6)
	if len(e.Command) > 0 && (e.Command[0] == "" || strings.ContainsRune(strings.Join(e.Command, ""), 0)) {
		fail("evaluator.command", "", "%s: must be the name of a program and its arguments", quote.List(e.Command))
	}
	if e.Analytic && len(e.Command) > 0 {
		fail("evaluator.analytic", "", "and evaluator.command exclude each other")
	}
	for i, name := range c.Baselines {
		if !slices.Contains(peft.Presets(), name) {
			fail("baselines", nearest(name, peft.Presets()), "%s: must be one of %s",
				quote.Text(name), strings.Join(peft.Presets(), ", "))
		} else if slices.Contains(c.Baselines[:i], name) {
			fail("baselines", "", "%q stands twice", name)
		}
	}
	return errs
}

// maxName is the longest name of a study, in characters.
const maxName = 100

// nameRule is what names are, so that each can be typed, told apart from others, printed, and be part of a file's name.
var nameRule = fmt.Sprintf("a name is of 1 to %d visible characters without a slash, with single blanks between "+
	"words; "+
	"it does not begin with a dash and is not . or ..", maxName)

// checkName reports a name that is not as nameRule says.
func checkName(name string) error {
	visible := func(word string) bool {
		return word != "" && !strings.ContainsFunc(word, func(r rune) bool {
			return r == '/' || !unicode.IsGraphic(r) || unicode.In(r, unicode.Zs, unicode.Variation_Selector,
				unicode.Other_Default_Ignorable_Code_Point) || strings.ContainsRune(blank, r)
		})
	}
	for _, word := range strings.Split(name, " ") {
		if !visible(word) || !utf8.ValidString(word) {
			return errors.New(nameRule)
		}
	}
	if utf8.RuneCountInString(name) > maxName || name[0] == '-' || name == "." || name == ".." {
		return errors.New(nameRule)
	}
	return nil
}

// blank are symbols that look like a space, though Unicode has no property for them.
const blank = "\u2800\U0001d159"

// checkRungs names the first rung that is not right.
func checkRungs(rungs []float64) error {
	last := 0.0
	for i, rung := range rungs {
		if !(rung > last && rung <= 1) {
			if i == 0 {
				return fmt.Errorf("%g comes first", rung)
			}
			return fmt.Errorf("%g after %g", rung, last)
		}
		last = rung
	}
	if last != 1 {
		return fmt.Errorf("%g is the last", last)
	}
	return nil
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
