package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"

	"github.com/gomlx/go-huggingface/tokenizers/hftokenizer"
	"golang.org/x/text/unicode/norm"
)

// wordPiece segments text as BertNormalizer, BertPreTokenizer and WordPiece do. The library does the
// work; what it does differently from the reference is settled before it sees a word. One difference is
// left: punctuation younger than the reference's Unicode tables, such as U+061D, is split off here.
type wordPiece struct {
	library      *hftokenizer.Tokenizer
	unknown      int32
	unknownToken string
	strips       bool           // decomposes characters and strips combining marks
	longWord     *regexp.Regexp // what the pre-tokenizer keeps together, above maxWord characters
}

// maxWord is the number of characters above which a word is unknown.
const maxWord = 100

// longWord builds the pattern of an unknown long word. Marks that are stripped do not count.
func longWord(strips, isolatesChinese bool) *regexp.Regexp {
	separators, marks := "\\s\\p{P}$+<=>^`|~", ""
	if isolatesChinese {
		separators += "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002a6df\U0002a700-\U0002ceaf\U0002f800-\U0002fa1f"
	}
	if strips {
		separators += "\\p{Mn}"
		marks = "\\p{Mn}*"
	}
	return regexp.MustCompile(fmt.Sprintf("(?:[^%s]%s){%d,}", separators, marks, maxWord+1))
}

func newWordPiece(f *tokenizerFile) (func(string) []int32, error) {
	if n := f.Normalizer; n == nil || n.Type != "BertNormalizer" || !n.CleanText {
		return nil, errors.New("only BertNormalizer with clean_text is supported for WordPiece")
	}
	if p := f.PreTokenizer; p == nil || p.Type != "BertPreTokenizer" {
		return nil, errors.New("only BertPreTokenizer is supported for WordPiece")
	}
	if f.Model.MaxInputChars != maxWord {
		return nil, fmt.Errorf("max_input_chars_per_word %d is not supported: only %d is", f.Model.MaxInputChars, maxWord)
	}
	unknown, ok := f.Model.Vocab[f.Model.UnkToken]
	if !ok {
		return nil, fmt.Errorf("the unknown token %q is not in the vocabulary", f.Model.UnkToken)
	}
	model := f.Model
	model.MaxInputChars *= 4 // the library counts bytes, and a character has at most 4
	content, err := json.Marshal(tokenizerFile{
		AddedTokens: []addedToken{{ID: unknown, Content: model.UnkToken}},
		Normalizer:  f.Normalizer, PreTokenizer: f.PreTokenizer, Model: model,
	})
	if err != nil {
		return nil, err
	}
	strips := f.Normalizer.Lowercase
	if f.Normalizer.StripAccents != nil {
		strips = *f.Normalizer.StripAccents
	}
	w := &wordPiece{
		unknown: unknown, unknownToken: model.UnkToken,
		strips: strips, longWord: longWord(strips, f.Normalizer.HandleChineseChars),
	}
	if w.library, err = loadLibrary(content); err != nil {
		return nil, err
	}
	return w.segment, nil
}

func loadLibrary(content []byte) (t *hftokenizer.Tokenizer, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the tokenizer library panicked: %v", p)
		}
	}()
	return hftokenizer.NewFromContent(nil, content)
}

// segment feeds the library word by word: it needs quadratic time in the length of its input.
func (w *wordPiece) segment(text string) []int32 {
	var ids []int32
	for _, word := range strings.Fields(cleanText(text)) {
		if len(word) > maxWord {
			if w.strips {
				word = norm.NFD.String(word)
			}
			word = w.longWord.ReplaceAllLiteralString(word, w.unknownToken)
		}
		ids = append(ids, w.encode(word)...)
	}
	return ids
}

// encode makes a word on which the library panics unknown.
func (w *wordPiece) encode(word string) (ids []int32) {
	defer func() {
		if recover() != nil {
			ids = []int32{w.unknown}
		}
	}()
	for _, id := range w.library.Encode(word) {
		ids = append(ids, int32(id))
	}
	return ids
}

// cleanText is BertNormalizer's clean_text: control, format and private characters go, and
// every separator becomes a space.
func cleanText(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t' || r == '\n' || r == '\r' || unicode.Is(unicode.Z, r):
			return ' '
		case r == unicode.ReplacementChar || unicode.In(r, unicode.Cc, unicode.Cf, unicode.Co):
			return -1
		default:
			return r
		}
	}, text)
}
