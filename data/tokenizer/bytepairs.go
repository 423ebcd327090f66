package tokenizer

import (
	"errors"
	"fmt"
	"sync"
	"unicode/utf8"

	"peftsearch/data/quote"
)

// bytePairs is byte pair encoding (Sennrich et al. 2016): the symbols of a word are merged pair by pair, in the order
// in which the pairs were learned. Symbols are bytes, as in GPT-2 (Radford et al. 2019), or characters.
type bytePairs struct {
	bytes    *[256]int32 // symbols of bytes; nil if symbols are characters
	ids      map[string]int32
	merges   map[[2]int32]merge
	unknown  int32       // for a character without a symbol; -1: it is left out
	fuse     bool        // neighbouring unknown characters are one token
	fallback *[256]int32 // tokens of the bytes of a character without a symbol, -1 if there is none; or nil
	scratch  sync.Pool   // of *pairQueue
}

// merge says what a pair of symbols becomes; a smaller rank goes first.
type merge struct{ rank, id int32 }

func newBytePairs(m *modelSpec, byteLevel bool) (*bytePairs, error) {
	if m.Prefix != "" || m.EndOfWord != "" || m.Dropout != 0 || m.IgnoreMerges {
		return nil, errors.New("BPE with affixes, dropout or ignored merges is not supported")
	}
	b := &bytePairs{ids: m.Vocab.ids, unknown: -1, fuse: m.FuseUnk, merges: make(map[[2]int32]merge, len(m.Merges))}
	b.scratch.New = func() any { return new(pairQueue) }
	if id, ok := m.Vocab.ids[m.UnkToken]; ok {
		b.unknown = id
	} else if m.UnkToken != "" {
		return nil, fmt.Errorf("the unknown token %s is not in the vocabulary", quote.Text(m.UnkToken))
	}
	if byteLevel {
		b.bytes = new([256]int32)
		for i, symbol := range byteSymbols() {
			id, ok := m.Vocab.ids[string(symbol)]
			if !ok {
				return nil, fmt.Errorf("the vocabulary has no symbol for the byte 0x%02x", i)
			}
			b.bytes[i] = id
		}
	} else if m.ByteFallback {
		b.fallback = byteTokens(m.Vocab.ids)
	}
	for rank, pair := range m.Merges {
		left, okLeft := m.Vocab.ids[pair[0]]
		right, okRight := m.Vocab.ids[pair[1]]
		id, ok := m.Vocab.ids[pair[0]+pair[1]]
		if !okLeft || !okRight || !ok {
			return nil, fmt.Errorf("merge %d: %s, %s or their union is not in the vocabulary", rank, quote.Text(pair[0]),
				quote.Text(pair[1]))
		}
		b.merges[[2]int32{left, right}] = merge{int32(rank), id}
	}
	return b, nil
}

// byteTokens are the tokens <0x00> to <0xFF>, -1 for those that are not in the vocabulary.
func byteTokens(ids map[string]int32) *[256]int32 {
	tokens := new([256]int32)
	for i := range tokens {
		tokens[i] = -1
		if id, ok := ids[fmt.Sprintf("<0x%02X>", i)]; ok {
			tokens[i] = id
		}
	}
	return tokens
}

// fallbackTokens appends the tokens of the bytes of text, or says that one is missing.
func fallbackTokens(tokens *[256]int32, into []int32, text string) ([]int32, bool) {
	if tokens == nil {
		return into, false
	}
	before := len(into)
	for i := range len(text) {
		id := tokens[text[i]]
		if id < 0 {
			return into[:before], false
		}
		into = append(into, id)
	}
	return into, true
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

func (b *bytePairs) segment(word string, emit func(id int32, start, end int)) {
	q := b.scratch.Get().(*pairQueue)
	defer b.scratch.Put(q)
	q.symbols, q.heap = q.symbols[:0], q.heap[:0]
	if b.bytes != nil {
		for i := range len(word) {
			q.add(b.bytes[word[i]], 1)
		}
	} else {
		b.characters(q, word)
	}
	b.merge(q)
	start := 0
	for i := 0; i >= 0 && i < len(q.symbols); i = int(q.symbols[i].next) {
		end := start + int(q.symbols[i].length)
		emit(q.symbols[i].id, start, end)
		start = end
	}
	if cap(q.symbols) > 1<<16 {
		q.symbols, q.heap = nil, nil // the next word is shorter
	}
}

// characters adds the symbols of a word's characters.
func (b *bytePairs) characters(q *pairQueue, word string) {
	unknown := 0 // length of the unknown characters that are not added yet
	flush := func() {
		if unknown > 0 {
			q.add(b.unknown, unknown)
			unknown = 0
		}
	}
	var fallback []int32
	for i, r := range word {
		character, ok := word[i:i+utf8.RuneLen(r)], false
		if id, known := b.ids[character]; known {
			flush()
			q.add(id, len(character))
			continue
		}
		if fallback, ok = fallbackTokens(b.fallback, fallback[:0], character); ok {
			for _, id := range fallback {
				q.add(id, 1)
			}
			continue
		}
		if b.unknown < 0 {
			continue
		}
		if !b.fuse {
			flush()
		}
		unknown += len(character)
	}
	flush()
}

// pairQueue is a word as a list of symbols, and a heap of the pairs that can be merged.
type pairQueue struct {
	symbols []symbol
	heap    []uint64 // rank and place of the pair, so that the smallest goes first
}

type symbol struct {
	id             int32
	previous, next int32 // places, -1 at the ends
	length         int32 // in bytes; 0 if it has become part of the one before it
}

func (q *pairQueue) add(id int32, length int) {
	place := int32(len(q.symbols))
	if place > 0 {
		q.symbols[place-1].next = place
	}
	q.symbols = append(q.symbols, symbol{id: id, previous: place - 1, next: -1, length: int32(length)})
}

// merge merges pairs until none is left, lowest rank first and leftmost among equals.
func (b *bytePairs) merge(q *pairQueue) {
	find := func(left int32) (merge, bool) {
		if left < 0 || q.symbols[left].next < 0 {
			return merge{}, false
		}
		m, ok := b.merges[[2]int32{q.symbols[left].id, q.symbols[q.symbols[left].next].id}]
		return m, ok
	}
	offer := func(left int32) {
		if m, ok := find(left); ok {
			q.push(uint64(m.rank)<<32 | uint64(left))
		}
	}
	for i := range len(q.symbols) - 1 {
		offer(int32(i))
	}
	for len(q.heap) > 0 {
		top := q.pop()
		place := int32(uint32(top))
		if q.symbols[place].length == 0 {
			continue
		}
		m, ok := find(place)
		if !ok || uint64(m.rank) != top>>32 {
			continue // one of the two has been merged with another
		}
		left := &q.symbols[place]
		right := &q.symbols[left.next]
		left.id, left.length, left.next = m.id, left.length+right.length, right.next
		right.length = 0
		if left.next >= 0 {
			q.symbols[left.next].previous = place
		}
		offer(left.previous)
		offer(place)
	}
}

func (q *pairQueue) push(x uint64) {
	h := append(q.heap, x)
	for i := len(h) - 1; i > 0; {
		parent := (i - 1) / 2
		if h[parent] <= h[i] {
			break
		}
		h[parent], h[i] = h[i], h[parent]
		i = parent
	}
	q.heap = h
}

func (q *pairQueue) pop() uint64 {
	h := q.heap
	top, last := h[0], len(h)-1
	h[0], h = h[last], h[:last]
	for i := 0; ; {
		child := 2*i + 1
		if child >= last {
			break
		}
		if child+1 < last && h[child+1] < h[child] {
			child++
		}
		if h[i] <= h[child] {
			break
		}
		h[i], h[child] = h[child], h[i]
		i = child
	}
	q.heap = h
	return top
}
