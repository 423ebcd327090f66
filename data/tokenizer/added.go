package tokenizer

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"peftsearch/data/quote"
)

// addedToken is found in the text before it is cut into words.
type addedToken struct {
	Content    string `json:"content"`
	SingleWord bool   `json:"single_word"` // only where no word character stands beside it
	Lstrip     bool   `json:"lstrip"`      // swallows the white space before it
	Rstrip     bool   `json:"rstrip"`
	Normalized bool   `json:"normalized"` // found after the normalisation, and normalised itself
	Special    bool   `json:"special"`    // left out when ids are decoded
}

// addedTokens are all that a tokenizer knows. Tokens can be added again with other flags; what that changes is what it
// changes in the tokenizers library: the flags of a match are those that came last, a special token is looked for as
// it was when it was added first, and other tokens are looked for in both ways.
type addedTokens struct {
	vocabulary map[string]int32 // the model's
	ids        map[string]int32 // of added tokens
	byID       map[int32]addedToken
	special    []addedToken
	others     []addedToken
	isSpecial  map[string]bool
	ignore     bool // special tokens in the text are text
	// found by build:
	raw, normalized *trie
}

func newAddedTokens(vocabulary map[string]int32) *addedTokens {
	return &addedTokens{vocabulary: vocabulary, ids: map[string]int32{}, byID: map[int32]addedToken{},
		isSpecial: map[string]bool{}}
}

// id is that of any token, or -1.
func (a *addedTokens) id(token string) int32 {
	if id, ok := a.ids[token]; ok {
		return id
	}
	if id, ok := a.vocabulary[token]; ok {
		return id
	}
	return -1
}

// add adds tokens; those that the vocabulary lacks get the next ids.
func (a *addedTokens) add(tokens []addedToken) error {
	for _, t := range tokens {
		if t.Special && t.Content != "" && !a.isSpecial[t.Content] {
			a.special = append(a.special, t)
			a.isSpecial[t.Content] = true
		}
	}
	next, known := int32(len(a.vocabulary)), map[addedToken]bool{}
	for id, t := range a.byID {
		next, known[t] = max(next, id+1), true
	}
	for _, t := range tokens {
		if t.Content == "" || known[t] {
			continue
		}
		known[t] = true
		id := a.id(t.Content)
		if id < 0 {
			id = next
			next++
		}
		if next == math.MaxInt32 || id == math.MaxInt32 {
			return fmt.Errorf("added token %s would have the id %d", quote.Text(t.Content), id)
		}
		a.ids[t.Content], a.byID[id] = id, t
		if !a.isSpecial[t.Content] {
			a.others = append(a.others, t)
		}
	}
	return nil
}

// build prepares the search. Normalised tokens are normalised by steps.
func (a *addedTokens) build(steps []normalizer) error {
	raw, normalized := map[string]int32{}, map[string]int32{}
	for _, t := range slices.Concat(a.special, a.others) {
		content, into := t.Content, raw
		if t.Normalized {
			content, into = normalize(steps, align(content)).text, normalized
		}
		if content == "" {
			return fmt.Errorf("nothing is left of the added token %s when it is normalised", quote.Text(t.Content))
		}
		if _, ok := into[content]; !ok {
			into[content] = a.ids[t.Content]
		}
	}
	var err error
	if a.raw, err = newTrie(raw); err != nil {
		return err
	}
	a.normalized, err = newTrie(normalized)
	return err
}

// split gives the parts of a text to yield: added tokens with their ids, and what is between them with -1.
func (a *addedTokens) split(text aligned, tokens *trie, yield func(part aligned, id int32)) {
	done := 0
	for at := 0; at < len(text.text); {
		length, id := 0, int32(0)
		if tokens.first[text.text[at]] != 0 {
			length, id = tokens.longest(text.text[at:])
		}
		if length == 0 {
			at++
			continue
		}
		start, end := at, at+length
		at = end
		token := a.byID[id]
		if a.ignore && a.isSpecial[token.Content] || token.SingleWord && !alone(text.text, start, end) {
			continue
		}
		if token.Lstrip {
			start = max(done, len(strings.TrimRightFunc(text.text[:start], unicode.IsSpace)))
		}
		if token.Rstrip {
			end = len(text.text) - len(strings.TrimLeftFunc(text.text[end:], unicode.IsSpace))
		}
		if start >= end { // the match before swallowed this one
			continue
		}
		if done < start {
			yield(text.slice(done, start), -1)
		}
		yield(text.slice(start, end), id)
		done = end
	}
	if done < len(text.text) {
		yield(text.slice(done, len(text.text)), -1)
	}
}

// alone reports whether no word character stands before start and at end.
func alone(text string, start, end int) bool {
	before, _ := utf8.DecodeLastRuneInString(text[:start])
	after, _ := utf8.DecodeRuneInString(text[end:])
	return (start == 0 || !unicode.Is(wordCharacters, before)) && (end == len(text) || !unicode.Is(wordCharacters, after))
}
