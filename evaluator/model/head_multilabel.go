package model

import (
	"peftsearch/evaluator/torch"
)

// headMultilabel decides about each label for itself: its loss is the binary cross-entropy of every one of them.
type headMultilabel struct{ headFirst }

func declareMultilabel(ps *parameters, form headForm, hidden, outputs int) head {
	return headMultilabel{headFirst{declareOutput(ps, form, hidden, outputs)}}
}

func (headMultilabel) loss(s *torch.Scope, _ Batch, logits *torch.Tensor, targets []float64) (*torch.Tensor, int) {
	return s.BinaryCrossEntropy(logits, float32s(s, logits, targets)), len(targets)
}
