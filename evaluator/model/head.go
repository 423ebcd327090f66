package model

import (
	"fmt"
	"maps"
	"math"
	"slices"

	"peftsearch/data"
	"peftsearch/evaluator"
	"peftsearch/evaluator/torch"
)

// head turns hidden states into what a kind of task asks for. Adding one adds a file and a row of [heads].
type head interface {
	// rows says which tokens it reads.
	rows() Rows
	// logits computes [decisions, outputs] in float32 from the hidden states of the tokens that it reads [read, D].
	logits(p *pass, batch Batch, x *torch.Tensor) *torch.Tensor
	// counts is how many of these numbers each example has.
	counts(batch Batch) []int
	// loss is the sum of the losses of logits against the targets of all examples, and of how many terms it is the
	// sum.
	loss(s *torch.Scope, batch Batch, logits *torch.Tensor, targets []float64) (sum *torch.Tensor, terms int)
}

// scorer is a head whose outputs are computed where there are no gradients without keeping its logits.
type scorer interface {
	// scores are [decisions, numbers], as counts says, of the hidden states that it reads.
	scores(p *pass, batch Batch, x *torch.Tensor) *torch.Tensor
}

// headForm is how the layers of a head are, and where a pass with dropout has it in them.
type headForm struct {
	evaluator.Head
	dropDense, dropLast bool // before the dense layer, before the last one
}

// heads declares the parameters of each kind's head in ps: for a number of outputs, of the form that is asked for.
var heads = map[data.Kind]func(ps *parameters, form headForm, hidden, outputs int) head{
	data.KindClassification:      declareClassification,
	data.KindRegression:          declareRegression,
	data.KindTokenClassification: declareTokens,
	data.KindMultipleChoice:      declareChoice,
	data.KindCoreference:         declareCoreference,
	data.KindMultilabel:          declareMultilabel,
	data.KindText:                declareText,
}

// declareHead declares the head of a kind of task.
func declareHead(ps *parameters, kind data.Kind, form headForm, hidden, outputs int) (head, error) {
	declare, ok := heads[kind]
	if !ok {
		return nil, fmt.Errorf("model: task %q: must be one of %v", kind, slices.Sorted(maps.Keys(heads)))
	}
	if form.Head != evaluator.HeadLinear && form.Head != evaluator.HeadDense {
		return nil, fmt.Errorf("model: head %q: must be %s or %s", form.Head, evaluator.HeadLinear, evaluator.HeadDense)
	}
	return declare(ps, form, hidden, outputs), nil
}

// outputLayer is W·h + c, or the dense W·tanh(W_p·h + c_p) + c. It is computed in float32: bfloat16 logits would
// tie predictions that differ.
type outputLayer struct {
	form                   headForm
	outputs                int
	denseWeight, denseBias *parameter // [in, in], [in]; nil for the linear one
	weight, bias           *parameter // [outputs, in], [outputs]
}

// declareOutput initialises with N(0, 0.02), biases 0.
func declareOutput(ps *parameters, form headForm, in, outputs int) outputLayer {
	l := outputLayer{form: form, outputs: outputs}
	if form.Head == evaluator.HeadDense {
		l.denseWeight = ps.declare("head.dense.weight", normal(0.02), decay|exact, in, in)
		l.denseBias = ps.declare("head.dense.bias", zeros, exact, in)
	}
	l.weight = ps.declare("head.weight", normal(0.02), decay|exact, outputs, in)
	l.bias = ps.declare("head.bias", zeros, exact, outputs)
	return l
}

// apply is [n, outputs] in float32 of h [n, in].
func (l outputLayer) apply(p *pass, h *torch.Tensor) *torch.Tensor {
	h = p.To(h, torch.Float32)
	if l.denseWeight != nil {
		if l.form.dropDense {
			h = p.drop(h)
		}
		h = p.Tanh(p.Linear(h, l.denseWeight.leaf, l.denseBias.leaf))
	}
	if l.form.dropLast {
		h = p.drop(h)
	}
	return p.Linear(h, l.weight.leaf, l.bias.leaf)
}

// ignored is the target of a decision that no loss counts.
const ignored = -100

// crossEntropy is the sum over the decisions of logits [n, classes] whose target is a class, and their number.
func crossEntropy(s *torch.Scope, logits *torch.Tensor, targets []float64) (sum *torch.Tensor, terms int) {
	if s.Err() != nil {
		return nil, 0
	}
	n, classes := logits.Size(0), logits.Size(1)
	if len(targets) != n {
		s.Fail(fmt.Errorf("model: %d targets for %d decisions", len(targets), n))
		return nil, 0
	}
	indices := make([]int64, n)
	for i, target := range targets {
		if target != math.Trunc(target) || (target < 0 || target >= float64(classes)) && target != ignored {
			s.Fail(fmt.Errorf("model: target %g is not a class index below %d", target, classes))
			return nil, 0
		}
		if indices[i] = int64(target); target != ignored {
			terms++
		}
	}
	return s.CrossEntropy(logits, torch.From(s, indices, n)), terms
}

// float32s are the targets of a tensor's shape.
func float32s(s *torch.Scope, like *torch.Tensor, targets []float64) *torch.Tensor {
	if s.Err() != nil {
		return nil
	}
	values := make([]float32, len(targets))
	for i, target := range targets {
		values[i] = float32(target)
	}
	return torch.From(s, values, like.Shape()...)
}
