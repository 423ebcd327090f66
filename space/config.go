package space

import (
	"fmt"
	"slices"

	"peftsearch/evaluator"
	"peftsearch/peft"
)

// Preset names how layers share their sizes.
type Preset string

// The presets.
const (
	PresetPerLayer Preset = "per-layer" // every layer and method has a size of its own
	PresetGroups   Preset = "groups"    // bands of neighbouring layers share their sizes
	PresetAutoPEFT Preset = "autopeft"  // one size per method for all layers, and one bit per layer (Zhou et al. 2024)
)

// Presets lists the presets.
var Presets = []Preset{PresetPerLayer, PresetGroups, PresetAutoPEFT}

// Config is the section `space` of a study file. A list that is not given (nil) takes its default; an
// empty list leaves the method out.
type Config struct {
	Preset       Preset               `yaml:"preset" default:"per-layer" doc:"how layers share sizes: per-layer (each its own), groups (bands share), autopeft (one size per method and one bit per layer)"`
	Groups       int                  `yaml:"groups" default:"3" doc:"preset groups only: number of bands of neighbouring layers"`
	Serial       []int                `yaml:"serial" default:"from the hidden width" doc:"widths of the serial adapter to try, 0 for none; [] leaves the method out"`
	Parallel     []int                `yaml:"parallel" default:"from the hidden width" doc:"widths of the parallel adapter to try, 0 for none; [] leaves the method out"`
	Prefix       []int                `yaml:"prefix" default:"0, 1, 2, 5, 10, 20, 40" doc:"prefix lengths to try, 0 for none; [] leaves the method out"`
	LoRA         LoRAConfig           `yaml:"lora" doc:"LoRA"`
	LearningRate []float64            `yaml:"learning_rate" default:"training.learning_rate" doc:"learning rates to search"`
	Schedule     []evaluator.Schedule `yaml:"schedule" default:"training.schedule" doc:"learning rate schedules to search: linear, cosine, constant"`
	MaxParams    int64                `yaml:"max_params" default:"0" doc:"most trainable parameters of a plan, without the head; 0 is no bound"`
}

// LoRAConfig is the section `space.lora`.
type LoRAConfig struct {
	Ranks   []int         `yaml:"ranks" default:"0, 1, 2, 4, 8, 16, 32" doc:"ranks to try, 0 for none; [] leaves the method out (preset autopeft leaves it out unless ranks are given)"`
	Scale   float64       `yaml:"scale" default:"1" doc:"alpha divided by rank, the same at every rank"`
	Targets []peft.Target `yaml:"targets" default:"query, value" doc:"matrices to adapt: query, key, value, attention_output, ffn_in, ffn_out"`
}

// KeyError is a mistake in the section, at a key given as a dotted path from the top of the study file.
type KeyError struct {
	Key     string
	Message string
}

func (e *KeyError) Error() string { return e.Key + ": " + e.Message }

// withDefaults fills in what the user left out, for one backbone.
func (c Config) withDefaults(g peft.Geometry) Config {
	if c.Preset == "" {
		c.Preset = PresetPerLayer
	}
	if c.Groups == 0 {
		c.Groups = min(3, g.Layers)
	}
	if c.LoRA.Scale == 0 {
		c.LoRA.Scale = 1
	}
	if c.LoRA.Targets == nil {
		c.LoRA.Targets = []peft.Target{peft.TargetQuery, peft.TargetValue}
	}
	if c.Preset == PresetAutoPEFT {
		sizes := autoPEFTSizes(g.Hidden)
		setDefault(&c.Serial, sizes)
		setDefault(&c.Parallel, sizes)
		setDefault(&c.Prefix, sizes)
		return c
	}
	widths := []int{0}
	for _, divisor := range []int{128, 64, 32, 16, 8, 4} {
		if width := g.Hidden / divisor; width > widths[len(widths)-1] {
			widths = append(widths, width)
		}
	}
	setDefault(&c.Serial, widths)
	setDefault(&c.Parallel, widths)
	setDefault(&c.Prefix, []int{0, 1, 2, 5, 10, 20, 40})
	setDefault(&c.LoRA.Ranks, []int{0, 1, 2, 4, 8, 16, 32})
	return c
}

func setDefault(list *[]int, value []int) {
	if *list == nil {
		*list = value
	}
}

// autoPEFTSizes are AutoPEFT's 11 values for a hidden width, ascending: 0, 1, D/256, D/128, …, D. For
// widths below 512 the two smallest non-zero values are both 1.
func autoPEFTSizes(hidden int) []int {
	sizes := []int{0, 1}
	for k := 8; k >= 0; k-- {
		sizes = append(sizes, max(1, hidden>>k))
	}
	return sizes
}

// maxLevels bounds the values of a list.
const maxLevels = 100

// validate reports every mistake as a KeyError.
func (c Config) validate(g peft.Geometry) []error {
	var errs []error
	fail := func(key, format string, args ...any) {
		errs = append(errs, &KeyError{"space." + key, fmt.Sprintf(format, args...)})
	}
	for _, list := range []struct {
		key    string
		length int
	}{{"serial", len(c.Serial)}, {"parallel", len(c.Parallel)}, {"prefix", len(c.Prefix)}, {"lora.ranks", len(c.LoRA.Ranks)},
		{"lora.targets", len(c.LoRA.Targets)}, {"learning_rate", len(c.LearningRate)}, {"schedule", len(c.Schedule)}} {
		if list.length > maxLevels {
			fail(list.key, "%d values: at most %d", list.length, maxLevels)
		}
	}
	if len(errs) > 0 {
		return errs
	}
	if !slices.Contains(Presets, c.Preset) {
		fail("preset", "%q: must be one of %v", c.Preset, Presets)
	}
	if c.Preset == PresetGroups && (c.Groups < 1 || c.Groups > g.Layers) {
		fail("groups", "%d: must be between 1 and the backbone's %d layers", c.Groups, g.Layers)
	}
	sizes := func(key string, list []int, largest int) {
		for i, size := range list {
			switch {
			case size < 0 || size > largest:
				fail(key, "%d: must be between 0 and %d", size, largest)
			case i > 0 && size < list[i-1], i > 0 && size == list[i-1] && c.Preset != PresetAutoPEFT:
				fail(key, "%d after %d: sizes must ascend", size, list[i-1])
			}
		}
	}
	widest := min(4*g.Hidden, peft.MaxSize)
	sizes("serial", c.Serial, widest)
	sizes("parallel", c.Parallel, widest)
	sizes("prefix", c.Prefix, 1024)
	sizes("lora.ranks", c.LoRA.Ranks, g.Hidden)
	if ranks := c.LoRA.Ranks; len(ranks) > 0 {
		rank := min(max(1, slices.Max(ranks)), g.Hidden)
		lora := peft.Plan{Layers: make([]peft.Layer, g.Layers)}
		lora.Layers[0].LoRA = &peft.LoRA{Rank: rank, Alpha: c.LoRA.Scale * float64(rank), Targets: c.LoRA.Targets}
		if !(c.LoRA.Scale >= peft.MinScale && c.LoRA.Scale <= peft.MaxScale) {
			fail("lora.scale", "%g: must be between %g and %g", c.LoRA.Scale, peft.MinScale, peft.MaxScale)
		} else if err := lora.Validate(g); err != nil {
			fail("lora.targets", "%v", err)
		}
	}
	for i, rate := range c.LearningRate {
		if !(rate > 0 && rate <= 1) {
			fail("learning_rate", "%g: must be above 0 and at most 1", rate)
		} else if i > 0 && rate <= c.LearningRate[i-1] {
			fail("learning_rate", "%g after %g: rates must ascend", rate, c.LearningRate[i-1])
		}
	}
	for i, schedule := range c.Schedule {
		if !slices.Contains(evaluator.Schedules, schedule) {
			fail("schedule", "%q: must be one of %v", schedule, evaluator.Schedules)
		} else if slices.Contains(c.Schedule[:i], schedule) {
			fail("schedule", "%q stands twice", schedule)
		}
	}
	if c.MaxParams < 0 {
		fail("max_params", "%d: must be 0 (no bound) or more", c.MaxParams)
	}
	return errs
}
