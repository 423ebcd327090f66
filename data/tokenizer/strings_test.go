package tokenizer

import (
	"encoding/json"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sync/errgroup"
)

// newDirectory makes the directory of a model of that type from a base.
func newDirectory(t testing.TB, base, kind string, files map[string]string) string {
	t.Helper()
	g := goldenDirectory{Base: base, Files: map[string]*string{}}
	config := `{"model_type":"` + kind + `","vocab_size":5000}`
	g.Files["config.json"] = &config
	for name, content := range files {
		g.Files[name] = &content
	}
	return g.write(t, nil)
}

// t5v5 is a directory with the tokenizer.json that transformers 5 makes of spiece.model.
func t5v5(t testing.TB) string {
	t.Helper()
	dir := newDirectory(t, "t5", "t5", nil)
	s, err := readSettings(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	f, err := convertT5(s)
	if err != nil {
		t.Fatal(err)
	}
	pieces := make([][2]any, len(f.Model.Vocab.scores))
	for piece, id := range f.Model.Vocab.ids {
		pieces[id] = [2]any{piece, f.Model.Vocab.scores[id]}
	}
	content, err := json.Marshal(map[string]any{
		"added_tokens": f.AddedTokens, "normalizer": f.Normalizer.Normalizers[0],
		"pre_tokenizer": map[string]any{"type": "Sequence", "pretokenizers": []map[string]any{
			{"type": "WhitespaceSplit"}, {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true}}},
		"model": map[string]any{"type": "Unigram", "unk_id": f.Model.UnkID, "vocab": pieces},
	})
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "tokenizer.json"), string(content))
	return dir
}

// TestStrings compares hostile and random strings with scripts/golden/tokenizer.py.
func TestStrings(t *testing.T) {
	var texts []string
	var ids map[string][][]int32
	if err := json.Unmarshal(unpack(t, "strings.json"), &texts); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(unpack(t, "strings_ids.json"), &ids); err != nil {
		t.Fatal(err)
	}
	for name, dir := range map[string]string{
		"wordpiece": newDirectory(t, "wordpiece", "bert", nil), "gpt2": newDirectory(t, "bytepairs", "gpt2", nil),
		"t5":                   newDirectory(t, "t5", "t5", nil),
		"t5 of transformers 5": t5v5(t), "xlm-roberta": newDirectory(t, "fairseq", "xlm-roberta", nil),
		"camembert": newDirectory(t, "fairseq-bpe", "camembert", nil),
	} {
		tokenizer, err := Load(dir)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if len(texts) != 578 || len(ids[name]) != len(texts) {
			t.Fatalf("%s: %d texts, %d rows", name, len(texts), len(ids[name]))
		}
		for i, text := range texts {
			got := []int32{}
			for _, token := range tokenizer.cut(nil, text, tokenizer.split, math.MaxInt) {
				got = append(got, token.id)
			}
			if !slices.Equal(ids[name][i], got) {
				t.Errorf("%s: %q has the ids %d, not %d", name, text, ids[name][i], got)
			}
		}
	}
}

// TestConcurrentUse encodes and decodes in several goroutines at once, which the race detector watches.
func TestConcurrentUse(t *testing.T) {
	var texts []string
	if err := json.Unmarshal(unpack(t, "strings.json"), &texts); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{newDirectory(t, "wordpiece", "bert", nil), filepath.Join("testdata", "bytepairs"),
		newDirectory(t, "t5", "t5", nil)} {
		tokenizer, err := Load(dir)
		if err != nil {
			t.Fatal(err)
		}
		var want []Encoding
		for _, text := range texts {
			want = append(want, tokenizer.Encode(64, text))
		}
		var group errgroup.Group
		for range 8 {
			group.Go(func() error {
				for i, text := range texts {
					e, _ := tokenizer.Align(64, text)
					if !slices.Equal(want[i].IDs, e.IDs) {
						return fmt.Errorf("%q has the ids %d, alone %d", text, e.IDs, want[i].IDs)
					}
					if _, err := tokenizer.Decode(e.IDs, true); err != nil {
						return err
					}
				}
				return nil
			})
		}
		if err := group.Wait(); err != nil {
			t.Error(err)
		}
	}
}
