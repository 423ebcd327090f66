package model

import (
	"peftsearch/data/checkpoint"
	"peftsearch/evaluator/torch"
	"peftsearch/peft"
)

// adapter is a module that adds to the output of a part of a layer.
type adapter interface {
	// adapt returns two terms whose sum replaces x + rest, from the part's output f, its input a and the LayerNorm that
	// comes after the sum. It may change x in place unless x is f and others still read it.
	adapt(p *pass, x, rest, f, a *torch.Tensor, ln norm, alone bool) (newX, newRest *torch.Tensor)
}

// bottleneck is s·(W_up·φ(W_down·h + c_down) + c_up).
type bottleneck struct {
	down, up         matrix     // [b, D], [D, b]
	downBias, upBias *parameter // [b], [D]
	activation       func(s *torch.Scope, x *torch.Tensor) *torch.Tensor
	factor           float64    // s
	scale            *parameter // [1], instead of factor; nil for none
	gate             *gate      // nil for none
}

// matrix is a trained matrix, however it is made.
type matrix interface {
	weight(s *torch.Scope) *torch.Tensor // [out, in]
}

func (p *parameter) weight(*torch.Scope) *torch.Tensor { return p.leaf }

// matrices declares a matrix.
type matrices func(name string, in, out int) matrix

// whole declares those that are trained as they are.
func (d *declaration) whole(init initializer) matrices {
	return func(name string, in, out int) matrix { return d.add(name+".weight", init, decay, out, in) }
}

// nonLinearities are the functions of bottlenecks, which may overwrite x.
var nonLinearities = map[peft.NonLinearity]func(s *torch.Scope, x *torch.Tensor) *torch.Tensor{
	peft.ReLU:    activations[checkpoint.ReLU],
	peft.GELU:    activations[checkpoint.GELU],
	peft.GELUNew: activations[checkpoint.GELUTanh],
	peft.Swish:   activations[checkpoint.SiLU],
	peft.Tanh:    (*torch.Scope).Tanh,
}

// addBottleneck declares an adapter's tensors, whose names begin with a prefix.
func (d *declaration) addBottleneck(prefix string, b peft.Bottleneck, down, up matrices) *bottleneck {
	hidden := d.geometry.Hidden
	out := &bottleneck{
		down:       down(prefix+"down", hidden, b.Width),
		downBias:   d.add(prefix+"down.bias", zeros, 0, b.Width),
		up:         up(prefix+"up", b.Width, hidden),
		upBias:     d.add(prefix+"up.bias", zeros, 0, hidden),
		activation: nonLinearities[b.NonLinearity],
		factor:     b.Scale,
	}
	if b.LearnedScale {
		out.factor, out.scale = 1, d.add(prefix+"scale", constant(1), decay, 1)
	}
	if b.Gate {
		out.gate, d.wide = d.addGate(prefix, hidden), true
	}
	return out
}

// apply is B(h).
func (b *bottleneck) apply(p *pass, h *torch.Tensor) *torch.Tensor {
	inner := b.activation(p.Scope, p.Linear(h, b.down.weight(p.Scope), b.downBias.leaf))
	bias := b.upBias.leaf
	switch { // on the narrow side it is cheap
	case b.scale != nil:
		inner, bias = p.Mul(inner, b.scale.leaf), p.Mul(bias, b.scale.leaf)
	case b.factor != 1:
		inner, bias = p.Scale(inner, b.factor), p.Scale(bias, b.factor)
	}
	y := p.Linear(inner, b.up.weight(p.Scope), bias)
	if b.gate != nil {
		y = p.Mul(y, p.spread(b.gate.rows(p, h), y))
	}
	return y
}

// serial reads LN(f+a); where no norm comes after the sum, f+a, as in the adapters library.
type serial struct{ *bottleneck }

func init() {
	// The adapters library's init_weights "bert": N(0, 0.02), biases 0.
	methods[peft.MethodSerial] = func(d *declaration, m peft.Module) error {
		both := d.whole(normal(0.02))
		b := d.addBottleneck("", m.(peft.Serial).Full(), both, both)
		d.ffn = append(d.ffn, serial{b})
		return nil
	}
}

func (b serial) adapt(p *pass, x, rest, f, a *torch.Tensor, ln norm, _ bool) (newX, newRest *torch.Tensor) {
	var read, sum *torch.Tensor
	if ln.weight == nil {
		sum = p.Add(f, a)
		read = sum
	} else {
		read, sum = p.AddNorm(f, a, ln.weight, ln.bias, ln.eps)
	}
	if x != f || rest != a { // others have added to it
		return p.Add(x, b.apply(p, read)), rest
	}
	return b.apply(p, read), sum
}

// parallel reads a.
type parallel struct{ *bottleneck }

func init() {
	// The adapters library's init_weights "mam_adapter": W_down kaiming_uniform(a=√5), everything else 0, so that a fresh
	// adapter changes nothing.
	methods[peft.MethodParallel] = func(d *declaration, m peft.Module) error {
		b := d.addBottleneck("", m.(peft.Parallel).Full(), d.whole(uniformFanIn), d.whole(zeros))
		d.ffn = append(d.ffn, parallel{b})
		return nil
	}
}

func (b parallel) adapt(p *pass, x, rest, f, a *torch.Tensor, _ norm, alone bool) (newX, newRest *torch.Tensor) {
	y := b.apply(p, a)
	if x == f && !alone {
		return p.Add(x, y), rest
	}
	return p.AddTo(x, y), rest
}

// houlsby reads f.
type houlsby struct{ *bottleneck }

func init() {
	methods[peft.MethodHoulsby] = func(d *declaration, m peft.Module) error {
		full, both := m.(peft.Houlsby).Full(), d.whole(normal(0.02))
		d.attention = append(d.attention, houlsby{d.addBottleneck("attention.", full, both, both)})
		d.ffn = append(d.ffn, houlsby{d.addBottleneck("ffn.", full, both, both)})
		return nil
	}
}

func (b houlsby) adapt(p *pass, x, rest, f, _ *torch.Tensor, _ norm, _ bool) (newX, newRest *torch.Tensor) {
	return p.Add(x, b.apply(p, f)), rest
}
