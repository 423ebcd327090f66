package tokenizer

import (
	"bytes"
	"encoding/json"
	"fmt"

	"peftsearch/data/quote"
)

// namedToken is a token as transformers holds it: a plain string, or a token whose flags may be left open.
type namedToken struct {
	plain      bool // a string: its flags are those of any special token
	content    string
	singleWord bool
	lstrip     bool
	rstrip     bool
	normalized *bool // nil: if not special
	special    bool
	object     bool // in tokenizer_config.json, where added_tokens.json takes it for another token
}

// idToken is a token with the id that a file gives it.
type idToken struct {
	id int
	namedToken
}

func (n namedToken) token() addedToken {
	return addedToken{n.content, n.singleWord, n.lstrip, n.rstrip,
		n.normalized == nil && !n.special || n.normalized != nil && *n.normalized, n.special}
}

func (t addedToken) named() namedToken {
	return namedToken{content: t.Content, singleWord: t.SingleWord, lstrip: t.Lstrip, rstrip: t.Rstrip,
		normalized: &t.Normalized, special: t.Special}
}

// readNamed reads a string or a token.
func readNamed(value json.RawMessage, mapped bool) (namedToken, error) {
	if bytes.HasPrefix(value, []byte(`"`)) {
		token := namedToken{plain: true}
		err := json.Unmarshal(value, &token.content)
		return token, err
	}
	var marked struct {
		Type string `json:"__type"`
	}
	if err := json.Unmarshal(value, &marked); err != nil || !mapped && marked.Type != "AddedToken" {
		return namedToken{}, fmt.Errorf("%s is neither a string nor an AddedToken", quote.Text(string(value)))
	}
	token, err := readToken(value)
	token.special, token.object = token.special || mapped, !mapped
	return token, err
}

// readToken reads an object with the flags of a token.
func readToken(value json.RawMessage) (namedToken, error) {
	var flags struct {
		Content    *string `json:"content"`
		SingleWord bool    `json:"single_word"`
		Lstrip     bool    `json:"lstrip"`
		Rstrip     bool    `json:"rstrip"`
		Normalized *bool   `json:"normalized"`
		Special    bool    `json:"special"`
	}
	if err := json.Unmarshal(value, &flags); err != nil {
		return namedToken{}, err
	}
	if flags.Content == nil {
		return namedToken{}, fmt.Errorf("%s has no content", quote.Text(string(value)))
	}
	return namedToken{content: *flags.Content, singleWord: flags.SingleWord, lstrip: flags.Lstrip, rstrip: flags.Rstrip,
		normalized: flags.Normalized, special: flags.Special}, nil
}

func readTokenList(value json.RawMessage, mapped bool) ([]namedToken, error) {
	var values []json.RawMessage
	if err := json.Unmarshal(value, &values); err != nil || values == nil {
		return nil, err
	}
	tokens := make([]namedToken, len(values))
	for i, value := range values {
		var err error
		if tokens[i], err = readNamed(value, mapped); err != nil {
			return nil, err
		}
	}
	return tokens, nil
}

// readExtra reads an object of attributes that only this model has.
func readExtra(value json.RawMessage) ([]namedToken, error) {
	if value == nil {
		return nil, nil
	}
	named, d := []namedToken(nil), json.NewDecoder(bytes.NewReader(value))
	if start, err := d.Token(); err != nil || start != json.Delim('{') {
		return nil, fmt.Errorf("%s is no object", quote.Text(string(value)))
	}
	for d.More() {
		if _, err := d.Token(); err != nil {
			return nil, err
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, err
		}
		token, err := readNamed(value, false)
		if err != nil {
			return nil, err
		}
		named = append(named, token)
	}
	return named, nil
}

// listedToken is what makes two tokens of a list the same.
type listedToken struct {
	plain bool
	addedToken
}

func (n namedToken) listed() listedToken { return listedToken{n.plain, n.token()} }
