package torch

// #include "native.h"
import "C"

import (
	"unsafe"

	"github.com/sugarme/gotch/libtch"
)

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

// LayerNorm over the last dimension, with weight and bias of its size.
func (s *Scope) LayerNorm(t, weight, bias *Tensor, eps float64) *Tensor {
	if !s.ready("layer norm", t, weight, bias) {
		return nil
	}
	var out unsafe.Pointer
	message := C.native_add_norm(&out, nil, unsafe.Pointer(t.c), nil, unsafe.Pointer(weight.c), unsafe.Pointer(bias.c), C.double(eps))
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
	message := C.native_add_norm(&y, &total, unsafe.Pointer(a.c), unsafe.Pointer(b.c), unsafe.Pointer(weight.c), unsafe.Pointer(bias.c), C.double(eps))
	if message != nil {
		s.failWith(unsafe.Pointer(message), "add norm", a, b, weight, bias)
		return nil, nil
	}
	return s.own(libtch.Ctensor(y)), s.own(libtch.Ctensor(total))
}

// Rows says which flat tokens belong together: row i has the queries from Queries[i] to Queries[i+1] and the keys from
// Keys[i] to Keys[i+1], at least one of each. Where rows are causal, the last query sees all keys of its row, the one
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
	pointers := make([]unsafe.Pointer, len(operands))
	for i, t := range operands {
		pointers[i] = unsafe.Pointer(t.c)
	}
	var out unsafe.Pointer
	causal := C.int(0)
	if rows.Causal {
		causal = 1
	}
	message := C.native_attention(&out, &pointers[0], C.int(len(pointers)), (*C.int64_t)(unsafe.SliceData(rows.Queries)), C.int64_t(len(rows.Queries)),
		(*C.int64_t)(unsafe.SliceData(rows.Keys)), C.int64_t(len(rows.Keys)), C.int64_t(heads), C.double(scale), causal)
	if message != nil {
		s.failWith(unsafe.Pointer(message), "attention", operands...)
		return nil
	}
	return s.own(libtch.Ctensor(out))
}
