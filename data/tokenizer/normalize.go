package tokenizer

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
	"golang.org/x/text/unicode/rangetable"

	"peftsearch/data/quote"
)

// normalizer is a step of the normalisation of a text that is not empty. It returns the same text if nothing is to be
// changed.
type normalizer func(aligned) aligned

func normalize(steps []normalizer, a aligned) aligned {
	for _, step := range steps {
		if a.text == "" {
			break
		}
		a = step(a)
	}
	return a
}

// normalizerSpec is a normalizer of tokenizer.json.
type normalizerSpec struct {
	Type               string           `json:"type"`
	Normalizers        []normalizerSpec `json:"normalizers,omitempty"`          // Sequence
	CleanText          bool             `json:"clean_text,omitempty"`           // BertNormalizer
	HandleChineseChars bool             `json:"handle_chinese_chars,omitempty"` // BertNormalizer
	StripAccents       *bool            `json:"strip_accents,omitempty"`        // BertNormalizer; null: if Lowercase
	Lowercase          bool             `json:"lowercase,omitempty"`            // BertNormalizer
	Charsmap           []byte           `json:"precompiled_charsmap,omitempty"` // Precompiled; base64
	StripLeft          bool             `json:"strip_left,omitempty"`           // Strip
	StripRight         bool             `json:"strip_right,omitempty"`          // Strip
	Prepend            string           `json:"prepend,omitempty"`              // Prepend
	Pattern            *patternSpec     `json:"pattern,omitempty"`              // Replace
	Content            string           `json:"content,omitempty"`              // Replace
}

type patternSpec struct {
	String string `json:"String,omitempty"`
	Regex  string `json:"Regex,omitempty"`
}

// steps are the normalisers in their order; s may be nil.
func (s *normalizerSpec) steps() ([]normalizer, error) {
	if s == nil {
		return nil, nil
	}
	switch s.Type {
	case "Sequence":
		var steps []normalizer
		for _, part := range s.Normalizers {
			more, err := part.steps()
			if err != nil {
				return nil, err
			}
			steps = append(steps, more...)
		}
		return steps, nil
	case "BertNormalizer":
		var steps []normalizer
		if s.CleanText {
			steps = append(steps, remove(dropped), spaces)
		}
		if s.HandleChineseChars {
			steps = append(steps, isolateChinese)
		}
		if s.StripAccents == nil && s.Lowercase || s.StripAccents != nil && *s.StripAccents {
			steps = append(steps, decompose(norm.NFD), remove(accents))
		}
		if s.Lowercase {
			steps = append(steps, lowercase)
		}
		return steps, nil
	case "Lowercase":
		return []normalizer{lowercase}, nil
	case "NFD":
		return []normalizer{decompose(norm.NFD)}, nil
	case "NFKD":
		return []normalizer{decompose(norm.NFKD)}, nil
	case "StripAccents":
		return []normalizer{remove(marks)}, nil
	case "Strip":
		return []normalizer{strip(s.StripLeft, s.StripRight)}, nil
	case "Prepend":
		return []normalizer{func(a aligned) aligned { return a.prepend(s.Prepend) }}, nil
	case "Replace":
		step, err := replace(s.Pattern, s.Content)
		return []normalizer{step}, err
	case "Precompiled":
		p, err := newPrecompiled(s.Charsmap)
		if err != nil {
			return nil, fmt.Errorf("precompiled_charsmap: %w", err)
		}
		return []normalizer{p.normalize}, nil
	default:
		return nil, fmt.Errorf("normalizer %s is not supported", quote.Text(s.Type))
	}
}

// remove drops the characters of a class.
func remove(class *unicode.RangeTable) normalizer {
	return func(a aligned) aligned {
		if strings.IndexFunc(a.text, func(r rune) bool { return unicode.Is(class, r) }) < 0 {
			return a
		}
		var changes []change
		first := 0
		for _, r := range a.text {
			switch {
			case !unicode.Is(class, r):
				changes = append(changes, change{r, 0})
			case len(changes) > 0:
				changes[len(changes)-1].n--
			default:
				first++
			}
		}
		return a.transform(changes, first)
	}
}

// spaces makes every white space a blank.
func spaces(a aligned) aligned {
	if strings.IndexFunc(a.text, func(r rune) bool { return r != ' ' && unicode.IsSpace(r) }) < 0 {
		return a
	}
	changes := make([]change, 0, len(a.text))
	for _, r := range a.text {
		if unicode.IsSpace(r) {
			r = ' '
		}
		changes = append(changes, change{r, 0})
	}
	return a.transform(changes, 0)
}

// isolateChinese puts blanks around the characters that BertNormalizer takes for Chinese.
func isolateChinese(a aligned) aligned {
	if strings.IndexFunc(a.text, isChinese) < 0 {
		return a
	}
	changes := make([]change, 0, len(a.text))
	for _, r := range a.text {
		if isChinese(r) {
			changes = append(changes, change{' ', 0}, change{r, 1}, change{' ', 1})
		} else {
			changes = append(changes, change{r, 0})
		}
	}
	return a.transform(changes, 0)
}

// isChinese names the blocks of BertNormalizer. One begins at U+2B920, not at U+2B820 where the block does.
func isChinese(r rune) bool {
	return r >= 0x3400 && (r <= 0x4dbf || r >= 0x4e00 && r <= 0x9fff || r >= 0xf900 && r <= 0xfaff ||
		r >= 0x20000 && r <= 0x2a6df || r >= 0x2a700 && r <= 0x2b81f || r >= 0x2b920 && r <= 0x2ceaf ||
		r >= 0x2f800 && r <= 0x2fa1f)
}

// decompositions are of Unicode 9: younger characters stay as they are.
var decompositions = rangetable.Assigned("9.0.0")

// decompose is NFD or NFKD.
func decompose(form norm.Form) normalizer {
	return func(a aligned) aligned {
		if strings.IndexFunc(a.text, func(r rune) bool { return r >= 0xa0 }) < 0 {
			return a
		}
		changes := make([]change, 0, len(a.text))
		classes := make([]uint8, 0, len(a.text)) // combining classes
		add := func(r rune, n int) {
			changes = append(changes, change{r, n})
			class := uint8(0)
			if r >= 0x300 && unicode.Is(decompositions, r) {
				class = form.PropertiesString(string(r)).CCC()
			}
			classes = append(classes, class)
		}
		for _, r := range a.text {
			if r < 0xa0 || !unicode.Is(decompositions, r) {
				add(r, 0)
				continue
			}
			n := 0
			for _, part := range form.String(string(r)) {
				add(part, n)
				n = 1
			}
		}
		// Marks after a character are in the order of their classes.
		for start := 0; start < len(changes); start++ {
			end := start
			for end < len(changes) && classes[end] > 0 {
				end++
			}
			if end-start > 1 {
				sortByClass(changes[start:end], classes[start:end])
			}
			start = max(start, end-1)
		}
		return a.transform(changes, 0)
	}
}

func sortByClass(changes []change, classes []uint8) {
	type mark struct {
		change
		class uint8
	}
	marks := make([]mark, len(changes))
	for i := range changes {
		marks[i] = mark{changes[i], classes[i]}
	}
	slices.SortStableFunc(marks, func(a, b mark) int { return int(a.class) - int(b.class) })
	for i := range marks {
		changes[i] = marks[i].change
	}
}

// youngLetters are the pairs of Unicode 16 and 17 that package unicode may not know yet.
var youngLetters = unicode.SpecialCase{
	{Lo: 0x1c89, Hi: 0x1c89, Delta: [unicode.MaxCase]rune{unicode.LowerCase: 1}},
	{Lo: 0xa7cb, Hi: 0xa7cb, Delta: [unicode.MaxCase]rune{unicode.LowerCase: 0x264 - 0xa7cb}},
	{Lo: 0xa7cc, Hi: 0xa7cc, Delta: [unicode.MaxCase]rune{unicode.LowerCase: 1}},
	{Lo: 0xa7ce, Hi: 0xa7ce, Delta: [unicode.MaxCase]rune{unicode.LowerCase: 1}},
	{Lo: 0xa7d2, Hi: 0xa7d2, Delta: [unicode.MaxCase]rune{unicode.LowerCase: 1}},
	{Lo: 0xa7d4, Hi: 0xa7d4, Delta: [unicode.MaxCase]rune{unicode.LowerCase: 1}},
	{Lo: 0xa7da, Hi: 0xa7da, Delta: [unicode.MaxCase]rune{unicode.LowerCase: 1}},
	{Lo: 0xa7dc, Hi: 0xa7dc, Delta: [unicode.MaxCase]rune{unicode.LowerCase: 0x19b - 0xa7dc}},
	{Lo: 0x10d50, Hi: 0x10d65, Delta: [unicode.MaxCase]rune{unicode.LowerCase: 0x20}},
	{Lo: 0x16ea0, Hi: 0x16eb8, Delta: [unicode.MaxCase]rune{unicode.LowerCase: 0x1b}},
}

func lowercase(a aligned) aligned {
	if strings.IndexFunc(a.text, func(r rune) bool { return lower(r) != r }) < 0 {
		return a
	}
	changes := make([]change, 0, len(a.text))
	for _, r := range a.text {
		changes = append(changes, change{lower(r), 0})
		if r == 'İ' {
			changes = append(changes, change{'\u0307', 1})
		}
	}
	return a.transform(changes, 0)
}

func lower(r rune) rune {
	switch {
	case r >= 'A' && r <= 'Z':
		return r + 'a' - 'A'
	case r < 0xc0:
		return r
	default:
		return youngLetters.ToLower(r)
	}
}

func strip(left, right bool) normalizer {
	return func(a aligned) aligned {
		start, end := 0, len(a.text)
		if left {
			start = end - len(strings.TrimLeftFunc(a.text, unicode.IsSpace))
		}
		if right {
			end = start + len(strings.TrimRightFunc(a.text[start:], unicode.IsSpace))
		}
		return a.slice(start, end)
	}
}

// replace understands the patterns that tokenizers have: a string, and a character n or more times.
func replace(pattern *patternSpec, by string) (normalizer, error) {
	if pattern == nil {
		return nil, errors.New("normalizer Replace has no pattern")
	}
	if pattern.Regex == "" {
		if pattern.String == "" {
			return nil, errors.New("normalizer Replace has an empty pattern")
		}
		return func(a aligned) aligned {
			return a.replace(func(text string) (int, int) {
				i := strings.Index(text, pattern.String)
				return i, i + len(pattern.String)
			}, by)
		}, nil
	}
	r, size := utf8.DecodeRuneInString(pattern.Regex)
	if pattern.Regex[size:] != "{2,}" || strings.ContainsRune(`\.[](){}*+?|^$`, r) {
		return nil, fmt.Errorf("normalizer Replace with the pattern %s is not supported", quote.Text(pattern.Regex))
	}
	pair := strings.Repeat(string(r), 2)
	return func(a aligned) aligned {
		return a.replace(func(text string) (start, end int) {
			if start = strings.Index(text, pair); start >= 0 {
				end = start + len(pair)
				for strings.HasPrefix(text[end:], pair[size:]) {
					end += size
				}
			}
			return start, end
		}, by)
	}, nil
}
