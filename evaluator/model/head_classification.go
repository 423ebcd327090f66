package model

import (
	"slices"

	"peftsearch/evaluator/torch"
)

// headFirst reads the first token's last hidden state and decides once for each row.
type headFirst struct{ outputLayer }

func (headFirst) rows() Rows { return First }

func (h headFirst) logits(p *pass, _ Batch, x *torch.Tensor) *torch.Tensor {
	return h.apply(p, x)
}

func (h headFirst) counts(batch Batch) []int {
	return slices.Repeat([]int{h.outputs}, len(batch.Lengths))
}

// headClassification has the cross-entropy of the classes as its loss.
type headClassification struct{ headFirst }

func declareClassification(ps *parameters, form headForm, hidden, outputs int) head {
	return headClassification{headFirst{declareOutput(ps, form, hidden, outputs)}}
}

func (headClassification) loss(s *torch.Scope, _ Batch, logits *torch.Tensor, targets []float64) (*torch.Tensor, int) {
	return crossEntropy(s, logits, targets)
}
