package onnx

import (
	"io"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// message is an encoded protobuf message in parts, so that weights are written from where they lie.
type message struct {
	parts [][]byte
	size  int
}

func (m *message) add(part []byte) {
	m.parts = append(m.parts, part)
	m.size += len(part)
}

func (m *message) varint(field protowire.Number, v int64) {
	m.add(protowire.AppendVarint(protowire.AppendTag(nil, field, protowire.VarintType), uint64(v)))
}

func (m *message) float(field protowire.Number, v float32) {
	m.add(protowire.AppendFixed32(protowire.AppendTag(nil, field, protowire.Fixed32Type), math.Float32bits(v)))
}

func (m *message) text(field protowire.Number, s string) { m.data(field, []byte(s)) }

// data adds bytes, which it does not copy.
func (m *message) data(field protowire.Number, b []byte) {
	m.begin(field, len(b))
	m.add(b)
}

func (m *message) message(field protowire.Number, inner *message) {
	m.begin(field, inner.size)
	m.parts = append(m.parts, inner.parts...)
	m.size += inner.size
}

func (m *message) begin(field protowire.Number, size int) {
	m.add(protowire.AppendVarint(protowire.AppendTag(nil, field, protowire.BytesType), uint64(size)))
}

// entry adds a StringStringEntryProto.
func (m *message) entry(field protowire.Number, key, value string) {
	var e message
	e.text(1, key)
	e.text(2, value)
	m.message(field, &e)
}

func (m *message) write(w io.Writer) error {
	for _, part := range m.parts {
		if _, err := w.Write(part); err != nil {
			return err
		}
	}
	return nil
}
