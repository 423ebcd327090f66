package model

import (
	"fmt"
	"math"
	"slices"

	"peftsearch/data/checkpoint"
	"peftsearch/evaluator/torch"
	"peftsearch/peft"
)

// network is a backbone with the modules of a plan.
type network struct {
	config    checkpoint.Config
	stacks    []peft.Stack
	dtype     torch.DType // of weights and activations
	family    family
	modules   []modules // per layer
	prompt    *prompt   // at the input; nil for none
	prefixMLP *prefixMLP
	tensors   map[string]*torch.Tensor // the backbone's, by name in the checkpoint
	trained   map[string]*parameter    // in place of them in full fine-tuning
}

// bound is the family of the network's weights: in place of the backbone's stand those that are trained.
func (net *network) bound() family {
	return families[net.config.ModelType](net.config, func(name string) *torch.Tensor {
		for _, m := range net.modules {
			if p := m.weights[name]; p != nil {
				return p.leaf
			}
		}
		if p := net.trained[name]; p != nil {
			return p.leaf
		}
		return net.tensors[name]
	})
}

// bind makes the family use the weights that are trained, if any are.
func (net *network) bind() {
	if net.trained != nil || slices.ContainsFunc(net.modules, func(m modules) bool { return m.weights != nil }) {
		net.family = net.bound()
	}
}

// pass is one batch on its way through a network. Hidden states are flat: the tokens of all rows one after
// another, then fill.
type pass struct {
	*torch.Scope
	net      *network
	stack    peft.Stack           // that the pass is in
	batch    Batch                // that the stack reads
	source   *source              // that it reads beside it; nil for nothing
	rows     Rows                 // that are read at the end
	tokens   int                  // of all rows
	fill     int                  // positions after the tokens, which nothing reads
	prefixes []prefixPair         // per layer
	cross    []prefixPair         // likewise, of the attention to the source
	onDevice *onDevice            // for the attention of a GPU; nil on a CPU
	groups   *groups              // of a padded attention; nil if it takes flat tokens
	relative *torch.Tensor        // biases of distances, where the stack has them [buckets+1, H]
	own      []int64              // indices of the tokens that are no prompt's; nil for all
	wanted   *torch.Tensor        // indices of the rows that are read; nil for all
	dropout  *dropout             // nil outside training
	means    *torch.Tensor        // rowMeans, for gates; nil without
	gated    []*torch.Tensor      // by layer, what a gate makes of its prefix: a factor for each row [n, 1]
	gates    map[string][]float32 // values of gates by name and row; nil if nobody wants them
	growth   *growth              // of a generation's cache; nil without
}

// lastMixing is the family's, or the end where modules after the last attention read all tokens.
func (net *network) lastMixing() int {
	if net.wide() {
		return net.family.steps()
	}
	return net.family.lastMixing()
}

func (net *network) hasGates() bool {
	return slices.ContainsFunc(net.modules, func(m modules) bool { return m.gates > 0 })
}

// wide reports whether modules after the last attention read all tokens.
func (net *network) wide() bool { return net.modules[len(net.modules)-1].wide }

// product takes the place of a matrix.
type product interface {
	// product is the output [rows, out] for x [rows, in]. all is the same for all tokens, of which x may be some.
	product(p *pass, d dense, x, all *torch.Tensor) *torch.Tensor
}

// start returns a pass and its hidden states before step from: the batch's own, or the embeddings.
func (net *network) start(s *torch.Scope, batch Batch, from int, rows Rows, dropout *dropout) (*pass, *torch.Tensor) {
	p := &pass{Scope: s, net: net, stack: net.stacks[0], batch: batch, rows: rows, dropout: dropout,
		growth: batch.growth}
	if err := batch.validate(net.config, rows); err != nil {
		s.Fail(err)
		return p, nil
	}
	p.count()
	x := batch.Hidden
	if x == nil {
		x = net.family.embed(p)
		p.layOut()
		return p, x
	}
	p.layOut()
	want := p.tokens
	if mixed := from > net.lastMixing(); mixed && rows != All {
		want = p.wanted.Size(0)
	}
	if shape := x.Shape(); len(shape) != 2 || shape[0] != want || shape[1] != net.config.Hidden {
		s.Fail(fmt.Errorf("model: hidden states before step %d of shape %v, want [%d %d]",
			from, shape, want, net.config.Hidden))
		return p, nil
	}
	if want == p.tokens && p.fill > 0 {
		x = s.Cat(0, x, s.Zeros(x.DType(), p.fill, net.config.Hidden))
	}
	return p, x
}

// count counts the tokens of the batch.
func (p *pass) count() {
	p.tokens = 0
	for _, length := range p.batch.Lengths {
		p.tokens += length
	}
	p.fill = p.roundTokens(p.tokens) - p.tokens
}

// layOut makes what all layers share, of the batch as they see it.
func (p *pass) layOut() {
	s, net := p.Scope, p.net
	if p.rows != All {
		indices := p.rows.indices(p.batch)
		p.wanted = torch.From(s, indices, len(indices))
	}
	p.prefixes, p.cross = net.prefixes(s)
	p.grow()
	p.gated = make([]*torch.Tensor, len(net.modules))
	if net.hasGates() {
		p.means = p.rowMeans()
	}
	switch width := net.config.AttentionWidth() / net.config.Heads; {
	case p.Device() != torch.CPU:
		p.onDevice = p.padRows()
	case p.dropout != nil || net.config.Buckets > 0 || !torch.HasAttention(p.Device(), width):
		p.groups = p.group()
	}
}

// ownTokens is the hidden states of the batch's own tokens: without a prompt's and without fill.
func (p *pass) ownTokens(x *torch.Tensor) *torch.Tensor {
	switch {
	case p.own != nil:
		return p.Select(x, torch.From(p.Scope, p.own, len(p.own)))
	case p.fill > 0:
		return p.Narrow(x, 0, 0, p.tokens)
	}
	return x
}

// roundTokens is the least number of positions for so many tokens that recurs in other batches: rounding to a few
// per cent of the batch leaves a dozen numbers in place of hundreds. For each number of rows oneDNN compiles kernels in
// bfloat16, about a millisecond each, and a GPU's libraries choose theirs.
func (p *pass) roundTokens(tokens int) int {
	unit, most := 16, 64 // the height of a matrix unit's tile; 1/32 is lost
	switch {
	case p.Device() != torch.CPU:
		unit, most = 64, 16
	case p.net.dtype != torch.BFloat16:
		return tokens
	}
	for unit*most < tokens {
		unit *= 2
	}
	return (tokens + unit - 1) / unit * unit
}

// run computes x from before step from to before step to.
func (p *pass) run(x *torch.Tensor, from, to int) *torch.Tensor {
	for at := from; at < to && p.Err() == nil; at++ {
		rows := All
		if at >= p.net.lastMixing() {
			rows = p.rows
		}
		if family, ok := p.net.family.(stacked); ok {
			x = family.enter(p, at, x)
		}
		x = p.Keep(func() *torch.Tensor { return p.net.family.step(p, at, x, rows) })
	}
	return x
}

// index makes a tensor of one number for each token, 0 for fill: [tokens].
func (p *pass) index(values []int32) *torch.Tensor {
	filled := append(values[:len(values):len(values)], make([]int32, p.fill)...)
	return torch.From(p.Scope, filled, len(filled))
}

// take is the hidden states of the wanted tokens: [wanted, D] of x [tokens, D].
func (p *pass) take(x *torch.Tensor, rows Rows) *torch.Tensor {
	if rows == All {
		return x
	}
	return p.Select(x, p.wanted)
}

// The hooks: where a family's blocks meet the modules. Without modules they change nothing.

// adapted is a matrix of a layer with its LoRA, for Project.
func (p *pass) adapted(layer int, target peft.Target, d dense) torch.Projection {
	projection := torch.Projection{Weight: d.weight, Bias: d.bias}
	if lora := p.net.modules[layer].lora[target]; lora != nil {
		projection.A, projection.B, projection.Factor = lora.a.leaf, lora.b.leaf, lora.factor
	}
	return projection
}

// project applies a matrix of a layer with its modules.
func (p *pass) project(layer int, target peft.Target, d dense, x *torch.Tensor) *torch.Tensor {
	return p.projectFrom(layer, target, d, x, x)
}

// projectFrom is project where x is some of all tokens.
func (p *pass) projectFrom(layer int, target peft.Target, d dense, x, all *torch.Tensor) *torch.Tensor {
	m := &p.net.modules[layer]
	scale := m.scales[target]
	if scale != nil && target.ScalesInput() {
		x, scale = p.Mul(x, scale.leaf), nil
	}
	var y *torch.Tensor
	if product := m.products[target]; product != nil {
		y = product.product(p, d, x, all)
	} else {
		y = p.Project(x, p.adapted(layer, target, d))[0]
	}
	if scale != nil {
		y = p.Mul(y, scale.leaf)
	}
	return y
}

// queryKeyValue projects the wanted tokens to queries and all tokens x to keys and values. Where those are the same,
// the three share one gradient.
func (p *pass) queryKeyValue(layer int, wanted, x *torch.Tensor, query, key, value dense) (q, k, v *torch.Tensor) {
	m := &p.net.modules[layer]
	if m.prefix != nil && m.prefix.gate != nil {
		p.gated[layer] = m.prefix.gate.rows(p, x)
	}
	if m.products != nil || m.scales != nil {
		return p.projectFrom(layer, peft.TargetQuery, query, wanted, x), p.project(layer, peft.TargetKey, key, x),
			p.project(layer, peft.TargetValue, value, x)
	}
	toQuery := p.adapted(layer, peft.TargetQuery, query)
	toKey, toValue := p.adapted(layer, peft.TargetKey, key), p.adapted(layer, peft.TargetValue, value)
	if wanted == x {
		all := p.Project(x, toQuery, toKey, toValue)
		return all[0], all[1], all[2]
	}
	keyValue := p.Project(x, toKey, toValue)
	return p.Project(wanted, toQuery)[0], keyValue[0], keyValue[1]
}

// keysValues is what a layer's attention reads: the tokens' keys and values [tokens, D], after the prefix
// that all rows share.
func (p *pass) keysValues(layer int, keys, values *torch.Tensor) memory {
	if p.growth != nil {
		return p.cached(layer, keys, values)
	}
	if p.gated[layer] != nil {
		return p.gatedMemory(layer, keys, values)
	}
	return memory{keys: keys, values: values, prefix: p.prefixes[layer], scale: p.scale()}
}

// scale is what attention scores are multiplied by: 1/√d.
func (p *pass) scale() float64 {
	return 1 / math.Sqrt(float64(p.net.config.AttentionWidth()/p.net.config.Heads))
}

// adapt adds the adapters of a layer's feed-forward part to the sum of its output f and its input a, before ln:
// it returns two terms of that sum. It may change f in place.
func (p *pass) adapt(layer int, f, a *torch.Tensor, ln norm) (x, rest *torch.Tensor) {
	return p.adaptWith(p.net.modules[layer].ffn, f, a, ln)
}

// adaptAttention is adapt for the attention.
func (p *pass) adaptAttention(layer int, f, a *torch.Tensor, ln norm) (x, rest *torch.Tensor) {
	return p.adaptWith(p.net.modules[layer].attention, f, a, ln)
}

func (p *pass) adaptWith(adapters []adapter, f, a *torch.Tensor, ln norm) (x, rest *torch.Tensor) {
	x, rest = f, a
	for _, adapter := range adapters {
		x, rest = adapter.adapt(p, x, rest, f, a, ln, len(adapters) == 1)
	}
	return x, rest
}
