package search

import (
	"fmt"
	"math"

	"peftsearch/space"
)

// randomSampler draws points whose costs are spread evenly over the range of the space.
//
// Uniform draws of a per-layer space are nearly all large, since every layer and method is most likely
// present. Each draw here first chooses how dense the plan is, and of many draws the one nearest to a
// target cost is kept; the targets follow a van der Corput sequence, so that any number of them is
// spread evenly on the logarithmic cost axis. O(draws × dimensions), whatever the history.
type randomSampler struct{}

func (randomSampler) propose(v *view) (Suggestion, error) {
	point, err := v.stratified(v.candidates)
	return Suggestion{point, "random", reasonChosen}, err
}

// initialDesign is the same draw, before any sampler has something to learn from.
type initialDesign struct{ size int }

func (d initialDesign) propose(v *view) (Suggestion, error) {
	slot := v.candidates
	point, err := v.stratified(slot)
	return Suggestion{point, "initial", fmt.Sprintf("cost-stratified start, %d of %d", slot+1, d.size)}, err
}

// stratified draws the free point of the given slot of the design.
func (v *view) stratified(slot int) (space.Point, error) {
	const draws = 200
	target := vanDerCorput(uint(slot) + 1)
	var best space.Point
	distance := math.Inf(1)
	for range draws {
		p := v.sparse()
		if d := math.Abs(v.reference.cost(v.space.Params(p)) - target); d < distance && v.free(p) {
			best, distance = p, d
		}
	}
	if best == nil {
		return v.anyFree()
	}
	return best, nil
}

// sparse draws a point in which every ordinal dimension is at its lowest level with a probability that
// is itself drawn, so that plans of every density are common.
func (v *view) sparse() space.Point {
	density := v.rng.Float64()
	p := make(space.Point, len(v.space.Dimensions()))
	for i, d := range v.space.Dimensions() {
		if !d.Ordinal || v.rng.Float64() < density {
			p[i] = v.rng.IntN(len(d.Levels))
		}
	}
	return p
}

// anyFree finds a free point when good ones are hard to find: by more draws, then the smallest. ErrExhausted says that
// there is none.
func (v *view) anyFree() (space.Point, error) {
	const draws = 5_000
	for range draws {
		if p := v.sparse(); v.free(p) {
			return p, nil
		}
	}
	for p := range v.space.Ascending() {
		if v.free(p) {
			return p, nil
		}
	}
	return nil, ErrExhausted
}

// vanDerCorput is the radical inverse of n in base 2: 1/2, 1/4, 3/4, 1/8, …
func vanDerCorput(n uint) float64 {
	value, digit := 0.0, 0.5
	for ; n > 0; n >>= 1 {
		value += digit * float64(n&1)
		digit /= 2
	}
	return value
}
