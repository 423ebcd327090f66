package model

import (
	"errors"
	"fmt"
	"slices"

	"peftsearch/data/checkpoint"
	"peftsearch/evaluator/torch"
	"peftsearch/peft"
)

// t5 is the encoder and the decoder of T5 (Raffel et al. 2020), with its RMSNorms (Zhang & Sennrich 2019) before the
// parts and no biases. For each layer of the encoder
//
//	h = x + W_o·attention(RMS₁(x))
//	y = h + W₂·f(W₁·RMS₂(h))
//
// and each line is one step; the last one ends with RMS_f. Layers of the decoder have a step between them,
//
//	c = h + V_o·attention(RMS₃(h), e)
//
// where keys and values are those of the encoder's output e. T5 1.1 and mT5 have f(W_g·RMS₂(h)) ∘ W₁·RMS₂(h) in place
// of f(W₁·RMS₂(h)). Attention scores are not scaled; self-attention adds a bias that depends on the distance of two
// tokens and is the same in all layers of a stack. Without other tokens the decoder reads those of the encoder, moved
// one place to the right behind a start token, as transformers' T5ForSequenceClassification has it.
type t5 struct {
	config     checkpoint.Config
	word       *torch.Tensor // embedding table [vocabulary, D]
	activation func(s *torch.Scope, x *torch.Tensor) *torch.Tensor
	layers     []t5Layer       // the encoder's before the decoder's
	encoder    int             // how many of them are the encoder's
	biases     []*torch.Tensor // of the two stacks, by bucket of distances and head [B, H]
	finalNorms []rmsNorm       // of the two stacks
}

type t5Layer struct {
	attention, cross t5Attention // cross in the decoder alone
	ffnNorm          rmsNorm
	gate             *dense // [F, D]; nil for none
	ffnIn            dense  // [F, D]
	ffnOut           dense  // [D, F]
}

type t5Attention struct {
	norm              rmsNorm
	query, key, value dense // [A, D]
	output            dense // [D, A]
}

// rmsNorm is w·x/√(mean(x²)+ε).
type rmsNorm struct {
	weight *torch.Tensor // [D]
	eps    float64
}

func (n rmsNorm) apply(s *torch.Scope, x *torch.Tensor) *torch.Tensor {
	return s.RMSNorm(x, n.weight, n.eps)
}

func bindT5(c checkpoint.Config, get func(name string) *torch.Tensor) family {
	denseOf := func(name string) dense { return dense{weight: get(name + ".weight")} }
	normOf := func(name string) rmsNorm { return rmsNorm{get(name + ".LayerNorm.weight"), c.LayerNormEps} }
	attentionOf := func(name string) t5Attention {
		return t5Attention{norm: normOf(name), query: denseOf(name + ".self.query"), key: denseOf(name + ".self.key"),
			value: denseOf(name + ".self.value"), output: denseOf(name + ".output.dense")}
	}
	t := &t5{config: c, word: get("embeddings.word_embeddings.weight"), activation: activations[c.Activation],
		encoder: c.Layers - c.DecoderLayers}
	stack := func(name string, layers int) {
		t.biases = append(t.biases, get(name+".layer.0.attention.self.relative_attention_bias.weight"))
		t.finalNorms = append(t.finalNorms, normOf(name))
		for i := range layers {
			layer := fmt.Sprintf("%s.layer.%d.", name, i)
			w := t5Layer{attention: attentionOf(layer + "attention"), ffnNorm: normOf(layer + "intermediate"),
				ffnOut: denseOf(layer + "output.dense")}
			if name == "decoder" {
				w.cross = attentionOf(layer + "crossattention")
			}
			if c.Gated {
				gate := denseOf(layer + "intermediate.gate")
				w.gate, w.ffnIn = &gate, denseOf(layer+"intermediate.up")
			} else {
				w.ffnIn = denseOf(layer + "intermediate.dense")
			}
			t.layers = append(t.layers, w)
		}
	}
	stack("encoder", t.encoder)
	stack("decoder", c.DecoderLayers)
	return t
}

func (t *t5) embed(p *pass) *torch.Tensor {
	return p.drop(p.Embedding(t.word, p.index(p.batch.IDs))) // [tokens, D]
}

// decoding is the decoder's first step.
func (t *t5) decoding() int { return 2 * t.encoder }

func (t *t5) steps() int { return t.decoding() + 3*t.config.DecoderLayers }

// lastMixing is the last self-attention: the attention to the encoder mixes no tokens of the decoder.
func (t *t5) lastMixing() int { return t.steps() - 3 }

// enter makes the relative biases of a stack, and at the decoder's first step its input.
func (t *t5) enter(p *pass, at int, x *torch.Tensor) *torch.Tensor {
	if at == t.decoding() {
		p.readSource(x)
		p.begin(p.net.stacks[1], t.decoderBatch(p))
		p.addRelative(t.biases[1])
		return t.embed(p)
	}
	if p.relative == nil {
		p.addRelative(t.biases[0])
	}
	return x
}

// decoderBatch is the encoder's tokens, moved one place to the right behind a start token.
func (t *t5) decoderBatch(p *pass) Batch {
	if len(p.batch.IDs) != p.tokens {
		p.Fail(errors.New("model: the decoder wants the tokens beside the encoder's hidden states"))
		return p.batch
	}
	moved := p.batch
	moved.IDs, moved.TypeIDs, moved.Hidden = slices.Clone(p.batch.IDs), nil, nil
	start := 0
	for _, length := range moved.Lengths {
		copy(moved.IDs[start+1:start+length], p.batch.IDs[start:])
		moved.IDs[start] = int32(t.config.StartID)
		start += length
	}
	return moved
}

func (t *t5) step(p *pass, at int, x *torch.Tensor, rows Rows) *torch.Tensor {
	if at < t.decoding() {
		if at%2 == 0 {
			return t.attend(p, at/2, x, rows)
		}
		return t.feedForward(p, at/2, x)
	}
	i := t.encoder + (at-t.decoding())/3
	switch (at - t.decoding()) % 3 {
	case 0:
		return t.attend(p, i, x, rows)
	case 1:
		return t.attendToSource(p, i, x, rows)
	}
	return t.feedForward(p, i, x)
}

// attend computes h [wanted, D] of layer i from x [tokens, D]. Among the wanted tokens only the last ones have a place
// in the order of all that the attention knows; for others it is computed for every token.
func (t *t5) attend(p *pass, i int, x *torch.Tensor, rows Rows) *torch.Tensor {
	w, read := t.layers[i].attention, All
	if rows == Last {
		read = Last
	}
	n := w.norm.apply(p.Scope, x)                                              // [tokens, D]
	q, k, v := p.queryKeyValue(i, p.take(n, read), n, w.query, w.key, w.value) // [read, A], [tokens, A], [tokens, A]
	m := p.keysValues(i, k, v)
	m.scale = 1
	a := p.attention(q, m, read) // [read, A]
	if read != rows {
		a = p.take(a, rows) // [wanted, A]
	}
	a = p.drop(p.project(i, peft.TargetAttentionOutput, w.output, a))
	a, x = p.adaptAttention(i, a, p.take(x, rows), norm{})
	return p.Add(a, x)
}

// attendToSource computes c [rows, D] of layer i from h [rows, D].
func (t *t5) attendToSource(p *pass, i int, h *torch.Tensor, rows Rows) *torch.Tensor {
	w, e := t.layers[i].cross, p.source.states                                  // [source, D]
	q := p.project(i, peft.TargetCrossQuery, w.query, w.norm.apply(p.Scope, h)) // [rows, A]
	k := p.project(i, peft.TargetCrossKey, w.key, e)                            // [source, A]
	v := p.project(i, peft.TargetCrossValue, w.value, e)                        // [source, A]
	a := p.attention(q, memory{keys: k, values: v, prefix: p.cross[i], source: p.source, scale: 1}, rows)
	return p.Add(p.drop(p.project(i, peft.TargetCrossOutput, w.output, a)), h)
}

// feedForward computes y [rows, D] of layer i from h [rows, D].
func (t *t5) feedForward(p *pass, i int, h *torch.Tensor) *torch.Tensor {
	w := t.layers[i]
	n := w.ffnNorm.apply(p.Scope, h)
	f := p.project(i, peft.TargetFFNIn, w.ffnIn, n) // [rows, F]
	if w.gate != nil {
		f = p.Mul(t.activation(p.Scope, p.Linear(n, w.gate.weight, nil)), f)
	} else {
		f = t.activation(p.Scope, f)
	}
	f = p.drop(p.project(i, peft.TargetFFNOut, w.ffnOut, p.drop(f)))
	f, h = p.adapt(i, f, h, norm{})
	y := p.Add(f, h)
	switch i {
	case t.encoder - 1:
		y = p.drop(t.finalNorms[0].apply(p.Scope, y))
	case len(t.layers) - 1:
		y = p.drop(t.finalNorms[1].apply(p.Scope, y))
	}
	return y
}

// frontier is not above the decoder's first step while anything is trained: behind it a pass has the encoder's output
// and the decoder's hidden states.
func (t *t5) frontier(plan peft.Plan) int {
	switch lowest := plan.LowestLayer(); {
	case lowest == len(plan.Layers):
		return t.steps()
	case lowest >= t.encoder:
		return t.decoding()
	}
	return frontierOf(plan)
}
