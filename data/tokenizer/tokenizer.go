// Package tokenizer turns text into the ids that a checkpoint was trained on, exactly as transformers does with the
// checkpoint's fast Hugging Face tokenizer: WordPiece, byte pair encoding and Unigram.
//
// [Load] reads a model directory. What decides ids is read as transformers 4 reads it, settings that override
// tokenizer.json included; what is not supported is refused, so that ids are never silently others.
package tokenizer

import (
	"math"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MinLength leaves room for the special tokens of every template, and for one of the text.
const MinLength = 5

// Tokenizer turns text into ids and back. It is read-only: several goroutines may use it at once. Bytes of a text that
// are no UTF-8 are read as U+FFFD, one for each run of them.
type Tokenizer struct {
	added      *addedTokens
	steps      []normalizer
	split      splitter
	words      splitter // of words that the caller has cut
	model      model
	template   template
	left       bool // too long texts lose their beginning
	types      int
	size       int
	special    Special
	wordPrefix bool // the blank before a word of the caller was added
	decoder    *decoderSpec
	cleanUp    bool
	tokens     func() map[int32]string // of the model, by id
}

// Special are the ids of tokens with a meaning, -1 for those that the tokenizer does not have.
type Special struct{ BOS, EOS, UNK, SEP, PAD, CLS, MASK int32 }

// Encoding is a row as the backbone reads it, special tokens included, without padding.
type Encoding struct {
	IDs     []int32
	TypeIDs []int32 // as the template says: for most models all 0, for BERT 1 in the second text
}

// Span says what a token stands for.
type Span struct {
	// Text is 0 or 1 for the first and second text, -1 for a special token of the template: it stands for nothing.
	Text int
	// Word is the index of the word: one of the caller's for EncodeWords, else one of those that the tokenizer cuts
	// the text into. It is -1 for special tokens of the template.
	Word int
	// Bytes and Chars are where the token stands in the text, or in the word for EncodeWords; Chars counts code points.
	// Tokens that share a character, as in byte-level tokenizers, all stand for it.
	Bytes, Chars Range
}

// Range is a half-open range.
type Range struct{ Start, End int }

// Size is one more than the largest id.
func (t *Tokenizer) Size() int { return t.size }

// Special are the special tokens' ids.
func (t *Tokenizer) Special() Special { return t.special }

// Types is how many different type ids an encoding can have: 1 if the model has no use for them.
func (t *Tokenizer) Types() int { return t.types }

// Encode returns at most maxLength ids of one text or of a pair; tokens are dropped from the end of the longer text
// first. maxLength must leave room for the special tokens: at least [MinLength]. Without special tokens, as in GPT-2,
// an encoding can be empty.
func (t *Tokenizer) Encode(maxLength int, texts ...string) Encoding {
	e, _ := t.assemble(maxLength, t.sequences(maxLength, texts))
	return e
}

// Align is Encode with a span for every token.
func (t *Tokenizer) Align(maxLength int, texts ...string) (Encoding, []Span) {
	e, tokens := t.assemble(maxLength, t.sequences(maxLength, texts))
	return e, t.spans(tokens, texts, t.template.prefixSpace)
}

// EncodeWords is Align for one text that the caller has cut into words. Each is tokenised for itself, after a blank
// where the tokenizer tells words by the blanks before them. A word can have no token.
func (t *Tokenizer) EncodeWords(maxLength int, words []string) (Encoding, []Span) {
	var tokens []token
	for i, word := range words {
		first := len(tokens)
		tokens = t.cut(tokens, word, t.words, math.MaxInt)
		for j := range tokens[first:] {
			tokens[first+j].source, tokens[first+j].word = int32(i), int32(i)
		}
	}
	e, tokens := t.assemble(maxLength, [][]token{tokens})
	return e, t.spans(tokens, words, t.wordPrefix)
}

// Continue returns the ids of a text as they follow others, without special tokens.
func (t *Tokenizer) Continue(text string) []int32 {
	var ids []int32
	for _, tok := range t.cut(nil, text, t.split, math.MaxInt) {
		ids = append(ids, tok.id)
	}
	return ids
}

// EncodeSecond is Encode for a pair of which the second text stays whole as long as it fits: the first one is cut.
// cut says that tokens were dropped.
func (t *Tokenizer) EncodeSecond(maxLength int, first, second string) (e Encoding, cut bool) {
	sequences := t.sequences(maxLength, []string{first, second})
	a, b := len(sequences[0]), len(sequences[1])
	room := max(0, maxLength-added(t.template.pair))
	sequences[1] = t.keep(sequences[1], room)
	sequences[0] = t.keep(sequences[0], room-len(sequences[1]))
	e, _ = t.assemble(maxLength, sequences)
	return e, a+b > room
}

// token is one of a text, or a special token of the template.
type token struct {
	id, typeID        int32
	text              int32 // 0 or 1, -1 in the template
	source            int32 // index of the string in which it stands
	word              int32
	start, end        int32 // place of its characters in the source, in bytes
	leading, trailing int32 // characters that trimmed offsets leave out
}

// sequences are the tokens of each text.
func (t *Tokenizer) sequences(maxLength int, texts []string) [][]token {
	limit := math.MaxInt
	if len(texts) == 1 && !t.left {
		limit = maxLength // what follows cannot change the ids that stay
	}
	sequences := make([][]token, len(texts))
	for i, text := range texts {
		sequences[i] = t.cut(nil, text, t.split, limit)
		for j := range sequences[i] {
			sequences[i][j].source = int32(i)
		}
	}
	return sequences
}

// cut appends the tokens of a text. It may stop after limit tokens.
func (t *Tokenizer) cut(tokens []token, text string, split splitter, limit int) []token {
	if text == "" {
		return tokens
	}
	text = strings.ToValidUTF8(text, "\ufffd")
	first, words := len(tokens), int32(0)
	emit := func(word aligned, id int32, start, end int, isBlank func(rune) bool) {
		from, last := word.from[start], word.from[end-1]
		_, size := utf8.DecodeRuneInString(text[last:])
		added := token{id: id, word: words, start: from, end: last + int32(size)}
		if t.template.trims {
			part := word.text[start:end]
			added.leading = int32(utf8.RuneCountInString(part) - utf8.RuneCountInString(strings.TrimLeftFunc(part, isBlank)))
			added.trailing = int32(utf8.RuneCountInString(part) - utf8.RuneCountInString(strings.TrimRightFunc(part, isBlank)))
		}
		tokens = append(tokens, added)
	}
	t.added.split(align(text), t.added.raw, func(part aligned, id int32) {
		if id >= 0 {
			emit(part, id, 0, len(part.text), isAddedBlank)
			words++
			return
		}
		if part = normalize(t.steps, part); part.text == "" {
			return
		}
		t.added.split(part, t.added.normalized, func(part aligned, id int32) {
			if id >= 0 {
				emit(part, id, 0, len(part.text), isAddedBlank)
				words++
				return
			}
			split(part, func(word aligned) {
				if len(tokens)-first < limit {
					t.model.segment(word.text, func(id int32, start, end int) { emit(word, id, start, end, isByteBlank) })
				}
				words++
			})
		})
	})
	return tokens
}

func isByteBlank(r rune) bool  { return r == ' ' }
func isAddedBlank(r rune) bool { return r == 'Ġ' || unicode.IsSpace(r) }

// assemble cuts the sequences to length and puts them into the template.
func (t *Tokenizer) assemble(maxLength int, sequences [][]token) (Encoding, []token) {
	parts := t.template.single
	if len(sequences) > 1 {
		parts = t.template.pair
	}
	room := max(0, maxLength-added(parts))
	if len(sequences) == 1 {
		sequences[0] = t.keep(sequences[0], room)
	} else {
		a, b := longestFirst(len(sequences[0]), len(sequences[1]), room)
		sequences[0], sequences[1] = t.keep(sequences[0], a), t.keep(sequences[1], b)
	}
	var tokens []token
	for _, p := range parts {
		if p.text < 0 {
			for _, id := range p.special {
				tokens = append(tokens, token{id: id, typeID: p.typeID, text: -1, word: -1})
			}
			continue
		}
		for _, tok := range sequences[p.text] {
			tok.text, tok.typeID = int32(p.text), p.typeID
			tokens = append(tokens, tok)
		}
	}
	e := Encoding{make([]int32, len(tokens)), make([]int32, len(tokens))}
	for i, tok := range tokens {
		e.IDs[i], e.TypeIDs[i] = tok.id, tok.typeID
	}
	return e, tokens
}

// keep is at most n tokens.
func (t *Tokenizer) keep(tokens []token, n int) []token {
	if n >= len(tokens) {
		return tokens
	}
	if t.left {
		return tokens[len(tokens)-n:]
	}
	return tokens[:n]
}

// longestFirst gives the lengths that two texts of a and b tokens keep of limit tokens, as the tokenizers library does:
// the longer one is cut until both are equal, then both are.
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

// spans are those of the tokens; prefixed says that a blank was put before the sources.
func (t *Tokenizer) spans(tokens []token, sources []string, prefixed bool) []Span {
	spans := make([]Span, len(tokens))
	var chars []int32 // by byte of the source: number of the character
	counted, previous := int32(-1), int32(-1)
	for i, tok := range tokens {
		if spans[i] = (Span{Text: int(tok.text), Word: int(tok.word)}); tok.text < 0 {
			continue
		}
		source := strings.ToValidUTF8(sources[tok.source], "\ufffd")
		if tok.source != counted {
			chars, counted = countChars(source), tok.source
		}
		start, end := tok.start, tok.end
		if t.template.trims {
			leading, trailing := tok.leading, tok.trailing
			if prefixed && leading == 1 && (start == 0 || tok.text != previous) {
				leading = 0 // it was not in the text
			}
			if trailing > chars[end] {
				trailing = 0
			}
			for ; leading > 0 && start < end; leading-- {
				_, size := utf8.DecodeRuneInString(source[start:end])
				start += int32(size)
			}
			for ; trailing > 0 && start < end; trailing-- {
				_, size := utf8.DecodeLastRuneInString(source[start:end])
				end -= int32(size)
			}
		}
		previous = tok.text
		spans[i].Bytes = Range{int(start), int(end)}
		spans[i].Chars = Range{int(chars[start]), int(chars[end])}
	}
	return spans
}

// countChars gives for every beginning of a character, and for the end, how many characters stand before it.
func countChars(text string) []int32 {
	chars := make([]int32, len(text)+1)
	n := int32(0)
	for i := range len(text) {
		if utf8.RuneStart(text[i]) {
			n++
		}
		chars[i+1] = n
	}
	return chars
}

// Decode turns ids into text as transformers does; ids that the tokenizer does not have are left out, special tokens
// if skipSpecial says so. It fails if the checkpoint's way to join tokens is not supported.
func (t *Tokenizer) Decode(ids []int32, skipSpecial bool) (string, error) {
	decode, err := t.decoder.decoder()
	if err != nil {
		return "", err
	}
	var tokens []string
	known := t.tokens()
	for _, id := range ids {
		content, ok := known[id]
		if added, isAdded := t.added.byID[id]; isAdded {
			content, ok = added.Content, true
		}
		if ok && !(skipSpecial && t.added.isSpecial[content]) {
			tokens = append(tokens, content)
		}
	}
	text := strings.Join(decode(tokens), "")
	if t.cleanUp {
		text = cleanUp(text, false)
	}
	return text, nil
}
