package model

import (
	"fmt"
	"math"

	"peftsearch/data/checkpoint"
	"peftsearch/evaluator/torch"
	"peftsearch/peft"
)

// gpt2 is the decoder of GPT-2 (Radford et al. 2019), with its LayerNorms before the parts. For each layer
//
//	h = x + W_o·attention(LN₁(x)) + c_o
//	y = h + W₂·f(W₁·LN₂(h) + c₁) + c₂
//
// and each line is one step; the last one ends with LN_f. Tokens see only those before them.
type gpt2 struct {
	config         checkpoint.Config
	word, position *torch.Tensor // embedding tables [rows, D]
	activation     func(s *torch.Scope, x *torch.Tensor) *torch.Tensor
	layers         []gpt2Layer
	finalNorm      norm
	words          *torch.Tensor // of what is written [vocabulary, D]; nil if the checkpoint lacks it
}

type gpt2Layer struct {
	attentionNorm                      norm
	query, key, value, attentionOutput dense // [D, D]
	ffnNorm                            norm
	ffnIn                              dense   // [F, D]
	ffnOut                             dense   // [D, F]
	factor                             float64 // of attention scores, beside 1/√d
}

func bindGPT2(c checkpoint.Config, get func(name string) *torch.Tensor) family {
	denseOf := func(name string) dense { return dense{get(name + ".weight"), get(name + ".bias")} }
	normOf := func(name string) norm { return norm{get(name + ".weight"), get(name + ".bias"), c.LayerNormEps} }
	g := &gpt2{
		config:     c,
		word:       get("embeddings.word_embeddings.weight"),
		position:   get("embeddings.position_embeddings.weight"),
		activation: activations[c.Activation],
		finalNorm:  normOf("decoder.LayerNorm"),
	}
	if g.words = g.word; c.Untied {
		g.words = get(wordsOut)
	}
	for i := range c.Layers {
		layer := fmt.Sprintf("decoder.layer.%d.", i)
		factor := 1.0
		if c.Unscaled {
			factor *= math.Sqrt(float64(c.Hidden / c.Heads))
		}
		if c.InverseLayer {
			factor /= float64(i + 1)
		}
		g.layers = append(g.layers, gpt2Layer{
			attentionNorm:   normOf(layer + "attention.LayerNorm"),
			query:           denseOf(layer + "attention.self.query"),
			key:             denseOf(layer + "attention.self.key"),
			value:           denseOf(layer + "attention.self.value"),
			attentionOutput: denseOf(layer + "attention.output.dense"),
			ffnNorm:         normOf(layer + "intermediate.LayerNorm"),
			ffnIn:           denseOf(layer + "intermediate.dense"),
			ffnOut:          denseOf(layer + "output.dense"),
			factor:          factor,
		})
	}
	return g
}

// embed is the sum of the embeddings of words and positions, which count the tokens of each row from 0.
func (g *gpt2) embed(p *pass) *torch.Tensor {
	x := p.prompt(p.Embedding(g.word, p.index(p.batch.IDs)), false) // [tokens, D]
	var positions []int32
	for row, length := range p.batch.Lengths {
		for at := range length {
			positions = append(positions, int32(p.position(row)+at))
		}
	}
	return p.prompt(p.drop(p.AddTo(x, p.Embedding(g.position, p.index(positions)))), true)
}

func (g *gpt2) steps() int { return 2 * len(g.layers) }

func (g *gpt2) lastMixing() int { return g.steps() - 2 }

func (g *gpt2) step(p *pass, at int, x *torch.Tensor, rows Rows) *torch.Tensor {
	if at%2 == 0 {
		return g.attend(p, at/2, x, rows)
	}
	return g.feedForward(p, at/2, x)
}

// attend computes h [wanted, D] of layer i from x [tokens, D]. Among the wanted tokens only the last ones have a place
// in the order of all that the attention knows; for others it is computed for every token.
func (g *gpt2) attend(p *pass, i int, x *torch.Tensor, rows Rows) *torch.Tensor {
	w, read := g.layers[i], All
	if rows == Last {
		read = Last
	}
	n := w.attentionNorm.apply(p.Scope, x)                                     // [tokens, D]
	q, k, v := p.queryKeyValue(i, p.take(n, read), n, w.query, w.key, w.value) // [read, D], [tokens, D], [tokens, D]
	if w.factor != 1 {
		q = p.Scale(q, w.factor)
	}
	a := p.attention(q, p.keysValues(i, k, v), read) // [read, D]
	if read != rows {
		a = p.take(a, rows) // [wanted, D]
	}
	a = p.drop(p.project(i, peft.TargetAttentionOutput, w.attentionOutput, a))
	a, x = p.adaptAttention(i, a, p.take(x, rows), norm{})
	return p.Add(a, x)
}

// feedForward computes y [rows, D] of layer i from h [rows, D].
func (g *gpt2) feedForward(p *pass, i int, h *torch.Tensor) *torch.Tensor {
	w := g.layers[i]
	f := g.activation(p.Scope, p.project(i, peft.TargetFFNIn, w.ffnIn, w.ffnNorm.apply(p.Scope, h))) // [rows, F]
	f = p.drop(p.project(i, peft.TargetFFNOut, w.ffnOut, f))
	f, h = p.adapt(i, f, h, norm{})
	y := p.Add(f, h)
	if i == len(g.layers)-1 {
		y = g.finalNorm.apply(p.Scope, y)
	}
	return y
}

// vocabulary is the word embeddings, unless the checkpoint has a matrix of its own for what is written.
func (g *gpt2) vocabulary() (table *torch.Tensor, scale float64) { return g.words, 1 }

func (g *gpt2) frontier(plan peft.Plan) int { return frontierOf(plan) }
