package tokenizer

import (
	"errors"
	"fmt"
	"unicode/utf8"
)

// unigram takes the most probable segmentation into pieces (Kudo 2018), found by Viterbi's algorithm.
type unigram struct {
	pieces       *trie
	ids          map[string]int32
	scores       []float64 // logarithms of probabilities, by id
	unknown      int32
	unknownScore float64
	fallback     *[256]int32 // tokens of the bytes of unknown text, -1 if there is none; or nil
}

// unknownPenalty is how much less an unknown character scores than the least probable piece.
const unknownPenalty = 10

func newUnigram(m *modelSpec) (*unigram, error) {
	if m.UnkID == nil {
		return nil, errors.New("Unigram without unk_id is not supported: text with unknown characters would have no ids")
	}
	if *m.UnkID < 0 || *m.UnkID >= len(m.Vocab.scores) {
		return nil, fmt.Errorf("unk_id %d is not in the vocabulary of %d", *m.UnkID, len(m.Vocab.scores))
	}
	u := &unigram{ids: m.Vocab.ids, scores: m.Vocab.scores, unknown: int32(*m.UnkID)}
	lowest := m.Vocab.scores[0]
	pieces := make(map[string]int32, len(m.Vocab.ids))
	for piece, id := range m.Vocab.ids {
		if piece != "" {
			pieces[piece] = id
		}
	}
	for _, score := range m.Vocab.scores {
		lowest = min(lowest, score)
	}
	u.unknownScore = lowest - unknownPenalty
	if m.ByteFallback {
		u.fallback = byteTokens(m.Vocab.ids)
	}
	var err error
	u.pieces, err = newTrie(pieces)
	return u, err
}

func (u *unigram) segment(text string, emit func(id int32, start, end int)) {
	// ends[i] is the best way to segment text[:i]: its last piece and where that starts.
	type path struct {
		score float64
		start int32 // -1: none yet
		id    int32
	}
	ends := make([]path, len(text)+1)
	for i := range ends {
		ends[i].start = -1
	}
	for start := 0; start < len(text); {
		offer := func(end int, id int32, score float64) {
			score += ends[start].score
			if ends[end].start < 0 || score > ends[end].score {
				ends[end] = path{score, int32(start), id}
			}
		}
		_, size := utf8.DecodeRuneInString(text[start:])
		single := false
		u.pieces.prefixes(text[start:], func(length int, id int32) {
			offer(start+length, id, u.scores[id])
			single = single || length == size
		})
		if !single {
			offer(start+size, u.unknown, u.unknownScore)
		}
		start += size
	}
	var places []int32
	for end := int32(len(text)); end > 0; end = ends[end].start {
		places = append(places, end)
	}
	start := 0
	for i := len(places) - 1; i >= 0; i-- {
		end, id := int(places[i]), ends[places[i]].id
		if id != u.unknown {
			emit(id, start, end)
			start = end
			continue
		}
		for ; i > 0 && ends[places[i-1]].id == u.unknown; i-- { // neighbouring unknown pieces are one
			end = int(places[i-1])
		}
		u.unknownText(text[start:end], start, end, emit)
		start = end
	}
}

// unknownText is a token of its own if there is one for all of it, its bytes if there is a fallback, or unknown.
func (u *unigram) unknownText(text string, start, end int, emit func(id int32, start, end int)) {
	if id, ok := u.ids[text]; ok {
		emit(id, start, end)
		return
	}
	if bytes, ok := fallbackTokens(u.fallback, nil, text); ok {
		for _, id := range bytes {
			emit(id, start, end)
		}
		return
	}
	emit(u.unknown, start, end)
}
