package peft

import (
	"fmt"

	"peftsearch/data/onnx"
)

// encoderForm is BERT and its kin: LN(a + W·f(W·a)) for a = LN(x + attention(x)).
var encoderForm = graphForm{
	embed: func(g *modelGraph) onnx.Value {
		x := through(g.embedded, g.Gather(g.tensor("embeddings.word_embeddings.weight"), g.ids, 0)) // [n, s, E]
		x = g.Add(x, g.Gather(g.tensor("embeddings.position_embeddings.weight"), g.positions(), 0))
		if g.c.Types > 0 {
			of := g.Int(0)
			if g.types != "" {
				of = g.types
			}
			x = g.Add(x, g.Gather(g.tensor("embeddings.token_type_embeddings.weight"), of, 0))
		}
		x = g.norm(g.Reshape(x, -1, int64(g.c.Embedding)), "embeddings.LayerNorm")
		if g.c.Embedding != g.c.Hidden {
			x = g.linear(x, "embeddings_project")
		}
		return x
	},
	layer: func(l *layerGraph, x onnx.Value, take func(onnx.Value) onnx.Value) onnx.Value {
		norm := func(part string) func(onnx.Value) onnx.Value {
			return func(x onnx.Value) onnx.Value {
				return l.norm(x, fmt.Sprintf("encoder.layer.%d.%s.LayerNorm", l.index, part))
			}
		}
		attended, fed := norm("attention.output"), norm("output")
		wanted := take(x)
		a := attended(l.sum(l.attended, l.attention(wanted, x), wanted, attended))
		return fed(l.sum(l.fed, l.ffn(a), a, fed))
	},
	end:    func(_ *modelGraph, x onnx.Value) onnx.Value { return x },
	hidden: func(g *modelGraph, _ bool) onnx.Value { return g.padding },
	row: func(g *modelGraph, x onnx.Value) onnx.Value {
		return g.Gather(g.apart(x, g.c.Hidden), g.Int(0), 1)
	},
}

// positions counts as the encoder does: [s] or [n, s].
func (g *modelGraph) positions() onnx.Value {
	if !g.c.PositionsAfterPad() {
		return g.upTo(g.Size(g.counted, 1))
	}
	pad := g.Int(int64(g.c.PadID))
	counted := g.Cast(g.Node("Not", nil, g.Node("Equal", nil, g.counted, pad)), onnx.Int64)
	return g.Add(g.Mul(g.Node("CumSum", nil, counted, g.Int(1)), counted), pad)
}
