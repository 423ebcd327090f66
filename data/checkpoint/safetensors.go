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
	"slices"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"peftsearch/data/files"
	"peftsearch/data/quote"
)

// WriteSafetensors writes a safetensors file. The file appears under its name complete and on disk, or
// not at all. Float32 tensors with a NaN or an infinity are refused: they are never a result.
func WriteSafetensors(path string, tensors map[string]Tensor, metadata map[string]string) error {
	names := make([]string, 0, len(tensors))
	for name, t := range tensors {
		size, known := dtypeSizes[t.DType]
		if !known || name == metadataKey || int64(len(t.Data)) != int64(t.Elements())*size {
			return fmt.Errorf("%s: tensor %q: %d bytes for %s %v", path, name, len(t.Data), t.DType, t.Shape)
		}
		if t.DType == Float32 {
			if i := t.NotFinite(); i >= 0 {
				return fmt.Errorf("%s: tensor %q: element %d is not a finite number", path, name, i)
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

// ReadSafetensors reads a whole safetensors file of floating-point tensors into memory. Before that, check
// (nil for none) sees the tensors as they lie in the file, and its error refuses them.
func ReadSafetensors(path string, check func(map[string]Tensor) error) (
	tensors map[string]Tensor, metadata map[string]string, err error) {
	f, err := openSafetensors(path)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	tensors = make(map[string]Tensor, len(f.infos))
	for name := range f.infos {
		if tensors[name], err = f.tensor(name); err != nil {
			return nil, nil, err
		}
	}
	if check != nil {
		if err := check(tensors); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	for name, t := range tensors {
		t.Data = bytes.Clone(t.Data)
		tensors[name] = t
	}
	return tensors, f.metadata, nil
}

const (
	metadataKey   = "__metadata__"
	maxHeaderSize = 100_000_000 // the reference implementation's limit
	maxDimensions = 16          // more are never used, and every message stays short
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

// errTruncated is a file without its end. What to do depends on who wrote it.
var errTruncated = errors.New("it is truncated")

func openSafetensors(path string) (*safetensorsFile, error) {
	file, size, err := files.Open(path, files.Weights)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if size < 8 {
		return nil, fmt.Errorf("%s has %d bytes: %w", path, size, errTruncated)
	}
	mapped, err := unix.Mmap(int(file.Fd()), 0, int(size), unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("mapping %s into memory: %w", path, err)
	}
	f := &safetensorsFile{path: path, mapped: mapped}
	if err := f.parse(); err != nil {
		return nil, fmt.Errorf("%s is not a usable safetensors file: %w",
			path, errors.Join(quote.Error(err), f.Close()))
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
			return fmt.Errorf("tensor %s: %w", quote.Text(name), err)
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
			return fmt.Errorf("tensor %s begins at byte %d of the data, the one before it ends at %d",
				quote.Text(name), offsets[0], end)
		}
		end = offsets[1]
	}
	switch have := int64(len(f.data)); {
	case have < end:
		return fmt.Errorf("it has %d bytes of data, its header describes %d: %w", have, end, errTruncated)
	case have > end:
		return fmt.Errorf("it has %d bytes of data, its header describes only %d", have, end)
	}
	return nil
}

// parseHeader reads key by key: encoding/json takes the last of duplicate keys, and other spellings of them.
func (f *safetensorsFile) parseHeader(header []byte) error {
	if !utf8.Valid(header) {
		return errors.New("it is not UTF-8")
	}
	decoder := json.NewDecoder(bytes.NewReader(header))
	f.infos = map[string]tensorInfo{}
	err := eachKey(decoder, func(name string) error {
		if name == metadataKey {
			f.metadata = map[string]string{}
			return decoder.Decode(&f.metadata)
		}
		var info tensorInfo
		err := eachKey(decoder, func(key string) error {
			switch key {
			case "dtype":
				return decoder.Decode(&info.DType)
			case "shape":
				return decoder.Decode(&info.Shape)
			case "data_offsets":
				return decoder.Decode(&info.Offsets)
			}
			return fmt.Errorf("unknown key %s", quote.Text(key))
		})
		f.infos[name] = info
		return err
	})
	if err != nil {
		return err
	}
	if _, err := decoder.Token(); err != io.EOF {
		return errors.New("something follows the object")
	}
	return nil
}

// eachKey reads an object; value must decode the value of each key.
func eachKey(decoder *json.Decoder, value func(key string) error) error {
	if token, err := decoder.Token(); err != nil {
		return err
	} else if token != json.Delim('{') {
		return errors.New("no object where one must be")
	}
	seen := map[string]bool{}
	for decoder.More() {
		token, err := decoder.Token()
		if err != nil {
			return err
		}
		key, _ := token.(string) // the decoder accepts nothing else
		if seen[key] {
			return fmt.Errorf("%s stands twice", quote.Text(key))
		}
		seen[key] = true
		if err := value(key); err != nil {
			return fmt.Errorf("%s: %w", quote.Text(key), err)
		}
	}
	_, err := decoder.Token()
	return err
}

func (i tensorInfo) validate() error {
	size, known := dtypeSizes[i.DType]
	if !known {
		return fmt.Errorf("unknown dtype %s", quote.Text(string(i.DType)))
	}
	if len(i.Offsets) != 2 {
		return fmt.Errorf("data_offsets has %d numbers: must be a begin and an end", len(i.Offsets))
	}
	if i.Offsets[0] < 0 || i.Offsets[1] < i.Offsets[0] {
		return fmt.Errorf("data_offsets %v: must be a begin and an end", i.Offsets)
	}
	if i.Shape == nil || len(i.Shape) > maxDimensions {
		return fmt.Errorf("shape has %d dimensions: must be a list of at most %d", len(i.Shape), maxDimensions)
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
		return Tensor{}, fmt.Errorf("%s: tensor %s is %s: only F32, F16 and BF16 are supported",
			f.path, quote.Text(name), info.DType)
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
