package checkpoint

import (
	"encoding/binary"
	"fmt"
	"math"
)

// DType is the element type of a tensor, by its name in safetensors files.
type DType string

// The element types that this project computes with.
const (
	Float32  DType = "F32"
	Float16  DType = "F16"
	BFloat16 DType = "BF16"
)

// dtypeSizes lists every type of the format with its size in bytes.
var dtypeSizes = map[DType]int64{
	"BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "U16": 2, "I16": 2, Float16: 2, BFloat16: 2,
	"U32": 4, "I32": 4, Float32: 4, "U64": 8, "I64": 8, "F64": 8, "C64": 8,
}

// Tensor is a dense row-major tensor of Float32, Float16 or BFloat16 elements.
type Tensor struct {
	DType DType
	Shape []int  // empty for a scalar
	Data  []byte // little-endian
}

// NewTensor makes a Float32 tensor; the shape must have len(values) elements.
func NewTensor(values []float32, shape ...int) Tensor {
	t := Tensor{DType: Float32, Shape: shape, Data: make([]byte, 0, 4*len(values))}
	if t.Elements() != len(values) {
		panic(fmt.Sprintf("checkpoint: %d values for shape %v", len(values), shape))
	}
	for _, v := range values {
		t.Data = binary.LittleEndian.AppendUint32(t.Data, math.Float32bits(v))
	}
	return t
}

// Elements is the product of the shape.
func (t Tensor) Elements() int {
	n := 1
	for _, d := range t.Shape {
		n *= d
	}
	return n
}

// Row is one row of a matrix as float32.
func (t Tensor) Row(i int) []float32 {
	size := len(t.Data) / t.Shape[0]
	return Tensor{DType: t.DType, Shape: t.Shape[1:], Data: t.Data[i*size : (i+1)*size]}.Float32()
}

// Float32 returns the elements as new float32 values; every Float16 and BFloat16 value has an exact one.
func (t Tensor) Float32() []float32 {
	out := make([]float32, t.Elements())
	for i := range out {
		switch t.DType {
		case Float32:
			out[i] = math.Float32frombits(binary.LittleEndian.Uint32(t.Data[4*i:]))
		case BFloat16:
			out[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(t.Data[2*i:])) << 16)
		case Float16:
			out[i] = halfToFloat(binary.LittleEndian.Uint16(t.Data[2*i:]))
		default:
			panic(fmt.Sprintf("checkpoint: tensor of type %s", t.DType))
		}
	}
	return out
}

// NotFinite is the index of the first element that is a NaN or an infinity, -1 if there is none.
func (t Tensor) NotFinite() int {
	if t.DType == Float32 {
		for i, data := 0, t.Data; len(data) >= 4; i, data = i+1, data[4:] {
			if binary.LittleEndian.Uint32(data)&0x7f800000 == 0x7f800000 {
				return i
			}
		}
		return -1
	}
	exponent := uint16(0x7c00)
	if t.DType == BFloat16 {
		exponent = 0x7f80
	}
	for i, data := 0, t.Data; len(data) >= 2; i, data = i+1, data[2:] {
		if binary.LittleEndian.Uint16(data)&exponent == exponent {
			return i
		}
	}
	return -1
}

// halfToFloat widens an IEEE 754 binary16.
func halfToFloat(h uint16) float32 {
	sign, exponent, fraction := uint32(h>>15)<<31, uint32(h>>10)&0x1f, uint32(h)&0x3ff
	switch exponent {
	case 0: // zero and subnormal: fraction · 2⁻²⁴
		magnitude := float32(fraction) / (1 << 24)
		return math.Float32frombits(sign | math.Float32bits(magnitude))
	case 0x1f: // infinity and NaN
		return math.Float32frombits(sign | 0xff<<23 | fraction<<13)
	default:
		return math.Float32frombits(sign | (exponent+127-15)<<23 | fraction<<13)
	}
}
