package model

import (
	"fmt"
	"math/rand/v2"

	"peftsearch/data/checkpoint"
	"peftsearch/evaluator"
	"peftsearch/evaluator/torch"
	"peftsearch/peft"
)

// prompt is the trained tokens at the input: its own parameter, or nil where an encoder generates them.
type prompt struct {
	peft.Prompt
	tokens  *parameter // [p, D]
	encoder *promptEncoder
	name    string // of the tokens
}

func init() { methods[peft.MethodPrompt] = declarePrompt }

// wordTable is the canonical name of the word embeddings [vocabulary, E].
const wordTable = "embeddings.word_embeddings.weight"

func declarePrompt(d *declaration, m peft.Module) error {
	module, t := m.(peft.Prompt), d.training.Methods.Prompt
	words, err := d.checkpoint.Tensor(wordTable)
	if err != nil {
		return err
	}
	if words.Shape[1] != d.geometry.Hidden {
		return &evaluator.Failure{Kind: evaluator.FailureInvalidPlan, Message: fmt.Sprintf("a prompt joins embeddings as "+
			"wide as the layers: those of %s have %d of %d", d.checkpoint.Dir, words.Shape[1], d.geometry.Hidden)}
	}
	p := &prompt{Prompt: module, name: d.name + ".tokens"}
	if t.Encoder == evaluator.PromptDirect {
		var init initializer
		if init, err = promptBegin(module, t, d.text, words); err != nil {
			return err
		}
		p.tokens = d.add("tokens", init, decay, module.Length, d.geometry.Hidden)
	} else {
		p.encoder = declarePromptEncoder(d.parameters, module.Length, d.geometry.Hidden, t)
	}
	d.network.prompt = p
	return nil
}

// promptBegin fills tokens with what a training says; text is the tokens of its text.
func promptBegin(p peft.Prompt, t evaluator.PromptTraining, text []int32,
	words checkpoint.Tensor) (initializer, error) {
	var next func(rng *rand.Rand, i int) int // row of the word embeddings
	switch t.Init {
	case evaluator.PromptVocabulary:
		next = func(rng *rand.Rand, _ int) int { return rng.IntN(words.Shape[0]) }
	case evaluator.PromptText:
		if len(text) == 0 {
			return nil, fmt.Errorf("model: a prompt that begins as a text without tokens")
		}
		next = func(_ *rand.Rand, i int) int { return int(text[i%len(text)]) }
	default:
		if p.Normed {
			return uniform(4), nil // ±1/2
		}
		return normal(1), nil
	}
	return func(values []float32, shape []int, rng *rand.Rand) {
		for i := range shape[0] {
			copy(values[i*shape[1]:], words.Row(next(rng, i)))
		}
	}, nil
}

// values are the prompt's tokens [p, D].
func (pr *prompt) values(s *torch.Scope, dtype torch.DType) *torch.Tensor {
	if pr.encoder == nil {
		return pr.tokens.leaf
	}
	return s.To(pr.encoder.values(s), dtype)
}

// prompt puts the prompt's tokens into the embeddings x of the tokens, before or behind the embeddings' LayerNorm as
// the family says. From then on the pass's batch has them in every row, for which [Rows] count them as any other.
func (p *pass) prompt(x *torch.Tensor, normed bool) *torch.Tensor {
	prompt := p.net.prompt
	if prompt == nil || prompt.Normed != normed || p.known(0) > 0 || p.Err() != nil {
		return x
	}
	own, before := x.Size(0), 0
	if prompt.AfterFirst {
		before = 1
	}
	read := p.batch
	long := Batch{Sequences: read.Sequences, Spans: read.Spans, Next: read.Next}
	var index []int64 // of each token: behind the row's own stand those of the prompt
	at := 0
	for i, length := range read.Lengths {
		if long.Lengths = append(long.Lengths, length+prompt.Length); !normed &&
			length+prompt.Length > p.net.config.MaxLength() {
			p.Fail(fmt.Errorf("model: a row of %d tokens and a prompt of %d: the model reads %d", length, prompt.Length,
				p.net.config.MaxLength()))
			return nil
		}
		for j := range length + prompt.Length {
			id, kind, from := int32(-1), int32(0), int64(own+j-before) // no id of the vocabulary
			if j < before || j >= before+prompt.Length {
				token := at
				if j >= before {
					token += j - prompt.Length
				}
				from = int64(token)
				p.own = append(p.own, int64(len(index)))
				if id = read.IDs[token]; read.TypeIDs != nil {
					kind = read.TypeIDs[token]
				}
			}
			index, long.IDs = append(index, from), append(long.IDs, id)
			if read.TypeIDs != nil {
				long.TypeIDs = append(long.TypeIDs, kind)
			}
		}
		if read.Marked != nil {
			var marked []int
			for _, j := range read.Marked[i] {
				if j >= before {
					j += prompt.Length
				}
				marked = append(marked, j)
			}
			long.Marked = append(long.Marked, marked)
		}
		at += length
	}
	p.batch = long
	p.count()
	for range p.fill {
		index = append(index, 0)
	}
	joined := p.Cat(0, x, prompt.values(p.Scope, p.net.dtype))
	return p.Select(joined, torch.From(p.Scope, index, len(index)))
}
