package torch

// #include "heads.h"
import "C"

import (
	"slices"
	"unsafe"

	"github.com/sugarme/gotch/libtch"
)

// Groups says how flat tokens become padded rows: of each group an int64 tensor [n, m] of indices into
// the flat tokens. The number of flat tokens stands for padding.
type Groups []*Tensor

// PadHeads splits flat x [tokens, heads·d] into one padded tensor of each group, [n·heads, widths[g], d]:
// first the rows of prefix [p, heads·d], nil for none, which every row shares; then the row's tokens; then
// zeros. widths[g] is at least p+m.
func (s *Scope) PadHeads(x, prefix *Tensor, groups Groups, heads int, widths []int) []*Tensor {
	if !s.ready("pad heads", append(slices.Clone(groups), x)...) {
		return nil
	}
	var p unsafe.Pointer
	if prefix != nil {
		p = unsafe.Pointer(prefix.c)
	}
	padded, index, sizes := make([]unsafe.Pointer, len(groups)), pointers(groups), int64s(widths)
	message := C.native_pad_heads(&padded[0], unsafe.Pointer(x.c), p, &index[0], (*C.int64_t)(&sizes[0]),
		C.int(len(groups)), C.int64_t(heads))
	if message != nil {
		s.failWith(unsafe.Pointer(message), "pad heads", x)
		return nil
	}
	tensors := make([]*Tensor, len(padded))
	for i, c := range padded {
		tensors[i] = s.own(libtch.Ctensor(c))
	}
	return tensors
}

// UnpadHeads is the inverse of PadHeads without a prefix: padded tensors [n·heads, width, d] of the
// groups become flat [tokens, heads·d]. Tokens that are in no group are zero.
func (s *Scope) UnpadHeads(padded []*Tensor, groups Groups, tokens, heads int) *Tensor {
	if !s.ready("unpad heads", append(slices.Clone(groups), padded...)...) {
		return nil
	}
	var out unsafe.Pointer
	in, index := pointers(padded), pointers(groups)
	message := C.native_unpad_heads(&out, &in[0], &index[0], C.int(len(groups)), C.int64_t(tokens),
		C.int64_t(heads))
	if message != nil {
		s.failWith(unsafe.Pointer(message), "unpad heads", padded...)
		return nil
	}
	return s.own(libtch.Ctensor(out))
}

// Padding says how flat tokens become n rows of one length: the tokens' int64 indices [n, m], with those of any
// tokens for padding, and where in [n·m] each of them is [tokens]. Tokens behind those are in no row.
type Padding struct{ Index, Back *Tensor }

// PaddedAttention is softmax(scale·q·kᵀ)·v of every head by libtorch's own kernel, which a GPU has, with dropout of
// the softmax: [tokens, heads·d] of q, k, v [tokens, heads·d] and the keys and values [p, heads·d] of a prefix, nil for
// none. The mask [n, p+k] has -∞ for padding and 0 for other keys.
func (s *Scope) PaddedAttention(q, k, v, prefixKeys, prefixValues *Tensor, to, from Padding, mask *Tensor, heads int,
	scale, dropout float64, seed uint64) *Tensor {
	operands := []*Tensor{q, k, v}
	if prefixKeys != nil || prefixValues != nil {
		operands = append(operands, prefixKeys, prefixValues)
	}
	if !s.ready("padded attention", append(slices.Clone(operands), to.Index, to.Back, from.Index, from.Back, mask)...) {
		return nil
	}
	var out unsafe.Pointer
	in, places := pointers(operands), pointers([]*Tensor{to.Index, to.Back, from.Index, from.Back, mask})
	message := C.native_padded_attention(&out, &in[0], C.int(len(in)), places[0], places[1], places[2], places[3],
		places[4],
		C.int64_t(heads), C.double(scale), C.double(dropout), C.uint64_t(seed))
	if message != nil {
		s.failWith(unsafe.Pointer(message), "padded attention", operands...)
		return nil
	}
	return s.own(libtch.Ctensor(out))
}

func pointers(tensors []*Tensor) []unsafe.Pointer {
	list := make([]unsafe.Pointer, len(tensors))
	for i, t := range tensors {
		list[i] = unsafe.Pointer(t.c)
	}
	return list
}
