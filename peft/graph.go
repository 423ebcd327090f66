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
	graphInput(g *encoderGraph)
}

// layerGraph is a layer under construction. Its hooks are those of the layer's forward pass.
type layerGraph struct {
	*encoderGraph
	index    int
	rows     onnx.Value // tokens of each row that are computed after the attention: all of them, or 1
	inputs   map[Target][]func(x onnx.Value) onnx.Value
	outputs  map[Target][]func(y, x onnx.Value) onnx.Value
	prefix   func(x onnx.Value) (keys, values onnx.Value, length int) // [n, heads, D/heads, p], [n, heads, p, D/heads]
	attended []func(total, f, a onnx.Value, norm string) onnx.Value
	fed      []func(total, f, a onnx.Value, norm string) onnx.Value
}

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
func (g *encoderGraph) insert(x, tokens onnx.Value, at int, dimensions int) onnx.Value {
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
func (g *encoderGraph) cut(x onnx.Value, from, to int) onnx.Value {
	return g.Node("Slice", nil, x, g.Ints(int64(from)), g.Ints(int64(to)), g.Ints(1))
}

// functions are those of bottlenecks, as checkpoints call them.
var functions = map[NonLinearity]checkpoint.Activation{ReLU: checkpoint.ReLU, GELU: checkpoint.GELU,
	GELUNew: checkpoint.GELUTanh, Swish: checkpoint.SiLU, Tanh: "tanh"}

// encoderGraph builds the graph of an encoder of BERT's kind. Between attentions, tokens are flat: [n·s, D].
type encoderGraph struct {
	*onnx.Graph
	t        Trained // without what is folded
	c        checkpoint.Config
	backbone map[string]checkpoint.Tensor

	ids     onnx.Value // [n, s]
	counted onnx.Value // [n, s]: ids, -1 for tokens that are not of the text
	types   onnx.Value // [n, s]; "" for all 0
	length  onnx.Value // [1]: s
	real    onnx.Value // [n, s]: 1 for tokens, 0 for padding, of Float32
	hidden  onnx.Value // [n, 1, 1, s]: what is added to the scores of keys
	// What modules at the input do to embeddings before the norm and after it, and tokens [n, s, D] without theirs.
	embedded, normed, own []func(x onnx.Value) onnx.Value
	// behind has hidden behind prefixes, by their lengths.
	behind map[int]onnx.Value
}

// linear applies a matrix of the backbone.
func (g *encoderGraph) linear(x onnx.Value, name string) onnx.Value {
	return g.Linear(x, g.tensor(name+".weight"), g.tensor(name+".bias"))
}

func (g *encoderGraph) norm(x onnx.Value, name string) onnx.Value {
	return g.LayerNorm(x, g.tensor(name+".weight"), g.tensor(name+".bias"), g.c.LayerNormEps)
}

func (g *encoderGraph) tensor(name string) onnx.Value { return g.Weight(name, g.backbone[name]) }

func (g *encoderGraph) apply(f checkpoint.Activation, x onnx.Value) onnx.Value {
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

// encode is the last hidden states [n·s, D], or those of first tokens alone [n, D].
func (g *encoderGraph) encode(mask, types onnx.Value, first bool) onnx.Value {
	g.length, g.counted, g.types = g.Size(g.ids, 1), g.ids, types
	g.real = g.Cast(g.Cast(mask, onnx.Bool), onnx.Float32)
	for _, module := range g.t.Plan.Input.sorted() {
		module.(graphedInput).graphInput(g)
	}
	through := func(hooks []func(onnx.Value) onnx.Value, x onnx.Value) onnx.Value {
		for _, hook := range hooks {
			x = hook(x)
		}
		return x
	}
	g.Scope = "embeddings"
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
	if len(g.normed) > 0 {
		x = g.Reshape(through(g.normed, g.apart(x, g.c.Hidden)), -1, int64(g.c.Hidden))
	}
	// A sum with the lowest number is never NaN, even where all keys are hidden.
	lowest := g.Node("Where", nil, g.Cast(g.real, onnx.Bool), g.Float(0), g.Float(-math.MaxFloat32))
	g.hidden = g.Node("Unsqueeze", nil, lowest, g.Ints(1, 2))
	g.behind = map[int]onnx.Value{0: g.hidden}
	for i := range g.c.Layers {
		g.Scope = fmt.Sprintf("layers.%d", i)
		x = g.layer(i, x, first && i == g.c.Layers-1)
	}
	g.Scope = "head"
	return x
}

// encodeText is the last hidden states of the text's tokens [n, s, D].
func (g *encoderGraph) encodeText(mask, types onnx.Value) onnx.Value {
	x := g.apart(g.encode(mask, types, false), g.c.Hidden)
	for _, hook := range g.own {
		x = hook(x)
	}
	g.length = g.Size(g.ids, 1)
	return x
}

// positions counts as the family does: [s] or [n, s].
func (g *encoderGraph) positions() onnx.Value {
	if !g.c.PositionsAfterPad() {
		return g.Node("Range", nil, g.Int(0), g.Node("Squeeze", nil, g.Size(g.counted, 1)), g.Int(1))
	}
	pad := g.Int(int64(g.c.PadID))
	counted := g.Cast(g.Node("Not", nil, g.Node("Equal", nil, g.counted, pad)), onnx.Int64)
	return g.Add(g.Mul(g.Node("CumSum", nil, counted, g.Int(1)), counted), pad)
}

// layer computes a layer of x [n·s, D]. With first only the first tokens' states are wanted, [n, D], and what comes
// after the attention is computed for them alone, unless a gate there reads the others.
func (g *encoderGraph) layer(index int, x onnx.Value, first bool) onnx.Value {
	l := &layerGraph{encoderGraph: g, index: index, rows: g.length,
		inputs: map[Target][]func(onnx.Value) onnx.Value{}, outputs: map[Target][]func(y, x onnx.Value) onnx.Value{}}
	modules := g.t.Plan.Layers[index].sorted()
	for _, module := range modules {
		module.(graphed).graph(l)
	}
	wanted, early := x, first && len(Plan{Layers: []Layer{modules}}.Gates(g.t.Info.Geometry)) == 0
	if early {
		l.rows = g.Ints(1)
		wanted = g.Gather(g.apart(x, g.c.Hidden), g.Int(0), 1) // [n, D]
	}
	a := l.attend(wanted, x)
	f := l.project(TargetFFNOut, g.apply(g.c.Activation, l.project(TargetFFNIn, a)))
	total, norm := g.Add(f, a), fmt.Sprintf("encoder.layer.%d.output.LayerNorm", index)
	for _, hook := range l.fed {
		total = hook(total, f, a, norm)
	}
	x = g.norm(total, norm)
	if first && !early {
		x = g.Gather(g.apart(x, g.c.Hidden), g.Int(0), 1)
	}
	return x
}

// attend is the layer's first half: of the wanted tokens, which read all of x.
func (l *layerGraph) attend(wanted, x onnx.Value) onnx.Value {
	d := int64(l.c.Hidden / l.c.Heads)
	heads := func(y, rows onnx.Value, order ...int) onnx.Value { // [n, heads, …]
		shape := l.Concat(0, l.Ints(-1), rows, l.Ints(int64(l.c.Heads), d))
		return l.Transpose(l.Node("Reshape", nil, y, shape), order...)
	}
	q := l.Mul(l.project(TargetQuery, wanted), l.Float(1/math.Sqrt(float64(d))))
	query := heads(q, l.rows, 0, 2, 1, 3)
	keys := heads(l.project(TargetKey, x), l.length, 0, 2, 3, 1) // [n, heads, D/heads, s]
	values := heads(l.project(TargetValue, x), l.length, 0, 2, 1, 3)
	hidden := l.hidden
	if l.prefix != nil {
		k, v, length := l.prefix(x)
		keys, values = l.Concat(3, k, keys), l.Concat(2, v, values)
		hidden = l.hiddenBehind(length)
	}
	f := l.MatMul(l.Softmax(l.Add(l.MatMul(query, keys), hidden)), values)
	f = l.project(TargetAttentionOutput, l.Reshape(l.Transpose(f, 0, 2, 1, 3), -1, int64(l.c.Hidden)))
	total, norm := l.Add(f, wanted), fmt.Sprintf("encoder.layer.%d.attention.output.LayerNorm", l.index)
	for _, hook := range l.attended {
		total = hook(total, f, wanted, norm)
	}
	return l.norm(total, norm)
}

// project applies a matrix of the layer with its modules.
func (l *layerGraph) project(target Target, x onnx.Value) onnx.Value {
	for _, hook := range l.inputs[target] {
		x = hook(x)
	}
	y := l.linear(x, l.t.Info.Geometry.CheckpointName(l.index, target))
	for _, hook := range l.outputs[target] {
		y = hook(y, x)
	}
	return y
}

// apart is x [n·s, width] as [n, s, width].
func (g *encoderGraph) apart(x onnx.Value, width int) onnx.Value {
	return g.Node("Reshape", nil, x, g.Concat(0, g.Ints(-1), g.length, g.Ints(int64(width))))
}

// hiddenBehind is hidden for keys that stand behind a prefix, which all see.
func (g *encoderGraph) hiddenBehind(length int) onnx.Value {
	if _, ok := g.behind[length]; !ok {
		g.behind[length] = g.Node("Pad", nil, g.hidden, g.Ints(0, 0, 0, int64(length), 0, 0, 0, 0))
	}
	return g.behind[length]
}
