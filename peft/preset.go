package peft

import (
	"fmt"
	"slices"
)

// Preset is a configuration from the literature: a plan, and how it is trained as far as that is part of its
// definition.
type Preset struct {
	Plan Plan
	// PrefixMLP is the width of the MLP that generates the prefixes in training (Li & Liang 2021), which is not stored; 0
	// leaves it to the study.
	PrefixMLP int
}

// preset is the same modules in every layer.
type preset struct {
	layer     func(g Geometry, s Style) Layer // of a style of which Cross alone is set
	prefixMLP int
}

// presets are by the names users know. Widths and lengths are the defaults of the adapters library, where it has the
// configuration.
var presets = map[string]preset{
	// Only the head is trained.
	"head": {layer: func(Geometry, Style) Layer { return Layer{} }},
	// LoRA's usual start: rank 8 on query and value, alpha 8 (Hu et al. 2021; the default of peft and adapters).
	"lora-r8": {layer: func(_ Geometry, s Style) Layer {
		return Layer{LoRA{Rank: 8, Alpha: 8, Targets: s.withCross([]Target{TargetQuery, TargetValue})}}
	}},
	// Pfeiffer adapter, width D/16.
	"pfeiffer-16": {layer: func(g Geometry, _ Style) Layer { return Layer{Serial{Width: max(1, g.Hidden/16)}} }},
	// Parallel adapter, width D/16.
	"parallel-16": {layer: func(g Geometry, _ Style) Layer { return Layer{Parallel{Width: max(1, g.Hidden/16)}} }},
	// Adapters after attention and feed-forward part, width D/16 (Houlsby et al. 2019).
	"houlsby-16": {layer: func(g Geometry, _ Style) Layer { return Layer{Houlsby{Width: max(1, g.Hidden/16)}} }},
	// Compacter and Compacter++, width D/32 (Mahabadi et al. 2021).
	"compacter":   {layer: func(g Geometry, _ Style) Layer { return Layer{compacter(g, false)} }},
	"compacter++": {layer: func(g Geometry, _ Style) Layer { return Layer{compacter(g, true)} }},
	// Prefix tuning with 30 tokens (Li & Liang 2021).
	"prefix-30": {layer: func(_ Geometry, s Style) Layer { return Layer{Prefix{Length: 30, Cross: s.Cross}} },
		prefixMLP: 512},
	// Mix-and-match: parallel adapter of width D/2 and 30 prefix tokens (He et al. 2022).
	"mam": {layer: func(g Geometry, s Style) Layer {
		return Layer{Parallel{Width: max(1, g.Hidden/2)}, Prefix{Length: 30, Cross: s.Cross}}
	}, prefixMLP: 800},
	// UniPELT: serial adapter of width D/16, 10 prefix tokens and LoRA of rank 8, each with gates (Mao et al. 2022).
	"unipelt": {layer: func(g Geometry, _ Style) Layer {
		return Layer{Serial{Width: max(1, g.Hidden/16), Gate: true}, Prefix{Length: 10, Gate: true},
			LoRA{Rank: 8, Alpha: 2, Targets: []Target{TargetQuery, TargetValue}, Gate: true}}
	}, prefixMLP: 512},
}

func compacter(g Geometry, ffnOnly bool) Compacter {
	width := max(1, g.Hidden/32/kronecker) * kronecker
	return Compacter{Bottleneck: Bottleneck{Width: width}, FFNOnly: ffnOnly}
}

// Presets lists the names that NewPreset knows.
func Presets() []string {
	names := make([]string, 0, len(presets))
	for name := range presets {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// NewPreset is the preset of a name for a backbone.
func NewPreset(name string, g Geometry) (Preset, error) {
	named, ok := presets[name]
	if !ok {
		return Preset{}, fmt.Errorf("preset %q: must be one of %v", name, Presets())
	}
	p := Preset{Plan: Plan{Layers: make([]Layer, g.Layers)}, PrefixMLP: named.prefixMLP}
	for i := range p.Plan.Layers {
		p.Plan.Layers[i] = named.layer(g, Style{Cross: g.Stack(i).Cross})
	}
	return p, p.Plan.Validate(g)
}
