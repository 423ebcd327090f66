package model

import (
	"peftsearch/evaluator/torch"
	"peftsearch/peft"
)

// declareParallel initialises as the adapters library's init_weights "mam_adapter" does: W_down
// kaiming_uniform(a=√5), everything else 0, so that a fresh adapter changes nothing.
func declareParallel(ps *parameters, name string, a peft.Parallel, hidden int) *bottleneck {
	return declareBottleneck(ps, name, a.Width, hidden, uniformFanIn, zeros)
}

// addParallel adds 4·P(a) to x, in place.
func (b *bottleneck) addParallel(s *torch.Scope, x, a *torch.Tensor) *torch.Tensor {
	return s.AddTo(x, b.apply(s, a, peft.ParallelScale))
}
