package tokenizer

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// unpack reads a file of testdata, packed or not.
func unpack(t testing.TB, path string) []byte {
	t.Helper()
	packed, err := os.Open(filepath.Join("testdata", path+".gz"))
	if os.IsNotExist(err) {
		content, err := os.ReadFile(filepath.Join("testdata", path))
		if err != nil {
			t.Fatal(err)
		}
		return content
	}
	if err != nil {
		t.Fatal(err)
	}
	defer packed.Close()
	reader, err := gzip.NewReader(packed)
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(reader)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// bases are the files of the vocabularies in testdata.
var bases = map[string][]string{
	"wordpiece": {"vocab.txt"}, "bytepairs": {"vocab.json", "merges.txt"}, "t5": {"spiece.model"},
	"fairseq": {"sentencepiece.bpe.model"}, "fairseq-bpe": {"sentencepiece.bpe.model"}, "empty": {},
}

// goldenDirectory is a model directory with what transformers makes of it.
type goldenDirectory struct {
	Base    string
	Files   map[string]*string // null: the base's file is removed
	Error   string             // of transformers
	Special []int32
	Rows    []struct {
		Texts, Words []string
		Max          int
		IDs          []int32
		Types        []int32
		Offsets      []int
		WordsOf      []int `json:"words_of"`
		Decoded      []string
	}
}

// write makes the directory; parts are what short names in the files stand for.
func (g *goldenDirectory) write(t testing.TB, parts map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range bases[g.Base] {
		write(t, filepath.Join(dir, name), string(unpack(t, filepath.Join(g.Base, name))))
	}
	for name, content := range g.Files {
		if content == nil {
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
			continue
		}
		for name, part := range parts {
			*content = strings.ReplaceAll(*content, name, part)
		}
		if strings.Contains(*content, "@charsmap@") {
			pieces, err := parsePieces(unpack(t, "t5/spiece.model"))
			if err != nil {
				t.Fatal(err)
			}
			*content = strings.ReplaceAll(*content, "@charsmap@", base64.StdEncoding.EncodeToString(pieces.charsmap))
		}
		write(t, filepath.Join(dir, name), *content)
	}
	return dir
}

// TestSettings compares directories of many kinds with scripts/golden/tokenizer_settings.py.
func TestSettings(t *testing.T) {
	compareDirectories(t, unpack(t, "settings.jsonl"))
}

func compareDirectories(t *testing.T, golden []byte) {
	lines := bufio.NewScanner(bytes.NewReader(golden))
	lines.Buffer(nil, 1<<24)
	var defined struct{ Parts map[string]string }
	if lines.Scan(); json.Unmarshal(lines.Bytes(), &defined) != nil {
		t.Fatal("the first line defines no parts")
	}
	directories, failed, refused := 0, 0, 0
	for ; lines.Scan(); directories++ {
		var g goldenDirectory
		if err := json.Unmarshal(lines.Bytes(), &g); err != nil {
			t.Fatal(err)
		}
		dir := g.write(t, defined.Parts)
		describe := func() string {
			shown := map[string]string{}
			for name, content := range g.Files {
				if content != nil {
					shown[name] = *content
				}
			}
			if len(shown["tokenizer.json"]) > 900 {
				j := shown["tokenizer.json"]
				shown["tokenizer.json"] = j[:min(len(j), strings.Index(j, `"vocab"`))]
			}
			s, _ := json.MarshalIndent(shown, "", " ")
			return g.Base + " " + strings.ReplaceAll(string(s), `\"`, `"`)
		}
		tokenizer, err := Load(dir)
		if g.Error != "" {
			failed++
			if err == nil {
				t.Errorf("directory %d: transformers fails with %s, here it is loaded\n%s", directories, g.Error, describe())
			}
			continue
		}
		if err != nil {
			refused++
			t.Logf("directory %d: %v", directories, err)
			continue
		}
		s := tokenizer.Special()
		if diff := cmp.Diff(g.Special, []int32{s.BOS, s.EOS, s.UNK, s.SEP, s.PAD, s.CLS, s.MASK}); diff != "" {
			t.Errorf("directory %d: special ids (-want +got)\n%s\n%s", directories, diff, describe())
		}
		for i, row := range g.Rows {
			var got Encoding
			var spans []Span
			if row.Words != nil {
				got, spans = tokenizer.EncodeWords(row.Max, row.Words)
			} else {
				got, spans = tokenizer.Align(row.Max, row.Texts...)
				if diff := cmp.Diff(got, tokenizer.Encode(row.Max, row.Texts...)); diff != "" {
					t.Errorf("Align and Encode differ: %s", diff)
				}
			}
			want := Encoding{row.IDs, row.Types}
			if row.Types == nil {
				want.TypeIDs = make([]int32, len(row.IDs))
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("directory %d, row %d %q %q: (-want +got)\n%s\n%s", directories, i, row.Texts, row.Words, diff, describe())
				break
			}
			if row.Offsets != nil {
				offsets, words := []int{}, []int{}
				for _, s := range spans {
					offsets, words = append(offsets, s.Chars.Start, s.Chars.End), append(words, s.Word)
				}
				if diff := cmp.Diff(row.Offsets, offsets) + cmp.Diff(row.WordsOf, words); diff != "" {
					t.Errorf("directory %d, row %d %q %q: offsets and words (-want +got)\n%s\n%v\n%v\n%s", directories, i, row.Texts,
						row.Words, diff, row.Offsets, offsets, describe())
					break
				}
			}
			if row.Decoded != nil {
				var decoded []string
				for _, skip := range []bool{false, true} {
					text, err := tokenizer.Decode(row.IDs, skip)
					if err != nil {
						t.Fatal(err)
					}
					decoded = append(decoded, text)
				}
				if diff := cmp.Diff(row.Decoded, decoded); diff != "" {
					t.Errorf("directory %d, row %d: decoded (-want +got)\n%s\n%s", directories, i, diff, describe())
					break
				}
			}
		}
	}
	t.Logf("%d directories, %d of which transformers does not load and %d others are refused here", directories, failed,
		refused)
	if directories < 100 || failed+refused > directories/4 {
		t.Error("too few of them are compared")
	}
}
