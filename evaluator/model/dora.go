package model

import (
	"math"

	"peftsearch/evaluator/torch"
	"peftsearch/peft"
)

// dora is a matrix of DoRA.
type dora struct {
	update    *lowRank
	magnitude *parameter // m [out]
}

func init() { methods[peft.MethodDoRA] = declareDoRA }

// declareDoRA initialises A and B as LoRA's, and m with the norms of the rows of W.
func declareDoRA(d *declaration, m peft.Module) error {
	module := m.(peft.DoRA)
	for _, target := range module.Targets {
		weight, err := d.weight(d.geometry.CheckpointName(d.layer, target) + ".weight")
		if err != nil {
			return err
		}
		in, out := d.geometry.TargetShape(target)
		norms := make([]float32, out)
		for i := range norms {
			sum := 0.0
			for _, v := range weight[i*in:][:in] {
				sum += float64(v) * float64(v)
			}
			norms[i] = float32(math.Sqrt(sum))
		}
		set(&d.products, target, product(&dora{d.addLowRank(target, module.Rank, module.Alpha),
			d.add(string(target)+".magnitude", given(norms), decay, out)}))
	}
	return nil
}

// product is m/‖V‖ ∘ V·x + c for V = W + (alpha/rank)·B·A.
func (l *dora) product(p *pass, d dense, x, _ *torch.Tensor) *torch.Tensor {
	a, b := l.update.a.leaf, l.update.b.leaf
	var norm *torch.Tensor // [out]
	torch.NoGrad(func() {
		v := p.Add(d.weight, p.Scale(p.Linear(b, p.Transpose(a, 0, 1), nil), l.update.factor))
		ones := make([]float32, v.Size(1))
		for i := range ones {
			ones[i] = 1
		}
		sum := p.Linear(p.Mul(v, v), p.To(torch.From(p.Scope, ones, 1, len(ones)), v.DType()), nil) // [out, 1]
		norm = p.Reshape(p.Sqrt(sum), -1)
	})
	y := p.Project(x, torch.Projection{Weight: d.weight, A: a, B: b, Factor: l.update.factor})[0]
	y = p.Mul(y, p.Div(l.magnitude.leaf, norm))
	if d.bias != nil {
		y = p.Add(y, d.bias)
	}
	return y
}
