package model

import (
	"peftsearch/evaluator/torch"
	"peftsearch/peft"
)

// lowRank is the update (alpha/rank)·B·A of one matrix, which torch.Project adds.
type lowRank struct {
	a, b   *parameter // [r, in], [out, r]
	factor float64
}

func init() { methods[peft.MethodLoRA] = declareLoRA }

// declareLoRA initialises A with kaiming_uniform(a=√5) and B with 0, as PEFT and adapters do, so that a
// fresh LoRA changes nothing.
func declareLoRA(d *declaration, m peft.Module) error {
	lora := m.(peft.LoRA)
	for _, target := range lora.Targets {
		update := d.addLowRank(target, lora.Rank, lora.Alpha)
		if !lora.Gate {
			set(&d.lora, target, update)
			continue
		}
		in, _ := d.geometry.TargetShape(target)
		set(&d.products, target, product(&gatedLoRA{update, d.addGate(string(target)+".", in)}))
		switch target {
		case peft.TargetQuery, peft.TargetKey, peft.TargetValue: // see all tokens anyway
		default:
			d.wide = true
		}
	}
	return nil
}

// addLowRank declares A and B of a target.
func (d *declaration) addLowRank(target peft.Target, rank int, alpha float64) *lowRank {
	in, out := d.geometry.TargetShape(target)
	return &lowRank{
		a:      d.add(string(target)+".a", uniformFanIn, decay, rank, in),
		b:      d.add(string(target)+".b", zeros, decay|second, out, rank),
		factor: alpha / float64(rank),
	}
}

// set enters a value into a map that may be nil.
func set[K comparable, V any](m *map[K]V, key K, value V) {
	if *m == nil {
		*m = map[K]V{}
	}
	(*m)[key] = value
}

// gatedLoRA is W·x + c + G·B·A·x.
type gatedLoRA struct {
	update *lowRank
	gate   *gate
}

func (l *gatedLoRA) product(p *pass, d dense, x, all *torch.Tensor) *torch.Tensor {
	inner := p.Linear(x, l.update.a.leaf, nil) // [rows, r]
	inner = p.Mul(inner, p.spread(l.gate.rows(p, all), x))
	return p.Add(p.Linear(x, d.weight, d.bias), p.Linear(inner, l.update.b.leaf, nil))
}
