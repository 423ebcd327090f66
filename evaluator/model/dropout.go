package model

import (
	"math"
	"math/rand/v2"

	"peftsearch/evaluator/torch"
)

// dropout zeroes elements with a probability and scales the others up. Its masks depend on nothing but
// the model's seed and the step, whatever the device and the number of threads.
type dropout struct {
	rng         *rand.PCG
	probability float64
}

func newDropout(seed uint64, step int, probability float64) *dropout {
	if probability == 0 {
		return nil
	}
	return &dropout{rng: rand.NewPCG(seed, streamOf("dropout")+uint64(step)), probability: probability}
}

// drop applies the pass's dropout to x.
func (p *pass) drop(x *torch.Tensor) *torch.Tensor {
	if p.dropout == nil || p.Err() != nil {
		return x
	}
	count := 1
	for _, size := range x.Shape() {
		count *= size
	}
	// A draw of 64 bits decides four elements; a probability is exact to 2^-16.
	threshold := uint64(math.Round(p.dropout.probability * (1 << 16)))
	keep := float32(1 / (1 - p.dropout.probability))
	mask := make([]float32, count)
	var bits uint64
	for i := range mask {
		if i%4 == 0 {
			bits = p.dropout.rng.Uint64()
		}
		if bits&0xffff >= threshold {
			mask[i] = keep
		}
		bits >>= 16
	}
	return p.Mul(x, p.To(torch.From(p.Scope, mask, x.Shape()...), p.net.dtype))
}
