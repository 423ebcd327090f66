package torch

import (
	"fmt"
	"math"

	"github.com/sugarme/gotch/libtch"
)

// The moments' decay and the guard of PyTorch's AdamW.
const (
	beta1   = 0.9
	beta2   = 0.999
	epsilon = 1e-8
)

// AdamW is Adam with decoupled weight decay (Loshchilov & Hutter 2019) over one flat float32 tensor,
// computed as PyTorch's AdamW does.
type AdamW struct {
	params, m, v *Tensor // [n]
	decayed      *Tensor // the view of params to which weight decay applies; nil for none
	weightDecay  float64
	maxNorm      float64
	step         int
}

// NewAdamW makes an optimiser of params [n] whose state belongs to s. Weight decay applies to the first
// decayed elements. Gradients are scaled down to the norm maxNorm; 0 means never.
func NewAdamW(s *Scope, params *Tensor, decayed int, weightDecay, maxNorm float64) *AdamW {
	n := params.Size(0)
	o := &AdamW{
		params: params, m: s.Zeros(Float32, n), v: s.Zeros(Float32, n),
		weightDecay: weightDecay, maxNorm: maxNorm,
	}
	if decayed > 0 && weightDecay > 0 {
		o.decayed = s.Narrow(params, 0, 0, decayed)
	}
	return o
}

// Step moves the parameters against grad [n], which it overwrites, at a learning rate, and returns the
// norm of grad before it was clipped. Intermediates belong to s.
func (o *AdamW) Step(s *Scope, grad *Tensor, rate float64) (norm float64) {
	NoGrad(func() {
		norm = s.Item(s.norm(grad))
		if s.Err() != nil {
			return
		}
		if o.maxNorm > 0 && norm > o.maxNorm {
			s.ScaleTo(grad, o.maxNorm/(norm+1e-6)) // as torch.nn.utils.clip_grad_norm_
		}
		o.step++
		if o.decayed != nil {
			s.ScaleTo(o.decayed, 1-rate*o.weightDecay)
		}
		s.AddTo(s.ScaleTo(o.m, beta1), s.Scale(grad, 1-beta1))
		s.AddTo(s.ScaleTo(o.v, beta2), s.ScaleTo(s.Mul(grad, grad), 1-beta2))
		correction1 := 1 - math.Pow(beta1, float64(o.step))
		correction2 := 1 - math.Pow(beta2, float64(o.step))
		root := s.addScalarTo(s.ScaleTo(s.Sqrt(o.v), 1/math.Sqrt(correction2)), epsilon)
		s.AddTo(o.params, s.ScaleTo(s.Div(o.m, root), -rate/correction1))
	})
	return norm
}

// AdamWState is what an optimiser needs, beside the parameters, to go on where it was.
type AdamWState struct {
	Step int
	M, V []float32 // first and second moments [n]
}

// State copies the optimiser's state.
func (o *AdamW) State(s *Scope) AdamWState {
	return AdamWState{Step: o.step, M: s.Float32s(o.m), V: s.Float32s(o.v)}
}

// SetState continues from a state.
func (o *AdamW) SetState(s *Scope, state AdamWState) {
	n := o.params.Size(0)
	if len(state.M) != n || len(state.V) != n {
		s.Fail(fmt.Errorf("torch: optimiser state of %d and %d values for %d parameters", len(state.M), len(state.V), n))
		return
	}
	s.CopyTo(o.m, From(s, state.M, n))
	s.CopyTo(o.v, From(s, state.V, n))
	o.step = state.Step
}

func (s *Scope) norm(t *Tensor) *Tensor {
	return s.run("norm", func(out *libtch.Ctensor) { libtch.AtgNorm(out, t.c) }, t)
}

func (s *Scope) addScalarTo(t *Tensor, value float64) *Tensor {
	v := libtch.AtsFloat(value)
	defer libtch.AtsFree(v)
	return s.inPlace("add", func(out *libtch.Ctensor) { libtch.AtgAddScalar_(out, t.c, v) }, t)
}
