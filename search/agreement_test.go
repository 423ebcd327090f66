package search_test

import (
	"slices"
	"testing"

	"peftsearch/search"
	"peftsearch/space"
)

// What is known agrees with trials as far as it is right: estimates with some error do, also given size, and are used;
// the same upside down are as far off as can be.
func TestAgreement(t *testing.T) {
	s := newSpace(t, space.Config{}, tiny)
	estimates := extend(t, s, options(s, "random", 7), nil, 40)
	reference := options(s, "gp", 1).Reference
	upsideDown := slices.Clone(estimates)
	for i := range upsideDown {
		upsideDown[i].Score = -upsideDown[i].Score
	}
	for _, n := range []int{3, 25} {
		trials := extend(t, s, options(s, "random", 1), nil, n)
		good, err := search.NewAgreement(s, reference, [][]search.Observation{estimates}, trials)
		if n < 5 {
			if err == nil {
				t.Errorf("%d trials are enough: %+v", n, good)
			}
			continue
		}
		if err != nil || good.Trials < n-6 || good.Trials > n || good.Rank < 0.8 || good.GivenSize < 0.3 || !good.Used {
			t.Errorf("%+v, %v", good, err)
		}
		bad, err := search.NewAgreement(s, reference, [][]search.Observation{upsideDown}, trials)
		if err != nil || bad.Rank > -0.8 || bad.GivenSize > -0.3 {
			t.Errorf("upside down: %+v, %v", bad, err)
		}
	}
}
