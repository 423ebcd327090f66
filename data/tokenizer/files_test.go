package tokenizer

import (
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestFiles: what counts in a directory is what is fingerprinted.
func TestFiles(t *testing.T) {
	everything := map[string]string{"tokenizer.json": wordPieceJSON(t), "special_tokens_map.json": "{}",
		"added_tokens.json": "{}", "merges.txt": "", "README.md": ""}
	with := func(settings string) map[string]string {
		files := map[string]string{"tokenizer_config.json": settings}
		for name, content := range everything {
			files[name] = content
		}
		return files
	}
	for _, test := range []struct {
		name, dir string
		want      []string
	}{
		{"tokenizer.json", newDirectory(t, "wordpiece", "bert", with(`{"added_tokens_decoder":{}}`)),
			[]string{"tokenizer.json", "tokenizer_config.json"}},
		{"legacy tokens", newDirectory(t, "wordpiece", "bert", with(`{}`)),
			[]string{"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"}},
		{"older files", newDirectory(t, "wordpiece", "bert", map[string]string{"special_tokens_map.json": "{}"}),
			[]string{"vocab.txt", "special_tokens_map.json"}},
		{"merges", newDirectory(t, "bytepairs", "gpt2", nil), []string{"vocab.json", "merges.txt"}},
		{"T5 by its settings", newDirectory(t, "t5", "t5", with(`{"add_prefix_space":true}`)),
			[]string{"spiece.model", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"}},
	} {
		got, err := Files(test.dir)
		if diff := cmp.Diff(test.want, got); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got)\n%s", test.name, err, diff)
		}
	}
	if _, err := Files(filepath.Join("testdata", "nowhere")); err == nil {
		t.Error("a directory that does not exist has files")
	}
}
