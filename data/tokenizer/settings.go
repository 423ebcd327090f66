package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"peftsearch/data/quote"
)

// settings is the tokenizer_config.json of a directory as the named class of transformers 4 reads it, together with
// what older versions keep beside it: special_tokens_map.json and added_tokens.json.
type settings struct {
	dir    string
	class  *class
	values map[string]json.RawMessage // of tokenizer_config.json
	// special are the values of attributes that the files name; nil where a file says null.
	special map[string]*namedToken
	// additional is additional_special_tokens; nil if no file names it.
	additional []namedToken
	// extra are extra_special_tokens, in the order of the file.
	extra []namedToken
	// added are the tokens that the files declare, in the order of their ids.
	added []idToken
}

// attributes are the names of special tokens, in the order in which missing ones are added.
var attributes = []string{"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"}

// readSettings reads the files of a directory. declared are the added tokens of its tokenizer.json.
func readSettings(dir string, declared []declaredToken) (*settings, error) {
	s := &settings{dir: dir, values: map[string]json.RawMessage{}, special: map[string]*namedToken{}}
	if err := readJSON(filepath.Join(dir, "tokenizer_config.json"), &s.values); err != nil &&
		!errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var err error
	if s.class, err = s.findClass(); err != nil {
		return nil, err
	}
	for _, key := range []string{"tokenizer_file", "fast_tokenizer_files", "vocab_file", "merges_file", "init_inputs"} {
		if value := s.values[key]; value != nil && !slices.Contains([]string{"null", "[]"}, string(value)) ||
			value != nil && key == "tokenizer_file" {
			return nil, fmt.Errorf("tokenizer_config.json: %s is not supported: without it the files of the directory count",
				key)
		}
	}
	if err := s.readTokens(declared); err != nil {
		return nil, err
	}
	return s, nil
}

// readTokens reads what the files say about added and special tokens.
func (s *settings) readTokens(declared []declaredToken) error {
	for _, name := range attributes {
		if value, ok := s.values[name]; ok {
			if err := s.set(name, value, false); err != nil {
				return err
			}
		}
	}
	var err error
	if value, ok := s.values["additional_special_tokens"]; ok {
		if s.additional, err = readTokenList(value, false); err != nil {
			return fmt.Errorf("additional_special_tokens: %w", err)
		}
	}
	if s.extra, err = readExtra(s.values["extra_special_tokens"]); err != nil {
		return fmt.Errorf("extra_special_tokens: %w", err)
	}
	byID, known := map[int]namedToken{}, map[string]namedToken{}
	declare := func(id int, token namedToken) { byID[id], known[token.content] = token, token }
	if value, ok := s.values["added_tokens_decoder"]; ok {
		named := map[string]json.RawMessage{}
		if err := json.Unmarshal(value, &named); err != nil {
			return fmt.Errorf("added_tokens_decoder: %w", err)
		}
		for key, value := range named {
			id, err := strconv.Atoi(key)
			if err != nil {
				return fmt.Errorf("added_tokens_decoder: %s is no id", quote.Text(key))
			}
			token, err := readToken(value)
			if err != nil {
				return fmt.Errorf("added_tokens_decoder: %s: %w", key, err)
			}
			if _, ok := known[token.content]; ok {
				return fmt.Errorf("added_tokens_decoder: %s has two ids", quote.Text(token.content))
			}
			declare(id, token)
		}
	} else {
		if err := s.readLegacy(byID); err != nil {
			return err
		}
		for _, token := range declared {
			declare(token.ID, token.named())
		}
	}
	for _, id := range slices.Sorted(maps.Keys(byID)) {
		s.added = append(s.added, idToken{id, byID[id]})
	}
	for _, token := range s.special {
		if token != nil {
			if declared, ok := known[token.content]; ok {
				*token = declared
			}
		}
	}
	return nil
}

// readLegacy reads special_tokens_map.json, which counts more than tokenizer_config.json, and added_tokens.json.
func (s *settings) readLegacy(byID map[int]namedToken) error {
	named := map[string]json.RawMessage{}
	if err := readJSON(filepath.Join(s.dir, "special_tokens_map.json"), &named); err != nil &&
		!errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, name := range attributes {
		if value, ok := named[name]; ok {
			if err := s.set(name, value, true); err != nil {
				return fmt.Errorf("special_tokens_map.json: %w", err)
			}
		}
	}
	var mapped []namedToken
	if value, ok := named["additional_special_tokens"]; ok {
		var err error
		if mapped, err = readTokenList(value, true); err != nil {
			return fmt.Errorf("special_tokens_map.json: additional_special_tokens: %w", err)
		}
		known := map[listedToken]bool{}
		for _, token := range s.additional {
			known[token.listed()] = true
		}
		for _, token := range mapped {
			if !known[token.listed()] {
				s.additional = append(s.additional, token)
			}
			known[token.listed()] = true
		}
	}
	ids := map[string]int{}
	if err := readJSON(filepath.Join(s.dir, "added_tokens.json"), &ids); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if len(ids) > 0 && len(mapped) > 0 { // transformers takes this token for the last added one
		last := mapped[len(mapped)-1].content
		for _, name := range attributes {
			if token := s.special[name]; token != nil && token.content == last {
				return fmt.Errorf("special_tokens_map.json has %s as %s and as an additional special token: with "+
					"added_tokens.json beside it this is not supported", quote.Text(last), name)
			}
		}
	}
	isSpecial := map[string]bool{}
	for _, token := range s.additional {
		isSpecial[token.content] = isSpecial[token.content] || !token.object
	}
	for _, token := range s.special {
		if token != nil {
			isSpecial[token.content] = isSpecial[token.content] || !token.object
		}
	}
	for content, id := range ids {
		if _, ok := byID[id]; ok {
			return fmt.Errorf("added_tokens.json: two tokens have the id %d", id)
		}
		byID[id] = addedToken{Content: content, Normalized: !isSpecial[content], Special: isSpecial[content]}.named()
	}
	return nil
}

// set reads the value of an attribute. In special_tokens_map.json objects are tokens whatever they are marked as.
func (s *settings) set(name string, value json.RawMessage, mapped bool) error {
	if string(value) == "null" {
		s.special[name] = nil
		return nil
	}
	token, err := readNamed(value, mapped)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	s.special[name] = &token
	return nil
}

// boolean is a setting, or otherwise if no file has it.
func (s *settings) boolean(name string, otherwise bool) (bool, error) {
	value, ok := s.values[name]
	if !ok {
		return otherwise, nil
	}
	switch string(value) {
	case "true":
		return true, nil
	case "false":
		return false, nil
	default:
		return false, fmt.Errorf("%s is %s, not true or false", name, quote.Text(string(value)))
	}
}

// attribute is the value of a special token: what the files name, else the class's own. converted says that the
// tokenizer is made of older files, where classes give tokens other flags. nil: there is none.
func (s *settings) attribute(name string, converted bool) *namedToken {
	token, ok := s.special[name]
	if !ok {
		content, known := s.class.tokens[name]
		if !known {
			return nil
		}
		token = &namedToken{plain: true, content: content}
	}
	if token == nil {
		return nil
	}
	value := *token
	if value.plain && s.class.flags != nil {
		value = s.class.flags(name, value, converted)
	}
	if converted && !value.plain {
		normalized := value.token().Normalized // copying a token in Python settles it
		value.normalized = &normalized
	}
	return &value
}

// content is the text of a special token, "" if there is none.
func (s *settings) content(name string) string {
	if token := s.attribute(name, false); token != nil {
		return token.content
	}
	return ""
}

// addTokens adds what the files and the class know to the tokens of the backend, in transformers' order.
func (s *settings) addTokens(backend *addedTokens, converted bool) error {
	contents := map[string]bool{}
	for _, t := range backend.byID {
		contents[t.Content] = true
	}
	var add []namedToken
	declared := map[addedToken]bool{}
	for _, token := range s.added {
		add = append(add, token.namedToken)
		contents[token.content], declared[token.token()] = true, true
	}
	isSpecial := map[string]bool{}
	offer := func(tokens ...namedToken) {
		tokens = slices.DeleteFunc(slices.Clone(tokens), func(n namedToken) bool { return isSpecial[n.content] })
		for _, token := range tokens {
			isSpecial[token.content] = true
			if token.plain && !contents[token.content] || !token.plain && !declared[token.token()] {
				add = append(add, token)
			}
		}
	}
	for _, name := range attributes {
		if token := s.attribute(name, converted); token != nil && token.content != "" {
			offer(*token)
		}
	}
	additional, err := s.additionalTokens()
	if err != nil {
		return err
	}
	offer(additional...)
	for _, token := range s.extra {
		offer(token)
	}
	tokens := make([]addedToken, len(add))
	for i, token := range add {
		token.special = token.special || isSpecial[token.content]
		tokens[i] = token.token()
	}
	return backend.add(tokens)
}

// additionalTokens are the additional special tokens: those of the files, else the class's own.
func (s *settings) additionalTokens() ([]namedToken, error) {
	plain := func(contents []string) []namedToken {
		tokens := make([]namedToken, len(contents))
		for i, content := range contents {
			tokens[i] = namedToken{plain: true, content: content}
		}
		return tokens
	}
	if !s.class.extraIDs {
		if s.additional == nil && string(s.values["additional_special_tokens"]) != "null" {
			return plain(s.class.additional), nil
		}
		return s.additional, nil
	}
	n, err := s.extraIDs()
	if err != nil {
		return nil, err
	}
	sentinels := 0
	for _, token := range s.additional {
		if strings.Contains(token.content, "<extra_id_") {
			sentinels++
		}
	}
	if sentinels > 0 && n > 0 && n != sentinels {
		return nil, fmt.Errorf("additional_special_tokens has %d sentinels, extra_ids is %d", sentinels, n)
	}
	if sentinels > 0 {
		return s.additional, nil
	}
	contents := make([]string, n)
	for i := range contents {
		contents[i] = fmt.Sprintf("<extra_id_%d>", i)
	}
	return append(slices.Clone(s.additional), plain(contents)...), nil
}

// extraIDs is the number of T5's sentinels.
func (s *settings) extraIDs() (int, error) {
	n := 100
	if value, ok := s.values["extra_ids"]; ok {
		if err := json.Unmarshal(value, &n); err != nil || n < 0 || n > 1<<16 {
			return 0, fmt.Errorf("extra_ids is %s", quote.Text(string(value)))
		}
	}
	return n, nil
}

// specialIDs are the ids of the special tokens; one that the vocabulary lacks counts as the unknown token.
func (s *settings) specialIDs(tokens *addedTokens) Special {
	id := func(name string) int32 {
		content := s.content(name)
		if content == "" {
			return -1
		}
		if id := tokens.id(content); id >= 0 {
			return id
		}
		return tokens.id(s.content("unk_token"))
	}
	return Special{BOS: id("bos_token"), EOS: id("eos_token"), UNK: id("unk_token"), SEP: id("sep_token"),
		PAD: id("pad_token"), CLS: id("cls_token"), MASK: id("mask_token")}
}
