package torch

import (
	"errors"
	"math"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func newScope(t *testing.T) *Scope {
	t.Helper()
	before := Live()
	s := NewScope(CPU)
	t.Cleanup(func() {
		s.Free()
		if got := Live(); got != before {
			t.Errorf("%d tensors outlive the scope", got-before)
		}
	})
	return s
}

func check(t *testing.T, s *Scope, what string, got *Tensor, want []float32, shape ...int) {
	t.Helper()
	values := s.Float32s(got)
	if err := s.Err(); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	if diff := cmp.Diff(want, values, cmpopts.EquateApprox(1e-5, 1e-6)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
	if diff := cmp.Diff(shape, got.Shape()); diff != "" {
		t.Errorf("%s, shape (-want +got):\n%s", what, diff)
	}
}

func TestOperations(t *testing.T) {
	s := newScope(t)
	x := From(s, []float32{1, 2, 3, 4, 5, 6}, 2, 3)
	w := From(s, []float32{1, 0, -1, 2, 1, 0}, 2, 3)
	b := From(s, []float32{10, 20}, 2)
	check(t, s, "linear", s.Linear(x, w, b), []float32{8, 24, 8, 33}, 2, 2)
	check(t, s, "linear without bias", s.Linear(x, w, nil), []float32{-2, 4, -2, 13}, 2, 2)
	check(t, s, "narrow", s.Narrow(x, 1, 1, 2), []float32{2, 3, 5, 6}, 2, 2)
	check(t, s, "transpose", s.Transpose(x, 0, 1), []float32{1, 4, 2, 5, 3, 6}, 3, 2)
	check(t, s, "cat", s.Cat(0, x, w), []float32{1, 2, 3, 4, 5, 6, 1, 0, -1, 2, 1, 0}, 4, 3)
	check(t, s, "expand", s.Expand(s.Reshape(b, 2, 1), -1, 2), []float32{10, 10, 20, 20}, 2, 2)
	check(t, s, "embedding", s.Embedding(x, From(s, []int32{1}, 1, 1)), []float32{4, 5, 6}, 1, 1, 3)
	check(t, s, "softmax", s.Softmax(From(s, []float32{0, float32(math.Log(3))}, 2)), []float32{0.25, 0.75}, 2)
	check(t, s, "gelu", s.GELU(From(s, []float32{-1, 0, 1}, 3)), []float32{-0.15865525, 0, 0.8413447}, 3)
	check(t, s, "relu", s.ReLUTo(From(s, []float32{-1, 2}, 2)), []float32{0, 2}, 2)
	pair := s.Reshape(x, 1, 2, 3)
	check(t, s, "scaled batch matmul",
		s.ScaledBatchMatmul(From(s, []float32{1, -1}, 1, 1, 2), pair, s.Transpose(pair, 1, 2), 0.5),
		[]float32{8, 15, 17, 37.5}, 1, 2, 2)
	check(t, s, "layer norm", s.LayerNorm(From(s, []float32{1, 3}, 1, 2), From(s, []float32{2, 2}, 2),
		From(s, []float32{1, 1}, 2), 1e-12),
		[]float32{-1, 3}, 1, 2)
	check(t, s, "bfloat16", s.To(From(s, []float32{1.00390625}, 1), BFloat16), []float32{1}, 1)
	halves := s.To(From(s, []float32{1.5, -2}, 1, 2), BFloat16)
	check(t, s, "bytes", FromBytes(s, s.Bytes(halves), BFloat16, 2, 1), []float32{1.5, -2}, 2, 1)
	check(t, s, "select", s.Select(x, From(s, []int64{1, 0, 1}, 3)), []float32{4, 5, 6, 1, 2, 3, 4, 5, 6}, 3, 3)
	if got := s.Item(s.CrossEntropy(From(s, make([]float32, 4), 2, 2),
		From(s, []int64{0, 1}, 2))); math.Abs(got-2*math.Ln2) > 1e-6 {
		t.Errorf("cross entropy of two even guesses is %g", got)
	}
	check(t, s, "cat promotes", s.Cat(0, s.To(b, BFloat16), b), []float32{10, 20, 10, 20}, 4)
	if got := s.Item(From(s, []float32{7}, 1, 1)); got != 7 {
		t.Errorf("item is %g, want 7", got)
	}
}

func TestGrad(t *testing.T) {
	s := newScope(t)
	flat := From(s, []float32{1, 2, 3}, 3)
	w, b := s.Leaf(s.Reshape(s.Narrow(flat, 0, 0, 2), 1, 2)), s.Leaf(s.Narrow(flat, 0, 2, 1))
	x := From(s, []float32{1, 1, 2, 0}, 2, 2)
	loss := s.SquaredError(s.Linear(x, w, b), From(s, []float32{0, 0}, 2, 1)) // rows 6 and 5
	grads := s.Grad(loss, []*Tensor{w, b})
	check(t, s, "weight gradient", grads[0], []float32{32, 12}, 1, 2)
	check(t, s, "bias gradient", grads[1], []float32{22}, 1)
	s.ScaleTo(flat, 2)
	check(t, s, "a leaf sees the flat tensor", w, []float32{2, 4}, 1, 2)

	var quiet *Tensor
	NoGrad(func() { quiet = s.Linear(x, w, b) })
	if s.Grad(s.SquaredError(quiet, quiet), []*Tensor{w}); s.Err() == nil {
		t.Error("a loss without a graph has no gradient, and no error says so")
	}
}

func TestNoGradRestores(t *testing.T) {
	s := newScope(t)
	NoGrad(func() { NoGrad(func() {}) })
	w := s.Leaf(From(s, []float32{2}, 1))
	check(t, s, "gradient after NoGrad", s.Grad(s.SquaredError(w, s.Zeros(Float32, 1)), []*Tensor{w})[0], []float32{4}, 1)
}

func TestKeep(t *testing.T) {
	s := newScope(t)
	x := s.Leaf(From(s, []float32{1, 2}, 2))
	before := Live()
	var inner *Tensor
	y := s.Keep(func() *Tensor {
		inner = s.Mul(x, x)
		return s.Mul(inner, inner)
	})
	if got := Live() - before; got != 1 || inner.Shape() != nil {
		t.Errorf("%d new tensors live, want the kept one", got)
	}
	if same := s.Keep(func() *Tensor { s.Add(x, x); return y }); same != y || Live()-before != 1 {
		t.Error("a tensor from before is not kept as it is")
	}
	check(t, s, "kept tensor", y, []float32{1, 16}, 2)
	check(t, s, "gradient through freed handles", s.Grad(s.SquaredError(y, s.Zeros(Float32, 2)), []*Tensor{x})[0],
		[]float32{8, 1024}, 2)
}

func TestErrorsStick(t *testing.T) {
	s := newScope(t)
	x := From(s, []float32{1, 2, 3}, 1, 3)
	if y := s.ReLUTo(s.Add(s.Linear(x, x, nil), s.Linear(x, s.Transpose(x, 0, 1), nil))); y != nil {
		t.Error("an operation after an error has a result")
	}
	err := s.Err()
	if err == nil || !strings.Contains(err.Error(), "linear [1 3] [3 1]") || strings.Contains(err.Error(), "\n") {
		t.Errorf("the error does not name the operation and its operands in a line: %v", err)
	}
	s.Embedding(x, x)
	if s.Err() != err {
		t.Error("a later error replaced the first")
	}
}

func TestFreedAndNilOperands(t *testing.T) {
	other := NewScope(CPU)
	x := From(other, []float32{1}, 1)
	other.Free()
	other.Free()
	for _, operand := range []*Tensor{nil, x} {
		s := NewScope(CPU)
		if s.Add(operand, operand); s.Err() == nil {
			t.Error("no error for an operand that is nil or freed")
		}
		s.Free()
	}
	if other.Zeros(Float32, 1); other.Err() == nil {
		t.Error("no error for a freed scope")
	}
}

func TestOutOfMemory(t *testing.T) {
	s := newScope(t)
	if s.Zeros(Float32, 1<<50); !errors.Is(s.Err(), ErrOutOfMemory) {
		t.Errorf("error of an impossible allocation: %v", s.Err())
	}
}

func TestKindsOfErrors(t *testing.T) {
	for text, want := range map[string]error{
		"CUDA out of memory. Tried to allocate 2.00 GiB":                             ErrOutOfMemory,
		"CUDA error: out of memory":                                                  ErrOutOfMemory,
		"CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`": ErrOutOfMemory,
		"CUDA error: an illegal memory access was encountered":                       ErrDevice,
		"CUDA error: device-side assert triggered":                                   ErrDevice,
		"cuDNN error: CUDNN_STATUS_EXECUTION_FAILED":                                 ErrDevice,
		"mat1 and mat2 shapes cannot be multiplied (2x3 and 2x3)":                    nil,
	} {
		if got := kindOf(text); got != want {
			t.Errorf("%q is %v, want %v", text, got, want)
		}
	}
}

func TestParseDevice(t *testing.T) {
	if d, err := ParseDevice("cpu"); err != nil || d != CPU {
		t.Errorf("cpu: %v, %v", d, err)
	}
	for _, name := range []string{"", "gpu", "cuda:", "cuda:-1", "cuda:x", "cuda:4096"} {
		if _, err := ParseDevice(name); err == nil {
			t.Errorf("device %q is accepted", name)
		}
	}
}

// TestAdamW compares with the update written out in float64.
func TestAdamW(t *testing.T) {
	const n, decay, maxNorm = 9, 0.1, 1.5
	skips := func(step int) bool { return step == 0 || step == 3 }
	groups := []Group{{Size: 6, Decayed: 4}, {Size: 3, Decayed: 1, Skips: skips}}
	steps := make([]int, n)
	s := newScope(t)
	rng := rand.New(rand.NewPCG(1, 2))
	values := make([]float32, n)
	want, m, v := make([]float64, n), make([]float64, n), make([]float64, n)
	for i := range values {
		values[i] = rng.Float32()
		want[i] = float64(values[i])
	}
	params := From(s, values, n)
	o := NewAdamW(s, params, groups, decay, maxNorm)
	resumed := From(s, values, n)
	r := NewAdamW(s, resumed, groups, decay, maxNorm)
	for step := 1; step <= 5; step++ {
		grad := make([]float32, n)
		norm := 0.0
		for i := range grad {
			grad[i] = float32(rng.NormFloat64())
			norm += float64(grad[i]) * float64(grad[i])
		}
		norm = math.Sqrt(norm)
		rate := 0.01 * float64(step)
		if got := o.Step(s, From(s, grad, n), rate); math.Abs(got-norm) > 1e-5 {
			t.Errorf("gradient norm %g, want %g", got, norm)
		}
		r.Step(s, From(s, grad, n), rate)
		for i := range want {
			if i >= 6 && skips(step-1) {
				continue
			}
			steps[i]++
			g := float64(grad[i]) * min(1, maxNorm/(norm+1e-6))
			m[i] = 0.9*m[i] + 0.1*g
			v[i] = 0.999*v[i] + 0.001*g*g
			if i < 4 || i == 6 {
				want[i] *= 1 - rate*decay
			}
			mHat, vHat := m[i]/(1-math.Pow(0.9, float64(steps[i]))), v[i]/(1-math.Pow(0.999, float64(steps[i])))
			want[i] -= rate * mHat / (math.Sqrt(vHat) + 1e-8)
		}
		if step == 3 { // the second optimiser goes on from the first one's state
			r = NewAdamW(s, resumed, groups, decay, maxNorm)
			r.SetState(s, o.State(s))
		}
	}
	got := s.Float32s(params)
	for i := range want {
		if math.Abs(float64(got[i])-want[i]) > 1e-6 {
			t.Errorf("parameter %d is %g, want %g", i, got[i], want[i])
		}
	}
	if diff := cmp.Diff(got, s.Float32s(resumed)); diff != "" {
		t.Errorf("a continued optimiser differs:\n%s", diff)
	}
	if s.Err() != nil {
		t.Error(s.Err())
	}
}

func TestCPUCapability(t *testing.T) {
	const pattern = `^[A-Z][A-Z0-9]*(\+AVX512_BF16)?(\+AMX_BF16)?$` // of libtorch on x86: DEFAULT, AVX2, AVX512
	if got := CPUCapability(); !regexp.MustCompile(pattern).MatchString(got) || got != CPUCapability() {
		t.Errorf("capability %q does not match %s", got, pattern)
	}
}

func TestConfigure(t *testing.T) {
	s := newScope(t) // holds the OS thread
	before := Threads()
	defer Configure(before)
	Configure(1)
	if got := Threads(); got != 1 {
		t.Errorf("%d threads, want 1", got)
	}
	s.Zeros(Float32, 1)
	if rss := PeakRSS(); rss < 10<<20 {
		t.Errorf("peak memory of %d bytes cannot be right", rss)
	}
}
