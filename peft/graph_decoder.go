package peft

import (
	"fmt"
	"math"

	"peftsearch/data/onnx"
)

// decoderForm is GPT-2: h + W·f(W·LN(h)) for h = x + attention(LN(x)), where tokens see those before them.
var decoderForm = graphForm{
	embed: func(g *modelGraph) onnx.Value {
		x := through(g.embedded, g.Gather(g.tensor("embeddings.word_embeddings.weight"), g.ids, 0)) // [n, s, D]
		// Padding has no position, wherever it stands.
		real := g.Cast(g.real, onnx.Int64)
		positions := g.Mul(g.Add(g.Node("CumSum", nil, real, g.Int(1)), g.Int(-1)), real)
		x = g.Add(x, g.Gather(g.tensor("embeddings.position_embeddings.weight"), positions, 0))
		return g.Reshape(x, -1, int64(g.c.Hidden))
	},
	layer: func(l *layerGraph, x onnx.Value, take func(onnx.Value) onnx.Value) onnx.Value {
		norm := func(x onnx.Value, part string) onnx.Value {
			return l.norm(x, fmt.Sprintf("decoder.layer.%d.%s.LayerNorm", l.index, part))
		}
		same := func(x onnx.Value) onnx.Value { return x } // no norm is applied to the sums
		n := norm(x, "attention")
		h := l.sum(l.attended, l.attention(take(n), n), take(x), same)
		return l.sum(l.fed, l.ffn(norm(h, "intermediate")), h, same)
	},
	end: func(g *modelGraph, x onnx.Value) onnx.Value { return g.norm(x, decoderNorm) },
	hidden: func(g *modelGraph, one bool) onnx.Value {
		if one { // the last token sees all that is no padding
			return g.padding
		}
		at := g.upTo(g.length)
		// [s, s]: whether the key stands behind the query.
		later := g.Node("Greater", nil, at, g.Node("Unsqueeze", nil, at, g.Ints(1)))
		return g.Node("Where", nil, later, g.Float(-math.MaxFloat32), g.padding)
	},
	row: func(g *modelGraph, x onnx.Value) onnx.Value {
		real := g.Cast(g.real, onnx.Int64)
		last := g.Node("ReduceMax", onnx.Attributes{"axes": []int{1}, "keepdims": 0}, g.Mul(real, g.upTo(g.length)))
		return g.Gather(x, g.Add(g.Mul(g.upTo(g.Size(g.real, 0)), g.length), last), 0)
	},
}
