package model

import (
	"math"

	"peftsearch/evaluator/torch"
	"peftsearch/peft"
)

// kronecker is a matrix Σ A_i ⊗ (s_i·t_i) over i = 1 to n, transposed.
type kronecker struct {
	rule        *parameter // A [n, n, n], of all layers
	left, right *parameter // s [n, in/n, 1], t [n, 1, out/n]
}

func init() { methods[peft.MethodCompacter] = declareCompacter }

func declareCompacter(d *declaration, m peft.Module) error {
	module := m.(peft.Compacter)
	rule := d.addShared(m.Method(), m.Method().Shared()[0], normal(1e-4))
	// Glorot's N(0, 2/(rows + columns)) for each factor, as the adapters library has it.
	both := func(name string, in, out int) matrix {
		n := rule.shape[0]
		return &kronecker{rule, d.add(name+".left", normal(math.Sqrt(2/float64(in/n+1))), decay, n, in/n, 1),
			d.add(name+".right", normal(math.Sqrt(2/float64(out/n+1))), decay, n, 1, out/n)}
	}
	add := func(prefix string) *bottleneck { return d.addBottleneck(prefix, module.Full(), both, both) }
	if module.FFNOnly {
		d.ffn = append(d.ffn, serial{add("ffn.")})
		return nil
	}
	d.attention = append(d.attention, houlsby{add("attention.")})
	d.ffn = append(d.ffn, houlsby{add("ffn.")})
	return nil
}

func (k *kronecker) weight(s *torch.Scope) *torch.Tensor {
	n, in, out := k.rule.shape[0], k.left.shape[1], k.right.shape[2]
	w := s.Mul(s.Reshape(k.right.leaf, n, out, 1), s.Reshape(k.left.leaf, n, 1, in)) // [n, out/n, in/n]
	a := s.Reshape(s.Permute(k.rule.leaf, 2, 1, 0), 1, n*n, n)
	sum := s.Reshape(s.BatchMatmul(a, s.Reshape(w, 1, n, out*in)), n, n, out, in)
	return s.Reshape(s.Permute(sum, 0, 2, 1, 3), n*out, n*in)
}
