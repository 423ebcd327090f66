package tokenizer

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"peftsearch/data/quote"
)

// splitter is a pre-tokenizer: it gives the words of a text to yield, in their order. A text is never empty.
type splitter func(a aligned, yield func(word aligned))

// splitterSpec is a pre_tokenizer of tokenizer.json.
type splitterSpec struct {
	Type           string         `json:"type"`
	Pretokenizers  []splitterSpec `json:"pretokenizers,omitempty"`    // Sequence
	AddPrefixSpace *bool          `json:"add_prefix_space,omitempty"` // ByteLevel; older Metaspace
	TrimOffsets    bool           `json:"trim_offsets,omitempty"`     // ByteLevel; the post-processor's counts
	UseRegex       *bool          `json:"use_regex,omitempty"`        // ByteLevel; null: true
	Replacement    string         `json:"replacement,omitempty"`      // Metaspace
	PrependScheme  string         `json:"prepend_scheme,omitempty"`   // Metaspace; none: always
	Split          *bool          `json:"split,omitempty"`            // Metaspace; null: true
}

// byteLevel is the ByteLevel pre-tokenizer of s, which must be its last, or nil.
func (s *splitterSpec) byteLevel() *splitterSpec {
	switch {
	case s == nil:
		return nil
	case s.Type == "ByteLevel":
		return s
	case s.Type == "Sequence" && len(s.Pretokenizers) > 0:
		return s.Pretokenizers[len(s.Pretokenizers)-1].byteLevel()
	default:
		return nil
	}
}

// splitter is that of s, which may be nil.
func (s *splitterSpec) splitter() (splitter, error) {
	if s == nil {
		return func(a aligned, yield func(aligned)) { yield(a) }, nil
	}
	switch s.Type {
	case "Sequence":
		whole, err := (*splitterSpec)(nil).splitter()
		if err != nil {
			return nil, err
		}
		for i, part := range s.Pretokenizers {
			if part.byteLevel() != nil && i < len(s.Pretokenizers)-1 {
				return nil, errors.New("pre_tokenizer ByteLevel before another one is not supported")
			}
			second, err := part.splitter()
			if err != nil {
				return nil, err
			}
			first := whole
			whole = func(a aligned, yield func(aligned)) {
				first(a, func(word aligned) { second(word, yield) })
			}
		}
		return whole, nil
	case "BertPreTokenizer":
		return splitBERT, nil
	case "Whitespace":
		return splitClasses, nil
	case "WhitespaceSplit":
		return splitSpaces, nil
	case "Metaspace":
		return s.metaspace()
	case "ByteLevel":
		split := splitPattern
		if s.UseRegex != nil && !*s.UseRegex {
			split = func(a aligned, yield func(aligned)) { yield(a) }
		}
		if s.AddPrefixSpace == nil || !*s.AddPrefixSpace {
			return split, nil
		}
		return func(a aligned, yield func(aligned)) {
			if a.text[0] != ' ' {
				a = a.prepend(" ")
			}
			split(a, yield)
		}, nil
	default:
		return nil, fmt.Errorf("pre_tokenizer %s is not supported", quote.Text(s.Type))
	}
}

// runs yields the longest parts of a whose characters are of one class; class 0 is left out.
func runs(a aligned, yield func(aligned), class func(rune) int) {
	start, current := 0, 0
	for i, r := range a.text {
		if c := class(r); c != current {
			if current > 0 {
				yield(a.slice(start, i))
			}
			start, current = i, c
		}
	}
	if current > 0 {
		yield(a.slice(start, len(a.text)))
	}
}

func splitSpaces(a aligned, yield func(aligned)) {
	runs(a, yield, func(r rune) int {
		if unicode.IsSpace(r) {
			return 0
		}
		return 1
	})
}

// splitClasses is the pattern \w+|[^\w\s]+.
func splitClasses(a aligned, yield func(aligned)) {
	runs(a, yield, func(r rune) int {
		switch {
		case unicode.IsSpace(r):
			return 0
		case unicode.Is(wordCharacters, r):
			return 1
		default:
			return 2
		}
	})
}

// splitBERT makes every punctuation mark a word of its own.
func splitBERT(a aligned, yield func(aligned)) {
	splitSpaces(a, func(word aligned) {
		start := 0
		for i, r := range word.text {
			if !unicode.Is(punctuation, r) {
				continue
			}
			if i > start {
				yield(word.slice(start, i))
			}
			start = i + utf8.RuneLen(r)
			yield(word.slice(i, start))
		}
		if start < len(word.text) {
			yield(word.slice(start, len(word.text)))
		}
	})
}

// metaspace writes blanks as a symbol, puts one before the text, and lets every word begin with one.
func (s *splitterSpec) metaspace() (splitter, error) {
	if utf8.RuneCountInString(s.Replacement) != 1 {
		return nil, fmt.Errorf("pre_tokenizer Metaspace has the replacement %s, not a character", quote.Text(s.Replacement))
	}
	scheme := s.PrependScheme
	if scheme == "" {
		scheme = "always"
		if s.AddPrefixSpace != nil && !*s.AddPrefixSpace {
			return nil, errors.New("pre_tokenizer Metaspace says add_prefix_space false without prepend_scheme never, which " +
				"tokenizers refuses")
		}
	}
	if scheme != "always" && scheme != "first" && scheme != "never" {
		return nil, fmt.Errorf("pre_tokenizer Metaspace has the prepend_scheme %s", quote.Text(scheme))
	}
	split := s.Split == nil || *s.Split
	return func(a aligned, yield func(aligned)) {
		a = a.replace(func(text string) (int, int) {
			i := strings.IndexByte(text, ' ')
			return i, i + 1
		}, s.Replacement)
		if !strings.HasPrefix(a.text, s.Replacement) && (scheme == "always" || scheme == "first" && a.from[0] == 0) {
			a = a.prepend(s.Replacement)
		}
		for split {
			end := strings.Index(a.text[1:], s.Replacement) + 1
			if end == 0 {
				break
			}
			yield(a.slice(0, end))
			a = a.slice(end, len(a.text))
		}
		yield(a)
	}, nil
}

// splitPattern cuts a text by GPT-2's pattern.
func splitPattern(a aligned, yield func(aligned)) {
	for len(a.text) > 0 {
		n := patternLength(a.text)
		yield(a.slice(0, n))
		a = a.slice(n, len(a.text))
	}
}

// patternLength is the length in bytes of the match of GPT-2's pattern at the beginning of text:
//
//	's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
func patternLength(text string) int {
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
	letter := func(r rune) bool { return unicode.Is(letters, r) }
	number := func(r rune) bool { return unicode.Is(numbers, r) }
	other := func(r rune) bool { return !unicode.IsSpace(r) && !letter(r) && !number(r) }
	for _, class := range []func(rune) bool{letter, number, other} {
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
