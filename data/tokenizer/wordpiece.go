package tokenizer

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"peftsearch/data/quote"
)

// wordPiece takes the longest token that a word begins with, then the longest that goes on, and so forth (Wu et al.
// 2016). A word with a rest that no token fits is unknown.
type wordPiece struct {
	begin, continued *trie
	unknown          int32
	maxCharacters    int // longer words are unknown
}

func newWordPiece(m *modelSpec) (*wordPiece, error) {
	unknown, ok := m.Vocab.ids[m.UnkToken]
	if !ok {
		return nil, fmt.Errorf("the unknown token %s is not in the vocabulary", quote.Text(m.UnkToken))
	}
	if m.MaxInputChars == nil {
		return nil, errors.New("max_input_chars_per_word is missing")
	}
	begin, continued := map[string]int32{}, map[string]int32{}
	for token, id := range m.Vocab.ids {
		if token != "" {
			begin[token] = id
		}
		if rest, ok := strings.CutPrefix(token, m.Prefix); ok && rest != "" {
			continued[rest] = id
		}
	}
	w := &wordPiece{unknown: unknown, maxCharacters: *m.MaxInputChars}
	var err error
	if w.begin, err = newTrie(begin); err != nil {
		return nil, err
	}
	w.continued, err = newTrie(continued)
	return w, err
}

func (w *wordPiece) segment(word string, emit func(id int32, start, end int)) {
	type piece struct {
		id  int32
		end int
	}
	pieces, place := make([]piece, 0, 16), 0
	if utf8.RuneCountInString(word) > w.maxCharacters {
		emit(w.unknown, 0, len(word))
		return
	}
	for tokens := w.begin; place < len(word); tokens = w.continued {
		length, id := tokens.longest(word[place:])
		if length == 0 {
			emit(w.unknown, 0, len(word))
			return
		}
		place += length
		pieces = append(pieces, piece{id, place})
	}
	place = 0
	for _, p := range pieces {
		emit(p.id, place, p.end)
		place = p.end
	}
}
