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
	groups       []group
	weightDecay  float64
	maxNorm      float64
	step         int
}

// Group is neighbouring elements that take part in the same steps.
type Group struct {
	Size    int
	Decayed int // the first so many have weight decay
	// Skips says in which steps, from 0, they stay as they are, with their moments; nil for none. PyTorch does so with
	// parameters that have no gradient.
	Skips func(step int) bool
}

type group struct {
	Group
	start        int
	params, m, v *Tensor // [Size], views
	decayed      *Tensor // [Decayed], a view; nil for none
	steps        int     // that it took part in
}

// NewAdamW makes an optimiser of params [n], which the groups make up, whose state belongs to s. Gradients are scaled
// down to the norm maxNorm; 0 means never.
func NewAdamW(s *Scope, params *Tensor, groups []Group, weightDecay, maxNorm float64) *AdamW {
	n := params.Size(0)
	o := &AdamW{
		params: params, m: s.Zeros(Float32, n), v: s.Zeros(Float32, n),
		weightDecay: weightDecay, maxNorm: maxNorm,
	}
	at := 0
	for _, of := range groups {
		view := func(t *Tensor) *Tensor { return s.Narrow(t, 0, at, of.Size) }
		g := group{Group: of, start: at, params: view(params), m: view(o.m), v: view(o.v)}
		if of.Decayed > 0 && weightDecay > 0 {
			g.decayed = s.Narrow(params, 0, at, of.Decayed)
		}
		o.groups, at = append(o.groups, g), at+of.Size
	}
	if at != n {
		s.Fail(fmt.Errorf("torch: groups of %d of %d parameters", at, n))
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
		for i := range o.groups {
			if g := &o.groups[i]; g.Skips == nil || !g.Skips(o.step) {
				g.update(s, s.Narrow(grad, 0, g.start, g.Size), rate, o.weightDecay)
			}
		}
		o.step++
	})
	return norm
}

func (g *group) update(s *Scope, grad *Tensor, rate, weightDecay float64) {
	g.steps++
	if g.decayed != nil {
		s.ScaleTo(g.decayed, 1-rate*weightDecay)
	}
	s.AddTo(s.ScaleTo(g.m, beta1), s.Scale(grad, 1-beta1))
	s.AddTo(s.ScaleTo(g.v, beta2), s.ScaleTo(s.Mul(grad, grad), 1-beta2))
	correction1 := 1 - math.Pow(beta1, float64(g.steps))
	correction2 := 1 - math.Pow(beta2, float64(g.steps))
	root := s.addScalarTo(s.ScaleTo(s.Sqrt(g.v), 1/math.Sqrt(correction2)), epsilon)
	s.AddTo(g.params, s.ScaleTo(s.Div(g.m, root), -rate/correction1))
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
	for i := range o.groups {
		g := &o.groups[i]
		g.steps = 0
		for step := range state.Step {
			if g.Skips == nil || !g.Skips(step) {
				g.steps++
			}
		}
	}
}

func (s *Scope) norm(t *Tensor) *Tensor {
	return s.run("norm", func(out *libtch.Ctensor) { libtch.AtgNorm(out, t.c) }, t)
}

func (s *Scope) addScalarTo(t *Tensor, value float64) *Tensor {
	v := libtch.AtsFloat(value)
	defer libtch.AtsFree(v)
	return s.inPlace("add", func(out *libtch.Ctensor) { libtch.AtgAddScalar_(out, t.c, v) }, t)
}
