package model

import (
	"fmt"

	"peftsearch/peft"
)

// modules is the trained modules of one layer, by the hooks that they answer; nil for absent ones.
type modules struct {
	serial, parallel *bottleneck
	prefix           *prefix
	lora             map[peft.Target]*lowRank
}

// declareModules adds the tensors of a plan. With mlpWidth, an MLP of that width generates the
// prefixes.
func declareModules(ps *parameters, plan peft.Plan, g peft.Geometry, mlpWidth int) ([]modules, *prefixMLP) {
	list := make([]modules, len(plan.Layers))
	hasPrefix := false
	for i, layer := range plan.Layers {
		m := &list[i]
		for _, module := range layer {
			name := fmt.Sprintf("layers.%d.%s", i, module.Method())
			switch module := module.(type) {
			case peft.Serial:
				m.serial = declareSerial(ps, name, module, g.Hidden)
			case peft.Parallel:
				m.parallel = declareParallel(ps, name, module, g.Hidden)
			case peft.Prefix:
				if mlpWidth == 0 {
					m.prefix = declarePrefix(ps, name, module, g.Hidden)
				} else {
					m.prefix, hasPrefix = &prefix{length: module.Length}, true
				}
			case peft.LoRA:
				m.lora = declareLoRA(ps, name, module, g)
			}
		}
	}
	if !hasPrefix {
		return list, nil
	}
	return list, declarePrefixMLP(ps, plan, mlpWidth, g.Hidden)
}
