// Package tokenizer turns text into the ids that a checkpoint was trained on, exactly as the checkpoint's own Hugging
// Face tokenizer does. [Load] reads a model directory; the files and settings that decide ids are read as transformers
// reads them, and what is not supported is refused.
package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"

	"peftsearch/data/files"
)

// Encoding is a row as the backbone reads it, special tokens included, without padding.
type Encoding struct {
	IDs     []int32
	TypeIDs []int32 // 0 for the first sentence, as the model's template says for the second
}

// MinLength leaves room for the special tokens of every template, and for one of the text.
const MinLength = 5

// Files are the files of a model directory that can change what its tokenizer does.
var Files = []string{"tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "merges.txt", "special_tokens_map.json", "added_tokens.json"}

// Tokenizer turns rows into ids exactly as the checkpoint's own Hugging Face tokenizer does. It may be
// used by several goroutines at once.
type Tokenizer struct {
	added        []addedToken // longest first
	segment      func(text string) []int32
	single, pair []part
	size         int
}

// Load loads the tokenizer of a model directory: tokenizer.json if there is one, otherwise
// vocab.txt (WordPiece) or vocab.json and merges.txt (byte-level BPE). A tokenizer whose ids do not fit
// the model's vocabulary is refused.
func Load(dir string) (*Tokenizer, error) {
	var config struct {
		Vocab int `json:"vocab_size"`
	}
	if err := readJSON(filepath.Join(dir, "config.json"), &config); err != nil {
		return nil, err
	}
	file, err := readTokenizerFile(dir)
	if err != nil {
		return nil, err
	}
	t, err := file.tokenizer()
	if err != nil {
		return nil, fmt.Errorf("tokenizer of %s: %w", dir, err)
	}
	if t.size > config.Vocab {
		return nil, fmt.Errorf("tokenizer of %s: its largest id is %d, but config.json has a vocab_size of %d: are the files of one model?", dir, t.size-1, config.Vocab)
	}
	return t, nil
}

// tokenizerFile is what is used of tokenizer.json.
type tokenizerFile struct {
	AddedTokens   []addedToken   `json:"added_tokens"`
	Normalizer    *normalizer    `json:"normalizer"`
	PreTokenizer  *preTokenizer  `json:"pre_tokenizer"`
	PostProcessor *postProcessor `json:"post_processor"`
	Model         tokenizerModel `json:"model"`
}

// addedToken is matched in the raw text, before anything else.
type addedToken struct {
	ID         int32  `json:"id"`
	Content    string `json:"content"`
	SingleWord bool   `json:"single_word"`
	Lstrip     bool   `json:"lstrip"` // swallows the white space before it
	Rstrip     bool   `json:"rstrip"`
	Normalized bool   `json:"normalized"`
}

type normalizer struct {
	Type               string `json:"type"`
	CleanText          bool   `json:"clean_text"`
	HandleChineseChars bool   `json:"handle_chinese_chars"`
	StripAccents       *bool  `json:"strip_accents"` // null: if Lowercase
	Lowercase          bool   `json:"lowercase"`
}

type preTokenizer struct {
	Type           string `json:"type"`
	AddPrefixSpace bool   `json:"add_prefix_space"`
	UseRegex       *bool  `json:"use_regex"` // null: true
}

type postProcessor struct {
	Type          string         `json:"type"`
	Single        []templateItem `json:"single"`
	Pair          []templateItem `json:"pair"`
	SpecialTokens map[string]struct {
		IDs []int32 `json:"ids"`
	} `json:"special_tokens"`
	Sep []any `json:"sep"` // token and id, of BertProcessing and RobertaProcessing
	Cls []any `json:"cls"`
}

type templateItem struct {
	SpecialToken *templateRef `json:"SpecialToken"`
	Sequence     *templateRef `json:"Sequence"`
}

type templateRef struct {
	ID     string `json:"id"`
	TypeID int32  `json:"type_id"`
}

type tokenizerModel struct {
	Type          string           `json:"type"`
	Vocab         map[string]int32 `json:"vocab"`
	UnkToken      string           `json:"unk_token,omitempty"`
	Prefix        string           `json:"continuing_subword_prefix,omitempty"`
	MaxInputChars int              `json:"max_input_chars_per_word,omitempty"`
	Merges        json.RawMessage  `json:"merges,omitempty"`
	EndOfWord     string           `json:"end_of_word_suffix,omitempty"`
	Dropout       float64          `json:"dropout,omitempty"`
	ByteFallback  bool             `json:"byte_fallback,omitempty"`
	IgnoreMerges  bool             `json:"ignore_merges,omitempty"`
}

// readTokenizerFile reads tokenizer.json, or builds it from the older files as transformers does.
func readTokenizerFile(dir string) (*tokenizerFile, error) {
	path := func(name string) string { return filepath.Join(dir, name) }
	file := &tokenizerFile{}
	switch {
	case files.Exists(path("tokenizer.json")):
		var kind struct {
			Model struct {
				Type string `json:"type"`
			} `json:"model"`
		}
		if err := readJSON(path("tokenizer.json"), &kind); err != nil {
			return nil, err
		}
		if kind.Model.Type != "WordPiece" && kind.Model.Type != "BPE" {
			return nil, fmt.Errorf("%s: model type %q is not supported: only WordPiece and BPE are", path("tokenizer.json"), kind.Model.Type)
		}
		return file, readJSON(path("tokenizer.json"), file)
	case files.Exists(path("vocab.txt")):
		return file, file.fromVocabTxt(dir)
	case files.Exists(path("vocab.json")) && files.Exists(path("merges.txt")):
		return file, file.fromMerges(dir)
	default:
		return nil, fmt.Errorf("%s has no tokenizer: tokenizer.json, vocab.txt, or vocab.json and merges.txt is needed", dir)
	}
}

func readJSON(path string, into any) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(content, into); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// fromVocabTxt is BertTokenizer: one token a line, its id the number of the line from 0.
func (f *tokenizerFile) fromVocabTxt(dir string) error {
	content, err := os.ReadFile(filepath.Join(dir, "vocab.txt"))
	if err != nil {
		return err
	}
	lowercase, chinese := true, true
	config := struct {
		Lowercase    *bool `json:"do_lower_case"`
		StripAccents *bool `json:"strip_accents"`
		Chinese      *bool `json:"tokenize_chinese_chars"`
	}{Lowercase: &lowercase, Chinese: &chinese}
	if err := readJSON(filepath.Join(dir, "tokenizer_config.json"), &config); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f.Model = tokenizerModel{Type: "WordPiece", Vocab: map[string]int32{}, UnkToken: "[UNK]", Prefix: "##", MaxInputChars: 100}
	var id int32
	for line := range strings.Lines(string(content)) {
		f.Model.Vocab[strings.TrimRight(line, "\r\n")] = id
		id++
	}
	f.Normalizer = &normalizer{
		Type: "BertNormalizer", CleanText: true, HandleChineseChars: config.Chinese == nil || *config.Chinese,
		StripAccents: config.StripAccents, Lowercase: config.Lowercase == nil || *config.Lowercase,
	}
	f.PreTokenizer = &preTokenizer{Type: "BertPreTokenizer"}
	return f.addSpecial("BertProcessing", "[CLS]", "[SEP]", "[PAD]", "[UNK]", "[MASK]")
}

// fromMerges is RobertaTokenizer.
func (f *tokenizerFile) fromMerges(dir string) error {
	f.Model = tokenizerModel{Type: "BPE"}
	if err := readJSON(filepath.Join(dir, "vocab.json"), &f.Model.Vocab); err != nil {
		return err
	}
	content, err := os.ReadFile(filepath.Join(dir, "merges.txt"))
	if err != nil {
		return err
	}
	var merges []string
	for line := range strings.Lines(string(content)) {
		if line = strings.TrimRight(line, "\r\n"); line != "" && !strings.HasPrefix(line, "#version") {
			merges = append(merges, line)
		}
	}
	if f.Model.Merges, err = json.Marshal(merges); err != nil {
		return err
	}
	config := struct {
		AddPrefixSpace bool `json:"add_prefix_space"`
	}{}
	if err := readJSON(filepath.Join(dir, "tokenizer_config.json"), &config); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f.PreTokenizer = &preTokenizer{Type: "ByteLevel", AddPrefixSpace: config.AddPrefixSpace}
	if err := f.addSpecial("RobertaProcessing", "<s>", "</s>", "<pad>", "<unk>", "<mask>"); err != nil {
		return err
	}
	f.AddedTokens[len(f.AddedTokens)-1].Lstrip = true // <mask>
	return nil
}

// addSpecial registers the special tokens: the first two are the template's, all must be in the vocabulary.
func (f *tokenizerFile) addSpecial(template, cls, sep string, others ...string) error {
	for _, content := range append([]string{cls, sep}, others...) {
		id, ok := f.Model.Vocab[content]
		if !ok {
			return fmt.Errorf("the vocabulary has no %s", content)
		}
		f.AddedTokens = append(f.AddedTokens, addedToken{ID: id, Content: content})
	}
	ref := func(token string) []any { return []any{token, float64(f.Model.Vocab[token])} }
	f.PostProcessor = &postProcessor{Type: template, Cls: ref(cls), Sep: ref(sep)}
	return nil
}

// tokenizer builds the tokenizer, or says what of it is not supported.
func (f *tokenizerFile) tokenizer() (*Tokenizer, error) {
	t := &Tokenizer{}
	if len(f.Model.Vocab) == 0 {
		return nil, errors.New("the vocabulary is empty")
	}
	for token, id := range f.Model.Vocab {
		if id < 0 || id == 1<<31-1 {
			return nil, fmt.Errorf("token %q has the id %d", token, id)
		}
		t.size = max(t.size, int(id)+1)
	}
	for _, a := range f.AddedTokens {
		switch {
		case a.Content == "" || a.ID < 0 || a.ID == 1<<31-1:
			return nil, fmt.Errorf("added token %q with the id %d is not possible", a.Content, a.ID)
		case a.SingleWord:
			return nil, fmt.Errorf("added token %q matches whole words only, which is not supported", a.Content)
		case a.Normalized && f.Normalizer != nil:
			return nil, fmt.Errorf("added token %q is matched after normalisation, which is not supported", a.Content)
		}
		t.size = max(t.size, int(a.ID)+1)
		t.added = append(t.added, a)
	}
	slices.SortStableFunc(t.added, func(a, b addedToken) int { return len(b.Content) - len(a.Content) })

	var err error
	switch f.Model.Type {
	case "WordPiece":
		t.segment, err = newWordPiece(f)
	case "BPE":
		t.segment, err = newBytePairs(f)
	}
	if err != nil {
		return nil, err
	}
	if t.single, t.pair, err = f.PostProcessor.templates(t.size); err != nil {
		return nil, fmt.Errorf("post_processor: %w", err)
	}
	return t, nil
}

// part is an element of a template: special tokens, or the sentence A or B.
type part struct {
	special  []int32
	sentence string
	typeID   int32
}

// templates are those for one sentence and for a pair.
func (p *postProcessor) templates(size int) (single, pair []part, err error) {
	if p == nil {
		return nil, nil, errors.New("is missing: without it there are no special tokens")
	}
	switch p.Type {
	case "BertProcessing", "RobertaProcessing":
		cls, err := p.legacyID(p.Cls)
		if err != nil {
			return nil, nil, fmt.Errorf("cls: %w", err)
		}
		sep, err := p.legacyID(p.Sep)
		if err != nil {
			return nil, nil, fmt.Errorf("sep: %w", err)
		}
		single = []part{{special: cls}, {sentence: "A"}, {special: sep}}
		if p.Type == "BertProcessing" {
			pair = append(slices.Clone(single), part{sentence: "B", typeID: 1}, part{special: sep, typeID: 1})
		} else {
			pair = append(slices.Clone(single), part{special: sep}, part{sentence: "B"}, part{special: sep})
		}
	case "TemplateProcessing":
		if single, err = p.template(p.Single, "A"); err != nil {
			return nil, nil, fmt.Errorf("single: %w", err)
		}
		if pair, err = p.template(p.Pair, "AB"); err != nil {
			return nil, nil, fmt.Errorf("pair: %w", err)
		}
	default:
		return nil, nil, fmt.Errorf("type %q is not supported", p.Type)
	}
	for _, part := range slices.Concat(single, pair) {
		for _, id := range part.special {
			if id < 0 || int(id) >= size {
				return nil, nil, fmt.Errorf("the id %d of a special token is not in the vocabulary", id)
			}
		}
	}
	return single, pair, nil
}

// legacyID reads ["[SEP]", 102].
func (p *postProcessor) legacyID(pair []any) ([]int32, error) {
	if len(pair) == 2 {
		if id, ok := pair[1].(float64); ok && id == float64(int32(id)) {
			return []int32{int32(id)}, nil
		}
	}
	return nil, fmt.Errorf("%v is no pair of token and id", pair)
}

// template resolves the special tokens; every one of the sentences must occur once, in order.
func (p *postProcessor) template(items []templateItem, sentences string) ([]part, error) {
	var parts []part
	order := ""
	for _, item := range items {
		switch {
		case item.Sequence != nil:
			order += item.Sequence.ID
			parts = append(parts, part{sentence: item.Sequence.ID, typeID: item.Sequence.TypeID})
		case item.SpecialToken != nil:
			special, ok := p.SpecialTokens[item.SpecialToken.ID]
			if !ok {
				return nil, fmt.Errorf("special token %q is not declared", item.SpecialToken.ID)
			}
			parts = append(parts, part{special: special.IDs, typeID: item.SpecialToken.TypeID})
		}
	}
	if order != sentences {
		return nil, fmt.Errorf("has the sentences %q, not %q", order, sentences)
	}
	return parts, nil
}

// Size is one more than the largest id.
func (t *Tokenizer) Size() int { return t.size }

// Encode returns at most maxLength ids of one text or of a pair; tokens are dropped from the end of the longer text
// first. maxLength must leave room for the special tokens: at least [MinLength].
func (t *Tokenizer) Encode(maxLength int, texts ...string) Encoding {
	template := t.single
	a, b := t.ids(texts[0]), []int32(nil)
	if len(texts) > 1 {
		template, b = t.pair, t.ids(texts[1])
	}
	for _, p := range template {
		maxLength -= len(p.special)
	}
	keepA, keepB := longestFirst(len(a), len(b), max(0, maxLength))
	sentences := map[string][]int32{"A": a[:keepA], "B": b[:keepB]}
	var e Encoding
	for _, p := range template {
		for _, id := range slices.Concat(p.special, sentences[p.sentence]) {
			e.IDs = append(e.IDs, id)
			e.TypeIDs = append(e.TypeIDs, p.typeID)
		}
	}
	return e
}

// longestFirst gives the lengths that two sentences of a and b tokens keep of limit tokens, as the
// tokenizers library does: the longer one is cut until both are equal, then both are.
func longestFirst(a, b, limit int) (int, int) {
	if a+b <= limit {
		return a, b
	}
	short, long := min(a, b), max(a, b)
	if short > limit {
		long = short
	} else {
		long = max(short, limit-short)
	}
	if short+long > limit {
		short = limit / 2
		long = short + limit%2
	}
	if a > b {
		return long, short
	}
	return short, long
}

// ids takes the added tokens out of the text, leftmost and longest first, and segments the rest.
func (t *Tokenizer) ids(text string) []int32 {
	var ids []int32
	for text != "" {
		at, found := len(text), -1
		for i, a := range t.added {
			if j := strings.Index(text[:min(len(text), at+len(a.Content))], a.Content); j >= 0 && j < at {
				at, found = j, i
			}
		}
		before, rest := text[:at], ""
		if found >= 0 {
			rest = text[at+len(t.added[found].Content):]
			if t.added[found].Lstrip {
				before = strings.TrimRightFunc(before, unicode.IsSpace)
			}
			if t.added[found].Rstrip {
				rest = strings.TrimLeftFunc(rest, unicode.IsSpace)
			}
		}
		if before != "" {
			ids = append(ids, t.segment(before)...)
		}
		if found >= 0 {
			ids = append(ids, t.added[found].ID)
		}
		text = rest
	}
	return ids
}
