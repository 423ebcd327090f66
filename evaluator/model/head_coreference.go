package model

import (
	"fmt"
	"math"
	"slices"

	"peftsearch/evaluator/torch"
)

// headCoreference decides for each candidate span whether the mention, the first span of the row, refers to it. A
// span's state is the mean of its tokens' last hidden states h with weights softmax(w·h) (Lee et al. 2017, "End-to-end
// Neural Coreference Resolution"); the mention's and the candidate's are read together.
type headCoreference struct {
	outputLayer
	pool *parameter // w [1, D]
}

func declareCoreference(ps *parameters, form headForm, hidden, outputs int) head {
	return headCoreference{declareOutput(ps, form, 2*hidden, outputs),
		ps.declare("head.pool.weight", normal(0.02), decay|exact, 1, hidden)}
}

func (headCoreference) rows() Rows { return Marked }

func (h headCoreference) counts(batch Batch) []int {
	counts := make([]int, len(batch.Spans))
	for i, spans := range batch.Spans {
		counts[i] = h.outputs * (len(spans) - 1)
	}
	return counts
}

func (h headCoreference) logits(p *pass, batch Batch, x *torch.Tensor) *torch.Tensor {
	starts := Marked.starts(batch)
	longest, count := 0, 0
	for _, spans := range batch.Spans {
		for _, span := range spans {
			longest, count = max(longest, span.End-span.Start), count+1
		}
	}
	var tokens []int64 // [spans, longest]: places in x
	var mask []float32 // [spans, longest]: -inf behind the end of a span
	var mentions, candidates []int64
	span := 0
	for i, spans := range batch.Spans {
		for j, at := range spans {
			first, ok := slices.BinarySearch(batch.Marked[i], at.Start)
			if !ok || first+at.End-at.Start > len(batch.Marked[i]) || at.End <= at.Start {
				p.Fail(fmt.Errorf("model: span %v of row %d is not among its marked tokens", at, i))
				return nil
			}
			for k := range longest {
				inside := k < at.End-at.Start
				place, hidden := starts[i]+int64(first), float32(math.Inf(-1))
				if inside {
					place, hidden = place+int64(k), 0
				}
				tokens, mask = append(tokens, place), append(mask, hidden)
			}
			if j > 0 {
				mentions, candidates = append(mentions, int64(span-j)), append(candidates, int64(span))
			}
			span++
		}
	}
	x = p.To(x, torch.Float32)
	d := x.Size(1)
	index := torch.From(p.Scope, tokens, len(tokens))
	scores := p.Reshape(p.Select(p.Linear(x, h.pool.leaf, nil), index), count, longest)
	weights := p.Softmax(p.Add(scores, torch.From(p.Scope, mask, count, longest)))
	states := p.Reshape(p.Select(x, index), count, longest, d)
	pooled := p.Reshape(p.BatchMatmul(p.Reshape(weights, count, 1, longest), states), count, d) // [spans, D]
	pairs := p.Cat(1, p.Select(pooled, torch.From(p.Scope, mentions, len(mentions))),
		p.Select(pooled, torch.From(p.Scope, candidates, len(candidates)))) // [pairs, 2D]
	return h.apply(p, pairs)
}

func (headCoreference) loss(s *torch.Scope, _ Batch, logits *torch.Tensor, targets []float64) (*torch.Tensor, int) {
	return crossEntropy(s, logits, targets)
}
