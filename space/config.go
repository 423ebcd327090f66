package space

import (
	"fmt"
	"slices"
	"strconv"

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
	Preset       Preset               `yaml:"preset" default:"per-layer"`
	Groups       int                  `yaml:"groups" default:"3"`
	Methods      []peft.Method        `yaml:"methods" default:"{standard}" identity:"no"`
	Sizes        Sizes                `yaml:",inline"`
	LoRA         LoRAConfig           `yaml:"lora"`
	Gates        []peft.Method        `yaml:"gates" default:"[]"`
	GatesPer     GatesPer             `yaml:"gates_per" default:"method"`
	NonLinearity []peft.NonLinearity  `yaml:"non_linearity" default:"[]"`
	Scale        []Scale              `yaml:"scale" default:"[]"`
	LearningRate []float64            `yaml:"learning_rate" default:"training.learning_rate"`
	Schedule     []evaluator.Schedule `yaml:"schedule" default:"training.schedule"`
	MaxParams    int64                `yaml:"max_params" default:"0"`
}

// GatesPer says how many choices of gates there are.
type GatesPer string

// The choices.
const (
	GatesPerMethod GatesPer = "method" // one for all modules of a method
	GatesPerLayer  GatesPer = "layer"  // one for each module, in the layers that share its size
)

// LoRAConfig is the section `space.lora`.
type LoRAConfig struct {
	Ranks   []int         `yaml:"ranks" default:"0, 1, 2, 4, 8, 16, 32"`
	Scale   float64       `yaml:"scale" default:"1"`
	Targets []peft.Target `yaml:"targets" default:"query, value"`
}

// Sizes has the sizes to try of each method, 0 for none. It stands for a key of the section for each method but
// LoRA, whose ranks are in a section.
type Sizes map[peft.Method][]int

// Key is a key of the study file, its default in words, what studies had before it existed, and what it means.
type Key struct{ Name, Default, Was, Doc string }

// Keys lists the keys of the study file.
func (Sizes) Keys() (keys []Key) {
	for _, m := range peft.Methods {
		switch doc := m.Sizes() + " to try, 0 for none; [] leaves the method out"; {
		case m == peft.MethodLoRA:
		case slices.Contains(peft.Standard, m):
			keys = append(keys, Key{string(m), m.LevelsText(), m.LevelsText(), doc})
		default:
			keys = append(keys, Key{string(m), m.LevelsText() + " if methods names it", "[]", doc})
		}
	}
	return keys
}

// sizes are the sizes to try of a method, none if it is left out.
func (c Config) sizes(m peft.Method) []int {
	if m == peft.MethodLoRA {
		return c.LoRA.Ranks
	}
	return c.Sizes[m]
}

// sharedGates are the methods whose modules have gates or not all together.
func (c Config) sharedGates() []peft.Method {
	if c.GatesPer == GatesPerLayer {
		return nil
	}
	return c.Gates
}

// gatesItself reports whether each size of a method is there with a gate and without.
func (c Config) gatesItself(m peft.Method) bool {
	return c.GatesPer == GatesPerLayer && slices.Contains(c.Gates, m)
}

// modules are the levels of a method's sizes, by ascending parameters: a gate has fewer than the next size.
func (c Config) modules(m peft.Method) (list []sized) {
	for _, size := range c.sizes(m) {
		list = append(list, sized{m, size, false})
		if size > 0 && c.gatesItself(m) {
			list = append(list, sized{m, size, true})
		}
	}
	return list
}

// style is what all modules have in common.
func (c Config) style() peft.Style { return peft.Style{Scale: c.LoRA.Scale, Targets: c.LoRA.Targets} }

// own stands for the method's own function or scale.
const own = "own"

// Scale is a scale of bottleneck adapters: own, learned, or a number.
type Scale string

const learned Scale = "learned"

// factor is the number, 0 for none.
func (s Scale) factor() float64 {
	value, _ := strconv.ParseFloat(string(s), 64)
	return value
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
	if c.GatesPer == "" {
		c.GatesPer = GatesPerMethod
	}
	if c.LoRA.Scale == 0 {
		c.LoRA.Scale = 1
	}
	if c.LoRA.Targets == nil {
		c.LoRA.Targets = []peft.Target{peft.TargetQuery, peft.TargetValue}
	}
	if c.Methods == nil {
		c.Methods = peft.Standard
		if c.Preset == PresetAutoPEFT {
			c.Methods = peft.AutoPEFT
		}
	}
	given := c.Sizes
	c.Sizes = Sizes{}
	for _, m := range peft.Methods {
		sizes := given[m]
		if m == peft.MethodLoRA {
			sizes = c.LoRA.Ranks
		}
		if sizes == nil && slices.Contains(c.Methods, m) {
			if sizes = m.Levels(g); c.Preset == PresetAutoPEFT && slices.Contains(peft.AutoPEFT, m) {
				sizes = autoPEFTSizes(g.Hidden)
			}
		}
		if sizes == nil {
			sizes = []int{}
		}
		if m == peft.MethodLoRA {
			c.LoRA.Ranks = sizes
		} else {
			c.Sizes[m] = sizes
		}
	}
	return c
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

// sizesKey is the key of a method's sizes in the section.
func sizesKey(m peft.Method) string {
	if m == peft.MethodLoRA {
		return "lora.ranks"
	}
	return string(m)
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
	}{{"methods", len(c.Methods)}, {"lora.targets", len(c.LoRA.Targets)}, {"learning_rate", len(c.LearningRate)},
		{"schedule", len(c.Schedule)}, {"gates", len(c.Gates)}, {"non_linearity", len(c.NonLinearity)},
		{"scale", len(c.Scale)}} {
		if list.length > maxLevels {
			fail(list.key, "%d values: at most %d", list.length, maxLevels)
		}
	}
	for _, m := range peft.Methods {
		if n := len(c.sizes(m)); n > maxLevels {
			fail(sizesKey(m), "%d values: at most %d", n, maxLevels)
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
	if c.Preset == PresetAutoPEFT && len(g.Stacks()) > 1 {
		fail("preset", "%s has one size for all layers, and those of an encoder and of a decoder have other sites: take "+
			"%s or %s", c.Preset, PresetPerLayer, PresetGroups)
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
	for i, m := range c.Methods {
		if !slices.Contains(peft.Methods, m) {
			fail("methods", "%q: must be one of %v", m, peft.Methods)
		} else if slices.Contains(c.Methods[:i], m) {
			fail("methods", "%q stands twice", m)
		}
	}
	for _, m := range peft.Methods {
		sizes(sizesKey(m), c.sizes(m), m.Largest(g))
		if m.Input() && c.Preset == PresetAutoPEFT && len(c.sizes(m)) > 0 {
			fail(sizesKey(m), "preset %s shares sizes among layers, and %s is at the input: take another preset", c.Preset, m)
		}
	}
	errs = append(errs, c.validateStyle(g)...)
	if ranks := c.LoRA.Ranks; len(ranks) > 0 {
		rank := min(max(1, slices.Max(ranks)), g.Hidden)
		lora := peft.Plan{Layers: make([]peft.Layer, g.Layers)}
		lora.Layers[0] = peft.Layer{peft.MethodLoRA.Sized(rank, c.style())}
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
	if len(errs) > 0 {
		return errs
	}
	for _, m := range peft.Methods { // what no layer of the backbone can have
		for _, size := range c.sizes(m) {
			if size == 0 {
				continue
			}
			plan := peft.Plan{Layers: make([]peft.Layer, g.Layers)}
			module := peft.Layer{m.Sized(size, c.style())}
			if plan.Layers[0] = module; m.Input() {
				plan = peft.Plan{Input: module, Layers: make([]peft.Layer, g.Layers)}
			}
			if err := plan.Validate(g); err != nil {
				fail(sizesKey(m), "%v", err)
				break
			}
		}
	}
	return errs
}

// validateStyle checks what modules of one size may differ in.
func (c Config) validateStyle(g peft.Geometry) (errs []error) {
	fail := func(key, format string, args ...any) {
		errs = append(errs, &KeyError{"space." + key, fmt.Sprintf(format, args...)})
	}
	for i, m := range c.Gates {
		switch {
		case !slices.Contains(peft.Methods, m) || !m.Gated():
			fail("gates", "%q: must be one of %v", m, gated())
		case slices.Contains(c.Gates[:i], m):
			fail("gates", "%q stands twice", m)
		case len(c.sizes(m)) == 0:
			fail("gates", "%q is not among the methods that are searched", m)
		default:
			style := c.style()
			style.Gate = true
			for _, stack := range g.Stacks() {
				plan := peft.Plan{Layers: make([]peft.Layer, g.Layers)}
				plan.Layers[stack.First] = peft.Layer{m.Sized(max(1, slices.Max(c.sizes(m))), style)}
				if err := plan.Validate(g); err != nil && stack.Causal {
					fail("gates", "%v", err)
				}
			}
		}
	}
	switch c.GatesPer {
	case GatesPerMethod:
	case GatesPerLayer:
		if c.Preset == PresetAutoPEFT {
			fail("gates_per", "preset %s has one size per method for all layers: take another preset, or %s", c.Preset,
				GatesPerMethod)
		}
	default:
		fail("gates_per", "%q: must be %s or %s", c.GatesPer, GatesPerMethod, GatesPerLayer)
	}
	for i, f := range c.NonLinearity {
		if f != own && !slices.Contains(peft.NonLinearities, f) {
			fail("non_linearity", "%q: must be %s or one of %v", f, own, peft.NonLinearities)
		} else if slices.Contains(c.NonLinearity[:i], f) {
			fail("non_linearity", "%q stands twice", f)
		}
	}
	for i, scale := range c.Scale {
		if f := scale.factor(); scale != own && scale != learned && !(f >= peft.MinScale && f <= peft.MaxScale) {
			fail("scale", "%q: must be %s, %s or a number between %g and %g", scale, own, learned, peft.MinScale, peft.MaxScale)
		} else if slices.Contains(c.Scale[:i], scale) {
			fail("scale", "%q stands twice", scale)
		}
	}
	return errs
}

// gated lists the methods that can have gates.
func gated() []peft.Method {
	return slices.DeleteFunc(slices.Clone(peft.Methods), func(m peft.Method) bool { return !m.Gated() })
}
