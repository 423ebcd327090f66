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
func declareSerial(ps *parameters, name string, a *peft.Adapter, hidden int) *bottleneck {
	return declareBottleneck(ps, name, a.Width, hidden, normal(0.02), normal(0.02))
}

// addSerial returns sum + S(LN₂(sum)); sum is left as it is, LN₂'s gradient needs it.
func (b *bottleneck) addSerial(s *torch.Scope, sum *torch.Tensor, ln norm) *torch.Tensor {
	return s.AddTo(b.apply(s, ln.apply(s, sum), peft.SerialScale), sum)
}
