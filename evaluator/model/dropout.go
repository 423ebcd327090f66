package model

import (
	"math/rand/v2"

	"peftsearch/evaluator/torch"
)

// dropout zeroes elements with a probability and scales the others up. Its masks depend on nothing but
// the model's seed, the step and the kind of device, whatever the number of threads.
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
	return p.Dropout(x, p.dropout.probability, p.dropout.rng.Uint64())
}
