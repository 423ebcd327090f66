package tokenizer

import "unicode/utf8"

// aligned is a text of which every byte knows the character of the original text that it stands for.
type aligned struct {
	text string
	from []int32 // by byte: where the character begins in the original
}

// align makes a text its own original. Bytes that are no UTF-8 must have been replaced.
func align(text string) aligned {
	from := make([]int32, len(text))
	start := 0
	for i := range len(text) {
		if utf8.RuneStart(text[i]) {
			start = i
		}
		from[i] = int32(start)
	}
	return aligned{text, from}
}

func (a aligned) slice(i, j int) aligned { return aligned{a.text[i:j], a.from[i:j]} }

// change is a character of a new text. n says what it does to the old one: 0 takes the place of the next character,
// -k does so and removes the k after it, 1 is inserted and stands for what the character before it stands for.
type change struct {
	r rune
	n int
}

// transform makes the new text; the first removed characters of the old one have gone.
func (a aligned) transform(changes []change, removed int) aligned {
	text, from := make([]byte, 0, len(a.text)+utf8.UTFMax), make([]int32, 0, len(a.text)+utf8.UTFMax)
	at := 0
	next := func(characters int) {
		for ; characters > 0 && at < len(a.text); characters-- {
			_, size := utf8.DecodeRuneInString(a.text[at:])
			at += size
		}
	}
	next(removed)
	for _, c := range changes {
		origin := a.from[max(0, min(at, len(a.from))-1)]
		if c.n <= 0 {
			if at < len(a.from) {
				origin = a.from[at]
			}
			next(1 - c.n)
		}
		before := len(text)
		text = utf8.AppendRune(text, c.r)
		for range len(text) - before {
			from = append(from, origin)
		}
	}
	return aligned{string(text), from}
}

// prepend inserts text, which stands for the first character.
func (a aligned) prepend(text string) aligned {
	from := make([]int32, 0, len(text)+len(a.from))
	for range len(text) {
		from = append(from, a.from[0])
	}
	return aligned{text + a.text, append(from, a.from...)}
}

// replace replaces the matches of find, which gives the next match from a place on, or a start of -1. Their
// replacement stands for the last character of the match.
func (a aligned) replace(find func(text string) (start, end int), by string) aligned {
	start, end := find(a.text)
	if start < 0 {
		return a
	}
	text, from := make([]byte, 0, len(a.text)+len(by)), make([]int32, 0, len(a.text)+len(by))
	rest := a
	for start >= 0 {
		text, from = append(text, rest.text[:start]...), append(from, rest.from[:start]...)
		text = append(text, by...)
		for range len(by) {
			from = append(from, rest.from[end-1])
		}
		rest = rest.slice(end, len(rest.text))
		start, end = find(rest.text)
	}
	return aligned{string(append(text, rest.text...)), append(from, rest.from...)}
}
