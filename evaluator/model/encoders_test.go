package model

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// goldenEncoders is testdata/encoders.json; scripts/golden/encoders.py writes it.
type goldenEncoders struct {
	Hidden []struct {
		Checkpoint string
		Config     map[string]any // changes of its config.json
		IDs, Types []int32
		Lengths    []int
	}
	Cases []goldenCase
}

func readEncoders(t *testing.T) goldenEncoders {
	t.Helper()
	var g goldenEncoders
	readJSON(t, "encoders.json", &g)
	return g
}

// Every type of BERT's family, in the files of models with heads, in half precision and in shards, and every key
// of config.json that changes what is computed.
func TestHiddenStatesOfEncoders(t *testing.T) {
	want := readTensors(t, "encoders")
	for i, c := range readEncoders(t).Hidden {
		t.Run(strings.TrimSuffix(fmt.Sprint(c.Checkpoint, " ", c.Config), " map[]"), func(t *testing.T) {
			b := openBackbone(t, withConfig(t, filepath.Join("testdata", c.Checkpoint), c.Config), onCPU)
			s := newScope(t, b)
			got := s.Float32s(lastHidden(b, s, unpad(c.IDs, c.Types, c.Lengths)))
			if err := s.Err(); err != nil {
				t.Fatal(err)
			}
			compare(t, "hidden states", got, want[fmt.Sprint("hidden.", i)].Float32(), 1e-4)
		})
	}
}

func TestGoldenEncoders(t *testing.T) { testGolden(t, readEncoders(t).Cases) }

// withConfig is a directory with a checkpoint whose config.json has other values.
func withConfig(t *testing.T, dir string, changes map[string]any) string {
	t.Helper()
	if len(changes) == 0 {
		return dir
	}
	changed := t.TempDir()
	if err := os.CopyFS(changed, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(changed, "config.json")
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	config := map[string]any{}
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.UseNumber()
	if err := decoder.Decode(&config); err != nil {
		t.Fatal(err)
	}
	maps.Copy(config, changes)
	if content, err = json.Marshal(config); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
	return changed
}
