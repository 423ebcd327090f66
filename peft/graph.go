package peft

import (
	"fmt"
	"math"

	"peftsearch/data/checkpoint"
	"peftsearch/data/onnx"
)

// graphed is a module that a graph of operators can have. One that is folded into the weights needs no such form.
type graphed interface {
	// graph enters what the module does into the hooks of its layer.
	graph(l *layerGraph)
}

// graphedInput is a module at the input that a graph can have.
type graphedInput interface {
	// graphInput enters what the module does into the hooks of the embeddings.
	graphInput(g *modelGraph)
}

// layerGraph is a layer under construction. Its hooks are those of the layer's forward pass.
type layerGraph struct {
	*modelGraph
	index    int
	rows     onnx.Value // tokens of each row that are computed after the attention: all of them, or 1
	one      bool       // it is 1
	inputs   map[Target][]func(x onnx.Value) onnx.Value
	outputs  map[Target][]func(y, x onnx.Value) onnx.Value
	prefix   func(x onnx.Value) (keys, values onnx.Value, length int) // [n, heads, D/heads, p], [n, heads, p, D/heads]
	attended []sumHook
	fed      []sumHook
}

// sumHook is what modules make of total, which begins as f + a and ends in norm.
type sumHook func(total, f, a onnx.Value, norm func(onnx.Value) onnx.Value) onnx.Value

// weight is a tensor of one of the layer's modules.
func (l *layerGraph) weight(m Method, name string) onnx.Value {
	full := fmt.Sprintf("layers.%d.%s.%s", l.index, m, name)
	return l.Weight(full, l.t.Modules[full])
}

// gate is the mean over the real tokens of each row of sigmoid(w·x + c) for x [n·s, in]: [n, 1].
func (l *layerGraph) gate(m Method, name string, x onnx.Value) onnx.Value {
	open := l.Node("Sigmoid", nil, l.Linear(x, l.weight(m, name+"gate.weight"), l.weight(m, name+"gate.bias")))
	rows := l.Mul(l.Node("Reshape", nil, open, l.Node("Shape", nil, l.real)), l.real) // [n, s]
	sum := func(x onnx.Value) onnx.Value {
		return l.Node("ReduceSum", onnx.Attributes{"keepdims": 1}, x, l.Ints(1))
	}
	return l.Div(sum(rows), sum(l.real))
}

// gated is y [n·s, width] times its row's value of gate [n, 1].
func (l *layerGraph) gated(y, gate onnx.Value, width int) onnx.Value {
	return l.Reshape(l.Mul(l.apart(y, width), l.Node("Unsqueeze", nil, gate, l.Ints(-1))), -1, int64(width))
}

// matrices are those of a bottleneck that trains them as they are; prefix begins the names of its tensors.
func (l *layerGraph) matrices(m Method, prefix string) func(name string) onnx.Value {
	return func(name string) onnx.Value { return l.weight(m, prefix+name+".weight") }
}

// bottleneck is b of h [n·s, D] with the matrices down and up; prefix begins the names of its tensors.
func (l *layerGraph) bottleneck(m Method, prefix string, b Bottleneck, h onnx.Value,
	matrix func(name string) onnx.Value) onnx.Value {
	inner := l.Linear(h, matrix("down"), l.weight(m, prefix+"down.bias"))
	y := l.Linear(l.apply(functions[b.NonLinearity], inner), matrix("up"), l.weight(m, prefix+"up.bias"))
	switch {
	case b.LearnedScale:
		y = l.Mul(y, l.weight(m, prefix+"scale"))
	case b.Scale != 1:
		y = l.Mul(y, l.Float(b.Scale))
	}
	if b.Gate {
		y = l.gated(y, l.gate(m, prefix, h), l.c.Hidden)
	}
	return y
}

// insert puts tokens [p, …] into every row of x [n, s, …], before token at.
func (g *modelGraph) insert(x, tokens onnx.Value, at int, dimensions int) onnx.Value {
	rows := g.Size(g.ids, 0)
	ones := make([]int64, dimensions-1)
	for i := range ones {
		ones[i] = 1
	}
	tokens = g.Node("Expand", nil, g.Node("Unsqueeze", nil, tokens, g.Ints(0)), g.Concat(0, rows, g.Ints(ones...)))
	if at == 0 {
		return g.Concat(1, tokens, x)
	}
	return g.Concat(1, g.cut(x, 0, at), tokens, g.cut(x, at, math.MaxInt32))
}

// cut is x[:, from:to].
func (g *modelGraph) cut(x onnx.Value, from, to int) onnx.Value {
	return g.Node("Slice", nil, x, g.Ints(int64(from)), g.Ints(int64(to)), g.Ints(1))
}

// functions are those of bottlenecks, as checkpoints call them.
var functions = map[NonLinearity]checkpoint.Activation{ReLU: checkpoint.ReLU, GELU: checkpoint.GELU,
	GELUNew: checkpoint.GELUTanh, Swish: checkpoint.SiLU, Tanh: "tanh"}

// modelGraph builds the graph of a model. Between attentions, tokens are flat: [n·s, D].
type modelGraph struct {
	*onnx.Graph
	t        Trained // without what is folded
	c        checkpoint.Config
	backbone map[string]checkpoint.Tensor

	ids     onnx.Value // [n, s]
	counted onnx.Value // [n, s]: ids, -1 for tokens that are not of the text
	types   onnx.Value // [n, s]; "" for all 0
	length  onnx.Value // [1]: s
	real    onnx.Value // [n, s]: 1 for tokens, 0 for padding, of Float32
	padding onnx.Value // [n, 1, 1, s]: the lowest number for padding, 0 for tokens
	// What modules at the input do to embeddings before the norm and after it, and tokens [n, s, D] without theirs.
	embedded, normed, own []func(x onnx.Value) onnx.Value
	form                  graphForm
	hidden                map[hiddenKeys]onnx.Value
}

// linear applies a matrix of the backbone.
func (g *modelGraph) linear(x onnx.Value, name string) onnx.Value {
	return g.Linear(x, g.tensor(name+".weight"), g.tensor(name+".bias"))
}

func (g *modelGraph) norm(x onnx.Value, name string) onnx.Value {
	return g.LayerNorm(x, g.tensor(name+".weight"), g.tensor(name+".bias"), g.c.LayerNormEps)
}

func (g *modelGraph) tensor(name string) onnx.Value { return g.Weight(name, g.backbone[name]) }

func (g *modelGraph) apply(f checkpoint.Activation, x onnx.Value) onnx.Value {
	switch f {
	case checkpoint.GELU:
		return g.GELU(x)
	case checkpoint.GELUTanh:
		return g.GELUTanh(x)
	case checkpoint.SiLU:
		return g.SiLU(x)
	case checkpoint.ReLU:
		return g.Node("Relu", nil, x)
	}
	return g.Node("Tanh", nil, x)
}

// through applies hooks one after another.
func through(hooks []func(onnx.Value) onnx.Value, x onnx.Value) onnx.Value {
	for _, hook := range hooks {
		x = hook(x)
	}
	return x
}

// graphForm is what differs between the graphs of encoders and decoders.
type graphForm struct {
	// embed is the input's hidden states [n·s, D].
	embed func(g *modelGraph) onnx.Value
	// layer computes a layer of x [n·s, D]; take leaves the rows of hidden states that are wanted.
	layer func(l *layerGraph, x onnx.Value, take func(onnx.Value) onnx.Value) onnx.Value
	// end is applied to the last layer's hidden states.
	end func(g *modelGraph, x onnx.Value) onnx.Value
	// hidden is what is added to scores of [n, heads, s, s], or where only the row's own token reads, [n, heads, 1, s].
	hidden func(g *modelGraph, one bool) onnx.Value
	// row is the state that stands for each row: [n, D] of x [n·s, D].
	row func(g *modelGraph, x onnx.Value) onnx.Value
}

var graphForms = map[string]graphForm{"encoder": encoderForm, "decoder": decoderForm}

// encode is the last hidden states [n·s, D], or those alone that stand for rows [n, D].
func (g *modelGraph) encode(mask, types onnx.Value, row bool) onnx.Value {
	g.form = graphForms[g.t.family().code]
	g.length, g.counted, g.types = g.Size(g.ids, 1), g.ids, types
	g.real = g.Cast(g.Cast(mask, onnx.Bool), onnx.Float32)
	for _, module := range g.t.Plan.Input.sorted() {
		module.(graphedInput).graphInput(g)
	}
	g.Scope = "embeddings"
	x := g.form.embed(g)
	if len(g.normed) > 0 {
		x = g.Reshape(through(g.normed, g.apart(x, g.c.Hidden)), -1, int64(g.c.Hidden))
	}
	// A sum with the lowest number is never NaN, even where all keys are hidden.
	lowest := g.Node("Where", nil, g.Cast(g.real, onnx.Bool), g.Float(0), g.Float(-math.MaxFloat32))
	g.padding = g.Node("Unsqueeze", nil, lowest, g.Ints(1, 2))
	g.hidden = map[hiddenKeys]onnx.Value{}
	for i := range g.c.Layers {
		g.Scope = fmt.Sprintf("layers.%d", i)
		x = g.layer(i, x, row && i == g.c.Layers-1)
	}
	g.Scope = "head"
	return g.form.end(g, x)
}

// encodeText is the last hidden states of the text's tokens [n, s, D].
func (g *modelGraph) encodeText(mask, types onnx.Value) onnx.Value {
	x := through(g.own, g.apart(g.encode(mask, types, false), g.c.Hidden))
	g.length = g.Size(g.ids, 1)
	return x
}

// layer computes a layer of x [n·s, D]. With row only the states that stand for rows are wanted, [n, D], and what comes
// after the attention is computed for them alone, unless a gate there reads the others.
func (g *modelGraph) layer(index int, x onnx.Value, row bool) onnx.Value {
	l := &layerGraph{modelGraph: g, index: index, rows: g.length,
		inputs: map[Target][]func(onnx.Value) onnx.Value{}, outputs: map[Target][]func(y, x onnx.Value) onnx.Value{}}
	modules := g.t.Plan.Layers[index].sorted()
	for _, module := range modules {
		module.(graphed).graph(l)
	}
	toRow := func(x onnx.Value) onnx.Value { return g.form.row(g, x) }
	take := func(x onnx.Value) onnx.Value { return x }
	if l.one = row && len(Plan{Layers: []Layer{modules}}.Gates(g.t.Info.Geometry)) == 0; l.one {
		l.rows, take = g.Ints(1), toRow
	}
	x = g.form.layer(l, x, take)
	if row && !l.one {
		x = toRow(x)
	}
	return x
}

// attention is that of the wanted tokens to all of x, with its output matrix.
func (l *layerGraph) attention(wanted, x onnx.Value) onnx.Value {
	d := int64(l.c.Hidden / l.c.Heads)
	heads := func(y, rows onnx.Value, order ...int) onnx.Value { // [n, heads, …]
		shape := l.Concat(0, l.Ints(-1), rows, l.Ints(int64(l.c.Heads), d))
		return l.Transpose(l.Node("Reshape", nil, y, shape), order...)
	}
	scale := 1 / math.Sqrt(float64(d))
	if l.c.Unscaled {
		scale = 1
	}
	if l.c.InverseLayer {
		scale /= float64(l.index + 1)
	}
	query := heads(l.Mul(l.project(TargetQuery, wanted), l.Float(scale)), l.rows, 0, 2, 1, 3)
	keys := heads(l.project(TargetKey, x), l.length, 0, 2, 3, 1) // [n, heads, D/heads, s]
	values := heads(l.project(TargetValue, x), l.length, 0, 2, 1, 3)
	before := 0
	if l.prefix != nil {
		k, v, length := l.prefix(x)
		keys, values, before = l.Concat(3, k, keys), l.Concat(2, v, values), length
	}
	f := l.MatMul(l.Softmax(l.Add(l.MatMul(query, keys), l.hiddenKeys(hiddenKeys{before, l.one}))), values)
	return l.project(TargetAttentionOutput, l.Reshape(l.Transpose(f, 0, 2, 1, 3), -1, int64(l.c.Hidden)))
}

// ffn is the feed-forward part.
func (l *layerGraph) ffn(x onnx.Value) onnx.Value {
	return l.project(TargetFFNOut, l.apply(l.c.Activation, l.project(TargetFFNIn, x)))
}

// sum is f + a with what hooks add; norm is that of the sum.
func (l *layerGraph) sum(hooks []sumHook, f, a onnx.Value, norm func(onnx.Value) onnx.Value) onnx.Value {
	total := l.Add(f, a)
	for _, hook := range hooks {
		total = hook(total, f, a, norm)
	}
	return total
}

// project applies a matrix of the layer with its modules.
func (l *layerGraph) project(target Target, x onnx.Value) onnx.Value {
	x = through(l.inputs[target], x)
	y := l.linear(x, l.t.Info.Geometry.CheckpointName(l.index, target))
	for _, hook := range l.outputs[target] {
		y = hook(y, x)
	}
	return y
}

// upTo is 0, 1, … below a length [1].
func (g *modelGraph) upTo(length onnx.Value) onnx.Value {
	return g.Node("Range", nil, g.Int(0), g.Node("Squeeze", nil, length), g.Int(1))
}

// apart is x [n·s, width] as [n, s, width].
func (g *modelGraph) apart(x onnx.Value, width int) onnx.Value {
	return g.Node("Reshape", nil, x, g.Concat(0, g.Ints(-1), g.length, g.Ints(int64(width))))
}

// hiddenKeys says which keys tokens do not see: before is the length of a prefix, which all see; one is set where only
// the row's own token reads.
type hiddenKeys struct {
	before int
	one    bool
}

// hiddenKeys is what is added to scores.
func (g *modelGraph) hiddenKeys(k hiddenKeys) onnx.Value {
	if _, ok := g.hidden[k]; !ok {
		if k.before == 0 {
			g.hidden[k] = g.form.hidden(g, k.one)
		} else {
			g.hidden[k] = g.Node("Pad", nil, g.hiddenKeys(hiddenKeys{0, k.one}), g.Ints(0, 0, 0, int64(k.before), 0, 0, 0, 0))
		}
	}
	return g.hidden[k]
}
