package data

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"peftsearch/data/metric"
	"peftsearch/data/tokenizer"
)

// byteTokenizer has a token for each byte, and an end.
func byteTokenizer(t *testing.T) *tokenizer.Tokenizer {
	t.Helper()
	var vocab []string
	for b, beyond := 0, 256; b < 256; b++ { // GPT-2 has other characters for bytes that are none to be seen
		symbol := rune(b)
		if b <= ' ' || b > '~' && b < '¡' || b == '\u00ad' {
			symbol = rune(beyond)
			beyond++
		}
		text, err := json.Marshal(string(symbol))
		if err != nil {
			t.Fatal(err)
		}
		vocab = append(vocab, fmt.Sprintf("%s:%d", text, b))
	}
	dir := t.TempDir()
	for name, content := range map[string]string{
		"config.json": `{"model_type": "gpt2", "vocab_size": 257}`,
		"tokenizer_config.json": `{"tokenizer_class": "GPT2TokenizerFast", "eos_token": "<|endoftext|>",
			"bos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}`,
		"tokenizer.json": fmt.Sprintf(`{"version": "1.0", "truncation": null, "padding": null, "normalizer": null,
			"added_tokens": [{"id": 256, "content": "<|endoftext|>", "single_word": false, "lstrip": false, "rstrip": false,
				"normalized": false, "special": true}],
			"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
			"post_processor": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true},
			"decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
			"model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "",
				"end_of_word_suffix": "", "fuse_unk": false, "byte_fallback": false, "vocab": {%s}, "merges": []}}`,
			strings.Join(vocab, ",")),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	tok, err := tokenizer.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// writtenTask is a task of texts with short texts.
func writtenTask() Task {
	return Task{Kind: KindText, Metric: metric.BLEU, Train: "t.tsv", DevShare: 0.1, MaxLength: 10,
		Columns:    Columns{Text: "a", Label: "b"},
		Template:   "q: {text} a: {label}",
		Generation: Generation{MaxNewTokens: 4, NumBeams: 1, LengthPenalty: 1, EarlyStopping: StopFalse}}
}

// The blank before the label is written, the text alone is cut, and what is written ends with the tokenizer's end.
func TestEncodeOfTexts(t *testing.T) {
	tok, task := byteTokenizer(t), writtenTask()
	if err := task.Validate(); err != nil {
		t.Fatal(err)
	}
	show := func(ids []int32) string {
		text, err := tok.Decode(ids, false)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	for _, c := range []struct {
		text, label, read, next string
		cut                     bool
	}{
		{"xyz", "n", "q: xyz a: n", " n<|endoftext|>", false},
		{"xyz12345", "n", "q: xyz1 a: n", " n<|endoftext|>", true},
		{"xyz", "nmk9", "q: xyz a: nm", " nmk", true},
	} {
		in := task.Encode(tok, Example{Row: Row{Text: c.text}, Target: metric.Target([]string{c.label, "other"})})
		ids := in.Sequences[0].IDs
		if show(ids) != c.read || show(in.Next) != c.next || in.Truncated != c.cut || len(in.Marked) != len(in.Next) {
			t.Errorf("%q: %q, next %q, cut %v", c.text, show(ids), show(in.Next), in.Truncated)
		}
		for i, at := range in.Marked { // what follows a marked token is what is to be written
			if at+1 < len(ids) && ids[at+1] != in.Next[i] || i > 0 && at != in.Marked[i-1]+1 {
				t.Errorf("%q: marked %v of %v, next %v", c.text, in.Marked, ids, in.Next)
			}
		}
		if want := task.Wanted(in, nil); len(want) != len(in.Next) || want[0] != float64(in.Next[0]) {
			t.Errorf("wanted %v", want)
		}
	}
	in := task.Encode(tok, Example{Row: Row{Text: "xyz"}})
	if show(in.Sequences[0].IDs) != "q: xyz a:" || !slices.Equal(in.Marked, []int{8}) || in.Next != nil {
		t.Errorf("to be predicted: %+v", in)
	}
	answer := task.Answer(in, []float64{0.5, 1, 0.25, 0}, nil)
	if !slices.Equal(answer, []float64{0.75, 1, 2}) {
		t.Errorf("answer %v", answer)
	}
	if said := task.Say(Row{}, Written(answer, " čà\nb "), nil); !slices.Equal(said, []string{"čà\nb"}) ||
		task.Lines(Row{}, said)[0] != "čà b" {
		t.Errorf("said %q", said)
	}
}

// Several references are a list in .jsonl; rows without a text to write are named by their lines.
func TestReadTexts(t *testing.T) {
	task := writtenTask()
	task.Train = file(t, "t.jsonl", `{"a": "x", "b": ["one", "two"]}`+"\n"+`{"a": "y", "b": "three"}`+"\n"+
		`{"a": "z", "b": "four"}`+"\n"+`{"a": "w", "b": ["five"]}`+"\n")
	task.DevShare = 0.5
	d, err := Load(task)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range slices.Concat(d.Train, d.Dev) {
		all = append(all, strings.Join(metric.References(e.Target), "|"))
	}
	slices.Sort(all)
	if want := []string{"five", "four", "one|two", "three"}; !slices.Equal(all, want) {
		t.Errorf("%q, want %q", all, want)
	}
	perfect := make([][]float64, len(d.Dev))
	for i, e := range d.Dev {
		perfect[i] = Written([]float64{1, 1, 2}, metric.References(e.Target)[0])
	}
	scores := d.Scores(perfect, d.Dev)
	if scores["bleu"] != 0 || scores["exact_match"] != 1 || scores["token_accuracy"] != 0.5 { // BLEU wants four words
		t.Errorf("%v", scores)
	}
	if got := d.Rescored(perfect, d.Dev)([]int{0, 0}); got != 0 {
		t.Errorf("rescored %g", got)
	}
	for i := range perfect {
		perfect[i] = perfect[i][:3]
	}
	if scores := d.Scores(perfect, d.Dev); len(scores) != 3 {
		t.Errorf("without texts: %v", scores)
	}

	task.Train = file(t, "bad.jsonl", `{"a": "x", "b": ["one", " "]}`+"\n"+`{"a": "y"}`+"\n"+`{"a": "", "b": "c"}`+"\n"+
		`{"a": "z", "b": []}`+"\n")
	_, err = Load(task)
	for _, want := range []string{"line 1", "line 2", "line 3", "line 4"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func TestTextTasksThatCannotBe(t *testing.T) {
	for want, change := range map[string]func(task *Task){
		"must have {text}, {label} once":            func(task *Task) { task.Template = "{label}" },
		"must end with {label}":                     func(task *Task) { task.Template = "{label} {text}" },
		"must have {text}, {label}, {text_pair}":    func(task *Task) { task.Columns.TextPair = "c" },
		"max_new_tokens 0: must be from 1":          func(task *Task) { task.Generation.MaxNewTokens = 0 },
		"min_new_tokens 5: must be from 0 to 4":     func(task *Task) { task.Generation.MinNewTokens = 5 },
		"num_beams 65: must be from 1 to 64":        func(task *Task) { task.Generation.NumBeams = 65 },
		`early_stopping "maybe": must be false`:     func(task *Task) { task.Generation.EarlyStopping = "maybe" },
		"only a task of kind text is written":       func(task *Task) { task.Kind = KindRegression },
		`metric "spearman": must be one of [token_`: func(task *Task) { task.Metric = metric.Spearman },
	} {
		task := writtenTask()
		change(&task)
		if err := task.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
