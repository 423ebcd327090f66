package model

import (
	"peftsearch/evaluator/torch"
)

// headRegression has the squared error of the value as its loss.
type headRegression struct{ headFirst }

func declareRegression(ps *parameters, form headForm, hidden, outputs int) head {
	return headRegression{headFirst{declareOutput(ps, form, hidden, outputs)}}
}

func (headRegression) loss(s *torch.Scope, _ Batch, logits *torch.Tensor, targets []float64) (*torch.Tensor, int) {
	return s.SquaredError(logits, float32s(s, logits, targets)), len(targets)
}
