// Package onnx writes models in the Open Neural Network Exchange format: a graph of operators (version 17 of the
// default set, https://onnx.ai/onnx/operators) with weights.
package onnx

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strconv"

	"peftsearch/data/checkpoint"
	"peftsearch/data/files"
)

const (
	irVersion = 8  // of files, that came with operators 15; what reads 17 reads it
	operators = 17 // the first with LayerNormalization
)

// Type is the type of a tensor's elements.
type Type int64

// The types that are used here.
const (
	Float32 Type = 1
	Int32   Type = 6
	Int64   Type = 7
	Bool    Type = 9
)

// Value is the name of a tensor in a graph: an input, a weight, or what a node gives.
type Value string

// Attributes are those of a node: int, float64 (written as float32), Type or []int.
type Attributes map[string]any

// Graph is a graph under construction. Nodes are in the order of computation. It is for one goroutine.
type Graph struct {
	// Scope begins the names of the nodes that follow.
	Scope string

	name          string
	nodes         []*message
	inputs        []*message
	outputs       []*message
	weights       []weight
	constants     map[string]Value
	metadata      map[string]string
	nodesByScopes map[string]int
}

type weight struct {
	name   string
	t      Type
	shape  []int
	data   []byte // little-endian
	inside bool   // is kept in the model's file whatever its size
}

// New is an empty graph.
func New(name string) *Graph {
	return &Graph{name: name, constants: map[string]Value{}, metadata: map[string]string{},
		nodesByScopes: map[string]int{}}
}

// Describe adds a property of the model that runtimes can ask for.
func (g *Graph) Describe(key, value string) { g.metadata[key] = value }

// Input declares an input; of its dimensions, numbers are fixed and names are free.
func (g *Graph) Input(name string, t Type, dimensions ...string) Value {
	g.inputs = append(g.inputs, valueInfo(name, t, dimensions))
	return Value(name)
}

// Output declares v as an output.
func (g *Graph) Output(name string, t Type, v Value, dimensions ...string) {
	g.add("Identity", name, nil, v)
	g.outputs = append(g.outputs, valueInfo(name, t, dimensions))
}

// Weight adds a Float32 tensor, whose data is read when the graph is written.
func (g *Graph) Weight(name string, t checkpoint.Tensor) Value {
	if t.DType != checkpoint.Float32 {
		panic(fmt.Sprintf("onnx: weight %s of type %s", name, t.DType))
	}
	if v, ok := g.constants[name]; ok {
		return v
	}
	g.weights = append(g.weights, weight{name: name, t: Float32, shape: t.Shape, data: t.Data})
	g.constants[name] = Value(name)
	return Value(name)
}

// Ints is a constant vector of Int64.
func (g *Graph) Ints(values ...int64) Value {
	return g.constant(fmt.Sprint(values), func(name string) weight {
		var data []byte
		for _, v := range values {
			data = binary.LittleEndian.AppendUint64(data, uint64(v))
		}
		return weight{name, Int64, []int{len(values)}, data, true}
	})
}

// Int is a constant number of Int64.
func (g *Graph) Int(v int64) Value {
	return g.constant(fmt.Sprint(v), func(name string) weight {
		return weight{name, Int64, nil, binary.LittleEndian.AppendUint64(nil, uint64(v)), true}
	})
}

// Float is a constant number of Float32.
func (g *Graph) Float(v float64) Value {
	return g.constant(fmt.Sprintf("%gf", v), func(name string) weight {
		return weight{name, Float32, nil, binary.LittleEndian.AppendUint32(nil, math.Float32bits(float32(v))), true}
	})
}

func (g *Graph) constant(text string, build func(name string) weight) Value {
	name := "constant " + text
	if v, ok := g.constants[name]; ok {
		return v
	}
	g.weights = append(g.weights, build(name))
	g.constants[name] = Value(name)
	return Value(name)
}

// Node adds a node with one output, which it returns.
func (g *Graph) Node(op string, attributes Attributes, inputs ...Value) Value {
	scope := g.Scope + "/" + op
	g.nodesByScopes[scope]++
	name := scope
	if n := g.nodesByScopes[scope]; n > 1 {
		name += "_" + strconv.Itoa(n)
	}
	return g.add(op, name, attributes, inputs...)
}

func (g *Graph) add(op, name string, attributes Attributes, inputs ...Value) Value {
	node := &message{}
	for _, input := range inputs {
		node.text(1, string(input))
	}
	node.text(2, name)
	node.text(3, name)
	node.text(4, op)
	for _, key := range slices.Sorted(maps.Keys(attributes)) {
		node.message(5, attribute(key, attributes[key]))
	}
	g.nodes = append(g.nodes, node)
	return Value(name)
}

func attribute(name string, value any) *message {
	const typeField, typeFloat, typeInt, typeInts = 20, 1, 2, 7
	a := &message{}
	a.text(1, name)
	switch value := value.(type) {
	case float64:
		a.float(2, float32(value))
		a.varint(typeField, typeFloat)
	case int:
		a.varint(3, int64(value))
		a.varint(typeField, typeInt)
	case Type:
		a.varint(3, int64(value))
		a.varint(typeField, typeInt)
	case []int:
		for _, v := range value {
			a.varint(8, int64(v))
		}
		a.varint(typeField, typeInts)
	default:
		panic(fmt.Sprintf("onnx: attribute %s of type %T", name, value))
	}
	return a
}

func valueInfo(name string, t Type, dimensions []string) *message {
	shape := &message{}
	for _, d := range dimensions {
		dimension := &message{}
		if n, err := strconv.Atoi(d); err == nil {
			dimension.varint(1, int64(n))
		} else {
			dimension.text(2, d)
		}
		shape.message(1, dimension)
	}
	tensor, kind, info := &message{}, &message{}, &message{}
	tensor.varint(1, int64(t))
	tensor.message(2, shape)
	kind.message(1, tensor)
	info.text(1, name)
	info.message(2, kind)
	return info
}

// maxFile is what protobuf's readers take.
const maxFile = 1<<31 - 1

// Write writes the model as a file and, where it would be larger than 2 GiB, its weights as another one beside it,
// whose name has _data at its end. Each file is replaced whole.
func (g *Graph) Write(path string) error { return g.write(path, maxFile) }

func (g *Graph) write(path string, most int) error {
	model := g.model("")
	if model.size <= most {
		return writeParts(path, model.write)
	}
	data := path + "_data"
	if err := writeParts(data, func(w io.Writer) error {
		for _, t := range g.weights {
			if !t.inside {
				if _, err := w.Write(t.data); err != nil {
					return err
				}
			}
		}
		return nil
	}); err != nil {
		return err
	}
	return writeParts(path, g.model(filepath.Base(data)).write)
}

func writeParts(path string, write func(io.Writer) error) error {
	return files.WriteFrom(path, func(w io.Writer) error {
		buffered := bufio.NewWriter(w)
		if err := write(buffered); err != nil {
			return err
		}
		return buffered.Flush()
	})
}

// model is the whole model; the weights are in it, or in the file that data names.
func (g *Graph) model(data string) *message {
	graph := &message{}
	for _, node := range g.nodes {
		graph.message(1, node)
	}
	graph.text(2, g.name)
	offset := 0
	for _, t := range g.weights {
		tensor := &message{}
		for _, d := range t.shape {
			tensor.varint(1, int64(d))
		}
		tensor.varint(2, int64(t.t))
		tensor.text(8, t.name)
		if data == "" || t.inside {
			tensor.data(9, t.data)
		} else {
			const external = 1
			tensor.entry(13, "location", data)
			tensor.entry(13, "offset", strconv.Itoa(offset))
			tensor.entry(13, "length", strconv.Itoa(len(t.data)))
			tensor.varint(14, external)
			offset += len(t.data)
		}
		graph.message(5, tensor)
	}
	for _, input := range g.inputs {
		graph.message(11, input)
	}
	for _, output := range g.outputs {
		graph.message(12, output)
	}
	version := &message{}
	version.text(1, "")
	version.varint(2, operators)
	m := &message{}
	m.varint(1, irVersion)
	m.text(2, "peftsearch")
	m.message(7, graph)
	m.message(8, version)
	for _, key := range slices.Sorted(maps.Keys(g.metadata)) {
		m.entry(14, key, g.metadata[key])
	}
	return m
}
