package model

import (
	"fmt"
	"math"

	"peftsearch/evaluator/torch"
)

// headFirst reads the first token's last hidden state h: W·h + c, or W·tanh(W_p·h + c_p) + c. With several
// outputs they are logits of classes, with one it is a value. It is computed in float32: bfloat16 logits
// would tie predictions that differ.
type headFirst struct {
	outputs                int
	denseWeight, denseBias *parameter // [D, D], [D]; nil for the linear head
	weight, bias           *parameter // [outputs, D], [outputs]
}

// declareFirst initialises with N(0, 0.02), biases 0.
func declareFirst(ps *parameters, hidden, outputs int) head {
	return &headFirst{
		outputs: outputs,
		weight:  ps.declare("head.weight", normal(0.02), decay|exact, outputs, hidden),
		bias:    ps.declare("head.bias", zeros, exact, outputs),
	}
}

// declareDenseFirst initialises as declareFirst.
func declareDenseFirst(ps *parameters, hidden, outputs int) head {
	denseWeight := ps.declare("head.dense.weight", normal(0.02), decay|exact, hidden, hidden)
	denseBias := ps.declare("head.dense.bias", zeros, exact, hidden)
	h := declareFirst(ps, hidden, outputs).(*headFirst)
	h.denseWeight, h.denseBias = denseWeight, denseBias
	return h
}

func (h *headFirst) rows() Rows { return First }

func (h *headFirst) logits(s *torch.Scope, x *torch.Tensor) *torch.Tensor {
	x = s.To(x, torch.Float32)
	if h.denseWeight != nil {
		x = s.Tanh(s.Linear(x, h.denseWeight.leaf, h.denseBias.leaf))
	}
	return s.Linear(x, h.weight.leaf, h.bias.leaf)
}

// loss is the cross-entropy of class indices, or with one output the squared error; a term is a row.
func (h *headFirst) loss(s *torch.Scope, logits *torch.Tensor, targets []float64) (*torch.Tensor, int) {
	n := logits.Size(0)
	if s.Err() == nil && len(targets) != n {
		s.Fail(fmt.Errorf("model: %d targets for %d rows", len(targets), n))
	}
	if s.Err() != nil {
		return nil, 0
	}
	if h.outputs == 1 {
		values := make([]float32, n)
		for i, target := range targets {
			values[i] = float32(target)
		}
		return s.SquaredError(logits, torch.From(s, values, n, 1)), n
	}
	classes := make([]int64, n)
	for i, target := range targets {
		if target != math.Trunc(target) || target < 0 || target >= float64(h.outputs) {
			s.Fail(fmt.Errorf("model: target %g is not a class index below %d", target, h.outputs))
			return nil, 0
		}
		classes[i] = int64(target)
	}
	return s.CrossEntropy(logits, torch.From(s, classes, n)), n
}
