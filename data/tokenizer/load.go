package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"peftsearch/data/files"
	"peftsearch/data/quote"
)

// FileNames are the files of a model directory that tokenizers are made of. [Files] says which of them count.
var FileNames = []string{"tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "merges.txt",
	"spiece.model", "sentencepiece.bpe.model", "special_tokens_map.json", "added_tokens.json"}

// Load loads the tokenizer of a model directory: tokenizer.json if there is one, otherwise the older files of its
// class. A tokenizer whose ids do not fit the model's vocabulary is refused.
func Load(dir string) (*Tokenizer, error) {
	var config struct {
		Vocab int `json:"vocab_size"`
	}
	if err := readJSON(filepath.Join(dir, "config.json"), &config); err != nil {
		return nil, err
	}
	t, err := load(dir)
	if err != nil {
		return nil, fmt.Errorf("tokenizer of %s: %w", dir, err)
	}
	if t.size > config.Vocab {
		return nil, fmt.Errorf("tokenizer of %s: its largest id is %d, but config.json has a vocab_size of %d: are the "+
			"files of one model?", dir, t.size-1, config.Vocab)
	}
	return t, nil
}

// Files are the files of a model directory that decide what its tokenizer's ids are, beside config.json.
func Files(dir string) ([]string, error) {
	var names []string
	have := func(name string) bool { return files.Exists(filepath.Join(dir, name)) }
	s, err := readSettings(dir, nil)
	if err != nil {
		return nil, err
	}
	names = append(names, s.files(have("tokenizer.json"))...)
	names = append(names, "tokenizer_config.json")
	if _, ok := s.values["added_tokens_decoder"]; !ok {
		names = append(names, "special_tokens_map.json", "added_tokens.json")
	}
	return slices.DeleteFunc(names, func(name string) bool { return !have(name) }), nil
}

// files are those that hold the vocabulary.
func (s *settings) files(full bool) []string {
	if full && !s.converts() {
		return []string{"tokenizer.json"}
	}
	return s.class.files
}

// converts says that the older files count although there is a tokenizer.json.
func (s *settings) converts() bool {
	value, ok := s.values["add_prefix_space"]
	return s.class.extraIDs && ok && string(value) != "null"
}

func load(dir string) (*Tokenizer, error) {
	f := &spec{}
	err := readJSON(filepath.Join(dir, "tokenizer.json"), f)
	full := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	s, err := readSettings(dir, f.AddedTokens)
	if err != nil {
		return nil, err
	}
	converted := !full || s.converts()
	if converted {
		if f, err = s.fromOlderFiles(); err != nil {
			return nil, err
		}
	}
	tokens := newAddedTokens(f.Model.Vocab.ids)
	if err := tokens.add(f.declared()); err != nil {
		return nil, err
	}
	if f.Padding != nil && f.Padding.PadToken != "" && s.class.tokens["pad_token"] == "" {
		if _, ok := s.special["pad_token"]; !ok {
			s.special["pad_token"] = &namedToken{plain: true, content: f.Padding.PadToken}
		}
	}
	if err := s.addTokens(tokens, converted); err != nil {
		return nil, err
	}
	// Added tokens are normalised as the file says, texts as the settings say.
	steps, err := f.Normalizer.steps()
	if err != nil {
		return nil, err
	}
	if tokens.ignore, err = s.boolean("split_special_tokens", false); err != nil {
		return nil, err
	}
	if err := tokens.build(steps); err != nil {
		return nil, err
	}
	if err := s.override(f); err != nil {
		return nil, err
	}
	return s.build(f, tokens, converted)
}

// fromOlderFiles makes a spec of the files that the class had before tokenizer.json.
func (s *settings) fromOlderFiles() (*spec, error) {
	for _, name := range s.class.files {
		if !files.Exists(filepath.Join(s.dir, name)) {
			return nil, fmt.Errorf("there is no tokenizer: tokenizer.json or %s is needed", strings.Join(s.class.files, " and "))
		}
	}
	if s.class.convert == nil {
		return nil, errors.New("there is no tokenizer: tokenizer.json is needed")
	}
	f, err := s.class.convert(s)
	if err != nil {
		return nil, err
	}
	byID := f.Model.Vocab.byID()
	for _, token := range s.added {
		if content, ok := byID[int32(token.id)]; ok && content != token.content {
			return nil, fmt.Errorf("the added token %s has the id %d, which is %s in the vocabulary",
				quote.Text(token.content), token.id, quote.Text(content))
		}
		if id, ok := f.Model.Vocab.ids[token.content]; ok && int(id) != token.id {
			return nil, fmt.Errorf("the added token %s has the id %d, the vocabulary gives it %d", quote.Text(token.content),
				token.id, id)
		}
	}
	return f, nil
}

func (f *spec) declared() []addedToken {
	tokens := make([]addedToken, len(f.AddedTokens))
	for i, t := range f.AddedTokens {
		tokens[i] = t.addedToken
	}
	return tokens
}

// override lets the settings count more than the spec.
func (s *settings) override(f *spec) error {
	if err := overridePrefix(s, f); err != nil {
		return err
	}
	if s.class.override == nil {
		return nil
	}
	return s.class.override(s, f)
}

// build makes the tokenizer of a spec that the settings have changed.
func (s *settings) build(f *spec, tokens *addedTokens, converted bool) (t *Tokenizer, err error) {
	t = &Tokenizer{added: tokens, special: s.specialIDs(tokens), decoder: f.Decoder}
	for _, id := range f.Model.Vocab.ids {
		t.size = max(t.size, int(id)+1)
	}
	for id := range tokens.byID {
		t.size = max(t.size, int(id)+1)
	}
	if t.steps, err = f.Normalizer.steps(); err != nil {
		return nil, err
	}
	if t.split, err = f.PreTokenizer.splitter(); err != nil {
		return nil, err
	}
	if t.model, err = f.model(); err != nil {
		return nil, err
	}
	if t.template, err = f.PostProcessor.template(t.size); err != nil {
		return nil, fmt.Errorf("post_processor: %w", err)
	}
	t.words, t.wordPrefix = t.split, t.template.prefixSpace
	if f.PreTokenizer.byteLevel() != nil {
		s.values["add_prefix_space"] = json.RawMessage("true") // as transformers asks for
		if err := s.override(f); err != nil {
			return nil, err
		}
		if t.words, err = f.PreTokenizer.splitter(); err != nil {
			return nil, err
		}
		words, err := f.PostProcessor.template(t.size)
		if err != nil {
			return nil, err
		}
		t.wordPrefix = words.prefixSpace
	}
	if t.left, err = s.cutsLeft(f); err != nil {
		return nil, err
	}
	if t.cleanUp, err = s.boolean("clean_up_tokenization_spaces", converted && s.class.cleanUp); err != nil {
		return nil, err
	}
	types, err := s.hasTypes()
	if err != nil {
		return nil, err
	}
	t.types = 1
	for _, parts := range [][]part{t.template.single, t.template.pair} {
		for i := range parts {
			if !types {
				parts[i].typeID = 0
			}
			t.types = max(t.types, int(parts[i].typeID)+1)
		}
	}
	t.tokens = sync.OnceValue(f.Model.Vocab.byID)
	return t, nil
}

// cutsLeft says that texts lose their beginning.
func (s *settings) cutsLeft(f *spec) (bool, error) {
	side := "right"
	if f.Truncation != nil && f.Truncation.Direction == "Left" {
		side = "left"
	}
	if value, ok := s.values["truncation_side"]; ok {
		if err := json.Unmarshal(value, &side); err != nil || side != "left" && side != "right" {
			return false, fmt.Errorf("truncation_side is %s, not left or right", quote.Text(string(value)))
		}
	}
	return side == "left", nil
}

// hasTypes says that the model is given type ids.
func (s *settings) hasTypes() (bool, error) {
	value, ok := s.values["model_input_names"]
	if !ok {
		return s.class.types, nil
	}
	var names []string
	if err := json.Unmarshal(value, &names); err != nil {
		return false, fmt.Errorf("model_input_names: %w", err)
	}
	return slices.Contains(names, "token_type_ids"), nil
}

func readJSON(path string, into any) error { return files.ReadJSON(path, files.Vocabulary, into) }

// readFile reads a file as it is.
func readFile(path string) ([]byte, error) {
	file, _, err := files.Open(path, files.Vocabulary)
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(file)
	if err := errors.Join(err, file.Close()); err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	return content, nil
}

// readLines reads a text as Python does: every kind of line end is one, and a byte order mark is text.
func readLines(path string) ([]string, error) {
	content, err := readFile(path)
	if err != nil {
		return nil, err
	}
	if !utf8.Valid(content) {
		return nil, fmt.Errorf("%s is not UTF-8", path)
	}
	return strings.Split(strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(string(content)), "\n"), nil
}
