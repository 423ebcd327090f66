package model

import (
	"fmt"

	"peftsearch/peft"
)

// modules is the trained modules of one layer; nil for absent ones.
type modules struct {
	serial, parallel *bottleneck
	prefix           *prefix
	lora             map[peft.Target]*lowRank
}

// declareModules adds the tensors of a plan. With prefixMLP, an MLP of that width generates the
// prefixes.
func declareModules(ps *parameters, plan peft.Plan, g peft.Geometry, prefixMLP int) ([]modules, *prefixMLP) {
	list := make([]modules, len(plan.Layers))
	hasPrefix := false
	for i, layer := range plan.Layers {
		name, m := fmt.Sprintf("layers.%d.", i), &list[i]
		if layer.Serial != nil {
			m.serial = declareSerial(ps, name+"serial", layer.Serial, g.Hidden)
		}
		if layer.Parallel != nil {
			m.parallel = declareParallel(ps, name+"parallel", layer.Parallel, g.Hidden)
		}
		if layer.Prefix != nil && prefixMLP == 0 {
			m.prefix = declarePrefix(ps, name+"prefix", layer.Prefix, g.Hidden)
		} else if layer.Prefix != nil {
			m.prefix, hasPrefix = &prefix{length: layer.Prefix.Length}, true
		}
		if layer.LoRA != nil {
			m.lora = declareLoRA(ps, name+"lora", layer.LoRA, g)
		}
	}
	if !hasPrefix {
		return list, nil
	}
	return list, declarePrefixMLP(ps, plan, prefixMLP, g.Hidden)
}
