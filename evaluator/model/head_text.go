package model

import (
	"errors"
	"fmt"
	"slices"

	"peftsearch/data/checkpoint"
	"peftsearch/evaluator"
	"peftsearch/evaluator/torch"
)

// wordsOut is the canonical name of the matrix [vocabulary, D] of checkpoints whose logits are no product with the
// word embeddings.
const wordsOut = checkpoint.WordsOut

// headText says how probable each token of the vocabulary is after each marked one. It has no parameters: the
// backbone's family knows the vocabulary.
type headText struct{}

func declareText(*parameters, headForm, int, int) head { return headText{} }

func (headText) rows() Rows { return Marked }

// logits are [marked, vocabulary].
func (headText) logits(p *pass, _ Batch, x *torch.Tensor) *torch.Tensor {
	table, scale := p.net.family.(writer).vocabulary()
	return wordLogits(p.Scope, x, p.To(table, torch.Float32), scale)
}

// wordLogits is scale·x·tableᵀ in float32, of a table in it.
func wordLogits(s *torch.Scope, x, table *torch.Tensor, scale float64) *torch.Tensor {
	x = s.To(x, torch.Float32)
	if scale != 1 {
		x = s.Scale(x, scale)
	}
	return s.Linear(x, table, nil)
}

// scoredTokens is how many tokens' logits are in memory at once.
const scoredTokens = 256

// scores are, for each marked token, the loss of the one that is to be written and 1 if it is the most probable:
// [marked, 2] in place of logits that would fill the memory.
func (headText) scores(p *pass, batch Batch, x *torch.Tensor) *torch.Tensor {
	var next []int64
	for _, id := range slices.Concat(batch.Next...) {
		next = append(next, int64(id))
	}
	if n := x.Size(0); len(next) != n {
		p.Fail(fmt.Errorf("model: %d tokens to be written after %d", len(next), n))
		return nil
	}
	table, scale := p.net.family.(writer).vocabulary()
	table = p.To(table, torch.Float32)
	var parts []*torch.Tensor
	for from := 0; from < len(next) && p.Err() == nil; from += scoredTokens {
		n := min(scoredTokens, len(next)-from)
		parts = append(parts, p.Keep(func() *torch.Tensor {
			logits := wordLogits(p.Scope, p.Narrow(x, 0, from, n), table, scale)
			return p.TokenScores(logits, torch.From(p.Scope, next[from:from+n], n))
		}))
	}
	return p.Cat(0, parts...)
}

func (headText) counts(batch Batch) []int {
	counts := Marked.Counts(batch)
	for i := range counts {
		counts[i] *= 2
	}
	return counts
}

func (headText) loss(s *torch.Scope, _ Batch, logits *torch.Tensor, targets []float64) (*torch.Tensor, int) {
	return crossEntropy(s, logits, targets)
}

// checkWriter refuses a backbone that writes nothing.
func (net *network) checkWriter(spec Spec) error {
	w, ok := net.family.(writer)
	if !ok {
		return &evaluator.Failure{Kind: evaluator.FailureInvalidPlan, Message: fmt.Sprintf("%s writes no texts: task.kind "+
			"text needs a decoder such as GPT-2", net.config.ModelType)}
	}
	if table, _ := w.vocabulary(); table == nil {
		return errors.New("model: config.json says tie_word_embeddings: false, and the weights have no lm_head.weight: " +
			"save them with their language modelling head")
	}
	if spec.Training.Backbone && net.config.Untied {
		return errors.New("model: full fine-tuning of a checkpoint with tie_word_embeddings: false is not supported for " +
			"texts")
	}
	return nil
}
