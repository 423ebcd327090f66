package tokenizer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"

	"peftsearch/data/quote"
)

// spec is what is used of tokenizer.json, of any age. Older files of a model are turned into the same.
type spec struct {
	Truncation *struct {
		Direction string `json:"direction"`
	} `json:"truncation"`
	Padding *struct {
		PadToken string `json:"pad_token"`
	} `json:"padding"`
	AddedTokens   []declaredToken `json:"added_tokens"`
	Normalizer    *normalizerSpec `json:"normalizer"`
	PreTokenizer  *splitterSpec   `json:"pre_tokenizer"`
	PostProcessor *processorSpec  `json:"post_processor"`
	Decoder       *decoderSpec    `json:"decoder"`
	Model         modelSpec       `json:"model"`
}

// declaredToken is an added token with the id that it is said to have: it is found in the vocabulary, or is the next.
type declaredToken struct {
	ID int `json:"id"`
	addedToken
}

// modelSpec is a model of tokenizer.json. Its Vocab is read into ids and scores.
type modelSpec struct {
	Type          string     `json:"type"`
	UnkToken      string     `json:"unk_token"`
	UnkID         *int       `json:"unk_id"`                    // Unigram
	Prefix        string     `json:"continuing_subword_prefix"` // WordPiece, BPE
	MaxInputChars *int       `json:"max_input_chars_per_word"`  // WordPiece
	Merges        mergesSpec `json:"merges"`                    // BPE
	EndOfWord     string     `json:"end_of_word_suffix"`        // BPE
	Dropout       float64    `json:"dropout"`                   // BPE
	FuseUnk       bool       `json:"fuse_unk"`                  // BPE
	IgnoreMerges  bool       `json:"ignore_merges"`             // BPE
	ByteFallback  bool       `json:"byte_fallback"`             // BPE, Unigram
	Vocab         vocabulary `json:"vocab"`
}

// vocabulary is a map of tokens to ids, or a list of pieces with scores: their ids are their places.
type vocabulary struct {
	ids    map[string]int32
	scores []float64
}

func (v *vocabulary) UnmarshalJSON(content []byte) error {
	if bytes.HasPrefix(content, []byte("{")) {
		if err := json.Unmarshal(content, &v.ids); err != nil {
			return err
		}
		for token, id := range v.ids {
			if id < 0 || id == math.MaxInt32 {
				return fmt.Errorf("token %s has the id %d", quote.Text(token), id)
			}
		}
		return nil
	}
	var pieces []scoredPiece
	if err := json.Unmarshal(content, &pieces); err != nil {
		return err
	}
	v.set(pieces)
	return nil
}

// set makes pieces the vocabulary. Of equal ones the last counts.
func (v *vocabulary) set(pieces []scoredPiece) {
	v.ids, v.scores = make(map[string]int32, len(pieces)), make([]float64, len(pieces))
	for i, p := range pieces {
		v.ids[p.piece], v.scores[i] = int32(i), p.score
	}
}

// byID are the tokens by their ids.
func (v *vocabulary) byID() map[int32]string {
	tokens := make(map[int32]string, len(v.ids))
	for token, id := range v.ids {
		tokens[id] = token
	}
	return tokens
}

type scoredPiece struct {
	piece string
	score float64
}

func (p *scoredPiece) UnmarshalJSON(content []byte) error {
	pair := []any{&p.piece, &p.score}
	if err := json.Unmarshal(content, &pair); err != nil {
		return err
	}
	if len(pair) != 2 {
		return fmt.Errorf("%s is no pair of piece and score", quote.Text(string(content)))
	}
	return nil
}

// mergesSpec are pairs, written as ["a", "b"] or "a b".
type mergesSpec [][2]string

func (m *mergesSpec) UnmarshalJSON(content []byte) error {
	var pairs [][]string
	if first := bytes.TrimLeft(bytes.TrimPrefix(content, []byte("[")), " \t\r\n"); bytes.HasPrefix(first, []byte(`"`)) {
		var lines []string
		if err := json.Unmarshal(content, &lines); err != nil {
			return err
		}
		for _, line := range lines {
			if !strings.HasPrefix(line, "#version") {
				pairs = append(pairs, strings.Split(line, " "))
			}
		}
	} else if err := json.Unmarshal(content, &pairs); err != nil {
		return err
	}
	*m = make(mergesSpec, len(pairs))
	for i, pair := range pairs {
		if len(pair) != 2 {
			return fmt.Errorf("merge %d: %s is no pair", i, quote.List(pair))
		}
		(*m)[i] = [2]string(pair)
	}
	return nil
}

// model cuts a word into tokens: their ids and the parts of the word that they stand for, in their order. It is safe
// for concurrent use.
type model interface {
	segment(word string, emit func(id int32, start, end int))
}

// model builds that of s.
func (s *spec) model() (model, error) {
	byteLevel := s.PreTokenizer.byteLevel() != nil
	switch kind := s.Model.kind(); {
	case len(s.Model.Vocab.ids) == 0:
		return nil, errors.New("the vocabulary is empty")
	case kind == "BPE":
		return newBytePairs(&s.Model, byteLevel)
	case byteLevel:
		return nil, fmt.Errorf("the pre_tokenizer ByteLevel is not supported for the model %s", quote.Text(kind))
	case kind == "WordPiece":
		return newWordPiece(&s.Model)
	case kind == "Unigram":
		return newUnigram(&s.Model)
	default:
		return nil, fmt.Errorf("model type %s is not supported: only WordPiece, BPE and Unigram are", quote.Text(kind))
	}
}

// kind is the type of a model; the oldest files leave it out.
func (m *modelSpec) kind() string {
	switch {
	case m.Type != "":
		return m.Type
	case m.Merges != nil:
		return "BPE"
	case m.Vocab.scores != nil:
		return "Unigram"
	default:
		return "WordPiece"
	}
}
