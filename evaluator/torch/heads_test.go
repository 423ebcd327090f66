package torch

import "testing"

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
	// On a device the same is done with other operators, which a CPU has too.
	device := NewScope(0)
	defer device.Free()
	for name, run := range map[string]*Scope{"host": s, "device": device} {
		x, p := s.Leaf(From(s, flat, 5, 4)), s.Leaf(From(s, prefix, 1, 4))
		padded := run.PadHeads(x, p, groups, 2, []int{4, 2})
		if err := run.Err(); err != nil {
			t.Fatal(err)
		}
		check(t, s, name+", first group", padded[0], []float32{
			-1, -2, 10, 11, 20, 21, 0, 0, -3, -4, 12, 13, 22, 23, 0, 0,
			-1, -2, 0, 1, 0, 0, 0, 0, -3, -4, 2, 3, 0, 0, 0, 0}, 4, 4, 2)
		check(t, s, name+", second group", padded[1], []float32{-1, -2, 30, 31, -3, -4, 32, 33}, 2, 2, 2)

		loss := s.Add(s.SquaredError(padded[0], s.Zeros(Float32, 4, 4, 2)), s.SquaredError(padded[1], s.Zeros(Float32, 2, 2, 2)))
		grads := s.Grad(loss, []*Tensor{x, p})
		if err := s.Err(); err != nil {
			t.Fatal(err)
		}
		want := make([]float32, len(flat))
		for i := range 4 * 4 {
			want[i] = 2 * flat[i]
		}
		check(t, s, name+", gradient", grads[0], want, 5, 4)
		check(t, s, name+", gradient of the prefix", grads[1], []float32{-6, -12, -18, -24}, 1, 4)

		bare := run.PadHeads(x, nil, groups, 2, []int{2, 1})
		back := run.UnpadHeads(bare, groups, 5, 2)
		if err := run.Err(); err != nil {
			t.Fatal(err)
		}
		kept := append(append([]float32{}, flat[:16]...), 0, 0, 0, 0)
		check(t, s, name+", back", back, kept, 5, 4)
		for i := range want {
			want[i] = 2 * kept[i]
		}
		check(t, s, name+", gradient through both", s.Grad(s.SquaredError(back, s.Zeros(Float32, 5, 4)), []*Tensor{x})[0], want, 5, 4)
	}
}
