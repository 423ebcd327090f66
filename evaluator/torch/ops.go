package torch

// #include <stdlib.h>
// #include "native.h"
import "C"

import (
	"errors"
	"fmt"
	"unsafe"

	"github.com/sugarme/gotch/libtch"
)

// From copies data, in row-major order, into a new tensor of the given shape.
func From[T float32 | int32 | int64](s *Scope, data []T, shape ...int) *Tensor {
	var dtype DType
	switch any(*new(T)).(type) {
	case float32:
		dtype = Float32
	case int32:
		dtype = Int32
	case int64:
		dtype = Int64
	}
	bytes := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(data))), len(data)*dtype.Size())
	return FromBytes(s, bytes, dtype, shape...)
}

// FromBytes copies elements, as [Scope.Bytes] gives them, into a new tensor of the given shape.
func FromBytes(s *Scope, data []byte, dtype DType, shape ...int) *Tensor {
	if !s.ready("from") {
		return nil
	}
	count, size := 1, dtype.Size()
	for _, n := range shape {
		count *= n
	}
	if count == 0 && len(data) == 0 {
		return s.Zeros(dtype, shape...)
	}
	if count*size != len(data) {
		s.Fail(fmt.Errorf("torch: from: %d %s values for the shape %v", len(data)/size, dtype, shape))
		return nil
	}
	sizes := append(int64s(shape), 0) // one more, so that scalars have an address
	c := libtch.AtTensorOfData(unsafe.Pointer(&data[0]), sizes, uint(len(shape)), uint(size), int(dtype))
	if c == nil {
		s.fail("from")
		return nil
	}
	t := s.own(c)
	if s.device == CPU {
		return t
	}
	return s.run("to", func(out *libtch.Ctensor) { libtch.AtgTo(out, t.c, int32(s.device)) }, t)
}

// Float32s copies a tensor's elements, in row-major order, to the host.
func (s *Scope) Float32s(t *Tensor) []float32 {
	var data []float32
	NoGrad(func() {
		f := s.To(t, Float32)
		if !s.ready("float32s", f) {
			return
		}
		count := 1
		for _, size := range f.Shape() {
			count *= size
		}
		if count == 0 {
			return
		}
		values := make([]float32, count)
		libtch.AtCopyData(f.c, unsafe.Pointer(&values[0]), uint(count), 4)
		if !s.failed("float32s", f) {
			data = values
		}
	})
	return data
}

// Bytes copies a tensor's elements, in row-major order and their own type, to the host.
func (s *Scope) Bytes(t *Tensor) []byte {
	if !s.ready("bytes", t) {
		return nil
	}
	count, size := 1, t.DType().Size()
	for _, n := range t.Shape() {
		count *= n
	}
	if count == 0 {
		return nil
	}
	data := make([]byte, count*size)
	libtch.AtCopyData(t.c, unsafe.Pointer(&data[0]), uint(count), uint(size))
	if s.failed("bytes", t) {
		return nil
	}
	return data
}

// Item is the value of a tensor with one element; 0 after an error.
func (s *Scope) Item(t *Tensor) float64 {
	if !s.ready("item", t) {
		return 0
	}
	var zero [8]int64
	value := libtch.AtDoubleValueAtIndexes(t.c, unsafe.Pointer(&zero[0]), len(t.Shape()))
	if s.failed("item", t) {
		return 0
	}
	return value
}

// Zeros is a new tensor of zeros.
func (s *Scope) Zeros(dtype DType, shape ...int) *Tensor {
	return s.run("zeros", func(out *libtch.Ctensor) {
		libtch.AtgZeros(out, int64s(shape), len(shape), int32(dtype), int32(s.device))
	})
}

// To converts the element type; a tensor that already has it is shared.
func (s *Scope) To(t *Tensor, dtype DType) *Tensor {
	return s.run("to", func(out *libtch.Ctensor) { libtch.AtgToDtype(out, t.c, int32(dtype), 0, 0) }, t)
}

// Clone copies t into memory of its own, with t's history.
func (s *Scope) Clone(t *Tensor) *Tensor {
	return s.CopyTo(s.Zeros(t.DType(), t.Shape()...), t)
}

// Detach shares t's memory without its history.
func (s *Scope) Detach(t *Tensor) *Tensor {
	return s.run("detach", func(out *libtch.Ctensor) { libtch.AtgDetach(out, t.c) }, t)
}

// Leaf shares t's memory as a tensor for which Grad gives gradients.
func (s *Scope) Leaf(t *Tensor) *Tensor {
	leaf := s.Detach(t)
	return s.inPlace("requires grad", func(out *libtch.Ctensor) { libtch.AtgSetRequiresGrad(out, leaf.c, 1) }, leaf)
}

// Grad is the gradient of a scalar loss with respect to each leaf. The recorded graph is freed.
func (s *Scope) Grad(loss *Tensor, leaves []*Tensor) []*Tensor { return s.grad(loss, leaves, false) }

// GradWhereUsed is Grad, of zeros with respect to leaves that the loss does not depend on.
func (s *Scope) GradWhereUsed(loss *Tensor, leaves []*Tensor) []*Tensor {
	return s.grad(loss, leaves, true)
}

func (s *Scope) grad(loss *Tensor, leaves []*Tensor, unused bool) []*Tensor {
	if !s.ready("grad", loss) || !s.ready("grad", leaves...) || len(leaves) == 0 {
		return nil
	}
	if !libtch.AtRequiresGrad(loss.c) { // libtorch would follow a null pointer
		s.Fail(errors.New("torch: grad: the loss has no recorded operations"))
		return nil
	}
	roots, inputs, outputs := []libtch.Ctensor{loss.c}, handles(leaves), make([]libtch.Ctensor, len(leaves))
	libtch.AtRunBackward(&roots[0], 1, &inputs[0], len(inputs), &outputs[0], 0, 0)
	if s.failed("grad", loss) {
		return nil
	}
	grads := make([]*Tensor, len(leaves))
	for i, c := range outputs {
		switch grads[i] = s.own(c); {
		case libtch.AtDefined(c):
		case unused:
			grads[i] = s.Zeros(leaves[i].DType(), leaves[i].Shape()...)
		default:
			s.Fail(fmt.Errorf("torch: grad: the loss does not depend on leaf %d", i))
		}
	}
	if s.err != nil {
		return nil
	}
	return grads
}

// Add is a + b, broadcast.
func (s *Scope) Add(a, b *Tensor) *Tensor {
	return s.run("add", func(out *libtch.Ctensor) { libtch.AtgAdd(out, a.c, b.c) }, a, b)
}

// AddTo adds b to a, in place. If gradients are recorded, a must not be an operand whose value its own
// gradient needs; sums and the results of Linear and Matmul are safe.
func (s *Scope) AddTo(a, b *Tensor) *Tensor {
	return s.inPlace("add", func(out *libtch.Ctensor) { libtch.AtgAdd_(out, a.c, b.c) }, a, b)
}

// Mul is the elementwise product, broadcast.
func (s *Scope) Mul(a, b *Tensor) *Tensor {
	return s.run("mul", func(out *libtch.Ctensor) { libtch.AtgMul(out, a.c, b.c) }, a, b)
}

// Div is a/b, broadcast.
func (s *Scope) Div(a, b *Tensor) *Tensor {
	return s.run("div", func(out *libtch.Ctensor) { libtch.AtgDiv(out, a.c, b.c) }, a, b)
}

// Sqrt is the square root of every element.
func (s *Scope) Sqrt(t *Tensor) *Tensor {
	return s.run("sqrt", func(out *libtch.Ctensor) { libtch.AtgSqrt(out, t.c) }, t)
}

// Sigmoid is 1/(1+exp(-t)).
func (s *Scope) Sigmoid(t *Tensor) *Tensor {
	return s.run("sigmoid", func(out *libtch.Ctensor) { libtch.AtgSigmoid(out, t.c) }, t)
}

// Scale is a·factor.
func (s *Scope) Scale(a *Tensor, factor float64) *Tensor {
	f := libtch.AtsFloat(factor)
	defer libtch.AtsFree(f)
	return s.run("scale", func(out *libtch.Ctensor) { libtch.AtgMulScalar(out, a.c, f) }, a)
}

// ScaleTo multiplies a by factor, in place.
func (s *Scope) ScaleTo(a *Tensor, factor float64) *Tensor {
	f := libtch.AtsFloat(factor)
	defer libtch.AtsFree(f)
	return s.inPlace("scale", func(out *libtch.Ctensor) { libtch.AtgMulScalar_(out, a.c, f) }, a)
}

// CopyTo copies b, converted and broadcast, into a.
func (s *Scope) CopyTo(a, b *Tensor) *Tensor {
	if !s.ready("copy", a, b) {
		return nil
	}
	libtch.AtCopy_(a.c, b.c)
	if s.failed("copy", a, b) {
		return nil
	}
	return a
}

// Linear is x·Wᵀ + bias: [tokens, out] of x [tokens, in], weight [out, in], bias [out] or nil for none.
func (s *Scope) Linear(x, weight, bias *Tensor) *Tensor {
	return s.project("linear", x, Projection{Weight: weight, Bias: bias})[0]
}

// AddMatmulTo adds a·b to t, in place: t [i, k], a [i, j], b [j, k]. AddTo says when that is safe.
func (s *Scope) AddMatmulTo(t, a, b *Tensor) *Tensor {
	return s.inPlace("add matmul", func(out *libtch.Ctensor) { libtch.AtgAddmm_(out, t.c, a.c, b.c) }, t, a, b)
}

// BatchMatmul is a·b for each of n pairs: a [n, i, j], b [n, j, k].
func (s *Scope) BatchMatmul(a, b *Tensor) *Tensor {
	return s.run("batch matmul", func(out *libtch.Ctensor) { libtch.AtgBmm(out, a.c, b.c) }, a, b)
}

// ScaledBatchMatmul is bias + scale·a·b for each of n pairs: a [n, i, j], b [n, j, k], bias broadcast
// to [n, i, k].
func (s *Scope) ScaledBatchMatmul(bias, a, b *Tensor, scale float64) *Tensor {
	one, alpha := libtch.AtsFloat(1), libtch.AtsFloat(scale)
	defer libtch.AtsFree(one)
	defer libtch.AtsFree(alpha)
	return s.run("scaled batch matmul", func(out *libtch.Ctensor) {
		libtch.AtgBaddbmm(out, bias.c, a.c, b.c, one, alpha)
	}, bias, a, b)
}

// Softmax over the last dimension.
func (s *Scope) Softmax(t *Tensor) *Tensor {
	return s.run("softmax", func(out *libtch.Ctensor) { libtch.AtgSoftmax(out, t.c, -1, -1) }, t)
}

// ReLUTo sets negative elements to zero, in place.
func (s *Scope) ReLUTo(t *Tensor) *Tensor {
	return s.inPlace("relu", func(out *libtch.Ctensor) { libtch.AtgRelu_(out, t.c) }, t)
}

// RMSNorm is weight·t/√(mean(t²)+eps) over the last dimension, computed in float32.
func (s *Scope) RMSNorm(t, weight *Tensor, eps float64) *Tensor {
	x := s.To(t, Float32)
	square := s.Mul(x, x)
	mean := s.run("mean", func(out *libtch.Ctensor) {
		libtch.AtgMeanDim(out, square.c, []int64{-1}, 1, 1, int32(Float32))
	}, square)
	least := libtch.AtsFloat(eps)
	defer libtch.AtsFree(least)
	above := s.run("add", func(out *libtch.Ctensor) { libtch.AtgAddScalar(out, mean.c, least) }, mean)
	inverse := s.run("rsqrt", func(out *libtch.Ctensor) { libtch.AtgRsqrt(out, above.c) }, above)
	return s.Mul(s.To(s.Mul(x, inverse), t.DType()), weight)
}

// Tanh elementwise.
func (s *Scope) Tanh(t *Tensor) *Tensor {
	return s.run("tanh", func(out *libtch.Ctensor) { libtch.AtgTanh(out, t.c) }, t)
}

// SiLU is x·sigmoid(x) elementwise.
func (s *Scope) SiLU(t *Tensor) *Tensor {
	return s.run("silu", func(out *libtch.Ctensor) { libtch.AtgSilu(out, t.c) }, t)
}

// Embedding is the rows of table [rows, width] at the int32 or int64 indices [...]: [..., width].
func (s *Scope) Embedding(table, indices *Tensor) *Tensor {
	return s.run("embedding", func(out *libtch.Ctensor) {
		libtch.AtgEmbedding(out, table.c, indices.c, -1, 0, 0)
	}, table, indices)
}

// Select is the rows of t at int64 indices [n], along its first dimension.
func (s *Scope) Select(t, indices *Tensor) *Tensor {
	return s.run("select", func(out *libtch.Ctensor) { libtch.AtgIndexSelect(out, t.c, 0, indices.c) }, t, indices)
}

// Cat joins tensors along a dimension; element types are promoted.
func (s *Scope) Cat(dim int, tensors ...*Tensor) *Tensor {
	return s.run("cat", func(out *libtch.Ctensor) {
		libtch.AtgCat(out, handles(tensors), len(tensors), int64(dim))
	}, tensors...)
}

// Narrow is a view of length entries of dimension dim from start.
func (s *Scope) Narrow(t *Tensor, dim, start, length int) *Tensor {
	return s.run("narrow", func(out *libtch.Ctensor) {
		libtch.AtgNarrow(out, t.c, int64(dim), int64(start), int64(length))
	}, t)
}

// Permute is a view with the dimensions in another order.
func (s *Scope) Permute(t *Tensor, dims ...int) *Tensor {
	return s.run("permute", func(out *libtch.Ctensor) { libtch.AtgPermute(out, t.c, int64s(dims), len(dims)) }, t)
}

// Transpose is a view with two dimensions exchanged.
func (s *Scope) Transpose(t *Tensor, dim0, dim1 int) *Tensor {
	return s.run("transpose", func(out *libtch.Ctensor) {
		libtch.AtgTranspose(out, t.c, int64(dim0), int64(dim1))
	}, t)
}

// Reshape is a view where the memory allows, else a copy; one size may be -1.
func (s *Scope) Reshape(t *Tensor, shape ...int) *Tensor {
	return s.run("reshape", func(out *libtch.Ctensor) { libtch.AtgReshape(out, t.c, int64s(shape), len(shape)) }, t)
}

// Expand is a view that repeats dimensions of size 1; -1 keeps a size.
func (s *Scope) Expand(t *Tensor, shape ...int) *Tensor {
	return s.run("expand", func(out *libtch.Ctensor) {
		libtch.AtgExpand(out, t.c, int64s(shape), len(shape), 0)
	}, t)
}

// reductionSum makes libtorch's losses sums.
const reductionSum = 2

// SquaredError is the sum of the squared errors between tensors of one shape.
func (s *Scope) SquaredError(prediction, target *Tensor) *Tensor {
	return s.run("squared error", func(out *libtch.Ctensor) {
		libtch.AtgMseLoss(out, prediction.c, target.c, reductionSum)
	}, prediction, target)
}

// CrossEntropy is the sum of the cross-entropies of logits [n, classes] and int64 class indices [n].
func (s *Scope) CrossEntropy(logits, target *Tensor) *Tensor {
	return s.run("cross entropy", func(out *libtch.Ctensor) {
		libtch.AtgCrossEntropyLoss(out, logits.c, target.c, nil, reductionSum, -100, 0)
	}, logits, target)
}

// BinaryCrossEntropy is the sum of the cross-entropies of logits and probabilities of one shape.
func (s *Scope) BinaryCrossEntropy(logits, target *Tensor) *Tensor {
	return s.run("binary cross entropy", func(out *libtch.Ctensor) {
		libtch.AtgBinaryCrossEntropyWithLogits(out, logits.c, target.c, nil, nil, reductionSum)
	}, logits, target)
}

func handles(tensors []*Tensor) []libtch.Ctensor {
	c := make([]libtch.Ctensor, len(tensors))
	for i, t := range tensors {
		c[i] = t.c
	}
	return c
}

func int64s(values []int) []int64 {
	wide := make([]int64, len(values), len(values)+1)
	for i, v := range values {
		wide[i] = int64(v)
	}
	return wide
}
