// Package model computes encoders of the BERT family, the decoder GPT-2 and the encoder-decoder T5 with the modules of
// a plan, and trains them.
//
// A [Backbone] holds a checkpoint's frozen weights and is shared by all trials. A [Model] adds one
// plan's modules and a head, and owns what is trained: a flat float32 tensor of which every trained
// tensor is a view (or, with bfloat16 activations, a view of its bfloat16 copy), so that the optimiser,
// a snapshot and a checkpoint each handle one tensor.
//
//	m, err := model.New(backbone, spec)
//	for step, batch := range batches {
//		s := m.Scope()
//		rate := …
//		sum, terms := m.Loss(s, batch, targets, step)
//		gradient := s.ScaleTo(m.Gradient(s, sum), 1/float64(terms))
//		m.Update(s, gradient, rate)
//		err := s.Err()
//		s.Free()
//	}
//	best := m.Snapshot()
//
// Three things vary, and none knows the others: a family of backbones is one file with the whole forward
// pass (bert.go, gpt2.go, t5.go), a method of tuning is one (lora.go, serial.go, …), and the head of a kind of task is
// one (head_tokens.go, …). A block meets the methods in hooks that its text shows: project, queryKeyValue, keysValues,
// adapt (pass.go).
//
// Tokens are flat, [tokens, D] from the embeddings to the head: the rows of a batch one after another,
// without padding. Only the attention pads, in a few groups of rows of alike length (attention.go). So
// nothing depends on whom a row shares its batch with, and a batch may be cut anywhere.
//
// What does not change is not computed: no gradient goes below the first step that a plan changes, what
// comes after the last attention is computed for those tokens alone that the head reads ([Rows]), and the
// hidden states that enter the plan's first step ([Model.Frontier]) can be computed once with
// [Backbone.Hidden] and given in [Batch.Hidden] from then on.
//
// Shapes in comments: n rows, tokens in all of them, D hidden width, H heads of width d, A = H·d (D but for T5), F
// feed-forward width.
//
// Names and shapes of trained tensors, as [Model.Tensors] gives them:
//
//	layers.{i}.serial.down.weight [b, D]   .serial.down.bias [b]   .serial.up.weight [D, b]   .serial.up.bias [D]
//	layers.{i}.parallel.…                  likewise
//	layers.{i}.prefix.keys [p, A]          .prefix.values [p, A]   head-major, however it was trained
//	layers.{i}.prefix.cross_keys [p, A]    .prefix.cross_values [p, A]
//	layers.{i}.lora.{target}.a [r, in]     .lora.{target}.b [out, r]
//	shared.{method}.{tensor}                 one for all layers
//	head.weight [outputs, D]               head.bias [outputs]
//	head.dense.weight [D, D]               head.dense.bias [D]     of the dense form
//	head.pool.weight [1, D]                                        of coreference, for which D is 2·D in the other two
//	backbone.{name}                        with a trained backbone, by checkpoint.Checkpoint's names
package model
