// Package quote prepares text that others wrote, such as names, labels, parts of files and messages of
// libraries, for messages and terminals: of bounded length, and without control characters and marks that
// turn the direction of writing.
package quote

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

const (
	// MessageLimit is the longest message in bytes. It leaves room below 2 kB for what is printed around one.
	MessageLimit = 1800

	textLimit = 80 // characters of a quoted text
	listLimit = 8  // texts of a list
)

// Text quotes a text as a Go string literal, so that invisible characters show. Long ones are cut.
func Text(s string) string { return cut(s, strconv.Quote) }

// Exact is Text with every character outside of ASCII spelled out, for texts that look alike.
func Exact(s string) string { return cut(s, strconv.QuoteToASCII) }

func cut(s string, quote func(string) string) string {
	if len(s) > textLimit {
		n := 0
		for at := range s {
			if n++; n > textLimit {
				return fmt.Sprintf("%s… (%d bytes)", strings.TrimSuffix(quote(s[:at]), `"`), len(s)) + `"`
			}
		}
	}
	return quote(s)
}

// List quotes the first texts and counts the others.
func List(texts []string) string {
	var parts []string
	for _, s := range texts[:min(len(texts), listLimit)] {
		parts = append(parts, Text(s))
	}
	list := strings.Join(parts, ", ")
	if more := len(texts) - listLimit; more > 0 {
		list += fmt.Sprintf(" and %d more", more)
	}
	return list
}

// Nearest is the known word that looks most like a given one, "" if none does. Words that differ in case
// and space alone come first.
func Nearest(word string, known []string) string {
	const longest, most = 100, 1000 // what people type and read
	if len(word) > longest {
		return ""
	}
	best, distance := "", (len(word)+1)/3+1
	for _, k := range known[:min(len(known), most)] {
		if len(k) > longest {
			continue
		}
		if strings.EqualFold(strings.TrimSpace(k), strings.TrimSpace(word)) {
			return k
		}
		if d := editDistance(word, k); d < distance {
			best, distance = k, d
		}
	}
	return best
}

// editDistance is Levenshtein's, in bytes.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}

// Line is a text for one line of a terminal: what could move the cursor, break the line or turn the
// direction of writing is spelled out. Joiners stay, because scripts and emoji need them.
func Line(s string) string { return escape(s, "") }

// Columns is [Line] for columns that tabs separate.
func Columns(s string) string { return escape(s, "\t") }

// Message is [Line] for a whole message of at most [MessageLimit] bytes; it keeps line breaks and tabs.
func Message(s string) string {
	text := escape(s[:min(len(s), MessageLimit+utf8.UTFMax)], "\n\t") // escaping makes no text shorter
	if len(text) <= MessageLimit {
		return text
	}
	note := fmt.Sprintf("… (%d bytes)", len(s))
	end := MessageLimit - len(note)
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + note
}

// Error is err with its text as a [Message].
func Error(err error) error {
	if err == nil {
		return nil
	}
	return &quoted{err, Message(err.Error())}
}

type quoted struct {
	err  error
	text string
}

func (q *quoted) Error() string { return q.text }
func (q *quoted) Unwrap() error { return q.err }

// JSON is a JSON document in which what [Line] spells out is written as \u escapes, which mean the same.
func JSON(document []byte) []byte {
	out := make([]byte, 0, len(document))
	for rest := document; len(rest) > 0; {
		r, size := utf8.DecodeRune(rest)
		switch {
		case r < ' ' || plain(r, size): // between values; inside of texts they are escaped already
			out = append(out, rest[:size]...)
		default:
			for _, unit := range utf16.AppendRune(nil, r) {
				out = fmt.Appendf(out, `\u%04x`, unit)
			}
		}
		rest = rest[size:]
	}
	return out
}

// plain reports whether a character can do nothing to a terminal but show.
func plain(r rune, size int) bool {
	switch {
	case r >= ' ' && r < 0x7f: // most of every document
		return true
	case r == utf8.RuneError && size == 1:
		return false
	case r == '\u200c' || r == '\u200d':
		return true
	}
	return !unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp)
}

func escape(s, keep string) string {
	var b strings.Builder
	for rest := s; rest != ""; {
		r, size := utf8.DecodeRuneInString(rest)
		if plain(r, size) || strings.ContainsRune(keep, r) {
			b.WriteString(rest[:size])
		} else {
			b.WriteString(strings.Trim(strconv.Quote(rest[:size]), `"`))
		}
		rest = rest[size:]
	}
	return b.String()
}

var shellSafe = regexp.MustCompile(`^[\w@%+=:,./-]+$`)

// Shell quotes a word of a command that people paste into a POSIX shell.
func Shell(word string) string {
	if shellSafe.MatchString(word) {
		return word
	}
	if Line(word) != word { // only this form can say such characters without printing them
		var b strings.Builder
		for _, c := range []byte(word) {
			if c < ' ' || c >= 0x7f || c == '\'' || c == '\\' {
				fmt.Fprintf(&b, `\%03o`, c)
			} else {
				b.WriteByte(c)
			}
		}
		return "$'" + b.String() + "'"
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
