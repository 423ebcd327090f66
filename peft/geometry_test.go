package peft

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"peftsearch/data/checkpoint"
)

func TestGeometryOf(t *testing.T) {
	dir := filepath.Join("..", "models", "all-MiniLM-L6-v2")
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		t.Skipf("%s is absent: make models/all-MiniLM-L6-v2 fetches it", dir)
	}
	c, err := checkpoint.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// transformers counts 22,713,216 for BertModel; 384·385 of them are the pooler.
	want := Geometry{Architecture: "bert", Layers: 6, Hidden: 384, FFN: 1536, Heads: 12,
		BackboneParams: 22_713_216 - 384*385}
	if diff := cmp.Diff(want, GeometryOf(c)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
