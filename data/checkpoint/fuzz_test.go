package checkpoint

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"peftsearch/data/quote"
)

// bounded fails if an error is too long to print or would move a terminal's cursor.
func bounded(t *testing.T, err error) {
	t.Helper()
	if err != nil && (len(err.Error()) > quote.MessageLimit || quote.Message(err.Error()) != err.Error()) {
		t.Errorf("%d bytes: %q", len(err.Error()), err)
	}
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func FuzzReadSafetensors(f *testing.F) {
	f.Add(read(f, "testdata/tensors.safetensors"))
	f.Add(safetensorsOf(`{"a":{"dtype":"I64","shape":[],"data_offsets":[0,8]}}`, 8))
	f.Fuzz(func(t *testing.T, content []byte) {
		path := filepath.Join(t.TempDir(), "x.safetensors")
		write(t, path, string(content))
		tensors, metadata, err := ReadSafetensors(path, nil)
		bounded(t, err)
		if err != nil {
			return
		}
		for _, tensor := range tensors {
			if tensor.DType == Float32 && tensor.NotFinite() >= 0 { // is read, but never written
				return
			}
		}
		if err := WriteSafetensors(path, tensors, metadata); err != nil {
			t.Fatal(err)
		}
		again, metadataAgain, err := ReadSafetensors(path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tensors, again, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("tensors (-read +written and read)\n%s", diff)
		}
		if diff := cmp.Diff(metadata, metadataAgain, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("metadata (-read +written and read)\n%s", diff)
		}
	})
}

func FuzzReadConfig(f *testing.F) {
	f.Add(read(f, "testdata/tiny/config.json"))
	f.Fuzz(func(t *testing.T, content []byte) {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "config.json"), string(content))
		config, err := ReadConfig(dir)
		bounded(t, err)
		if err != nil {
			return
		}
		for _, tensor := range config.backbone() {
			if (Tensor{Shape: tensor.shape}).Elements() < 1 {
				t.Errorf("tensor %s has shape %v", tensor.name, tensor.shape)
			}
		}
		if (&Checkpoint{Config: config}).BackboneParams() < 1 || config.MaxLength() < 1 {
			t.Errorf("impossible: %+v", config)
		}
	})
}

func FuzzWeightIndex(f *testing.F) {
	f.Add([]byte(`{"metadata":{"total_size":1},"weight_map":{"a":"x.safetensors","b":"config.json"}}`))
	f.Add([]byte(`{"weight_map":{"a":"../x"}}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "config.json"), string(read(t, "testdata/tiny/config.json")))
		write(t, filepath.Join(dir, "x.safetensors"), string(read(t, "testdata/tensors.safetensors")))
		write(t, filepath.Join(dir, "model.safetensors.index.json"), string(content))
		if c, err := Open(dir); err == nil {
			c.Close()
			t.Error("weights of another model were opened")
		} else {
			bounded(t, err)
		}
	})
}
