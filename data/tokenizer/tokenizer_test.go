package tokenizer

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// fetched is the directory of a fetched model.
func fetched(t *testing.T, name string) string {
	t.Helper()
	dir := filepath.Join("..", "..", "models", name)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		t.Skipf("%s is absent: make models/%s fetches it", dir, name)
	}
	return dir
}

// copyFiles copies the named files of a directory into a new one.
func copyFiles(t *testing.T, from string, names ...string) string {
	t.Helper()
	to := t.TempDir()
	for _, name := range names {
		content, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(to, name), string(content))
	}
	return to
}

func write(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// stsb reads the pairs of the example data's dev split.
func stsb(t *testing.T) (pairs [][]string) {
	t.Helper()
	content, err := os.ReadFile("../../examples/data/stsb/dev.tsv")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(content)) {
		pairs = append(pairs, strings.Split(line, "\t")[1:3])
	}
	return pairs[1:]
}

// TestTokenizersEqualReference compares with scripts/golden/tokenizer.py. Rows without text are the first
// rows of the example data's dev split.
func TestTokenizersEqualReference(t *testing.T) {
	examples := stsb(t)
	bytePairs := filepath.Join("testdata", "bytepairs")
	for _, test := range []struct {
		name, golden string
		dir          func(t *testing.T) string
	}{
		{"MiniLM tokenizer.json", "wordpiece.jsonl", func(t *testing.T) string { return fetched(t, "all-MiniLM-L6-v2") }},
		{"BERT tokenizer.json", "wordpiece.jsonl", func(t *testing.T) string { return fetched(t, "bert-tiny") }},
		{"vocab.txt", "wordpiece.jsonl", func(t *testing.T) string {
			return copyFiles(t, fetched(t, "all-MiniLM-L6-v2"), "config.json", "vocab.txt", "tokenizer_config.json")
		}},
		{"vocab.txt, cased", "wordpiece_cased.jsonl", func(t *testing.T) string {
			dir := copyFiles(t, fetched(t, "all-MiniLM-L6-v2"), "config.json", "vocab.txt")
			write(t, filepath.Join(dir, "tokenizer_config.json"),
				`{"do_lower_case":false,"tokenize_chinese_chars":false,"strip_accents":null}`)
			return dir
		}},
		{"RoBERTa tokenizer.json", "bytepairs.jsonl", func(t *testing.T) string { return bytePairs }},
		{"vocab.json and merges.txt", "bytepairs.jsonl", func(t *testing.T) string {
			return copyFiles(t, bytePairs, "config.json", "vocab.json", "merges.txt")
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			tokenizer, err := Load(test.dir(t))
			if err != nil {
				t.Fatal(err)
			}
			file, err := os.Open(filepath.Join("testdata", test.golden))
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			lines := bufio.NewScanner(file)
			lines.Buffer(nil, 1<<20)
			count, unseen := 0, examples
			for ; lines.Scan(); count++ {
				var want struct {
					Text   *string
					Pair   string
					Max    int
					IDs    []int32
					Second int // index of the first type id 1, or 0
				}
				if err := json.Unmarshal(lines.Bytes(), &want); err != nil {
					t.Fatal(err)
				}
				var texts []string
				switch {
				case want.Text == nil:
					texts, unseen = unseen[0], unseen[1:]
				case want.Pair == "":
					texts = []string{*want.Text}
				default:
					texts = []string{*want.Text, want.Pair}
				}
				types := make([]int32, len(want.IDs))
				for i := want.Second; i < len(types) && want.Second > 0; i++ {
					types[i] = 1
				}
				if diff := cmp.Diff(Encoding{want.IDs, types}, tokenizer.Encode(want.Max, texts...)); diff != "" {
					t.Errorf("%+q, at most %d: (-want +got)\n%s", texts, want.Max, diff)
				}
			}
			if count < 300 {
				t.Errorf("%d rows were compared", count)
			}
		})
	}
}

func TestEncodeKeepsItsPromises(t *testing.T) {
	for _, dir := range []string{filepath.Join("testdata", "bytepairs"), fetched(t, "bert-tiny")} {
		tokenizer, err := Load(dir)
		if err != nil {
			t.Fatal(err)
		}
		rapid.Check(t, func(t *rapid.T) {
			texts := rapid.SliceOfN(rapid.String(), 1, 2).Draw(t, "texts")
			length := rapid.IntRange(5, 40).Draw(t, "length")
			e := tokenizer.Encode(length, texts...)
			if len(e.IDs) > length || len(e.IDs) < 2 || len(e.IDs) != len(e.TypeIDs) {
				t.Fatalf("%d ids and %d types for a length of %d", len(e.IDs), len(e.TypeIDs), length)
			}
			for _, id := range e.IDs {
				if id < 0 || int(id) >= tokenizer.Size() {
					t.Fatalf("id %d of %d", id, tokenizer.Size())
				}
			}
		})
	}
}

// hostile are rows of size bytes that have taken quadratic time in one tokenizer or another.
func hostile(size int) map[string]string {
	repeat := func(s string) string { return strings.Repeat(s, size/len(s)) }
	random := rand.New(rand.NewPCG(1, 1))
	letters := make([]byte, size)
	for i := range letters {
		letters[i] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"[random.IntN(64)]
	}
	return map[string]string{
		"syllables": repeat("na"), "short words": repeat("na "), "hyphens": repeat("a-"), "Chinese": repeat("漢字"),
		"punctuation": repeat("!?."), "base64": string(letters),
		"blanks": repeat(" "), "line ends": repeat("\n \r\n"), "marks": "a" + repeat("\u0301\u0327"),
		"joined emoji": repeat("👩\u200d"), "Hangul": repeat("한"),
		"decomposed Hangul": repeat("ᄒ"), "zero": repeat("\x00"), "not UTF-8": repeat("\xff"), "masks": repeat("<mask> "),
		"half masks": repeat("<mas"), "unknown": repeat("\U0010fffd"),
		"digits": repeat("1"), "blocks": repeat("▁"), "apostrophes": repeat("'"), "format characters": repeat("\u200b"),
	}
}

// TestHostileRows ends because no step takes quadratic time: BenchmarkHostileRow has the figures.
func TestHostileRows(t *testing.T) {
	for name, dir := range map[string]string{
		"WordPiece": newDirectory(t, "wordpiece", "bert", nil), "byte-level BPE": filepath.Join("testdata", "bytepairs"),
		"Unigram": newDirectory(t, "t5", "t5", nil),
		"BPE":     newDirectory(t, "fairseq-bpe", "xlm-roberta", nil),
		"long words": newDirectory(t, "wordpiece", "bert",
			map[string]string{"tokenizer.json": strings.Replace(wordPieceJSON(t), `"max_input_chars_per_word":100`,
				`"max_input_chars_per_word":1000000000`, 1)}),
	} {
		tokenizer, err := Load(dir)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for kind, text := range hostile(1 << 18) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			e, spans := tokenizer.Align(512, text, text)
			runtime.ReadMemStats(&after)
			if allocated := after.TotalAlloc - before.TotalAlloc; len(e.IDs) > 512 || len(spans) != len(e.IDs) ||
				allocated > 1<<29 {
				t.Errorf("%s, %s: %d ids, %d spans, %d MB allocated", name, kind, len(e.IDs), len(spans), allocated>>20)
			}
		}
	}
}

// wordPieceJSON is a tokenizer.json of the small vocabulary.
func wordPieceJSON(t testing.TB) string {
	t.Helper()
	s, err := readSettings(newDirectory(t, "wordpiece", "bert", nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	f, err := convertBERT(s)
	if err != nil {
		t.Fatal(err)
	}
	content, err := json.Marshal(map[string]any{"normalizer": f.Normalizer, "pre_tokenizer": f.PreTokenizer,
		"model": map[string]any{
			"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
			"vocab": f.Model.Vocab.ids}})
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// TestEarlyEnd: a row that is cut has the ids of the whole row up to there.
func TestEarlyEnd(t *testing.T) {
	for _, dir := range []string{filepath.Join("testdata", "bytepairs"), newDirectory(t, "wordpiece", "bert", nil),
		newDirectory(t, "t5", "t5", nil)} {
		tokenizer, err := Load(dir)
		if err != nil {
			t.Fatal(err)
		}
		rapid.Check(t, func(t *rapid.T) {
			text := rapid.StringOf(rapid.RuneFrom([]rune("ab <mask>'č漢\u0301.1"))).Draw(t, "text")
			length := rapid.IntRange(MinLength, 40).Draw(t, "length")
			sequence := tokenizer.keep(tokenizer.cut(nil, text, tokenizer.split, math.MaxInt),
				length-added(tokenizer.template.single))
			want, _ := tokenizer.assemble(length, [][]token{sequence})
			if diff := cmp.Diff(want, tokenizer.Encode(length, text)); diff != "" {
				t.Fatal(diff)
			}
		})
	}
}

func TestLoadRefuses(t *testing.T) {
	base := filepath.Join("testdata", "bytepairs")
	original, err := os.ReadFile(filepath.Join(base, "tokenizer.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ name, old, new, want string }{
		{"model", `"type":"BPE"`, `"type":"WordLevel"`, `"WordLevel"`},
		{"unigram of bytes", `"type":"BPE"`, `"type":"Unigram"`, "ByteLevel"},
		{"truncated file", `"model":{`, ``, "tokenizer.json"},
		{"dropout", `"dropout":null`, `"dropout":0.1`, "dropout"},
		{"normalizer", `"normalizer":null`, `"normalizer":{"type":"NFC"}`, `"NFC"`},
		{"pre_tokenizer", `"pre_tokenizer":{"type":"ByteLevel"`, `"pre_tokenizer":{"type":"Digits"`, `"Digits"`},
		{"id outside the model", `"<s>":0`, `"<s>":701`, "vocab_size"},
		{"post processor", `"type":"RobertaProcessing"`, `"type":"Other"`, "post_processor"},
		{"special id", `"sep":["</s>",2]`, `"sep":["</s>",-2]`, "special token"},
		{"merge without token", `"merges":[`, `"merges":[["zzz","q"],`, "merge 0"},
		{"merge of three", `"merges":[`, `"merges":[["a","b","c"],`, "merge 0"},
		{"missing byte", `"a":`, `"aaaa":`, "0x61"},
		{"negative id", `"<s>":0`, `"<s>":-1`, "-1"},
		{"not UTF-8", `"a":`, "\"\xff\":", "UTF-8"},
	} {
		t.Run(test.name, func(t *testing.T) {
			changed := strings.Replace(string(original), test.old, test.new, 1)
			if changed == string(original) {
				t.Fatalf("%s is not in the file", test.old)
			}
			dir := copyFiles(t, base, "config.json")
			write(t, filepath.Join(dir, "tokenizer.json"), changed)
			if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one about %q", err, test.want)
			}
		})
	}
	for _, test := range []struct{ name, settings, want string }{
		{"class", `{"tokenizer_class":"LlamaTokenizer"}`, `"LlamaTokenizer" is not supported`},
		{"other file", `{"tokenizer_file":"/home/author/tokenizer.json"}`, "tokenizer_file"},
		{"versioned file", `{"fast_tokenizer_files":["tokenizer.4.0.json"]}`, "fast_tokenizer_files"},
		{"flag", `{"add_prefix_space":"yes"}`, "not true or false"},
		{"token", `{"mask_token":{"content":"<mask>"}}`, "AddedToken"},
		{"side", `{"truncation_side":"middle"}`, "truncation_side"},
		{"list of extra tokens", `{"extra_special_tokens":["<a>"]}`, "extra_special_tokens"},
		{"no JSON", `{`, "tokenizer_config.json"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := copyFiles(t, base, "config.json", "tokenizer.json")
			write(t, filepath.Join(dir, "tokenizer_config.json"), test.settings)
			if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one about %q", err, test.want)
			}
		})
	}
	t.Run("no tokenizer", func(t *testing.T) {
		if _, err := Load(copyFiles(t, base, "config.json")); err == nil ||
			!strings.Contains(err.Error(), "tokenizer.json or") {
			t.Errorf("error %v", err)
		}
	})
}

// TestLongestFirst compares with cutting one token after the other.
func TestLongestFirst(t *testing.T) {
	for a := range 12 {
		for b := range 12 {
			for limit := range 24 {
				keepA, keepB := longestFirst(a, b, limit)
				if keepA > a || keepB > b || keepA+keepB != min(limit, a+b) {
					t.Fatalf("%d and %d in %d: %d and %d", a, b, limit, keepA, keepB)
				}
				x, y := a, b
				for x+y > limit {
					if x > y {
						x--
					} else {
						y--
					}
				}
				if fmt.Sprint(min(x, y), max(x, y)) != fmt.Sprint(min(keepA, keepB), max(keepA, keepB)) {
					t.Fatalf("%d and %d in %d: %d and %d, want %d and %d", a, b, limit, keepA, keepB, x, y)
				}
			}
		}
	}
}

// TestSwallowedBlanks: added tokens of white space behind one that swallows it. Ids as tokenizers 0.22.2 gives them.
func TestSwallowedBlanks(t *testing.T) {
	for _, c := range []struct {
		left, right bool
		text        string
		want        []int32
	}{
		{false, false, "a<m>  b", []int32{0, 3, 4, 4, 1}},
		{false, true, "a<m>   b <m> ", []int32{0, 3, 4, 4, 4, 1, 4, 3, 4}},
		{true, false, "a<m> b", []int32{0, 3, 1}},
		{true, false, "a<m>  b", []int32{0, 3, 1}}, // the library panics
		{true, true, "a<m>   b <m> ", []int32{0, 3, 1, 4, 3}},
	} {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "config.json"), `{"model_type":"bert","vocab_size":5}`)
		write(t, filepath.Join(dir, "tokenizer_config.json"), `{"tokenizer_class":"PreTrainedTokenizerFast"}`)
		write(t, filepath.Join(dir, "tokenizer.json"), fmt.Sprintf(`{"added_tokens":[{"id":3,"content":"<m>","rstrip":true},
			{"id":4,"content":" ","lstrip":%t,"rstrip":%t}],"pre_tokenizer":{"type":"WhitespaceSplit"},
			"model":{"type":"WordPiece","unk_token":"?","continuing_subword_prefix":"##","max_input_chars_per_word":9,
			"vocab":{"a":0,"b":1,"?":2}}}`, c.left, c.right))
		tokenizer, err := Load(dir)
		if err != nil {
			t.Fatal(err)
		}
		if got := tokenizer.Encode(16, c.text).IDs; !slices.Equal(got, c.want) {
			t.Errorf("%q, %t, %t: %v, want %v", c.text, c.left, c.right, got, c.want)
		}
	}
}

// TestReplaceInvalid: every byte that begins no character is one U+FFFD, or with those that could go on with it.
func TestReplaceInvalid(t *testing.T) {
	for text, want := range map[string]string{"a\x80": "a\ufffd", "\x80b": "\ufffdb", "\xe5\x8c": "\ufffd",
		"\xe5\x8cx": "\ufffdx", "\xff\xff": "\ufffd\ufffd", "\xf0\x9f\x98": "\ufffd", "č\xc4": "č\ufffd"} {
		if got := replaceInvalid(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
