package model

import (
	"testing"

	"peftsearch/evaluator/torch"
)

// The attention of a GPU is that of a CPU, for whatever rows are read and with and without a prefix and with one of
// each row.
func TestAttentionOnADevice(t *testing.T) {
	b := loadBackbone(t, "bert", onCPU)
	s := newScope(t, b)
	batch := randomBatch(b, 8, 7, 2, 11, 1)
	p, x := b.network.start(s, batch, 0, Last, nil)
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	if p.Device() != torch.CPU {
		t.Skip("another device has one attention only")
	}
	prefix := prefixPair{keys: s.Narrow(x, 0, 3, 5), values: s.Narrow(x, 0, 6, 5)}
	p.prefixes[1] = prefix
	p.gated[1] = torch.From(s, []float32{0.2, 0.9, 0.5, 1}, 4, 1)
	p.groups = p.group()
	device := p.padRows()
	for _, rows := range []Rows{All, Last} {
		for _, m := range []memory{{keys: x, values: x, scale: 0.5},
			{keys: x, values: x, prefix: prefix, scale: 0.5}, p.gatedMemory(1, x, x)} {
			queries := p.take(x, rows)
			want := s.Float32s(p.attention(queries, m, rows))
			p.onDevice = device
			got := s.Float32s(p.attention(queries, m, rows))
			p.onDevice = nil
			if err := s.Err(); err != nil {
				t.Fatal(err)
			}
			compare(t, rows.String(), got, want, 1e-5)
		}
	}
}
