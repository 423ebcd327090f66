package model

import (
	"peftsearch/evaluator/torch"
	"peftsearch/peft"
)

// bottleneck is W_up·relu(W_down·h + c_down) + c_up.
type bottleneck struct {
	downWeight, downBias *parameter // [b, D], [b]
	upWeight, upBias     *parameter // [D, b], [D]
}

// declareBottleneck adds an adapter's tensors under a name; initDown and initUp fill the weights.
func declareBottleneck(ps *parameters, name string, width, hidden int, initDown, initUp initializer) *bottleneck {
	return &bottleneck{
		downWeight: ps.declare(name+".down.weight", initDown, decay, width, hidden),
		downBias:   ps.declare(name+".down.bias", zeros, 0, width),
		upWeight:   ps.declare(name+".up.weight", initUp, decay, hidden, width),
		upBias:     ps.declare(name+".up.bias", zeros, 0, hidden),
	}
}

// apply is factor·B(h).
func (b *bottleneck) apply(s *torch.Scope, h *torch.Tensor, factor float64) *torch.Tensor {
	inner := s.ReLUTo(s.Linear(h, b.downWeight.leaf, b.downBias.leaf))
	bias := b.upBias.leaf
	if factor != 1 { // on the narrow side it is cheap
		inner, bias = s.Scale(inner, factor), s.Scale(bias, factor)
	}
	return s.Linear(inner, b.upWeight.leaf, bias)
}

// declareSerial initialises as the adapters library's init_weights "bert" does: N(0, 0.02), biases 0.
func declareSerial(ps *parameters, name string, a peft.Serial, hidden int) *bottleneck {
	return declareBottleneck(ps, name, a.Width, hidden, normal(0.02), normal(0.02))
}

// serial is S(LN₂(f+a)) and f+a.
func (b *bottleneck) serial(s *torch.Scope, f, a *torch.Tensor, ln norm) (adapted, sum *torch.Tensor) {
	normed, sum := s.AddNorm(f, a, ln.weight, ln.bias, ln.eps)
	return b.apply(s, normed, peft.SerialScale), sum
}
