package torch

// #include <stdlib.h>
// #include "native.h"
import "C"

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"unsafe"

	"github.com/sugarme/gotch/libtch"
)

// ErrOutOfMemory is wrapped by errors of operations for which there was no memory.
var ErrOutOfMemory = errors.New("out of memory")

// ErrDevice is wrapped by errors of a GPU other than a lack of memory. Most of them stay: every later operation of the
// process fails too, so the process must end.
var ErrDevice = errors.New("the GPU failed")

// Tensor is a handle on a libtorch tensor, owned by the scope that made it.
type Tensor struct{ c libtch.Ctensor }

// Shape is the size of each dimension; nil for a tensor that is nil or freed.
func (t *Tensor) Shape() []int {
	if t == nil || t.c == nil {
		return nil
	}
	sizes := make([]int64, libtch.AtDim(t.c)+1) // one more, so that scalars have an address
	libtch.AtShape(t.c, unsafe.Pointer(&sizes[0]))
	shape := make([]int, len(sizes)-1)
	for i := range shape {
		shape[i] = int(sizes[i])
	}
	return shape
}

// Size is the size of dimension dim; negative ones count from the end; 0 for a tensor that is nil.
func (t *Tensor) Size(dim int) int {
	shape := t.Shape()
	if dim < 0 {
		dim += len(shape)
	}
	if dim < 0 || dim >= len(shape) {
		return 0
	}
	return shape[dim]
}

// DType is the element type; 0 for a tensor that is nil or freed.
func (t *Tensor) DType() DType {
	if t == nil || t.c == nil {
		return 0
	}
	return DType(libtch.AtScalarType(t.c))
}

var live atomic.Int64

// Live is the number of tensor handles in the process that are not freed.
func Live() int64 { return live.Load() }

// Scope owns the tensors that its methods return; see the package documentation.
type Scope struct {
	device  Device
	tensors []*Tensor
	err     error
	freed   bool
}

// NewScope makes a scope whose new tensors live on a device. Call Free when done, in the same
// goroutine.
func NewScope(device Device) *Scope {
	runtime.LockOSThread()
	return &Scope{device: device}
}

// Device is where the scope's new tensors live.
func (s *Scope) Device() Device { return s.device }

// Err is the first error of the scope's operations.
func (s *Scope) Err() error { return s.err }

// Fail records an error of the caller, unless there already is one.
func (s *Scope) Fail(err error) {
	if s.err == nil {
		s.err = err
	}
}

// Free frees the scope's tensors and lets go of the OS thread. A second call does nothing.
func (s *Scope) Free() {
	if s.freed {
		return
	}
	s.freed = true
	for _, t := range s.tensors {
		libtch.AtFree(t.c)
		t.c = nil
	}
	live.Add(-int64(len(s.tensors)))
	s.tensors = nil
	s.Fail(errors.New("torch: the scope is freed"))
	runtime.UnlockOSThread()
}

// Keep runs f and frees every tensor that f made with this scope but the one that f returns. What f
// recorded for gradients stays.
func (s *Scope) Keep(f func() *Tensor) *Tensor {
	start := len(s.tensors)
	kept := f()
	made := s.tensors[start:]
	s.tensors = s.tensors[:start]
	for _, t := range made {
		if t == kept {
			s.tensors = append(s.tensors, t)
			continue
		}
		libtch.AtFree(t.c)
		t.c = nil
		live.Add(-1)
	}
	clear(made[len(s.tensors)-start:])
	return kept
}

// own takes over a handle that libtorch returned.
func (s *Scope) own(c libtch.Ctensor) *Tensor {
	t := &Tensor{c: c}
	s.tensors = append(s.tensors, t)
	live.Add(1)
	return t
}

// ready reports whether an operation may run, and records operands that are nil or freed.
func (s *Scope) ready(op string, operands ...*Tensor) bool {
	if s.err != nil {
		return false
	}
	for i, t := range operands {
		if t == nil || t.c == nil {
			s.err = fmt.Errorf("torch: %s: operand %d is nil or freed", op, i)
			return false
		}
	}
	return true
}

// run calls libtorch and takes over the tensor that it writes to out.
func (s *Scope) run(op string, call func(out *libtch.Ctensor), operands ...*Tensor) *Tensor {
	if !s.ready(op, operands...) {
		return nil
	}
	var out libtch.Ctensor
	call(&out)
	if out == nil {
		s.fail(op, operands...)
		return nil
	}
	return s.own(out)
}

// inPlace calls an operation that changes t; libtorch's second handle on t is dropped.
func (s *Scope) inPlace(op string, call func(out *libtch.Ctensor), t *Tensor, operands ...*Tensor) *Tensor {
	if !s.ready(op, t) || !s.ready(op, operands...) {
		return nil
	}
	var out libtch.Ctensor
	call(&out)
	if out == nil {
		s.fail(op, append([]*Tensor{t}, operands...)...)
		return nil
	}
	libtch.AtFree(out)
	return t
}

// fail records libtorch's last error with the operation and its operands' shapes.
func (s *Scope) fail(op string, operands ...*Tensor) {
	s.failWith(unsafe.Pointer(libtch.GetAndResetLastErr()), op, operands...)
}

// failWith takes over and frees a C string.
func (s *Scope) failWith(message unsafe.Pointer, op string, operands ...*Tensor) {
	text := "no message"
	if message != nil {
		text, _, _ = strings.Cut(C.GoString((*C.char)(message)), "\n") // the rest is a C++ backtrace
		C.free(message)
	}
	var shapes []string
	for _, t := range operands {
		shapes = append(shapes, fmt.Sprint(t.Shape()))
	}
	err := fmt.Errorf("torch: %s %s: %s", op, strings.Join(shapes, " "), text)
	if kind := kindOf(text); kind != nil {
		err = fmt.Errorf("%w: %w", kind, err)
	}
	s.Fail(err)
}

// kindOf finds the kind of error that one of libtorch's messages tells of; nil for none of ours.
func kindOf(text string) error {
	mentions := func(words ...string) bool {
		return slices.ContainsFunc(words, func(word string) bool { return strings.Contains(text, word) })
	}
	switch {
	case mentions("out of memory", "can't allocate memory", "_STATUS_ALLOC_FAILED"):
		return ErrOutOfMemory
	case mentions("CUDA error", "CUBLAS_STATUS_", "CUDNN_STATUS_", "CUSOLVER_STATUS_", "CUDA driver error",
		"device-side assert"):
		return ErrDevice
	}
	return nil
}

// failed reports whether a call without a result left an error, and records it.
func (s *Scope) failed(op string, operands ...*Tensor) bool {
	if message := unsafe.Pointer(libtch.GetAndResetLastErr()); message != nil {
		s.failWith(message, op, operands...)
		return true
	}
	return false
}
