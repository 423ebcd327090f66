package peft

import (
	"cmp"
	"fmt"
	"math"
	"path/filepath"
	"strings"

	"peftsearch/data"
	"peftsearch/data/checkpoint"
	"peftsearch/data/onnx"
	"peftsearch/data/tokenizer"
)

// The export as a graph of operators that runtimes for many languages and devices read. What only changes weights is
// folded into them.

// onnxFile lies where transformers.js, optimum and text-embeddings-inference look for it.
const onnxFile = "onnx/model.onnx"

// IDs is the type of the token ids, masks and types that a graph takes.
type IDs string

// The types of ids.
const (
	IDs64 IDs = "int64"
	IDs32 IDs = "int32"
)

func onnxPart(p Plan, _ Geometry) (kept Plan, lost []string) {
	return split(p, func(m Module, _ int) (Module, string) {
		_, inLayer := m.(graphed)
		_, atInput := m.(graphedInput)
		if !inLayer && !atInput && merges(m, Layer{m}) == nil {
			return nil, m.String()
		}
		return m, ""
	})
}

func (t Trained) onnx(c *checkpoint.Checkpoint, e *export, options Options) error {
	ids := cmp.Or(options.IDs, IDs64)
	rest, backbone, err := t.fold(c, merges)
	if err != nil {
		return err
	}
	tok, err := tokenizer.Load(c.Dir)
	if err != nil {
		return err
	}
	config, err := t.mergedConfig(filepath.Join(c.Dir, "config.json"))
	if err != nil {
		return err
	}
	kind := onnx.Int64
	if ids == IDs32 {
		kind = onnx.Int32
	}
	e.documents = map[string]any{"config.json": config}
	e.graphs = map[string]*onnx.Graph{
		onnxFile: rest.modelGraph(c.Config, backbone, kind, c.Config.Types > 1 && tok.Types() > 1)}
	e.loading = t.onnxSnippet(ids)
	e.notes = append(e.notes, "Inputs are [batch, length] of "+string(ids)+", both free; logits are float32. "+
		"`examples/onnx` of peftsearch has programs in Go and for the browser.")
	return t.addPaddingTokenizer(c, e)
}

// modelGraph is the graph of a model with the head.
func (t Trained) modelGraph(c checkpoint.Config, backbone map[string]checkpoint.Tensor, ids onnx.Type,
	types bool) *onnx.Graph {
	g := &modelGraph{Graph: onnx.New("peftsearch"), t: t, c: c, backbone: backbone}
	g.Scope = "inputs"
	dimensions := []string{"batch", "length"}
	if t.Info.Task.Kind == data.KindMultipleChoice {
		dimensions = []string{"batch", "choices", "length"}
	}
	length := onnx.Value("")
	input := func(name string) onnx.Value {
		x := g.Input(name, ids, dimensions...)
		if ids != onnx.Int64 {
			x = g.Cast(x, onnx.Int64)
		}
		if len(dimensions) == 2 {
			return x
		}
		if length == "" {
			length = g.Size(x, 2)
		}
		return g.Node("Reshape", nil, x, g.Concat(0, g.Ints(-1), length))
	}
	g.ids = input("input_ids")
	mask, kinds := input("attention_mask"), onnx.Value("")
	if types {
		kinds = input("token_type_ids")
	}
	t.head().graph(g, mask, kinds, ids)
	g.Describe("labels", strings.Join(t.Info.Labels, "\n"))
	g.Describe("max_length", fmt.Sprint(t.Info.Task.MaxLength))
	return g.Graph
}

// output is the head's last layers, of h [rows, in]: [rows, outputs].
func (g *modelGraph) output(h onnx.Value) onnx.Value {
	weight := func(name string) onnx.Value { return g.Weight(name, g.t.Head[name]) }
	if g.t.Info.Head == headDense {
		h = g.Node("Tanh", nil, g.Linear(h, weight("head.dense.weight"), weight("head.dense.bias")))
	}
	return g.Linear(h, weight("head.weight"), weight("head.bias"))
}

func (g *modelGraph) outputs() string { return fmt.Sprint(g.t.Info.Outputs()) }

// graphSequence decides once for each row.
func graphSequence(g *modelGraph, mask, types onnx.Value, _ onnx.Type) {
	g.Output("logits", onnx.Float32, g.output(g.encode(mask, types, true)), "batch", g.outputs())
}

// graphTokens decides for each token.
func graphTokens(g *modelGraph, mask, types onnx.Value, _ onnx.Type) {
	logits := g.output(g.Reshape(g.encodeText(mask, types), -1, int64(g.c.Hidden)))
	g.Output("logits", onnx.Float32, g.apart(logits, g.t.Info.Outputs()), "batch", "length", g.outputs())
}

// graphChoice gives each choice a number.
func graphChoice(g *modelGraph, mask, types onnx.Value, _ onnx.Type) {
	logits := g.output(g.encode(mask, types, true))
	shape := g.Concat(0, g.Ints(-1), g.Size("input_ids", 1))
	g.Output("logits", onnx.Float32, g.Node("Reshape", nil, logits, shape), "batch", "choices")
}

// graphCoreference decides for each candidate whether the mention refers to it. Spans are the first token and the one
// behind the last, the mention's and then the candidates'.
func graphCoreference(g *modelGraph, mask, types onnx.Value, ids onnx.Type) {
	spans := g.Cast(g.Input("spans", ids, "batch", "spans", "2"), onnx.Int64)
	x := g.encodeText(mask, types) // [n, s, D]
	pool := g.Reshape(g.Weight("head.pool.weight", g.t.Head["head.pool.weight"]), -1, 1)
	scores := g.Transpose(g.MatMul(x, pool), 0, 2, 1) // [n, 1, s]
	at := g.upTo(g.length)
	inside := g.Node("And", nil, g.Node("GreaterOrEqual", nil, at, g.Gather(spans, g.Ints(0), 2)),
		g.Node("Less", nil, at, g.Gather(spans, g.Ints(1), 2))) // [n, spans, s]
	pooled := g.MatMul(g.Softmax(g.Node("Where", nil, inside, scores, g.Float(-math.MaxFloat32))), x) // [n, spans, D]
	candidates := g.cut(pooled, 1, math.MaxInt32)
	mention := g.Node("Expand", nil, g.Gather(pooled, g.Ints(0), 1), g.Node("Shape", nil, candidates))
	logits := g.output(g.Reshape(g.Concat(2, mention, candidates), -1, 2*int64(g.c.Hidden)))
	shape := g.Concat(0, g.Ints(-1), g.Size(candidates, 1), g.Ints(2))
	g.Output("logits", onnx.Float32, g.Node("Reshape", nil, logits, shape), "batch", "candidates", "2")
}

// onnxSnippet runs the graph in Python.
func (t Trained) onnxSnippet(ids IDs) string {
	inputs := t.inputs("np")
	lines := append([]string{"import numpy", "import onnxruntime", "from transformers import AutoTokenizer", "",
		`directory = "."  # this directory`, "tokenizer = AutoTokenizer.from_pretrained(directory)",
		`session = onnxruntime.InferenceSession(directory + "/` + onnxFile + `")`}, inputs...)
	return python(append(lines,
		"taken = {i.name for i in session.get_inputs()}",
		"inputs = {k: v.astype(numpy."+string(ids)+") for k, v in inputs.items() if k in taken}",
		"logits = session.run(None, inputs)[0]")...)
}
