package config

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"peftsearch/data/quote"
	"peftsearch/evaluator"
	"peftsearch/peft"
	"peftsearch/search"
)

var device = regexp.MustCompile(`^(cpu|cuda(:\d{1,3})?)$`)

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
	if !c.file.failed("task") {
		if err := c.task().Validate(); err != nil {
			for _, problem := range flatten(err) {
				key, _, _ := strings.Cut(problem.Error(), " ")
				errs = append(errs, c.file.errorAt("task."+strings.TrimSuffix(key, ":"), "", "task.%v", problem))
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
	if err := checkRungs(b.Rungs); err != nil {
		fail("budget.rungs", "", "%v: must be ascending shares above 0 that end in 1", err)
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
		fail("evaluator.workers", "give a number", "auto: measures workers on the CPU, evaluator.device is %s",
			quote.Text(e.Device))
	}
	if !device.MatchString(e.Device) {
		fail("evaluator.device", "", "%s: must be cpu, cuda or cuda:N", quote.Text(e.Device))
	}
	within("evaluator.threads", float64(e.Threads), 0, 1024)
	oneOf("evaluator.precision", e.Precision, AutoPrecision, "float32", "bfloat16")
	within("evaluator.cache_memory", e.CacheMemory, 0, 1<<20)
	within("evaluator.cache_disk", e.CacheDisk, 0, 1<<20)
	within("evaluator.stall", e.Stall, 0, 1e6)
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

// checkName refuses names that cannot be typed, told apart or printed.
func checkName(name string) error {
	switch {
	case !strings.ContainsFunc(name, func(r rune) bool { return unicode.IsGraphic(r) && !unicode.IsSpace(r) }):
		return errors.New("a name has at least one visible character")
	case utf8.RuneCountInString(name) > maxName:
		return fmt.Errorf("a name has at most %d characters", maxName)
	case name[0] == '-':
		return errors.New("a name does not begin with a dash, it would be taken for a flag")
	case strings.Contains(name, "/"):
		return errors.New("a name has no slash")
	case quote.Line(name) != name:
		return errors.New("a name has no control characters and no marks that turn the direction of writing")
	}
	return nil
}

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
