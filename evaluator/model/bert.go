package model

import (
	"fmt"
	"math"

	"peftsearch/data/checkpoint"
	"peftsearch/evaluator/torch"
	"peftsearch/peft"
)

// dense is x·Wᵀ + c: weight [out, in], bias [out].
type dense struct{ weight, bias *torch.Tensor }

func (d dense) apply(s *torch.Scope, x *torch.Tensor) *torch.Tensor {
	return s.Linear(x, d.weight, d.bias)
}

// norm is a LayerNorm: weight and bias [D].
type norm struct {
	weight, bias *torch.Tensor
	eps          float64
}

func (n norm) apply(s *torch.Scope, x *torch.Tensor) *torch.Tensor {
	return s.LayerNorm(x, n.weight, n.bias, n.eps)
}

// block is the weights of one transformer block.
type block struct {
	query, key, value, attentionOutput dense // [D, D]
	attentionNorm                      norm
	ffnIn                              dense // [F, D]
	ffnOut                             dense // [D, F]
	outputNorm                         norm
}

// weights is the weights of an encoder.
type weights struct {
	word, position, types *torch.Tensor // embedding tables [rows, D]
	embeddingNorm         norm
	blocks                []block
}

// bind gathers the weights by their names in a checkpoint.
func bind(c checkpoint.Config, get func(name string) *torch.Tensor) weights {
	denseOf := func(name string) dense { return dense{get(name + ".weight"), get(name + ".bias")} }
	normOf := func(name string) norm { return norm{get(name + ".weight"), get(name + ".bias"), c.LayerNormEps} }
	w := weights{
		word:          get("embeddings.word_embeddings.weight"),
		position:      get("embeddings.position_embeddings.weight"),
		types:         get("embeddings.token_type_embeddings.weight"),
		embeddingNorm: normOf("embeddings.LayerNorm"),
	}
	for i := range c.Layers {
		layer := fmt.Sprintf("encoder.layer.%d.", i)
		w.blocks = append(w.blocks, block{
			query:           denseOf(layer + "attention.self.query"),
			key:             denseOf(layer + "attention.self.key"),
			value:           denseOf(layer + "attention.self.value"),
			attentionOutput: denseOf(layer + "attention.output.dense"),
			attentionNorm:   normOf(layer + "attention.output.LayerNorm"),
			ffnIn:           denseOf(layer + "intermediate.dense"),
			ffnOut:          denseOf(layer + "output.dense"),
			outputNorm:      normOf(layer + "output.LayerNorm"),
		})
	}
	return w
}

// network is an encoder with the modules of a plan.
type network struct {
	config    checkpoint.Config
	dtype     torch.DType // of weights and activations
	weights   weights
	modules   []modules // per block
	prefixMLP *prefixMLP
}

// pass is one batch on its way through a network.
type pass struct {
	*torch.Scope
	net      *network
	batch    Batch
	prefixes []keysValues          // per block
	masks    map[int]*torch.Tensor // by prefix length; see mask
	dropout  *dropout              // nil outside training
}

// start returns a pass and its hidden states before block from: the batch's own, or the embeddings.
func (net *network) start(s *torch.Scope, batch Batch, from int, dropout *dropout) (*pass, *torch.Tensor) {
	if err := batch.validate(net.config); err != nil {
		s.Fail(err)
	}
	p := &pass{Scope: s, net: net, batch: batch, masks: map[int]*torch.Tensor{}, dropout: dropout}
	if s.Err() != nil {
		return p, nil
	}
	p.prefixes = net.prefixes(s)
	for _, prefix := range p.prefixes {
		if length := prefix.keys.Size(0); p.masks[length] == nil {
			p.masks[length] = p.mask(length)
		}
	}
	x := batch.Hidden
	if x == nil {
		return p, p.embed()
	}
	want := len(batch.Lengths) * batch.Len
	if from == net.config.Layers {
		want = len(batch.Lengths)
	}
	if shape := x.Shape(); len(shape) != 2 || shape[0] != want || shape[1] != net.config.Hidden {
		s.Fail(fmt.Errorf("model: hidden states before block %d of shape %v, want [%d %d]", from, shape, want, net.config.Hidden))
		return p, nil
	}
	return p, x
}

// blocks computes x from before block from to before block to. After the last block only the first
// tokens are left: [n, D].
func (p *pass) blocks(x *torch.Tensor, from, to int) *torch.Tensor {
	for i := from; i < to && p.Err() == nil; i++ {
		x = p.Keep(func() *torch.Tensor { return p.block(i, x, i == p.net.config.Layers-1) })
	}
	return x
}

// embed is the sum of the embeddings, normed: [n·len, D].
func (p *pass) embed() *torch.Tensor {
	w, c, n, length := p.net.weights, p.net.config, len(p.batch.Lengths), p.batch.Len
	x := p.Embedding(w.word, torch.From(p.Scope, p.batch.IDs, n, length)) // [n, len, D]
	x = p.AddTo(x, p.Narrow(w.position, 0, c.PositionOffset(), length))
	types := p.Narrow(w.types, 0, 0, 1)
	if p.batch.TypeIDs != nil {
		types = p.Embedding(w.types, torch.From(p.Scope, p.batch.TypeIDs, n, length))
	}
	x = p.Reshape(p.AddTo(x, types), n*length, c.Hidden)
	return p.drop(w.embeddingNorm.apply(p.Scope, x))
}

// block computes transformer block i with its modules: x [n·len, D] to the same shape, or to [n, D] if
// only the first tokens are wanted. Package peft's documentation has the formula.
func (p *pass) block(i int, x *torch.Tensor, firstOnly bool) *torch.Tensor {
	w, m := p.net.weights.blocks[i], p.net.modules[i]
	rows := x // whose outputs are wanted
	if firstOnly {
		n, length, width := len(p.batch.Lengths), p.batch.Len, p.net.config.Hidden
		rows = p.Reshape(p.Narrow(p.Reshape(x, n, length, width), 1, 0, 1), n, width)
	}
	a := p.attention(i, rows, x)
	a = p.drop(p.project(i, peft.TargetAttentionOutput, w.attentionOutput, a))
	a = w.attentionNorm.apply(p.Scope, p.AddTo(a, rows))

	f := p.project(i, peft.TargetFFNIn, w.ffnIn, a) // [rows, F]
	f = p.drop(p.project(i, peft.TargetFFNOut, w.ffnOut, p.GELU(f)))
	sum := p.AddTo(f, a)
	if m.serial != nil {
		sum = m.serial.addSerial(p.Scope, sum, w.outputNorm)
	}
	if m.parallel != nil {
		sum = m.parallel.addParallel(p.Scope, sum, a)
	}
	return w.outputNorm.apply(p.Scope, sum)
}

// project applies a matrix of block i with its LoRA, if any.
func (p *pass) project(i int, target peft.Target, d dense, x *torch.Tensor) *torch.Tensor {
	y := d.apply(p.Scope, x)
	if lora := p.net.modules[i].lora[target]; lora != nil {
		y = lora.addTo(p.Scope, y, x)
	}
	return y
}

// attention is the attention of block i from rows (x itself, or its first tokens) to all tokens of x
// and the prefix: [rows, D].
func (p *pass) attention(i int, rows, x *torch.Tensor) *torch.Tensor {
	w, c, n := p.net.weights.blocks[i], p.net.config, len(p.batch.Lengths)
	width := c.Hidden / c.Heads
	split := func(t *torch.Tensor) *torch.Tensor { // [n·m, D] → [n, H, m, d]
		return p.Permute(p.Reshape(t, n, -1, c.Heads, width), 0, 2, 1, 3)
	}
	flat := func(t *torch.Tensor) *torch.Tensor { // [n, H, m, d] → [n·H, m, d]
		return p.Reshape(t, n*c.Heads, -1, width)
	}
	query := flat(split(p.project(i, peft.TargetQuery, w.query, rows)))
	key := split(p.project(i, peft.TargetKey, w.key, x))
	value := split(p.project(i, peft.TargetValue, w.value, x))
	prefix := p.prefixes[i]
	if prefix.keys != nil {
		key = p.Cat(2, p.prepend(prefix.keys), key)
		value = p.Cat(2, p.prepend(prefix.values), value)
	}
	scores := p.ScaledBatchMatmul(p.masks[prefix.keys.Size(0)], query, p.Transpose(flat(key), 1, 2), 1/math.Sqrt(float64(width)))
	context := p.BatchMatmul(p.drop(p.Softmax(scores)), flat(value)) // [n·H, m, d]
	return p.Reshape(p.Permute(p.Reshape(context, n, c.Heads, -1, width), 0, 2, 1, 3), -1, c.Hidden)
}

// mask is 0 for a prefix and for real tokens and -∞ for padding: [n·H, 1, prefix+len], or one zero for
// a batch without padding.
func (p *pass) mask(prefix int) *torch.Tensor {
	n, width, padded := len(p.batch.Lengths), prefix+p.batch.Len, false
	values := make([]float32, n*width)
	for row, length := range p.batch.Lengths {
		padding := values[row*width+prefix+length : (row+1)*width]
		for j := range padding {
			padding[j] = float32(math.Inf(-1))
			padded = true
		}
	}
	if !padded {
		return p.Zeros(p.net.dtype, 1, 1, 1)
	}
	heads := p.net.config.Heads
	mask := p.Expand(p.To(torch.From(p.Scope, values, n, 1, width), p.net.dtype), n, heads, width)
	return p.Reshape(mask, n*heads, 1, width)
}
