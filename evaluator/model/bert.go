package model

import (
	"fmt"

	"peftsearch/data/checkpoint"
	"peftsearch/evaluator/torch"
	"peftsearch/peft"
)

// bert is the encoder of BERT (Devlin et al. 2019), with its LayerNorms after the sums. For each layer
//
//	a = LN₁(x + W_o·attention(x) + c_o)
//	y = LN₂(a + W₂·f(W₁·a + c₁) + c₂)
//
// and each line is one step. It is that of RoBERTa (Liu et al. 2019), XLM-RoBERTa (Conneau et al. 2020) and CamemBERT
// (Martin et al. 2020) too, which count positions in another way; of DistilBERT (Sanh et al. 2019), which has no token
// types; and of ELECTRA (Clark et al. 2020), whose embeddings may be narrower than its layers.
type bert struct {
	config                checkpoint.Config
	word, position, types *torch.Tensor // embedding tables [rows, E]; types may be nil
	embeddingNorm         norm
	embeddingProjection   *dense // [D, E]; nil if E = D
	activation            func(s *torch.Scope, x *torch.Tensor) *torch.Tensor
	layers                []bertLayer
}

type bertLayer struct {
	query, key, value, attentionOutput dense // [D, D]
	attentionNorm                      norm
	ffnIn                              dense // [F, D]
	ffnOut                             dense // [D, F]
	outputNorm                         norm
}

func bindBERT(c checkpoint.Config, get func(name string) *torch.Tensor) family {
	denseOf := func(name string) dense { return dense{get(name + ".weight"), get(name + ".bias")} }
	normOf := func(name string) norm { return norm{get(name + ".weight"), get(name + ".bias"), c.LayerNormEps} }
	b := &bert{
		config:        c,
		word:          get("embeddings.word_embeddings.weight"),
		position:      get("embeddings.position_embeddings.weight"),
		embeddingNorm: normOf("embeddings.LayerNorm"),
		activation:    activations[c.Activation],
	}
	if c.Types > 0 {
		b.types = get("embeddings.token_type_embeddings.weight")
	}
	if c.Embedding != c.Hidden {
		projection := denseOf("embeddings_project")
		b.embeddingProjection = &projection
	}
	for i := range c.Layers {
		layer := fmt.Sprintf("encoder.layer.%d.", i)
		b.layers = append(b.layers, bertLayer{
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
	return b
}

// embed is the sum of the embeddings of words, positions and types, normed.
func (b *bert) embed(p *pass) *torch.Tensor {
	x := p.prompt(p.Embedding(b.word, p.index(p.batch.IDs)), false) // [tokens, E]
	x = p.AddTo(x, p.Embedding(b.position, p.index(b.positions(p.batch))))
	if b.types != nil {
		types := p.Narrow(b.types, 0, 0, 1)
		if p.batch.TypeIDs != nil {
			types = p.Embedding(b.types, p.index(p.batch.TypeIDs))
		}
		x = p.AddTo(x, types)
	}
	x = p.drop(b.embeddingNorm.apply(p.Scope, x))
	if b.embeddingProjection != nil {
		x = p.Linear(x, b.embeddingProjection.weight, b.embeddingProjection.bias) // [tokens, D]
	}
	return p.prompt(x, true)
}

// positions counts the tokens of each row from 0. RoBERTa and its kin count from the id of the padding plus 1, and a
// padding token that stands in the text has that id for its position and is not counted.
func (b *bert) positions(batch Batch) []int32 {
	var positions []int32
	for _, length := range batch.Lengths {
		next := int32(b.config.PositionOffset())
		for range length {
			if at := len(positions); b.config.PositionsAfterPad() && batch.IDs[at] == int32(b.config.PadID) {
				positions = append(positions, int32(b.config.PadID))
				continue
			}
			positions = append(positions, next)
			next++
		}
	}
	return positions
}

func (b *bert) steps() int { return 2 * len(b.layers) }

func (b *bert) lastMixing() int { return b.steps() - 2 }

func (b *bert) step(p *pass, at int, x *torch.Tensor, rows Rows) *torch.Tensor {
	if at%2 == 0 {
		return b.attend(p, at/2, x, rows)
	}
	return b.feedForward(p, at/2, x)
}

// attend computes a [wanted, D] of layer i from x [tokens, D].
func (b *bert) attend(p *pass, i int, x *torch.Tensor, rows Rows) *torch.Tensor {
	w := b.layers[i]
	wanted := p.take(x, rows)                                         // [wanted, D]
	q, k, v := p.queryKeyValue(i, wanted, x, w.query, w.key, w.value) // [wanted, D], [tokens, D], [tokens, D]
	a := p.attention(q, p.keysValues(i, k, v), rows)                  // [wanted, D]
	a = p.drop(p.project(i, peft.TargetAttentionOutput, w.attentionOutput, a))
	a, wanted = p.adaptAttention(i, a, wanted, w.attentionNorm)
	return w.attentionNorm.sum(p.Scope, a, wanted)
}

// feedForward computes y [rows, D] of layer i from a [rows, D].
func (b *bert) feedForward(p *pass, i int, a *torch.Tensor) *torch.Tensor {
	w := b.layers[i]
	f := b.activation(p.Scope, p.project(i, peft.TargetFFNIn, w.ffnIn, a)) // [rows, F]
	f = p.drop(p.project(i, peft.TargetFFNOut, w.ffnOut, f))
	f, a = p.adapt(i, f, a, w.outputNorm)
	return w.outputNorm.sum(p.Scope, f, a)
}

func (b *bert) frontier(plan peft.Plan) int { return frontierOf(plan) }
