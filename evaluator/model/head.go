package model

import (
	"fmt"
	"maps"
	"slices"

	"peftsearch/evaluator"
	"peftsearch/evaluator/torch"
)

// head turns hidden states into what a task asks for. Adding one adds a file and a row of [headKinds].
type head interface {
	// rows says which tokens it reads.
	rows() Rows
	// logits computes the outputs [n, outputs] in float32 from the hidden states of the tokens that it
	// reads [read, D].
	logits(s *torch.Scope, x *torch.Tensor) *torch.Tensor
	// loss is the sum of the losses of logits against targets, and of how many terms it is the sum.
	loss(s *torch.Scope, logits *torch.Tensor, targets []float64) (sum *torch.Tensor, terms int)
}

// headKinds declares the parameters of each head in ps.
var headKinds = map[evaluator.Head]func(ps *parameters, hidden, outputs int) head{
	evaluator.HeadLinear: declareFirst,
	evaluator.HeadDense:  declareDenseFirst,
}

// declareHead declares the head of a kind.
func declareHead(ps *parameters, kind evaluator.Head, hidden, outputs int) (head, error) {
	declare, ok := headKinds[kind]
	if !ok {
		return nil, fmt.Errorf("model: head %q: must be one of %v", kind, slices.Sorted(maps.Keys(headKinds)))
	}
	return declare(ps, hidden, outputs), nil
}
