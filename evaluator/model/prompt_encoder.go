package model

import (
	"fmt"

	"peftsearch/evaluator"
	"peftsearch/evaluator/torch"
)

// promptEncoder generates a prompt from an embedding for each of its tokens (Liu et al. 2021, "P-tuning"), as PEFT's
// PromptEncoder does: by linear layers with ReLUs between them, which an LSTM in both directions may come before.
type promptEncoder struct {
	embedding *parameter // [p, D]
	lstm      []lstmLayer
	layers    []trainedDense
}

// trainedDense is a trained linear layer: weight [out, in], bias [out].
type trainedDense struct{ weight, bias *parameter }

func (l trainedDense) apply(s *torch.Scope, x *torch.Tensor) *torch.Tensor {
	return s.Linear(x, l.weight.leaf, l.bias.leaf)
}

const lstmLayers = 2

// declarePromptEncoder initialises as PyTorch does: the embedding with N(0, 1), linear layers with U(±1/√in), an
// LSTM with U(±1/√h). What it computes is small, and in float32.
func declarePromptEncoder(ps *parameters, length, hidden int, t evaluator.PromptTraining) *promptEncoder {
	width := t.Width
	if width == 0 {
		width = hidden
	}
	const name = "prompt_encoder."
	e := &promptEncoder{embedding: ps.declare(name+"embedding", normal(1), decay|exact|unstored, length, hidden)}
	linear := func(name string, init func(in int) initializer, in, out int) trainedDense {
		return trainedDense{ps.declare(name+".weight", init(in), decay|exact|unstored, out, in),
			ps.declare(name+".bias", init(in), exact|unstored, out)}
	}
	widths := []int{hidden, width, width, hidden}
	if t.Encoder == evaluator.PromptLSTM {
		recurrent := func(int) initializer { return uniform(width) }
		for i := range lstmLayers {
			in := hidden
			if i > 0 {
				in = 2 * width
			}
			var layer lstmLayer
			for j, direction := range []string{"forward", "backward"} {
				place := fmt.Sprintf("%slstm.%d.%s.", name, i, direction)
				layer[j] = lstm{linear(place+"input", recurrent, in, 4*width), linear(place+"state", recurrent, width, 4*width)}
			}
			e.lstm = append(e.lstm, layer)
		}
		widths = []int{2 * width, 2 * width, hidden}
	}
	for i := range widths[1:] {
		e.layers = append(e.layers, linear(fmt.Sprintf("%smlp.%d", name, i), uniform, widths[i], widths[i+1]))
	}
	return e
}

// values are the prompt's tokens [p, D] in float32.
func (e *promptEncoder) values(s *torch.Scope) *torch.Tensor {
	x := e.embedding.leaf
	for _, layer := range e.lstm {
		x = s.Cat(1, layer[0].run(s, x, false), layer[1].run(s, x, true)) // [p, 2h]
	}
	for i, layer := range e.layers {
		if i > 0 {
			x = s.ReLUTo(x)
		}
		x = layer.apply(s, x)
	}
	return x
}

// lstmLayer reads forwards and backwards.
type lstmLayer [2]lstm

// lstm is that of Hochreiter & Schmidhuber 1997 with forget gates, as PyTorch computes it: the gates i, f, g and o
// stand in this order in both layers, [4h, in] and [4h, h].
type lstm struct{ input, state trainedDense }

// run is the states [p, h] of x [p, in].
func (l lstm) run(s *torch.Scope, x *torch.Tensor, backwards bool) *torch.Tensor {
	if s.Err() != nil {
		return nil
	}
	steps, width := x.Size(0), l.state.weight.shape[1]
	inputs := l.input.apply(s, x) // [p, 4h]
	states := make([]*torch.Tensor, steps)
	h, c := s.Zeros(torch.Float32, 1, width), s.Zeros(torch.Float32, 1, width)
	for i := range steps {
		if backwards {
			i = steps - 1 - i
		}
		gates := s.Add(s.Narrow(inputs, 0, i, 1), l.state.apply(s, h)) // [1, 4h]
		part := func(n int) *torch.Tensor { return s.Narrow(gates, 1, n*width, width) }
		c = s.Add(s.Mul(s.Sigmoid(part(1)), c), s.Mul(s.Sigmoid(part(0)), s.Tanh(part(2))))
		h = s.Mul(s.Sigmoid(part(3)), s.Tanh(c))
		states[i] = h
	}
	return s.Cat(0, states...)
}
