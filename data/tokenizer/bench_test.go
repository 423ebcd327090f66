package tokenizer

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// BenchmarkEncode encodes the pairs of the example data's train split. benchmarks/tokenizer.py measures the reference.
func BenchmarkEncode(b *testing.B) {
	content, err := os.ReadFile("../../examples/data/stsb/train.tsv")
	if err != nil {
		b.Fatal(err)
	}
	var pairs [][]string
	for line := range strings.Lines(string(content)) {
		pairs = append(pairs, strings.Split(line, "\t")[1:3])
	}
	for _, test := range []struct{ name, dir string }{
		{"WordPiece", filepath.Join("..", "..", "models", "all-MiniLM-L6-v2")},
		{"BPE", filepath.Join("testdata", "bytepairs")},
		{"Unigram", newDirectory(b, "t5", "t5", nil)},
	} {
		b.Run(test.name, func(b *testing.B) {
			tokenizer, err := Load(test.dir)
			if err != nil {
				b.Skip(err)
			}
			tokens, start := 0, processorTime(b)
			for b.Loop() {
				for _, pair := range pairs {
					tokens += len(tokenizer.Encode(128, pair...).IDs)
				}
			}
			b.ReportMetric(float64(tokens)/(processorTime(b)-start), "tokens/cpu-s")
		})
	}
}

// BenchmarkHostileRow encodes rows of a megabyte.
func BenchmarkHostileRow(b *testing.B) {
	rows := hostile(1 << 20)
	for _, test := range []struct{ name, dir string }{
		{"WordPiece", newDirectory(b, "wordpiece", "bert", nil)},
		{"BPE", filepath.Join("testdata", "bytepairs")},
		{"Unigram", newDirectory(b, "t5", "t5", nil)},
	} {
		tokenizer, err := Load(test.dir)
		if err != nil {
			b.Fatal(err)
		}
		for _, name := range slices.Sorted(maps.Keys(rows)) {
			b.Run(test.name+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				start := processorTime(b)
				for b.Loop() {
					tokenizer.Encode(1<<30, rows[name])
				}
				b.ReportMetric((processorTime(b)-start)/float64(b.N), "cpu-s/op")
			})
		}
	}
}

// processorTime is what the process has used of all cores, in seconds: other load does not count.
func processorTime(b *testing.B) float64 {
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1e9
}
