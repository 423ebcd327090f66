package model

import (
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"peftsearch/evaluator"
	"peftsearch/evaluator/torch"
)

// trait says how a parameter is treated.
type trait int

const (
	decay    trait = 1 << iota // weight decay applies
	exact                      // float32 whatever the precision of the activations
	unstored                   // of training alone: it makes what is stored
	second                     // the second matrix of an update, which may have a learning rate of its own
)

// parameter is one trained tensor: a view of the flat tensor.
type parameter struct {
	name   string
	shape  []int
	init   initializer
	traits trait
	layer  int           // the highest one that reads it, so that steps which leave it bare skip it; or everywhere
	offset int           // in the flat tensor
	leaf   *torch.Tensor // set by build
}

// everywhere is the layer of what no step skips.
const everywhere = math.MaxInt

func (p *parameter) size() int {
	size := 1
	for _, n := range p.shape {
		size *= n
	}
	return size
}

// parameters lays trained tensors out in one flat float32 tensor, the master. With bfloat16 activations
// the leaves are views of a bfloat16 copy.
type parameters struct {
	list         []*parameter // in the order of the flat tensor
	size         int
	master, copy *torch.Tensor                             // [size]; copy is nil in float32
	frozen       []func(s *torch.Scope, dtype torch.DType) // make what is not trained
}

// declare adds a parameter, to be made by build.
func (ps *parameters) declare(name string, init initializer, traits trait, shape ...int) *parameter {
	p := &parameter{name: name, shape: shape, init: init, traits: traits, layer: everywhere}
	ps.list = append(ps.list, p)
	return p
}

// build initialises the flat tensor and makes the leaves, in s. What a tensor is initialised with
// depends on the seed and its name only, not on the other modules of the plan.
func (ps *parameters) build(s *torch.Scope, dtype torch.DType, seed uint64) {
	slices.SortStableFunc(ps.list, func(a, b *parameter) int { return int(b.traits&decay) - int(a.traits&decay) })
	for _, p := range ps.list {
		p.offset = ps.size
		ps.size += p.size()
	}
	values := make([]float32, ps.size)
	for _, p := range ps.list {
		p.init(values[p.offset:][:p.size()], p.shape, rand.New(rand.NewPCG(seed, streamOf(p.name))))
	}
	ps.master = torch.From(s, values, ps.size)
	if dtype != torch.Float32 {
		ps.copy = s.Clone(s.To(ps.master, dtype))
	}
	for _, make := range ps.frozen {
		make(s, dtype)
	}
	for _, p := range ps.list {
		source := ps.master
		if ps.copy != nil && p.traits&exact == 0 {
			source = ps.copy
		}
		p.leaf = s.Leaf(s.Reshape(s.Narrow(source, 0, p.offset, p.size()), p.shape...))
	}
}

// groups are the optimiser's: one, or for steps that leave layers bare one of each layer's parameters with weight decay
// and one of those without.
func (ps *parameters) groups(bare func(step int) int) (list []torch.Group) {
	var before *parameter
	for _, p := range ps.list {
		if before == nil || bare != nil && (p.layer != before.layer || p.traits&decay != before.traits&decay) {
			var group torch.Group
			if bare != nil {
				group.Skips = func(step int) bool { return p.layer < bare(step) }
			}
			list = append(list, group)
		}
		group := &list[len(list)-1]
		if group.Size += p.size(); p.traits&decay != 0 {
			group.Decayed = group.Size
		}
		before = p
	}
	return list
}

// factors are those of the learning rate by element; nil if all are 1.
func (ps *parameters) factors(t evaluator.Training) []float32 {
	if t.Methods.Rates == "" && t.Methods.LoRAPlus == 0 {
		return nil
	}
	rates, factors := t.Methods.Rates.Map(), make([]float32, ps.size)
	for _, p := range ps.list {
		factor := 1.0
		if rate, ok := rates[p.group()]; ok {
			factor = rate / t.LearningRate
		}
		if p.traits&second != 0 && t.Methods.LoRAPlus > 0 {
			factor *= t.Methods.LoRAPlus
		}
		for i := range p.size() {
			factors[p.offset+i] = float32(factor)
		}
	}
	return factors
}

// group is the method that the parameter belongs to, or head, or backbone.
func (p *parameter) group() string {
	parts := strings.SplitN(p.name, ".", 4)
	switch parts[0] {
	case "layers":
		return parts[2]
	case "input", "shared":
		return parts[1]
	}
	group, _, _ := strings.Cut(parts[0], "_") // of prefix_mlp and prompt_encoder
	return group
}

// leaves lists the leaves in the order of the flat tensor.
func (ps *parameters) leaves() []*torch.Tensor {
	leaves := make([]*torch.Tensor, len(ps.list))
	for i, p := range ps.list {
		leaves[i] = p.leaf
	}
	return leaves
}

// gradient is the loss's gradient with respect to the flat tensor, in float32: [size].
func (ps *parameters) gradient(grad func(*torch.Tensor, []*torch.Tensor) []*torch.Tensor, s *torch.Scope,
	loss *torch.Tensor) *torch.Tensor {
	grads := grad(loss, ps.leaves())
	if s.Err() != nil {
		return nil
	}
	for i := range grads {
		grads[i] = s.Reshape(grads[i], -1)
	}
	return s.To(s.Cat(0, grads...), torch.Float32)
}

// set replaces the flat tensor's values.
func (ps *parameters) set(s *torch.Scope, values []float32) {
	torch.NoGrad(func() {
		s.CopyTo(ps.master, torch.From(s, values, ps.size))
	})
	ps.sync(s)
}

// sync brings the copy up to date with the master.
func (ps *parameters) sync(s *torch.Scope) {
	if ps.copy != nil {
		torch.NoGrad(func() { s.CopyTo(ps.copy, ps.master) })
	}
}

// streamOf is the random stream of a purpose: its 64-bit FNV-1a hash.
func streamOf(purpose string) uint64 {
	h := fnv.New64a()
	fmt.Fprint(h, purpose)
	return h.Sum64()
}

// initializer fills a new parameter.
type initializer func(values []float32, shape []int, rng *rand.Rand)

func zeros([]float32, []int, *rand.Rand) {}

// normal draws from N(0, std).
func normal(std float64) initializer {
	return func(values []float32, _ []int, rng *rand.Rand) {
		for i := range values {
			values[i] = float32(std * rng.NormFloat64())
		}
	}
}

// uniform draws from U(±1/√fanIn).
func uniform(fanIn int) initializer {
	bound := 1 / math.Sqrt(float64(fanIn))
	return func(values []float32, _ []int, rng *rand.Rand) {
		for i := range values {
			values[i] = float32(bound * (2*rng.Float64() - 1))
		}
	}
}

// uniformFanIn is torch.nn.init.kaiming_uniform_ with a=√5 of a matrix [out, in]: U(±1/√in).
func uniformFanIn(values []float32, shape []int, rng *rand.Rand) {
	uniform(shape[1])(values, shape, rng)
}

// constant fills in one value.
func constant(value float32) initializer {
	return func(values []float32, _ []int, _ *rand.Rand) {
		for i := range values {
			values[i] = value
		}
	}
}

// given copies values.
func given(source []float32) initializer {
	return func(values []float32, _ []int, _ *rand.Rand) { copy(values, source) }
}
