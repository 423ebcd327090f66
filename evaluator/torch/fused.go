package torch

// #include "native.h"
import "C"

import (
	"fmt"
	"unsafe"

	"github.com/sugarme/gotch/libtch"
)

// Projection is a linear map, with LoRA where A is not nil.
type Projection struct {
	Weight, Bias *Tensor // [out, in]; [out] or nil for none
	A, B         *Tensor // [r, in], [out, r]
	Factor       float64 // of B·A
}

// Project is x·Wᵀ + c + factor·x·Aᵀ·Bᵀ for each projection: [tokens, out] of x [tokens, in]. Several projections of one
// x share the sum of their gradients.
func (s *Scope) Project(x *Tensor, projections ...Projection) []*Tensor {
	return s.project("project", x, projections...)
}

func (s *Scope) project(op string, x *Tensor, projections ...Projection) []*Tensor {
	operands, places, factors := []*Tensor{x}, []C.int64_t{}, []C.double{}
	for _, p := range projections {
		for _, t := range []*Tensor{p.Weight, p.Bias, p.A, p.B} {
			if t == nil {
				places = append(places, -1)
				continue
			}
			places, operands = append(places, C.int64_t(len(operands))), append(operands, t)
		}
		factors = append(factors, C.double(p.Factor))
	}
	outs := make([]*Tensor, len(projections)) // of nil after an error
	if !s.ready(op, operands...) {
		return outs
	}
	for _, p := range projections {
		if p.Weight == nil || (p.A == nil) != (p.B == nil) {
			s.Fail(fmt.Errorf("torch: %s: no matrix, or half of a LoRA", op))
			return outs
		}
	}
	in, out := pointers(operands), make([]unsafe.Pointer, len(projections))
	message := C.native_project(&out[0], &in[0], C.int(len(in)), &places[0], &factors[0], C.int(len(projections)))
	if message != nil {
		s.failWith(unsafe.Pointer(message), op, operands...)
		return outs
	}
	for i, c := range out {
		outs[i] = s.own(libtch.Ctensor(c))
	}
	return outs
}

// GELU in its error function form. What its gradient needs is kept from the forward pass.
func (s *Scope) GELU(t *Tensor) *Tensor { return s.gelu(t, 0) }

// GELUTanh is GELU in its tanh form, which checkpoints call gelu_new or gelu_pytorch_tanh.
func (s *Scope) GELUTanh(t *Tensor) *Tensor { return s.gelu(t, 1) }

func (s *Scope) gelu(t *Tensor, tanh C.int) *Tensor {
	if !s.ready("gelu", t) {
		return nil
	}
	var out unsafe.Pointer
	if message := C.native_gelu(&out, unsafe.Pointer(t.c), tanh); message != nil {
		s.failWith(unsafe.Pointer(message), "gelu", t)
		return nil
	}
	return s.own(libtch.Ctensor(out))
}

// Dropout zeroes elements with a probability, below 1, and scales the others up so that means stay. A seed always draws
// the same mask on a device and for a shape.
func (s *Scope) Dropout(t *Tensor, probability float64, seed uint64) *Tensor {
	if !s.ready("dropout", t) {
		return nil
	}
	var out unsafe.Pointer
	if message := C.native_dropout(&out, unsafe.Pointer(t.c), C.double(probability), C.uint64_t(seed)); message != nil {
		s.failWith(unsafe.Pointer(message), "dropout", t)
		return nil
	}
	return s.own(libtch.Ctensor(out))
}

// LayerNorm over the last dimension, with weight and bias of its size.
func (s *Scope) LayerNorm(t, weight, bias *Tensor, eps float64) *Tensor {
	if !s.ready("layer norm", t, weight, bias) {
		return nil
	}
	var out unsafe.Pointer
	message := C.native_add_norm(&out, nil, unsafe.Pointer(t.c), nil, unsafe.Pointer(weight.c), unsafe.Pointer(bias.c),
		C.double(eps))
	if message != nil {
		s.failWith(unsafe.Pointer(message), "layer norm", t, weight, bias)
		return nil
	}
	return s.own(libtch.Ctensor(out))
}

// AddNorm is a+b and the LayerNorm of it, for operands of one shape; the other operands are LayerNorm's.
func (s *Scope) AddNorm(a, b, weight, bias *Tensor, eps float64) (normed, sum *Tensor) {
	if !s.ready("add norm", a, b, weight, bias) {
		return nil, nil
	}
	var y, total unsafe.Pointer
	message := C.native_add_norm(&y, &total, unsafe.Pointer(a.c), unsafe.Pointer(b.c), unsafe.Pointer(weight.c),
		unsafe.Pointer(bias.c), C.double(eps))
	if message != nil {
		s.failWith(unsafe.Pointer(message), "add norm", a, b, weight, bias)
		return nil, nil
	}
	return s.own(libtch.Ctensor(y)), s.own(libtch.Ctensor(total))
}

// Rows says which flat tokens belong together: row i has the queries from Queries[i] to Queries[i+1] and the keys from
// Keys[i] to Keys[i+1], at least one. Where rows are causal, the last query sees all keys of its row, the one
// before it all but the last, and so on.
type Rows struct {
	Queries, Keys []int64
	Causal        bool
}

// HasAttention reports whether Attention has a kernel for a device and a width of heads.
func HasAttention(device Device, width int) bool {
	return device == CPU && C.native_has_attention(C.int64_t(width)) != 0
}

// Attention is softmax(scale·q·kᵀ)·v within each row and head: q [queries, heads·d], k and v [keys, heads·d] to
// [queries, heads·d]. All rows see the keys and values [p, heads·d] of the prefix first, or nil for none. Tokens
// behind the last row get zeros. The result does not depend on what else is in the batch; HasAttention must be true.
func (s *Scope) Attention(q, k, v, prefixKeys, prefixValues *Tensor, rows Rows, heads int, scale float64) *Tensor {
	operands := []*Tensor{q, k, v}
	if prefixKeys != nil || prefixValues != nil {
		operands = append(operands, prefixKeys, prefixValues)
	}
	if !s.ready("attention", operands...) {
		return nil
	}
	in := pointers(operands)
	var out unsafe.Pointer
	causal := C.int(0)
	if rows.Causal {
		causal = 1
	}
	message := C.native_attention(&out, &in[0], C.int(len(in)), (*C.int64_t)(unsafe.SliceData(rows.Queries)),
		C.int64_t(len(rows.Queries)),
		(*C.int64_t)(unsafe.SliceData(rows.Keys)), C.int64_t(len(rows.Keys)), C.int64_t(heads), C.double(scale), causal)
	if message != nil {
		s.failWith(unsafe.Pointer(message), "attention", operands...)
		return nil
	}
	return s.own(libtch.Ctensor(out))
}
