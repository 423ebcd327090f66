package torch

import "github.com/sugarme/gotch/libtch"

// LogSoftmax over the last dimension.
func (s *Scope) LogSoftmax(t *Tensor) *Tensor {
	return s.run("log softmax", func(out *libtch.Ctensor) { libtch.AtgLogSoftmax(out, t.c, -1, int32(Float32)) }, t)
}

// TokenScores compares logits [n, vocabulary] with int64 tokens [n]: the cross-entropy of each, and 1 where it is the
// most probable one, else 0 [n, 2].
func (s *Scope) TokenScores(logits, tokens *Tensor) *Tensor {
	const each = 0 // no sum
	losses := s.run("token losses", func(out *libtch.Ctensor) {
		libtch.AtgCrossEntropyLoss(out, logits.c, tokens.c, nil, each, -100, 0)
	}, logits, tokens)
	best := s.run("argmax", func(out *libtch.Ctensor) { libtch.AtgArgmax(out, logits.c, -1, 0, 0) }, logits)
	hits := s.run("equal", func(out *libtch.Ctensor) { libtch.AtgEqTensor(out, best.c, tokens.c) }, best, tokens)
	return s.Cat(1, s.Reshape(losses, -1, 1), s.Reshape(s.To(hits, Float32), -1, 1))
}
