package peft

import (
	"errors"
	"fmt"
	"math"

	"peftsearch/data/checkpoint"
	"peftsearch/data/onnx"
)

// MethodPrompt is prompt tuning.
const MethodPrompt Method = "prompt"

// Prompt puts trained tokens before those of every row (Lester et al. 2021, "The Power of Scale"). P-tuning (Liu et al.
// 2021, "GPT Understands, Too") trains them through an encoder, which is not stored. A head that reads the first token
// reads the prompt's first one, unless AfterFirst.
type Prompt struct {
	Length int `json:"length"` // tokens, 1 to MaxSize
	// Normed has the tokens join after the embeddings' LayerNorm, without positions, as in the adapters library. Without
	// it they take the place of word embeddings, as in PEFT: they have token type 0 and the first positions, and the row's
	// own tokens later ones.
	Normed bool `json:"normed,omitempty"`
	// AfterFirst puts them behind the row's first token.
	AfterFirst bool `json:"after_first,omitempty"`
}

func (Prompt) Method() Method      { return MethodPrompt }
func (p Prompt) Size() int         { return p.Length }
func (Prompt) Part() Part          { return PartInput }
func (p Prompt) canonical() Module { return p }
func (Prompt) version() int        { return 2 }

func (p Prompt) String() string {
	text := fmt.Sprintf("prompt %d", p.Length)
	if p.Normed {
		text += " normed"
	}
	if p.AfterFirst {
		text += " after first"
	}
	return text
}

func (p Prompt) validate(g Geometry, _ Stack) error {
	if len(g.Stacks()) > 1 {
		return fmt.Errorf("a prompt is not supported for an encoder-decoder such as %s", g.Architecture)
	}
	return validateSize("prompt length", p.Length)
}

// Tensors are the tokens [p, D].
func (p Prompt) Tensors(g Geometry) []Tensor {
	return []Tensor{{"tokens", []int{p.Length, g.Hidden}, false}}
}

// peftHolds wants nothing else in the plan that PEFT would have to hold, and a head that reads the first token: beside
// a prompt transformers' decoders read the last place of a row, padding or not.
func (p Prompt) peftHolds(_ Plan, g Geometry) bool { return !p.Normed && !p.AfterFirst && !g.causal() }

func (p Prompt) peftConfig(t Trained, c *peftConfig) {
	c.PEFTType, c.NumVirtualTokens, c.TokenDim = "PROMPT_TUNING", p.Length, t.Info.Geometry.Hidden
	c.NumTransformerSubmodules = 1
}

// peftTensors has prompt_embeddings [p, D]. The names of the head lack "model.": prompt learning does not wrap the
// model.
func (p Prompt) peftTensors(t Trained, into map[string]checkpoint.Tensor) {
	into["prompt_embeddings"] = t.Modules["input.prompt.tokens"]
	for name, tensor := range t.classHead() {
		into["base_model."+name] = tensor
	}
}

// adaptersPart: the library puts tokens behind the embeddings' LayerNorm alone.
func (p Prompt) adaptersPart() (kept Module, lost string) {
	if !p.Normed {
		return nil, p.String()
	}
	return p, ""
}

func (p Prompt) adaptersKind() string { return p.String() }

type promptConfig struct {
	Architecture string `json:"architecture"` // "prompt_tuning"
	PromptLength int    `json:"prompt_length"`
	Combine      string `json:"combine"`
}

// Where adapters puts a prompt.
const (
	combineFirst      = "prefix"
	combineAfterFirst = "prefix_after_bos"
)

func (p Prompt) adaptersConfig(Geometry, Plan) any {
	if p.AfterFirst {
		return promptConfig{"prompt_tuning", p.Length, combineAfterFirst}
	}
	return promptConfig{"prompt_tuning", p.Length, combineFirst}
}

func (p Prompt) adaptersTensors(t Trained, name string, _ Plan, into map[string]checkpoint.Tensor) {
	into[t.family().backbone+".prompt_tuning.prompt_tunings."+name+".prompt_embedding.weight"] =
		t.Modules["input.prompt.tokens"]
}

func (Prompt) architectures() []string { return []string{"prompt_tuning"} }

func (Prompt) importAdapters(s settings, _ Geometry) (func(int) (Module, error), error) {
	p, combine := Prompt{Length: 10, Normed: true}, combineFirst
	if err := s.takeAll(map[string]any{"prompt_length": &p.Length, "combine": &combine}); err != nil {
		return nil, err
	}
	if combine != combineFirst && combine != combineAfterFirst {
		return nil, fmt.Errorf("combine %.40q: must be %s or %s", combine, combineFirst, combineAfterFirst)
	}
	p.AfterFirst = combine == combineAfterFirst
	if err := s.rest("prompt_init", "prompt_init_text", "random_uniform_scale", "init_weights_seed"); err != nil {
		return nil, err
	}
	return func(int) (Module, error) { return p, nil }, nil
}

func (Prompt) peftTypes() []string { return []string{"PROMPT_TUNING", "P_TUNING"} }

func (Prompt) importPEFT(s settings, p *Plan, g Geometry) error {
	length, hidden, submodules := 0, g.Hidden, 1
	if err := s.takeAll(map[string]any{"num_virtual_tokens": &length, "token_dim": &hidden,
		"num_transformer_submodules": &submodules}); err != nil {
		return err
	}
	if hidden != g.Hidden {
		return fmt.Errorf("the prompt is of width %d, the backbone of %d", hidden, g.Hidden)
	}
	if submodules != 1 {
		return errors.New("num_transformer_submodules: an encoder has one")
	}
	p.Input = append(p.Input, Prompt{Length: length})
	return s.rest(append(peftRecords, "num_attention_heads", "num_layers", "prompt_tuning_init", "prompt_tuning_init_text",
		"tokenizer_name_or_path", "tokenizer_kwargs", "encoder_reparameterization_type", "encoder_hidden_size",
		"encoder_num_layers", "encoder_dropout")...)
}

func (Prompt) code() []string { return []string{"prompt"} }

func (p Prompt) graphInput(g *modelGraph) {
	at := 0
	if p.AfterFirst {
		at = 1
	}
	insert := func(x onnx.Value) onnx.Value {
		return g.insert(x, g.Weight("input.prompt.tokens", g.t.Modules["input.prompt.tokens"]), at, 3)
	}
	constant := func(x onnx.Value, value onnx.Value) onnx.Value {
		return g.insert(x, g.Node("Expand", nil, value, g.Ints(int64(p.Length))), at, 2)
	}
	join := func() {
		g.real = constant(g.real, g.Float(1))
		g.length = g.Size(g.real, 1)
	}
	g.own = append(g.own, func(x onnx.Value) onnx.Value {
		if at == 0 {
			return g.cut(x, p.Length, math.MaxInt32)
		}
		return g.Concat(1, g.cut(x, 0, at), g.cut(x, at+p.Length, math.MaxInt32))
	})
	if p.Normed {
		g.normed = append(g.normed, func(x onnx.Value) onnx.Value {
			x = insert(x)
			join()
			return x
		})
		return
	}
	join()
	g.counted = constant(g.counted, g.Int(-1))
	if g.types != "" {
		g.types = constant(g.types, g.Int(0))
	}
	g.embedded = append(g.embedded, insert)
}
