package model

import (
	"errors"
	"math"
	"slices"

	"peftsearch/evaluator/torch"
)

// headChoice gives every sequence of an example, which is one of its choices, a number. Its loss is the
// cross-entropy over the choices of an example.
type headChoice struct{ headFirst }

func declareChoice(ps *parameters, form headForm, hidden, outputs int) head {
	return headChoice{headFirst{declareOutput(ps, form, hidden, outputs)}}
}

func (headChoice) counts(batch Batch) []int { return batch.Sequences }

func (headChoice) loss(s *torch.Scope, batch Batch, logits *torch.Tensor, targets []float64) (*torch.Tensor, int) {
	if batch.Sequences == nil {
		s.Fail(errors.New("model: a batch of choices without the numbers of them"))
		return nil, 0
	}
	most, sequences := slices.Max(batch.Sequences), len(batch.Lengths)
	var places []int64 // [examples, most]: the sequence, or the one after all, which has no chance
	next := 0
	for _, choices := range batch.Sequences {
		for i := range most {
			if i < choices {
				places = append(places, int64(next+i))
			} else {
				places = append(places, int64(sequences))
			}
		}
		next += choices
	}
	none := torch.From(s, []float32{float32(math.Inf(-1))}, 1, 1)
	all := s.Select(s.Cat(0, logits, none), torch.From(s, places, len(places)))
	return crossEntropy(s, s.Reshape(all, len(batch.Sequences), most), targets)
}
