package tokenizer

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"peftsearch/data/quote"
)

// decoderSpec is a decoder of tokenizer.json.
type decoderSpec struct {
	Type           string        `json:"type"`
	Decoders       []decoderSpec `json:"decoders"`         // Sequence
	Prefix         string        `json:"prefix"`           // WordPiece
	Cleanup        bool          `json:"cleanup"`          // WordPiece
	Replacement    string        `json:"replacement"`      // Metaspace
	PrependScheme  string        `json:"prepend_scheme"`   // Metaspace
	AddPrefixSpace *bool         `json:"add_prefix_space"` // older Metaspace
	Pattern        *patternSpec  `json:"pattern"`          // Replace
	Content        string        `json:"content"`          // Replace, Strip
	Start          int           `json:"start"`            // Strip
	Stop           int           `json:"stop"`             // Strip
}

// decoder turns tokens into the parts of a text.
type decoder func(tokens []string) []string

// decoder builds that of s, which may be nil: then tokens are joined by blanks.
func (s *decoderSpec) decoder() (decoder, error) {
	if s == nil {
		return func(tokens []string) []string { return []string{strings.Join(tokens, " ")} }, nil
	}
	switch s.Type {
	case "Sequence":
		var decoders []decoder
		for _, part := range s.Decoders {
			d, err := part.decoder()
			if err != nil {
				return nil, err
			}
			decoders = append(decoders, d)
		}
		return func(tokens []string) []string {
			for _, d := range decoders {
				tokens = d(tokens)
			}
			return tokens
		}, nil
	case "WordPiece":
		return s.wordPiece, nil
	case "ByteLevel":
		return decodeBytes, nil
	case "Metaspace":
		return each(func(i int, token string) string {
			if i == 0 && s.PrependScheme != "never" && (s.AddPrefixSpace == nil || *s.AddPrefixSpace) {
				return strings.ReplaceAll(token, s.Replacement, "")
			}
			return strings.ReplaceAll(token, s.Replacement, " ")
		}), nil
	case "Replace":
		if s.Pattern == nil || s.Pattern.String == "" {
			return nil, fmt.Errorf("decoder Replace with another pattern than a string is not supported")
		}
		return each(func(_ int, token string) string {
			return strings.ReplaceAll(token, s.Pattern.String, s.Content)
		}), nil
	case "Strip":
		return each(func(_ int, token string) string {
			for n := s.Start; n > 0 && s.Content != "" && strings.HasPrefix(token, s.Content); n-- {
				token = token[len(s.Content):]
			}
			for n := s.Stop; n > 0 && s.Content != "" && strings.HasSuffix(token, s.Content); n-- {
				token = token[:len(token)-len(s.Content)]
			}
			return token
		}), nil
	case "Fuse":
		return func(tokens []string) []string { return []string{strings.Join(tokens, "")} }, nil
	case "ByteFallback":
		return decodeFallback, nil
	default:
		return nil, fmt.Errorf("decoder %s is not supported", quote.Text(s.Type))
	}
}

func each(decode func(i int, token string) string) decoder {
	return func(tokens []string) []string {
		decoded := make([]string, len(tokens))
		for i, token := range tokens {
			decoded[i] = decode(i, token)
		}
		return decoded
	}
}

// wordPiece puts blanks between words.
func (s *decoderSpec) wordPiece(tokens []string) []string {
	return each(func(i int, token string) string {
		if i > 0 {
			if rest, ok := strings.CutPrefix(token, s.Prefix); ok {
				token = rest
			} else {
				token = " " + token
			}
		}
		if s.Cleanup {
			token = cleanUp(token, true)
		}
		return token
	})(tokens)
}

// cleanUp takes the blanks out that tokens of English have before punctuation. The WordPiece decoder also makes
// "do not" of it shorter, transformers does not.
func cleanUp(text string, doNot bool) string {
	for _, pair := range [][2]string{
		{" .", "."}, {" ?", "?"}, {" !", "!"}, {" ,", ","}, {" ' ", "'"}, {" n't", "n't"}, {" 'm", "'m"},
		{" do not", " don't"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"},
	} {
		if doNot || pair[0] != " do not" {
			text = strings.ReplaceAll(text, pair[0], pair[1])
		}
	}
	return text
}

// symbolBytes are the bytes that the symbols of byte-level tokens stand for.
var symbolBytes = func() map[rune]byte {
	bytes := map[rune]byte{}
	for b, symbol := range byteSymbols() {
		bytes[symbol] = byte(b)
	}
	return bytes
}()

// decodeBytes joins the bytes of tokens. A token with other characters, which was added, stands for itself.
func decodeBytes(tokens []string) []string {
	var text []byte
	for _, token := range tokens {
		before := len(text)
		for _, r := range token {
			b, ok := symbolBytes[r]
			if !ok {
				text = append(text[:before], token...)
				break
			}
			text = append(text, b)
		}
	}
	return []string{replaceInvalid(string(text))}
}

// replaceInvalid writes U+FFFD for each longest beginning of a character that does not go on, as Unicode recommends.
func replaceInvalid(text string) string {
	if utf8.ValidString(text) {
		return text
	}
	var valid strings.Builder
	for text != "" {
		r, size := utf8.DecodeRuneInString(text)
		if r == utf8.RuneError && size == 1 {
			size = brokenLength(text)
		}
		valid.WriteRune(r)
		text = text[size:]
	}
	return valid.String()
}

// brokenLength is how many bytes of text could still begin a character, at least 1. Go's decoder takes one at a time.
func brokenLength(text string) int {
	for n := 1; n < len(text) && n < utf8.UTFMax; n++ {
		if utf8.FullRuneInString(text[:n]) { // nothing that follows makes it a character
			return max(1, n-1)
		}
	}
	if !utf8.FullRuneInString(text) {
		return len(text)
	}
	return max(1, min(len(text), utf8.UTFMax)-1)
}

// decodeFallback joins neighbouring tokens <0xE5> to characters, or to U+FFFD for each if they are none.
func decodeFallback(tokens []string) []string {
	var decoded []string
	var bytes []byte
	flush := func() {
		if utf8.Valid(bytes) {
			if len(bytes) > 0 {
				decoded = append(decoded, string(bytes))
			}
		} else {
			for range bytes {
				decoded = append(decoded, "\ufffd")
			}
		}
		bytes = bytes[:0]
	}
	for _, token := range tokens {
		if len(token) == 6 && strings.HasPrefix(token, "<0x") && token[5] == '>' {
			if b, err := strconv.ParseUint(token[3:5], 16, 8); err == nil {
				bytes = append(bytes, byte(b))
				continue
			}
		}
		flush()
		decoded = append(decoded, token)
	}
	flush()
	return decoded
}
