package torch

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"testing"

	"github.com/sugarme/gotch/libtch"
)

// Kernels are compared with libtorch's own operators in float32, on operands that are exact in the type that is tested.
var tolerances = map[DType]float64{Float32: 2e-5, BFloat16: 2e-2}

// random is a leaf of normal values, exact in a type, as that type and as float32.
func random(s *Scope, rng *rand.Rand, dtype DType, shape ...int) (typed, exact *Tensor) {
	count := 1
	for _, n := range shape {
		count *= n
	}
	values := make([]float32, count)
	for i := range values {
		values[i] = float32(rng.NormFloat64())
	}
	t := s.To(From(s, values, shape...), dtype)
	return s.Leaf(s.Clone(t)), s.Leaf(s.Clone(s.To(t, Float32)))
}

// near compares values relative to the largest of them.
func near(t *testing.T, s *Scope, what string, got, want *Tensor, tolerance float64) {
	t.Helper()
	a, b := s.Float32s(got), s.Float32s(want)
	if err := s.Err(); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	if !slices.Equal(got.Shape(), want.Shape()) {
		t.Fatalf("%s has the shape %v, want %v", what, got.Shape(), want.Shape())
	}
	largest, worst := 0.0, 0.0
	for i := range b {
		largest = max(largest, math.Abs(float64(b[i])))
		worst = max(worst, math.Abs(float64(a[i]-b[i])))
	}
	if !(worst <= tolerance*largest) { // NaN is not near
		t.Errorf("%s is off by %g of %g", what, worst, largest)
	}
}

// nearAll compares results and, for a random loss, the gradients of the leaves.
func nearAll(t *testing.T, s *Scope, what string, rng *rand.Rand, dtype DType, got, want *Tensor, leaves,
	wantLeaves []*Tensor) {
	t.Helper()
	near(t, s, what, got, want, tolerances[dtype])
	weights, exact := random(s, rng, dtype, want.Shape()...)
	grads := s.Grad(total(s, s.Mul(got, s.Detach(weights))), leaves)
	wantGrads := s.Grad(total(s, s.Mul(want, s.Detach(exact))), wantLeaves)
	if err := s.Err(); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	for i := range grads {
		near(t, s, fmt.Sprintf("%s, gradient %d", what, i), grads[i], wantGrads[i], tolerances[dtype])
	}
}

// total is the sum of all elements in float32.
func total(s *Scope, t *Tensor) *Tensor {
	return s.run("sum", func(out *libtch.Ctensor) { libtch.AtgSum(out, t.c, int32(Float32)) }, t)
}

func TestFusedOperations(t *testing.T) {
	for dtype := range tolerances {
		s := newScope(t)
		rng := rand.New(rand.NewPCG(1, uint64(dtype)))
		for _, size := range []int{1, 7, 16, 50, 384} { // with and without whole vectors
			what := func(op string) string { return fmt.Sprintf("%s of %s, size %d", op, dtype, size) }
			x, exactX := random(s, rng, dtype, 5, size)
			y, exactY := random(s, rng, dtype, 5, size)
			for form, gelu := range map[string]func(*Tensor) *Tensor{"none": s.GELU, "tanh": s.GELUTanh} {
				want := s.run("gelu", func(out *libtch.Ctensor) { libtch.AtgGelu(out, exactX.c, form) }, exactX)
				nearAll(t, s, what("gelu "+form), rng, dtype, gelu(x), want, []*Tensor{x}, []*Tensor{exactX})
			}
			if size == 1 {
				continue // whose norm is its bias
			}
			weight, exactWeight := random(s, rng, dtype, size)
			bias, exactBias := random(s, rng, dtype, size)
			norm := func(x *Tensor) *Tensor {
				return s.run("layer norm", func(out *libtch.Ctensor) {
					libtch.AtgLayerNorm(out, x.c, []int64{int64(size)}, 1, exactWeight.c, exactBias.c, 1e-12, 1)
				}, x)
			}
			nearAll(t, s, what("layer norm"), rng, dtype, s.LayerNorm(x, weight, bias, 1e-12), norm(exactX),
				[]*Tensor{x, weight, bias}, []*Tensor{exactX, exactWeight, exactBias})
			normed, sum := s.AddNorm(x, y, weight, bias, 1e-12)
			exactSum := s.Add(exactX, exactY)
			leaves, exact := []*Tensor{x, y, weight, bias}, []*Tensor{exactX, exactY, exactWeight, exactBias}
			nearAll(t, s, what("add norm"), rng, dtype, normed, norm(exactSum), leaves, exact)
			normed, sum = s.AddNorm(x, y, weight, bias, 1e-12)
			nearAll(t, s, what("sum"), rng, dtype, sum, exactSum, leaves[:2], exact[:2])
			normed, sum = s.AddNorm(x, y, weight, bias, 1e-12)
			nearAll(t, s, what("add norm and sum"), rng, dtype, s.Add(normed, sum), s.Add(norm(exactSum), exactSum), leaves,
				exact)
		}
	}
}

func TestProject(t *testing.T) {
	for dtype := range tolerances {
		s := newScope(t)
		rng := rand.New(rand.NewPCG(5, uint64(dtype)))
		const tokens, in, rank = 37, 24, 3
		x, exactX := random(s, rng, dtype, tokens, in)
		leaves, exact := []*Tensor{x}, []*Tensor{exactX}
		leaf := func(shape ...int) (typed, precise *Tensor) {
			typed, precise = random(s, rng, dtype, shape...)
			leaves, exact = append(leaves, typed), append(exact, precise)
			return typed, precise
		}
		var projections []Projection
		var want []*Tensor
		linear := func(x, weight, bias *Tensor) *Tensor {
			return s.run("linear", func(out *libtch.Ctensor) { libtch.AtgLinear(out, x.c, weight.c, bias.c) }, x, weight, bias)
		}
		for i, width := range []int{16, 5, 33} { // without LoRA, with one, with a scaled one
			weight, exactWeight := leaf(width, in)
			bias, exactBias := leaf(width)
			projection := Projection{Weight: weight, Bias: bias}
			y := linear(exactX, exactWeight, exactBias)
			if i > 0 {
				a, exactA := leaf(rank, in)
				b, exactB := leaf(width, rank)
				projection.A, projection.B, projection.Factor = a, b, float64(i)
				zeros := func(n int) *Tensor { return s.Zeros(Float32, n) }
				y = s.Add(y, s.Scale(linear(linear(exactX, exactA, zeros(rank)), exactB, zeros(width)), float64(i)))
			}
			projections, want = append(projections, projection), append(want, y)
		}
		got := s.Project(x, projections...)
		nearAll(t, s, dtype.String(), rng, dtype, s.Cat(1, got...), s.Cat(1, want...), leaves, exact)
		// Of some results alone, and without a gradient of x.
		got = s.Project(s.Detach(x), projections...)
		some, exactSome := slices.Clone(leaves[1:3]), slices.Clone(exact[1:3])
		want[0] = linear(s.Detach(exactX), exact[1], exact[2])
		nearAll(t, s, dtype.String()+", one result", rng, dtype, got[0], want[0], some, exactSome)
		if s.Project(x, Projection{Weight: x, A: x}); s.Err() == nil {
			t.Errorf("%s: half of a LoRA is accepted", dtype)
		}
	}
}

// composedAttention is attention written out, row by row and head by head.
func composedAttention(s *Scope, q, k, v, prefixKeys, prefixValues *Tensor, rows Rows, heads int,
	scale float64) *Tensor {
	width := q.Size(1) / heads
	var contexts []*Tensor
	for i := range len(rows.Queries) - 1 {
		if rows.Queries[i] == rows.Queries[i+1] {
			continue
		}
		part := func(t *Tensor, starts []int64, h int) *Tensor {
			return s.Narrow(s.Narrow(t, 0, int(starts[i]), int(starts[i+1]-starts[i])), 1, h*width, width)
		}
		var row []*Tensor
		for h := range heads {
			query, key, value := part(q, rows.Queries, h), part(k, rows.Keys, h), part(v, rows.Keys, h)
			if prefixKeys != nil {
				key = s.Cat(0, s.Narrow(prefixKeys, 1, h*width, width), key)
				value = s.Cat(0, s.Narrow(prefixValues, 1, h*width, width), value)
			}
			queries, keys := query.Size(0), key.Size(0)
			mask := make([]float32, queries*keys)
			for j := range mask {
				if rows.Causal && j%keys > keys-queries+j/keys {
					mask[j] = float32(math.Inf(-1))
				}
			}
			batch := func(t *Tensor) *Tensor { return s.Reshape(t, append([]int{1}, t.Shape()...)...) }
			scores := s.ScaledBatchMatmul(batch(From(s, mask, queries, keys)), batch(query), s.Transpose(batch(key), 1, 2),
				scale)
			row = append(row, s.Reshape(s.BatchMatmul(s.Softmax(scores), batch(value)), queries, width))
		}
		contexts = append(contexts, s.Cat(1, row...))
	}
	return s.Cat(0, contexts...)
}

func TestAttention(t *testing.T) {
	flat := Rows{Queries: []int64{0, 1, 6, 39, 109}, Keys: []int64{0, 1, 6, 39, 109}} // rows of 1, 5, 33 and 70 tokens
	firsts := Rows{Queries: []int64{0, 1, 2, 3, 4}, Keys: flat.Keys}
	some := Rows{Queries: []int64{0, 1, 1, 40, 41}, Keys: flat.Keys} // none of the second row, more queries than keys
	causal, next := flat, firsts
	causal.Causal, next.Causal = true, true
	for dtype := range tolerances {
		for name, c := range map[string]struct {
			rows                 Rows
			heads, width, prefix int
		}{
			"plain":         {flat, 2, 32, 0},
			"prefix":        {flat, 2, 64, 3},
			"long prefix":   {flat, 1, 32, 40},
			"first tokens":  {firsts, 2, 32, 10},
			"some tokens":   {some, 2, 32, 1},
			"causal":        {causal, 2, 32, 0},
			"causal prefix": {causal, 2, 96, 5},
			"next token":    {next, 2, 64, 0},
		} {
			s := newScope(t)
			rng := rand.New(rand.NewPCG(2, uint64(dtype)))
			what := fmt.Sprintf("%s, %s", name, dtype)
			size := c.heads * c.width
			q, exactQ := random(s, rng, dtype, int(c.rows.Queries[4]), size)
			k, exactK := random(s, rng, dtype, int(c.rows.Keys[4]), size)
			v, exactV := random(s, rng, dtype, int(c.rows.Keys[4]), size)
			leaves, exact := []*Tensor{q, k, v}, []*Tensor{exactQ, exactK, exactV}
			var prefix, exactPrefix [2]*Tensor
			if c.prefix > 0 {
				for i := range prefix {
					prefix[i], exactPrefix[i] = random(s, rng, dtype, c.prefix, size)
				}
				leaves, exact = append(leaves, prefix[:]...), append(exact, exactPrefix[:]...)
			}
			scale := 1.3 / math.Sqrt(float64(c.width))
			got := s.Attention(q, k, v, prefix[0], prefix[1], c.rows, c.heads, scale)
			again := s.Attention(q, k, v, prefix[0], prefix[1], c.rows, c.heads, scale)
			if !slices.Equal(s.Bytes(got), s.Bytes(again)) {
				t.Errorf("%s: a second result differs", what)
			}
			want := composedAttention(s, exactQ, exactK, exactV, exactPrefix[0], exactPrefix[1], c.rows, c.heads, scale)
			nearAll(t, s, what, rng, dtype, got, want, leaves, exact)
		}
	}
}

// What a row gets depends neither on its neighbours, nor on where it is, nor on the number of threads.
func TestAttentionOfARowIsItsOwn(t *testing.T) {
	for dtype := range tolerances {
		s := newScope(t)
		defer Configure(Threads())
		rng := rand.New(rand.NewPCG(3, 4))
		const heads, width = 4, 32
		x, _ := random(s, rng, dtype, 60, heads*width)
		attend := func(x *Tensor, starts ...int64) *Tensor {
			return s.Attention(x, x, x, nil, nil, Rows{Queries: starts, Keys: starts}, heads, 1)
		}
		together := attend(x, 0, 17, 60)
		alone := attend(s.Narrow(x, 0, 17, 43), 0, 43)
		if !slices.Equal(s.Bytes(s.Narrow(together, 0, 17, 43)), s.Bytes(alone)) {
			t.Errorf("%s: a row alone differs from the row in a batch", dtype)
		}
		gradient := func() []byte { return s.Bytes(s.Grad(total(s, attend(x, 0, 17, 60)), []*Tensor{x})[0]) }
		one := gradient()
		Configure(3)
		if !slices.Equal(one, gradient()) || !slices.Equal(s.Bytes(together), s.Bytes(attend(x, 0, 17, 60))) {
			t.Errorf("%s: 3 threads differ from 1", dtype)
		}
		padded := attend(x, 17, 30, 50) // tokens before and behind are in no row
		for _, part := range []*Tensor{s.Narrow(padded, 0, 0, 17), s.Narrow(padded, 0, 50, 10)} {
			near(t, s, "tokens of no row", part, s.Zeros(Float32, part.Shape()...), 0)
		}
		if err := s.Err(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFusedDropout(t *testing.T) {
	for dtype := range tolerances {
		s := newScope(t)
		const n, probability = 1<<16 + 3, 0.25
		x := s.Leaf(s.To(From(s, slices.Repeat([]float32{3}, n), n), dtype))
		y := s.Dropout(x, probability, 7)
		values := s.Float32s(y)
		gradient := s.Float32s(s.Grad(total(s, y), []*Tensor{x})[0])
		if err := s.Err(); err != nil {
			t.Fatal(err)
		}
		kept, pairs := 0, 0
		for i, value := range values {
			if value != 0 {
				kept++
				if i > 0 && values[i-1] != 0 {
					pairs++
				}
			}
			if (value != 0 && value != 4) || math.Abs(float64(gradient[i]-value/3)) > 0.01 {
				t.Fatalf("%s: element %d is %g, its gradient %g", dtype, i, value, gradient[i])
			}
		}
		for what, share := range map[string][2]float64{"elements": {float64(kept) / n, 0.75},
			"pairs": {float64(pairs) / n, 0.75 * 0.75}} {
			if math.Abs(share[0]-share[1]) > 0.01 { // more than 5 standard deviations
				t.Errorf("%s: %g of the %s are kept, want %g", dtype, share[0], what, share[1])
			}
		}
		if !slices.Equal(s.Bytes(y), s.Bytes(s.Dropout(x, probability, 7))) ||
			slices.Equal(s.Bytes(y), s.Bytes(s.Dropout(x, probability, 8))) {
			t.Errorf("%s: masks do not follow from the seed", dtype)
		}
	}
}

func TestFusedOperationsPassOnWhatIsNotFinite(t *testing.T) {
	for dtype := range tolerances {
		s := newScope(t)
		nan := float32(math.NaN())
		inf := float32(math.Inf(1))
		x := s.Leaf(s.To(From(s, []float32{nan, inf, 1}, 3), dtype))
		y := s.GELU(x)
		gradient := s.Float32s(s.Grad(total(s, y), []*Tensor{x})[0])
		for i, value := range s.Float32s(y)[:2] {
			if !math.IsNaN(float64(value)) && !math.IsInf(float64(value), 0) || math.Abs(float64(gradient[2])) > 2 {
				t.Errorf("%s: gelu of value %d is %g", dtype, i, value)
			}
		}
		if !math.IsNaN(float64(gradient[0])) {
			t.Errorf("%s: the gradient of gelu at NaN is %g", dtype, gradient[0])
		}

		rows := make([]float32, 2*32)
		rows[40] = nan // in the second row
		ones := From(s, slices.Repeat([]float32{1}, 32), 32)
		normed := s.Float32s(s.LayerNorm(s.To(From(s, rows, 2, 32), dtype), s.To(ones, dtype), s.To(ones, dtype), 1e-5))
		x = s.To(From(s, rows, 2, 32), dtype)
		attended := s.Float32s(s.Attention(x, x, x, nil, nil, Rows{Queries: []int64{0, 1, 2}, Keys: []int64{0, 1, 2}}, 1, 1))
		if err := s.Err(); err != nil {
			t.Fatal(err)
		}
		for name, values := range map[string][]float32{"layer norm": normed, "attention": attended} {
			if math.IsNaN(float64(values[0])) || !math.IsNaN(float64(values[40])) {
				t.Errorf("%s: %s of 0 is %g, of a row with NaN %g", dtype, name, values[0], values[40])
			}
		}
	}
}

func TestFusedOperationsRefuse(t *testing.T) {
	for name, run := range map[string]func(s *Scope, x *Tensor){
		"norm of another size":  func(s *Scope, x *Tensor) { s.LayerNorm(x, s.Zeros(Float32, 32), s.Zeros(Float32, 32), 1) },
		"sum of other shapes":   func(s *Scope, x *Tensor) { s.AddNorm(x, s.Zeros(Float32, 3, 64), x, x, 1) },
		"row behind the tokens": attendRows([]int64{0, 5}, []int64{0, 5}, 2),
		"row before the tokens": attendRows([]int64{-1, 4}, []int64{-1, 4}, 2),
		"row without keys":      attendRows([]int64{0, 0, 4}, []int64{0, 0, 4}, 2),
		"falling rows":          attendRows([]int64{0, 3, 2}, []int64{0, 2, 4}, 2),
		"no row":                attendRows([]int64{0}, []int64{0}, 2),
		"no list of rows":       attendRows(nil, nil, 2),
		"more keys than starts": attendRows([]int64{0, 4}, []int64{0, 2, 4}, 2),
		"width of 16":           attendRows([]int64{0, 4}, []int64{0, 4}, 4),
		"no heads":              attendRows([]int64{0, 4}, []int64{0, 4}, 0),
	} {
		s := newScope(t)
		if run(s, s.Zeros(Float32, 4, 64)); s.Err() == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func attendRows(queries, keys []int64, heads int) func(*Scope, *Tensor) {
	return func(s *Scope, x *Tensor) {
		s.Attention(x, x, x, nil, nil, Rows{Queries: queries, Keys: keys}, heads, 1)
	}
}

// The tests above use the kernels of this machine's best instructions; libtorch's setting chooses others.
func TestKernelsOfOtherInstructions(t *testing.T) {
	const variable = "ATEN_CPU_CAPABILITY"
	if os.Getenv(variable) != "" {
		t.Skip("this is one of the others")
	}
	for _, capability := range []string{"avx2", "default"} {
		command := exec.Command(os.Args[0], "-test.run", "Fused|Attention", "-test.count", "1")
		command.Env = append(os.Environ(), variable+"="+capability)
		if output, err := command.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", capability, err, output)
		}
	}
}
