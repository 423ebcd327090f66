package onnx

import "math"

// What takes several nodes.

// Linear is x·Wᵀ + b for x [n, in] and W [out, in].
func (g *Graph) Linear(x, weight, bias Value) Value {
	return g.Node("Gemm", Attributes{"transB": 1}, x, weight, bias)
}

// Reshape gives x another shape, in which one dimension may be -1.
func (g *Graph) Reshape(x Value, shape ...int64) Value {
	return g.Node("Reshape", nil, x, g.Ints(shape...))
}

// Add is x + y; Mul, Div and MatMul likewise, with broadcasting.
func (g *Graph) Add(x, y Value) Value    { return g.Node("Add", nil, x, y) }
func (g *Graph) Mul(x, y Value) Value    { return g.Node("Mul", nil, x, y) }
func (g *Graph) Div(x, y Value) Value    { return g.Node("Div", nil, x, y) }
func (g *Graph) MatMul(x, y Value) Value { return g.Node("MatMul", nil, x, y) }

// Cast converts the elements.
func (g *Graph) Cast(x Value, t Type) Value { return g.Node("Cast", Attributes{"to": t}, x) }

// Transpose permutes the dimensions.
func (g *Graph) Transpose(x Value, order ...int) Value {
	return g.Node("Transpose", Attributes{"perm": order}, x)
}

// Gather takes x[index] along an axis.
func (g *Graph) Gather(x, index Value, axis int) Value {
	return g.Node("Gather", Attributes{"axis": axis}, x, index)
}

// Concat joins along an axis.
func (g *Graph) Concat(axis int, inputs ...Value) Value {
	return g.Node("Concat", Attributes{"axis": axis}, inputs...)
}

// Softmax is that of the last dimension.
func (g *Graph) Softmax(x Value) Value { return g.Node("Softmax", Attributes{"axis": -1}, x) }

// LayerNorm is that of the last dimension.
func (g *Graph) LayerNorm(x, weight, bias Value, epsilon float64) Value {
	return g.Node("LayerNormalization", Attributes{"axis": -1, "epsilon": epsilon}, x, weight, bias)
}

// Size is a dimension of x, as a vector of one number.
func (g *Graph) Size(x Value, dimension int64) Value {
	return g.Node("Gather", Attributes{"axis": 0}, g.Node("Shape", nil, x), g.Ints(dimension))
}

// GELU is x·Φ(x). Runtimes know these nodes together.
func (g *Graph) GELU(x Value) Value {
	erf := g.Node("Erf", nil, g.Div(x, g.Float(math.Sqrt2)))
	return g.Mul(g.Mul(x, g.Add(erf, g.Float(1))), g.Float(0.5))
}

// GELUTanh is GELU with tanh in Φ's place: 0.5·x·(1 + tanh(√(2/π)·(x + 0.044715·x³))).
func (g *Graph) GELUTanh(x Value) Value {
	cube := g.Mul(g.Float(0.044715), g.Node("Pow", nil, x, g.Float(3)))
	tanh := g.Node("Tanh", nil, g.Mul(g.Float(math.Sqrt(2/math.Pi)), g.Add(x, cube)))
	return g.Mul(g.Mul(x, g.Add(tanh, g.Float(1))), g.Float(0.5))
}

// SiLU is x·sigmoid(x).
func (g *Graph) SiLU(x Value) Value { return g.Mul(x, g.Node("Sigmoid", nil, x)) }
