package torch

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// Two heads of width 2; rows of tokens 1-2 and 0 in one group, of token 3 in another; token 4 is in none.
func TestHeadsArePaddedAndBack(t *testing.T) {
	s := newScope(t)
	flat := make([]float32, 5*4)
	for i := range flat {
		flat[i] = float32(10*(i/4) + i%4)
	}
	prefix := []float32{-1, -2, -3, -4}
	const none = 5
	groups := Groups{From(s, []int64{1, 2, 0, none}, 2, 2), From(s, []int64{3}, 1, 1)}
	x, p := s.Leaf(From(s, flat, 5, 4)), s.Leaf(From(s, prefix, 1, 4))
	padded := s.PadHeads(x, p, groups, 2, []int{4, 2})
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	check(t, s, "first group", padded[0], []float32{
		-1, -2, 10, 11, 20, 21, 0, 0, -3, -4, 12, 13, 22, 23, 0, 0,
		-1, -2, 0, 1, 0, 0, 0, 0, -3, -4, 2, 3, 0, 0, 0, 0}, 4, 4, 2)
	check(t, s, "second group", padded[1], []float32{-1, -2, 30, 31, -3, -4, 32, 33}, 2, 2, 2)

	loss := s.Add(s.SquaredError(padded[0], s.Zeros(Float32, 4, 4, 2)),
		s.SquaredError(padded[1], s.Zeros(Float32, 2, 2, 2)))
	grads := s.Grad(loss, []*Tensor{x, p})
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	want := make([]float32, len(flat))
	for i := range 4 * 4 {
		want[i] = 2 * flat[i]
	}
	check(t, s, "gradient", grads[0], want, 5, 4)
	check(t, s, "gradient of the prefix", grads[1], []float32{-6, -12, -18, -24}, 1, 4)

	bare := s.PadHeads(x, nil, groups, 2, []int{2, 1})
	back := s.UnpadHeads(bare, groups, 5, 2)
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	kept := append(append([]float32{}, flat[:16]...), 0, 0, 0, 0)
	check(t, s, "back", back, kept, 5, 4)
	for i := range want {
		want[i] = 2 * kept[i]
	}
	check(t, s, "gradient through both", s.Grad(s.SquaredError(back, s.Zeros(Float32, 5, 4)), []*Tensor{x})[0], want, 5, 4)
}

// Rows of 3, 1 and 5 tokens, with and without a prefix, and with dropout.
func TestPaddedAttention(t *testing.T) {
	const heads, width, tokens = 2, 8, 9 // of 11, two of which are in no row
	rows := Rows{Queries: []int64{0, 3, 4, 9}, Keys: []int64{0, 3, 4, 9}}
	for dtype := range tolerances {
		for _, prefixes := range []int{0, 3} {
			s := newScope(t)
			rng := rand.New(rand.NewPCG(6, uint64(dtype)))
			var leaves, exact []*Tensor
			leaf := func(rows int) {
				typed, precise := random(s, rng, dtype, rows, heads*width)
				leaves, exact = append(leaves, typed), append(exact, precise)
			}
			for range 3 {
				leaf(tokens + 2)
			}
			var pk, pv, exactPK, exactPV *Tensor
			if prefixes > 0 {
				leaf(prefixes)
				leaf(prefixes)
				pk, pv, exactPK, exactPV = leaves[3], leaves[4], exact[3], exact[4]
			}
			var index, back []int64
			mask := make([]float32, 0, 3*(prefixes+5))
			for row := range 3 {
				mask = append(mask, make([]float32, prefixes)...)
				for j := range int64(5) {
					if at := rows.Queries[row] + j; at < rows.Queries[row+1] {
						index, back, mask = append(index, at), append(back, int64(row)*5+j), append(mask, 0)
					} else {
						index, mask = append(index, 0), append(mask, float32(math.Inf(-1)))
					}
				}
			}
			padding, added := Padding{From(s, index, 3, 5), From(s, back, tokens)}, s.To(From(s, mask, 3, prefixes+5), dtype)
			attend := func(dropout float64, seed uint64) *Tensor {
				return s.PaddedAttention(leaves[0], leaves[1], leaves[2], pk, pv, padding, padding, added, heads, 0.3, dropout,
					seed)
			}
			got := attend(0, 0)
			want := s.Cat(0, composedAttention(s, exact[0], exact[1], exact[2], exactPK, exactPV, rows, heads, 0.3),
				s.Zeros(Float32, 2, heads*width))
			nearAll(t, s, dtype.String(), rng, dtype, got, want, leaves, exact)
			dropped, again := attend(0.5, 7), attend(0.5, 7)
			if a, b := s.Float32s(dropped), s.Float32s(again); !slices.Equal(a, b) || slices.Equal(a, s.Float32s(got)) {
				t.Errorf("%s: dropout does not follow from its seed, or is none", dtype)
			}
		}
	}
}
