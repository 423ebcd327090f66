// Package model computes the BERT family with the modules of a plan, and trains them.
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
//		m.Update(s, m.Gradient(s, m.Loss(s, batch, labels, step)), rate)
//		err := s.Err()
//		s.Free()
//	}
//	best := m.Snapshot()
//
// What does not change is not computed: no gradient goes below the lowest module, the last block is
// computed for the first token alone (no head reads more), and the hidden states that enter the lowest
// block with a module ([Model.Boundary]) can be computed once with [Backbone.Hidden] and given in
// [Batch.Hidden] from then on.
//
// Shapes in comments: n rows, len tokens per padded row, D hidden width, H heads, d = D/H, F
// feed-forward width. Hidden states are [n·len, D].
//
// Names and shapes of trained tensors, as [Model.Tensors] gives them:
//
//	layers.{i}.serial.down.weight [b, D]   .serial.down.bias [b]   .serial.up.weight [D, b]   .serial.up.bias [D]
//	layers.{i}.parallel.…                  likewise
//	layers.{i}.prefix.keys [p, D]          .prefix.values [p, D]   head-major in D, however it was trained
//	layers.{i}.lora.{target}.a [r, in]     .lora.{target}.b [out, r]
//	head.weight [outputs, D]               head.bias [outputs]
//	head.dense.weight [D, D]               head.dense.bias [D]     of the dense head
//	backbone.{name}                        with a trained backbone, by checkpoint.Checkpoint's names
package model
