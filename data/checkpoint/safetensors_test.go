package checkpoint

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"peftsearch/data/files"
	"peftsearch/data/quote"
)

func TestReadSafetensorsEqualsReference(t *testing.T) {
	tensors, metadata, err := ReadSafetensors("testdata/tensors.safetensors", nil)
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile("testdata/tensors.json")
	if err != nil {
		t.Fatal(err)
	}
	var want map[string][]float32
	if err := json.Unmarshal(content, &want); err != nil {
		t.Fatal(err)
	}
	got := map[string][]float32{}
	for name, tensor := range tensors {
		got[name] = tensor.Float32()
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("values (-want +got)\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"format": "pt"}, metadata); diff != "" {
		t.Errorf("metadata (-want +got)\n%s", diff)
	}
	if diff := cmp.Diff([]int{0, 4}, tensors["empty"].Shape); diff != "" {
		t.Errorf("shape (-want +got)\n%s", diff)
	}
}

func TestHalfToFloat(t *testing.T) {
	for h := range 1 << 16 {
		sign, exponent, fraction := math.Copysign(1, float64(0x7fff-h)), h>>10&0x1f, float64(h&0x3ff)
		want := sign * math.Ldexp(1+fraction/1024, exponent-15)
		switch {
		case exponent == 0:
			want = sign * math.Ldexp(fraction, -24)
		case exponent == 0x1f && fraction == 0:
			want = math.Inf(int(sign))
		case exponent == 0x1f:
			want = math.NaN()
		}
		got := float64(halfToFloat(uint16(h)))
		if got != want && !(math.IsNaN(got) && math.IsNaN(want)) || math.Signbit(got) != (h>>15 == 1) {
			t.Fatalf("%#04x: %g, want %g", h, got, want)
		}
	}
}

func TestNotFinite(t *testing.T) {
	for _, test := range []struct {
		tensor Tensor
		want   int
	}{
		{NewTensor([]float32{0, -1, math.MaxFloat32, math.SmallestNonzeroFloat32}, 4), -1},
		{NewTensor([]float32{0, float32(math.NaN())}, 2), 1},
		{NewTensor([]float32{float32(math.Inf(-1)), 0}, 2), 0},
		{Tensor{Float16, []int{3}, []byte{0xff, 0x7b, 0, 0x80, 0, 0x7c}}, 2}, // 65504, -0, infinity
		{Tensor{BFloat16, []int{3}, []byte{0x7f, 0x7f, 0x80, 0x7f, 0, 0}}, 1},
		{NewTensor(nil, 0), -1},
	} {
		if got := test.tensor.NotFinite(); got != test.want {
			t.Errorf("%s %v: %d, want %d", test.tensor.DType, test.tensor.Float32(), got, test.want)
		}
	}
}

func TestSafetensorsRoundTrip(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		tensors := rapid.MapOf(rapid.StringN(1, 10, -1).Filter(func(s string) bool { return s != metadataKey }),
			rapid.Custom(func(t *rapid.T) Tensor {
				shape := rapid.SliceOfN(rapid.IntRange(0, 4), 0, 3).Draw(t, "shape")
				dtype := rapid.SampledFrom([]DType{Float32, Float16, BFloat16}).Draw(t, "dtype")
				size := Tensor{Shape: shape}.Elements() * int(dtypeSizes[dtype])
				return Tensor{dtype, shape, bytes.Repeat([]byte{rapid.ByteRange(0, 0x3f).Draw(t, "byte")}, size)}
			})).Draw(t, "tensors")
		metadata := rapid.MapOfN(rapid.String(), rapid.String(), 1, 3).Draw(t, "metadata")
		path := filepath.Join(dir, "x.safetensors")
		if err := WriteSafetensors(path, tensors, metadata); err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if size := binary.LittleEndian.Uint64(content); size%8 != 0 {
			t.Fatalf("a header of %d bytes does not align the data", size)
		}
		gotTensors, gotMetadata, err := ReadSafetensors(path, nil)
		if err != nil {
			t.Fatal(err)
		}
		empty := cmp.Transformer("empty", func(b []byte) string { return string(b) })
		if diff := cmp.Diff(tensors, gotTensors, empty); diff != "" {
			t.Fatalf("(-want +got)\n%s", diff)
		}
		if diff := cmp.Diff(metadata, gotMetadata); diff != "" {
			t.Fatalf("(-want +got)\n%s", diff)
		}
	})
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("%d files are left", len(entries))
	}
}

func TestWriteSafetensorsRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.safetensors")
	for want, tensor := range map[string]Tensor{
		"element 1 is not a finite": NewTensor([]float32{0, float32(math.NaN())}, 2),
		"element 0 is not a finite": NewTensor([]float32{float32(math.Inf(-1))}, 1),
		"3 bytes for F32 [1]":       {Float32, []int{1}, []byte{1, 2, 3}},
	} {
		if err := WriteSafetensors(path, map[string]Tensor{"t": tensor}, nil); err == nil ||
			!strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
	if files.Exists(path) {
		t.Error("a refused file was written")
	}
}

// safetensorsOf makes a file of a header and so many bytes of data.
func safetensorsOf(header string, data int) []byte {
	content := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(content, header...), make([]byte, data)...)
}

func TestReadSafetensorsRefuses(t *testing.T) {
	entry := func(dtype, shape, offsets string) string {
		return fmt.Sprintf(`{"dtype":%q,"shape":%s,"data_offsets":%s}`, dtype, shape, offsets)
	}
	a := entry("F32", "[2]", "[0,8]")
	for _, test := range []struct {
		name    string
		content []byte
		want    string
	}{
		{"empty", nil, "0 bytes"},
		{"short", []byte("short"), "5 bytes"},
		{"text", []byte("Not found, sorry."), "claims"},
		{"page", []byte("<!DOCTYPE html><html>"), "web page"},
		{"pointer", []byte("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 90868376\n"), "git lfs pull"},
		{"torch", append([]byte("PK\x03\x04"), make([]byte, 40)...), "ZIP archive"},
		{"huge header", binary.LittleEndian.AppendUint64(nil, 1<<62), "the limit is"},
		{"long header", binary.LittleEndian.AppendUint64(nil, 1000), "truncated"},
		{"no JSON", safetensorsOf(`{"a":`, 0), "EOF"},
		{"array", safetensorsOf(`[]`, 0), "no object where one must be"},
		{"rest", safetensorsOf(`{} {}`, 0), "follows"},
		{"duplicate", safetensorsOf(`{"a":`+a+`,"a":`+a+`}`, 8), "stands twice"},
		{"duplicate metadata", safetensorsOf(`{"__metadata__":{},"__metadata__":{}}`, 0), "stands twice"},
		{"metadata type", safetensorsOf(`{"__metadata__":{"x":1}}`, 0), "__metadata__"},
		{"unknown key", safetensorsOf(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"x":1}}`, 8), `unknown key "x"`},
		{"other case", safetensorsOf(`{"a":{"DType":"F32","shape":[2],"data_offsets":[0,8]}}`, 8), `unknown key "DType"`},
		{"duplicate key", safetensorsOf(`{"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, 8),
			`"dtype" stands twice`},
		{"no shape", safetensorsOf(`{"a":{"dtype":"F32","data_offsets":[0,4]}}`, 4), "shape has 0 dimensions"},
		{"many dimensions", safetensorsOf(`{"a":`+entry("F32", "[1"+strings.Repeat(",1", 1<<20)+"]", "[0,4]")+`}`, 4),
			"shape has 1048577 dimensions"},
		{"many offsets", safetensorsOf(`{"a":`+entry("F32", "[1]", "[1"+strings.Repeat(",1", 1<<20)+"]")+`}`, 4),
			"data_offsets has 1048577 numbers"},
		{"no UTF-8", safetensorsOf("{\"\xff\":"+a+"}", 8), "not UTF-8"},
		{"long name", safetensorsOf(`{"`+strings.Repeat("a", 8<<20)+`":{"dtype":"F32"}}`, 8), "data_offsets has 0 numbers"},
		{"long key", safetensorsOf(`{"a":{"`+strings.Repeat("a", 8<<20)+`":1}}`, 8), "unknown key"},
		{"long dtype", safetensorsOf(`{"a":`+entry(strings.Repeat("a", 8<<20), "[1]", "[0,4]")+`}`, 8), "unknown dtype"},
		{"escapes", safetensorsOf(`{"\u001b[2J\u202e":{}}`, 8), `tensor "\x1b[2J\u202e": unknown dtype`},
		{"unknown dtype", safetensorsOf(`{"a":`+entry("F99", "[2]", "[0,8]")+`}`, 8), "F99"},
		{"other dtype", safetensorsOf(`{"a":`+entry("I64", "[1]", "[0,8]")+`}`, 8), "only F32, F16 and BF16"},
		{"no offsets", safetensorsOf(`{"a":{"dtype":"F32","shape":[2]}}`, 8), "data_offsets"},
		{"negative offset", safetensorsOf(`{"a":`+entry("F32", "[2]", "[-8,0]")+`}`, 8), "data_offsets"},
		{"reversed offsets", safetensorsOf(`{"a":`+entry("F32", "[2]", "[8,0]")+`}`, 8), "data_offsets"},
		{"fraction", safetensorsOf(`{"a":`+entry("F32", "[2.5]", "[0,10]")+`}`, 10), "number"},
		{"negative shape", safetensorsOf(`{"a":`+entry("F32", "[-2]", "[0,8]")+`}`, 8), "impossible"},
		{"overflow", safetensorsOf(`{"a":`+entry("F32", "[4294967296,4294967296]", "[0,0]")+`}`, 0), "impossible"},
		{"wrong size", safetensorsOf(`{"a":`+entry("F32", "[3]", "[0,8]")+`}`, 8), "needs 12 bytes"},
		{"overlap", safetensorsOf(`{"a":`+a+`,"b":`+entry("F32", "[2]", "[4,12]")+`}`, 12), "begins at byte 4"},
		{"same place", safetensorsOf(`{"a":`+a+`,"b":`+a+`}`, 8), "begins at byte 0"},
		{"gap", safetensorsOf(`{"a":`+entry("F32", "[2]", "[4,12]")+`}`, 12), "begins at byte 4"},
		{"truncated", safetensorsOf(`{"a":`+a+`}`, 7), "truncated"},
		{"too long", safetensorsOf(`{"a":`+a+`}`, 9), "only 8"},
		{"beyond the end", safetensorsOf(`{"a":`+entry("U8", "[9223372036854775807]", "[0,9223372036854775807]")+`}`, 8),
			"truncated"},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x.safetensors")
			write(t, path, string(test.content))
			_, _, err := ReadSafetensors(path, nil)
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("error %v, want the path and %q", err, test.want)
			} else if len(err.Error()) > quote.MessageLimit {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
		})
	}
	if _, _, err := ReadSafetensors(t.TempDir(), nil); err == nil {
		t.Error("a directory was read")
	}
}

// Every prefix of a file is refused, and no changed byte of the header makes the reader panic.
func TestReadSafetensorsDamaged(t *testing.T) {
	content, err := os.ReadFile("testdata/tensors.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "x.safetensors")
	for n := range content {
		write(t, path, string(content[:n]))
		if _, _, err := ReadSafetensors(path, nil); err == nil {
			t.Fatalf("the first %d of %d bytes were read", n, len(content))
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		damaged := bytes.Clone(content)
		damaged[rapid.IntRange(0, 320).Draw(rt, "at")] = rapid.Byte().Draw(rt, "byte")
		write(t, path, string(damaged))
		ReadSafetensors(path, nil)
	})
}
