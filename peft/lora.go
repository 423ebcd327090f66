package peft

import (
	"fmt"
	"slices"
)

// Target is a weight matrix that LoRA can change.
type Target string

// The matrices of a block, by the field's names.
const (
	TargetQuery           Target = "query"
	TargetKey             Target = "key"
	TargetValue           Target = "value"
	TargetAttentionOutput Target = "attention_output"
	TargetFFNIn           Target = "ffn_in"
	TargetFFNOut          Target = "ffn_out"
)

// Targets lists every target in canonical order.
var Targets = []Target{TargetQuery, TargetKey, TargetValue, TargetAttentionOutput, TargetFFNIn, TargetFFNOut}

// LoRA adds (Alpha/Rank)·B·A to each target matrix (Hu et al. 2021, "LoRA"). A is [rank, in], B is
// [out, rank]; B starts at zero.
type LoRA struct {
	Rank    int      `json:"rank"`    // 1 to the full rank of each target
	Alpha   float64  `json:"alpha"`   // the update is scaled by Alpha/Rank, which is MinScale to MaxScale
	Targets []Target `json:"targets"` // at least one, no repeats
}

// Bounds of Alpha/Rank, beyond which nothing is learned.
const (
	MinScale = 1e-6
	MaxScale = 1e6
)

func (l *LoRA) validate(g Geometry) error {
	if l == nil {
		return nil
	}
	if l.Rank < 1 {
		return fmt.Errorf("lora rank %d: at least 1, leave the key out for none", l.Rank)
	}
	if rank := float64(l.Rank); !(l.Alpha >= MinScale*rank && l.Alpha <= MaxScale*rank) {
		return fmt.Errorf("lora alpha %g at rank %d: alpha/rank must be between %g and %g", l.Alpha, l.Rank, MinScale, MaxScale)
	}
	if len(l.Targets) == 0 {
		return fmt.Errorf("lora has no targets: name at least one of %v", Targets)
	}
	for i, target := range l.Targets {
		if !slices.Contains(Targets, target) {
			return fmt.Errorf("lora target %q: must be one of %v", target, Targets)
		}
		if slices.Contains(l.Targets[:i], target) {
			return fmt.Errorf("lora target %q stands twice", target)
		}
		if in, out := g.TargetShape(target); l.Rank > min(in, out) {
			return fmt.Errorf("lora rank %d is above %d, the full rank of %s", l.Rank, min(in, out), target)
		}
	}
	return nil
}

// canonical returns the LoRA with its targets in canonical order.
func (l *LoRA) canonical() LoRA {
	c := *l
	c.Targets = slices.Clone(l.Targets)
	slices.SortFunc(c.Targets, func(a, b Target) int { return slices.Index(Targets, a) - slices.Index(Targets, b) })
	return c
}

// TargetShape is the input and output width of a target matrix.
func (g Geometry) TargetShape(t Target) (in, out int) {
	switch t {
	case TargetFFNIn:
		return g.Hidden, g.FFN
	case TargetFFNOut:
		return g.FFN, g.Hidden
	default:
		return g.Hidden, g.Hidden
	}
}

// params: A [r,in] and B [out,r] for each target.
func (l *LoRA) params(g Geometry) MethodCount {
	var c MethodCount
	if l != nil {
		for _, target := range l.Targets {
			in, out := g.TargetShape(target)
			c.Weights += int64(l.Rank) * int64(in+out)
		}
	}
	return c
}
