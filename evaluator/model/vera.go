package model

import (
	"peftsearch/evaluator/torch"
	"peftsearch/peft"
)

// vera is the update diag(b)·B·diag(d)·A of one matrix, of which A and B are frozen.
type vera struct {
	b, d     *parameter    // [out], [r]
	down, up *torch.Tensor // A [r, in], B [out, r]
}

func init() { methods[peft.MethodVeRA] = declareVeRA }

func declareVeRA(d *declaration, m peft.Module) error {
	module := m.(peft.VeRA)
	for _, target := range module.Targets {
		in, out := d.geometry.TargetShape(target)
		down, up := peft.VeRAMatrices(d.geometry, target, module.Rank)
		v := &vera{b: d.add(string(target)+".b", zeros, decay, out),
			d: d.add(string(target)+".d", constant(0.1), decay, module.Rank)}
		set(&d.products, target, product(v))
		d.frozen = append(d.frozen, func(s *torch.Scope, dtype torch.DType) {
			v.down = s.Clone(s.To(torch.From(s, down, module.Rank, in), dtype))
			v.up = s.Clone(s.To(torch.From(s, up, out, module.Rank), dtype))
		})
	}
	return nil
}

func (v *vera) product(p *pass, d dense, x, _ *torch.Tensor) *torch.Tensor {
	inner := p.Mul(p.Linear(x, v.down, nil), v.d.leaf) // [rows, r]
	update := p.Mul(p.Linear(inner, v.up, nil), v.b.leaf)
	return p.Add(p.Linear(x, d.weight, d.bias), update)
}
