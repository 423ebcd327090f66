package peft

import (
	"fmt"
	"slices"
)

// presets are configurations from the literature, by the names users know.
var presets = map[string]func(g Geometry) Layer{
	// Only the head is trained.
	"head": func(Geometry) Layer { return Layer{} },
	// LoRA's usual start: rank 8 on query and value, alpha 8 (Hu et al. 2021; the default of peft and adapters).
	"lora-r8": func(Geometry) Layer {
		return Layer{LoRA{Rank: 8, Alpha: 8, Targets: []Target{TargetQuery, TargetValue}}}
	},
	// Pfeiffer adapter, width D/16.
	"pfeiffer-16": func(g Geometry) Layer { return Layer{Serial{Width: max(1, g.Hidden/16)}} },
	// Parallel adapter, width D/16.
	"parallel-16": func(g Geometry) Layer { return Layer{Parallel{Width: max(1, g.Hidden/16)}} },
	// Prefix tuning with 30 tokens.
	"prefix-30": func(Geometry) Layer { return Layer{Prefix{Length: 30}} },
	// Mix-and-match: parallel adapter of width D/2 and 30 prefix tokens (He et al. 2022).
	"mam": func(g Geometry) Layer {
		return Layer{Parallel{Width: max(1, g.Hidden/2)}, Prefix{Length: 30}}
	},
}

// Presets lists the names that Preset knows.
func Presets() []string {
	names := make([]string, 0, len(presets))
	for name := range presets {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Preset is a plan from the literature: the same modules in every layer.
func Preset(name string, g Geometry) (Plan, error) {
	layer, ok := presets[name]
	if !ok {
		return Plan{}, fmt.Errorf("preset %q: must be one of %v", name, Presets())
	}
	p := Plan{Layers: make([]Layer, g.Layers)}
	for i := range p.Layers {
		p.Layers[i] = layer(g)
	}
	return p, p.Validate(g)
}
