package onnx

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"peftsearch/data/checkpoint"
)

// fields reads a message as protobuf's own decoder does: the last value of each field, and how many there are.
func fields(t *testing.T, b []byte) (last map[protowire.Number][]byte, count map[protowire.Number]int) {
	t.Helper()
	last, count = map[protowire.Number][]byte{}, map[protowire.Number]int{}
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			t.Fatal(protowire.ParseError(n))
		}
		b = b[n:]
		size := protowire.ConsumeFieldValue(number, kind, b)
		if size < 0 {
			t.Fatal(protowire.ParseError(size))
		}
		value := b[:size]
		if kind == protowire.BytesType {
			value, _ = protowire.ConsumeBytes(b)
		}
		last[number], count[number], b = value, count[number]+1, b[size:]
	}
	return last, count
}

func graph() *Graph {
	g := New("test")
	x := g.Input("x", Float32, "n", "2")
	w := g.Weight("w", checkpoint.NewTensor([]float32{1, 2, 3, 4}, 2, 2))
	b := g.Weight("b", checkpoint.NewTensor([]float32{5, 6}, 2))
	g.Output("y", Float32, g.Reshape(g.Linear(x, w, b), -1, 2), "n", "2")
	g.Describe("labels", "no")
	return g
}

func TestWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "model.onnx")
	if err := graph().Write(path); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	model, count := fields(t, content)
	if count[7] != 1 || count[8] != 1 || count[14] != 1 {
		t.Fatalf("model's fields %v", count)
	}
	inner, count := fields(t, model[7])
	if count[1] != 3 || count[5] != 3 || count[11] != 1 || count[12] != 1 {
		t.Errorf("graph's fields %v: want 3 nodes, 3 weights, an input and an output", count)
	}
	if node, _ := fields(t, inner[1]); string(node[2]) != "y" || string(node[4]) != "Identity" {
		t.Errorf("last node %q %q", node[2], node[4])
	}
	if shape, _ := fields(t, inner[5]); string(shape[8]) != "constant [-1 2]" || len(shape[9]) != 16 {
		t.Errorf("last weight %q of %d bytes", shape[8], len(shape[9]))
	}
}

func TestLargeModelsHaveTheirWeightsBesideThem(t *testing.T) {
	path := filepath.Join(t.TempDir(), "model.onnx")
	if err := graph().write(path, 300); err != nil {
		t.Fatal(err)
	}
	weights, err := os.ReadFile(path + "_data")
	if err != nil {
		t.Fatal(err)
	}
	want := checkpoint.NewTensor([]float32{1, 2, 3, 4, 5, 6}, 6).Data
	if !bytes.Equal(weights, want) {
		t.Errorf("weights %v", weights)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, words := range []string{"model.onnx_data", "offset", "16", "length"} {
		if !bytes.Contains(content, []byte(words)) {
			t.Errorf("the model does not say %q", words)
		}
	}
}

func TestNamesAreTheirOwn(t *testing.T) {
	g := New("test")
	g.Scope = "layer"
	x := g.Input("x", Float32, "n")
	if a, b := g.Add(x, x), g.Add(x, x); a == b {
		t.Errorf("two nodes are called %s", a)
	}
	if g.Ints(1) != g.Ints(1) || g.Ints(1) == g.Int(1) || g.Float(1) == g.Int(1) {
		t.Error("constants are mixed up, or written twice")
	}
}
