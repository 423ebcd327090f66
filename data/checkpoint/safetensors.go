package checkpoint

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"peftsearch/data/files"
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
	"BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "U16": 2, "I16": 2, Float16: 2, BFloat16: 2,
	"U32": 4, "I32": 4, Float32: 4, "U64": 8, "I64": 8, "F64": 8,
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

// WriteSafetensors writes a safetensors file. The file appears under its name complete and on disk, or
// not at all. Float32 tensors with a NaN or an infinity are refused: they are never a result.
func WriteSafetensors(path string, tensors map[string]Tensor, metadata map[string]string) error {
	names := make([]string, 0, len(tensors))
	for name, t := range tensors {
		if size, known := dtypeSizes[t.DType]; !known || name == metadataKey || int64(len(t.Data)) != int64(t.Elements())*size {
			return fmt.Errorf("%s: tensor %q: %d bytes for %s %v", path, name, len(t.Data), t.DType, t.Shape)
		}
		if t.DType == Float32 {
			for i := 0; i < len(t.Data); i += 4 {
				if binary.LittleEndian.Uint32(t.Data[i:])&0x7f800000 == 0x7f800000 {
					return fmt.Errorf("%s: tensor %q: element %d is not a finite number", path, name, i/4)
				}
			}
		}
		names = append(names, name)
	}
	// Wider types first, as the reference implementation does, so that every tensor is aligned.
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(dtypeSizes[tensors[b].DType], dtypeSizes[tensors[a].DType]), cmp.Compare(a, b))
	})
	header := make(map[string]any, len(names)+1)
	if len(metadata) > 0 {
		header[metadataKey] = metadata
	}
	var offset int64
	for _, name := range names {
		t := tensors[name]
		end := offset + int64(len(t.Data))
		header[name] = tensorInfo{DType: t.DType, Shape: widen(t.Shape), Offsets: []int64{offset, end}}
		offset = end
	}
	encoded, err := json.Marshal(header) // map keys are sorted
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	encoded = append(encoded, bytes.Repeat([]byte(" "), -len(encoded)&7)...)
	return files.WriteFrom(path, func(w io.Writer) error {
		if _, err := w.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(encoded)))); err != nil {
			return err
		}
		if _, err := w.Write(encoded); err != nil {
			return err
		}
		for _, name := range names {
			if _, err := w.Write(tensors[name].Data); err != nil {
				return err
			}
		}
		return nil
	})
}

// ReadSafetensors reads a whole safetensors file of floating-point tensors into memory.
func ReadSafetensors(path string) (tensors map[string]Tensor, metadata map[string]string, err error) {
	f, err := openSafetensors(path)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	tensors = make(map[string]Tensor, len(f.infos))
	for name := range f.infos {
		t, err := f.tensor(name)
		if err != nil {
			return nil, nil, err
		}
		t.Data = bytes.Clone(t.Data)
		tensors[name] = t
	}
	return tensors, f.metadata, nil
}

const (
	metadataKey   = "__metadata__"
	maxHeaderSize = 100_000_000 // the reference implementation's limit
)

// tensorInfo is a tensor's entry in the header; the offsets count from the end of the header.
type tensorInfo struct {
	DType   DType   `json:"dtype"`
	Shape   []int64 `json:"shape"`
	Offsets []int64 `json:"data_offsets"`
}

// safetensorsFile is an open file with a checked header, mapped into memory.
type safetensorsFile struct {
	path     string
	mapped   []byte
	data     []byte // mapped, without the header
	infos    map[string]tensorInfo
	metadata map[string]string
}

func openSafetensors(path string) (*safetensorsFile, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	stat, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !stat.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	if stat.Size() < 8 {
		return nil, fmt.Errorf("%s: %d bytes are no safetensors file: download it again", path, stat.Size())
	}
	mapped, err := unix.Mmap(int(file.Fd()), 0, int(stat.Size()), unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("mapping %s into memory: %w", path, err)
	}
	f := &safetensorsFile{path: path, mapped: mapped}
	if err := f.parse(); err != nil {
		return nil, fmt.Errorf("%s is not a usable safetensors file: %w", path, errors.Join(err, f.Close()))
	}
	return f, nil
}

// Close unmaps the file: no tensor of it may be used afterwards.
func (f *safetensorsFile) Close() error {
	mapped := f.mapped
	f.mapped, f.data = nil, nil
	if mapped == nil {
		return nil
	}
	return unix.Munmap(mapped)
}

// parse reads the header and checks everything it says against the file: the tensors must fill the
// data exactly, without gap or overlap.
func (f *safetensorsFile) parse() error {
	size := binary.LittleEndian.Uint64(f.mapped)
	if size > maxHeaderSize {
		return fmt.Errorf("its header claims %d bytes, the limit is %d", size, maxHeaderSize)
	}
	if size > uint64(len(f.mapped)-8) {
		return fmt.Errorf("its header claims %d bytes, the file has %d: it is truncated", size, len(f.mapped))
	}
	f.data = f.mapped[8+size:]
	if err := f.parseHeader(f.mapped[8 : 8+size]); err != nil {
		return fmt.Errorf("header: %w", err)
	}

	names := make([]string, 0, len(f.infos))
	for name, info := range f.infos {
		if err := info.validate(); err != nil {
			return fmt.Errorf("tensor %q: %w", name, err)
		}
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(slices.Compare(f.infos[a].Offsets, f.infos[b].Offsets), cmp.Compare(a, b))
	})
	var end int64
	for _, name := range names {
		offsets := f.infos[name].Offsets
		if offsets[0] != end {
			return fmt.Errorf("tensor %q begins at byte %d of the data, the one before it ends at %d", name, offsets[0], end)
		}
		end = offsets[1]
	}
	switch have := int64(len(f.data)); {
	case have < end:
		return fmt.Errorf("it has %d bytes of data, its header describes %d: it is truncated, download it again", have, end)
	case have > end:
		return fmt.Errorf("it has %d bytes of data, its header describes only %d", have, end)
	}
	return nil
}

// parseHeader reads key by key, because encoding/json accepts duplicate keys in a map.
func (f *safetensorsFile) parseHeader(header []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(header))
	decoder.DisallowUnknownFields()
	if token, err := decoder.Token(); err != nil {
		return err
	} else if token != json.Delim('{') {
		return fmt.Errorf("begins with %v, not with an object", token)
	}
	f.infos = map[string]tensorInfo{}
	for decoder.More() {
		token, err := decoder.Token()
		if err != nil {
			return err
		}
		name, _ := token.(string)
		if name == metadataKey {
			if f.metadata != nil {
				return fmt.Errorf("%s stands twice", metadataKey)
			}
			f.metadata = map[string]string{}
			if err := decoder.Decode(&f.metadata); err != nil {
				return fmt.Errorf("%s: %w", metadataKey, err)
			}
			continue
		}
		if _, twice := f.infos[name]; twice {
			return fmt.Errorf("tensor %q stands twice", name)
		}
		var info tensorInfo
		if err := decoder.Decode(&info); err != nil {
			return fmt.Errorf("tensor %q: %w", name, err)
		}
		f.infos[name] = info
	}
	if _, err := decoder.Token(); err != nil {
		return err
	}
	if _, err := decoder.Token(); err != io.EOF {
		return errors.New("something follows the object")
	}
	return nil
}

func (i tensorInfo) validate() error {
	size, known := dtypeSizes[i.DType]
	if !known {
		return fmt.Errorf("unknown dtype %q", i.DType)
	}
	if len(i.Offsets) != 2 || i.Offsets[0] < 0 || i.Offsets[1] < i.Offsets[0] {
		return fmt.Errorf("data_offsets %v: must be a begin and an end", i.Offsets)
	}
	for _, d := range i.Shape {
		if d < 0 || d > 0 && size > math.MaxInt64/d {
			return fmt.Errorf("shape %v is impossible", i.Shape)
		}
		size *= d
	}
	if have := i.Offsets[1] - i.Offsets[0]; have != size {
		return fmt.Errorf("%s %v needs %d bytes, data_offsets %v hold %d", i.DType, i.Shape, size, i.Offsets, have)
	}
	return nil
}

// tensor returns a floating-point tensor whose data lies in the mapped file.
func (f *safetensorsFile) tensor(name string) (Tensor, error) {
	info := f.infos[name]
	switch info.DType {
	case Float32, Float16, BFloat16:
	default:
		return Tensor{}, fmt.Errorf("%s: tensor %q is %s: only F32, F16 and BF16 are supported", f.path, name, info.DType)
	}
	shape := make([]int, len(info.Shape))
	for i, d := range info.Shape {
		shape[i] = int(d)
	}
	return Tensor{DType: info.DType, Shape: shape, Data: f.data[info.Offsets[0]:info.Offsets[1]:info.Offsets[1]]}, nil
}

func widen(shape []int) []int64 {
	out := make([]int64, len(shape))
	for i, d := range shape {
		out[i] = int64(d)
	}
	return out
}
