package model

import (
	"peftsearch/data/checkpoint"
	"peftsearch/evaluator/torch"
	"peftsearch/peft"
)

// family is a backbone of one model_type with its weights: the whole of its forward pass. Adding one adds a
// file and a row of [families].
//
// A pass is embed and then the steps, which are parts of blocks: where a plan's modules begin in the
// middle of a block, what lies below is known too.
type family interface {
	// embed is the input's hidden states [tokens, D].
	embed(p *pass) *torch.Tensor
	// steps is how many steps there are.
	steps() int
	// step computes step at from the hidden states x before it, for the wanted rows alone.
	step(p *pass, at int, x *torch.Tensor, rows Rows) *torch.Tensor
	// lastMixing is the last step in which tokens read each other: it is the first that is computed for
	// those tokens alone that a head reads.
	lastMixing() int
	// frontier is the first step that a plan changes, or steps() if there is none.
	frontier(plan peft.Plan) int
}

// writer is a family that writes texts: the logits of the next token are scale·h·tableᵀ of the last hidden states h.
// The table [vocabulary, D] is nil where the checkpoint has none.
type writer interface {
	vocabulary() (table *torch.Tensor, scale float64)
}

// families binds the weights of each model_type; get gives a tensor by its name in the checkpoint.
var families = map[string]func(c checkpoint.Config, get func(name string) *torch.Tensor) family{
	checkpoint.BERT:       bindBERT,
	checkpoint.RoBERTa:    bindBERT,
	checkpoint.XLMRoBERTa: bindBERT,
	checkpoint.CamemBERT:  bindBERT,
	checkpoint.DistilBERT: bindBERT,
	checkpoint.ELECTRA:    bindBERT,
	checkpoint.GPT2:       bindGPT2,
	checkpoint.T5:         bindT5,
	checkpoint.MT5:        bindT5,
}

// stacked is a family whose stacks begin with more than hidden states.
type stacked interface {
	family
	// enter prepares a pass for the step at, outside of what a step keeps, and returns the hidden states x that it
	// begins with: those of the next stack where one begins.
	enter(p *pass, at int, x *torch.Tensor) *torch.Tensor
}

// activations are the functions of feed-forward parts, which may overwrite x.
var activations = map[checkpoint.Activation]func(s *torch.Scope, x *torch.Tensor) *torch.Tensor{
	checkpoint.GELU:     (*torch.Scope).GELU,
	checkpoint.GELUTanh: (*torch.Scope).GELUTanh,
	checkpoint.ReLU:     (*torch.Scope).ReLUTo,
	checkpoint.SiLU:     (*torch.Scope).SiLU,
}

// frontierOf is the frontier of families whose layers are two steps: the attention of the lowest layer with a module,
// or its feed-forward part if that is all that the modules change.
func frontierOf(plan peft.Plan) int {
	lowest := plan.LowestLayer()
	if lowest == len(plan.Layers) {
		return 2 * lowest
	}
	if part, _ := plan.Layers[lowest].Part(); part == peft.PartFFN {
		return 2*lowest + 1
	}
	return 2 * lowest
}

// dense is x·Wᵀ + c: weight [out, in], bias [out].
type dense struct{ weight, bias *torch.Tensor }

// norm is a LayerNorm: weight and bias [D].
type norm struct {
	weight, bias *torch.Tensor
	eps          float64
}

func (n norm) apply(s *torch.Scope, x *torch.Tensor) *torch.Tensor {
	return s.LayerNorm(x, n.weight, n.bias, n.eps)
}

// sum is the norm of x+y.
func (n norm) sum(s *torch.Scope, x, y *torch.Tensor) *torch.Tensor {
	normed, _ := s.AddNorm(x, y, n.weight, n.bias, n.eps)
	return normed
}
