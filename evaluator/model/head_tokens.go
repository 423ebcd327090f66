package model

import (
	"peftsearch/evaluator/torch"
)

// headTokens decides for each marked token: the first of every word.
type headTokens struct{ outputLayer }

func declareTokens(ps *parameters, form headForm, hidden, outputs int) head {
	return headTokens{declareOutput(ps, form, hidden, outputs)}
}

func (headTokens) rows() Rows { return Marked }

func (h headTokens) logits(p *pass, _ Batch, x *torch.Tensor) *torch.Tensor {
	return h.apply(p, x)
}

func (h headTokens) counts(batch Batch) []int {
	counts := Marked.Counts(batch)
	for i := range counts {
		counts[i] *= h.outputs
	}
	return counts
}

func (headTokens) loss(s *torch.Scope, _ Batch, logits *torch.Tensor, targets []float64) (*torch.Tensor, int) {
	return crossEntropy(s, logits, targets)
}
