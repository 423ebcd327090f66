package tokenizer

import (
	"container/heap"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// bytePairs is GPT-2's byte-level BPE (Radford et al. 2019), which RoBERTa uses: the text is cut into
// words, every byte of a word is a symbol, and neighbouring symbols are merged in the order learned.
type bytePairs struct {
	prefixSpace bool
	bytes       [256]int32 // id of each byte's symbol
	merges      map[[2]int32]merge
}

// merge says what a pair of symbols becomes; a smaller rank goes first.
type merge struct{ rank, id int32 }

func newBytePairs(f *tokenizerFile) (func(string) []int32, error) {
	switch m := f.Model; {
	case f.Normalizer != nil:
		return nil, fmt.Errorf("normalizer %q is not supported for BPE", f.Normalizer.Type)
	case f.PreTokenizer == nil || f.PreTokenizer.Type != "ByteLevel" || f.PreTokenizer.UseRegex != nil && !*f.PreTokenizer.UseRegex:
		return nil, errors.New("only the pre-tokenizer ByteLevel with its pattern is supported for BPE")
	case m.Prefix != "" || m.EndOfWord != "" || m.Dropout != 0 || m.ByteFallback || m.IgnoreMerges:
		return nil, errors.New("only byte-level BPE without affixes, dropout, byte fallback and ignored merges is supported")
	}
	b := &bytePairs{prefixSpace: f.PreTokenizer.AddPrefixSpace}
	for i, symbol := range byteSymbols() {
		id, ok := f.Model.Vocab[string(symbol)]
		if !ok {
			return nil, fmt.Errorf("the vocabulary has no symbol for the byte 0x%02x", i)
		}
		b.bytes[i] = id
	}
	pairs, err := mergePairs(f.Model.Merges)
	if err != nil {
		return nil, err
	}
	b.merges = make(map[[2]int32]merge, len(pairs))
	for rank, pair := range pairs {
		left, okLeft := f.Model.Vocab[pair[0]]
		right, okRight := f.Model.Vocab[pair[1]]
		id, ok := f.Model.Vocab[pair[0]+pair[1]]
		if !okLeft || !okRight || !ok {
			return nil, fmt.Errorf("merge %d: %q, %q or their union is not in the vocabulary", rank, pair[0], pair[1])
		}
		b.merges[[2]int32{left, right}] = merge{int32(rank), id}
	}
	return b.segment, nil
}

// mergePairs reads both spellings of merges: "a b" and ["a", "b"].
func mergePairs(raw json.RawMessage) ([][2]string, error) {
	var pairs [][2]string
	if json.Unmarshal(raw, &pairs) == nil {
		return pairs, nil
	}
	var lines []string
	if err := json.Unmarshal(raw, &lines); err != nil {
		return nil, fmt.Errorf("merges: %w", err)
	}
	pairs = make([][2]string, len(lines))
	for i, line := range lines {
		left, right, ok := strings.Cut(line, " ")
		if !ok {
			return nil, fmt.Errorf("merge %d: %q is no pair", i, line)
		}
		pairs[i] = [2]string{left, right}
	}
	return pairs, nil
}

// byteSymbols gives every byte a printable character: its own in Latin-1, or one from U+0100 on.
func byteSymbols() [256]rune {
	var symbols [256]rune
	next := rune(0x100)
	for b := range rune(256) {
		if b >= '!' && b <= '~' || b >= 0xa1 && b <= 0xac || b >= 0xae {
			symbols[b] = b
		} else {
			symbols[b] = next
			next++
		}
	}
	return symbols
}

func (b *bytePairs) segment(text string) []int32 {
	if b.prefixSpace && !strings.HasPrefix(text, " ") {
		text = " " + text
	}
	text = strings.ToValidUTF8(text, "\ufffd")
	var ids []int32
	for text != "" {
		n := wordLength(text)
		ids = append(ids, b.word(text[:n])...)
		text = text[n:]
	}
	return ids
}

// wordLength is the length in bytes of the match of GPT-2's pattern at the beginning of text:
//
//	's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
func wordLength(text string) int {
	for _, contraction := range []string{"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"} {
		if strings.HasPrefix(text, contraction) {
			return len(contraction)
		}
	}
	start := 0
	if text[0] == ' ' {
		start = 1
	}
	run := func(class func(rune) bool) int {
		if i := strings.IndexFunc(text[start:], func(r rune) bool { return !class(r) }); i >= 0 {
			return start + i
		}
		return len(text)
	}
	other := func(r rune) bool { return !unicode.IsSpace(r) && !unicode.IsLetter(r) && !unicode.IsNumber(r) }
	for _, class := range []func(rune) bool{unicode.IsLetter, unicode.IsNumber, other} {
		if n := run(class); n > start {
			return n
		}
	}
	// White space; before a word, its last character is left to the word.
	start = 0
	n := run(unicode.IsSpace)
	if n < len(text) {
		if _, last := utf8.DecodeLastRuneInString(text[:n]); n > last {
			return n - last
		}
	}
	return n
}

// word merges the symbols of a word, lowest rank first and leftmost among equals.
func (b *bytePairs) word(word string) []int32 {
	symbols := make([]symbol, len(word))
	for i := range len(word) {
		symbols[i] = symbol{id: b.bytes[word[i]], previous: i - 1, next: i + 1}
	}
	var queue pairQueue
	push := func(left int) {
		if left < 0 || symbols[left].next >= len(symbols) {
			return
		}
		right := symbols[left].next
		if m, ok := b.merges[[2]int32{symbols[left].id, symbols[right].id}]; ok {
			heap.Push(&queue, candidatePair{m, left, symbols[left].id, symbols[right].id})
		}
	}
	for i := range symbols {
		push(i)
	}
	for len(queue) > 0 {
		pair := heap.Pop(&queue).(candidatePair)
		left := &symbols[pair.left]
		if left.id != pair.leftID || left.next >= len(symbols) || symbols[left.next].id != pair.rightID {
			continue // one of the two was merged meanwhile
		}
		right := &symbols[left.next]
		left.id, left.next = pair.id, right.next
		right.id = merged
		if left.next < len(symbols) {
			symbols[left.next].previous = pair.left
		}
		push(left.previous)
		push(pair.left)
	}
	var ids []int32
	for i := 0; i < len(symbols); i = symbols[i].next {
		ids = append(ids, symbols[i].id)
	}
	return ids
}

// symbol is a node of the list of a word's symbols.
type symbol struct {
	id             int32
	previous, next int // index, or -1 and the number of symbols at the ends
}

// merged is the id of a symbol that has become part of the one before it.
const merged = -1

type candidatePair struct {
	merge
	left            int
	leftID, rightID int32
}

// pairQueue is a heap of candidate pairs.
type pairQueue []candidatePair

func (q pairQueue) Len() int { return len(q) }
func (q pairQueue) Less(i, j int) bool {
	return q[i].rank < q[j].rank || q[i].rank == q[j].rank && q[i].left < q[j].left
}
func (q pairQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *pairQueue) Push(x any)   { *q = append(*q, x.(candidatePair)) }
func (q *pairQueue) Pop() any {
	last := len(*q) - 1
	x := (*q)[last]
	*q = (*q)[:last]
	return x
}
