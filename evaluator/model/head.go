package model

import (
	"peftsearch/evaluator"
	"peftsearch/evaluator/torch"
)

// head turns the first token's last hidden state into logits: W·h + c, or W·tanh(W_p·h + c_p) + c. It
// is computed in float32: bfloat16 logits would tie predictions that differ.
type head struct {
	denseWeight, denseBias *parameter // [D, D], [D]; nil for the linear head
	weight, bias           *parameter // [outputs, D], [outputs]
}

// declareHead initialises with N(0, 0.02), biases 0.
func declareHead(ps *parameters, kind evaluator.Head, hidden, outputs int) *head {
	h := &head{}
	if kind == evaluator.HeadDense {
		h.denseWeight = ps.declare("head.dense.weight", normal(0.02), decay|exact, hidden, hidden)
		h.denseBias = ps.declare("head.dense.bias", zeros, exact, hidden)
	}
	h.weight = ps.declare("head.weight", normal(0.02), decay|exact, outputs, hidden)
	h.bias = ps.declare("head.bias", zeros, exact, outputs)
	return h
}

// apply computes logits [n, outputs] from the first tokens' hidden states [n, D].
func (h *head) apply(s *torch.Scope, x *torch.Tensor) *torch.Tensor {
	x = s.To(x, torch.Float32)
	if h.denseWeight != nil {
		x = s.Tanh(s.Linear(x, h.denseWeight.leaf, h.denseBias.leaf))
	}
	return s.Linear(x, h.weight.leaf, h.bias.leaf)
}
