package data

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// Row is the input of one example. Which fields it has depends on the kind of task.
type Row struct {
	Text     string   `json:"text,omitempty"`
	TextPair string   `json:"text_pair,omitempty"`
	Words    []string `json:"words,omitempty"`   // of a token classification
	Choices  []Choice `json:"choices,omitempty"` // 2 or more
	Spans    []Span   `json:"spans,omitempty"`   // of the text: the mention and its candidates
}

// Choice is one of a multiple choice.
type Choice struct {
	Text string `json:"text"`
	Name string `json:"name,omitempty"` // empty if it is called by its place
}

// Span is a part of a text, in code points: a half-open range.
type Span struct {
	Start int `json:"start"`
	End   int `json:"end"`
}

// Texts are all texts of the row.
func (r Row) Texts() []string {
	texts := make([]string, 0, 2+len(r.Words)+len(r.Choices))
	for _, text := range []string{r.Text, r.TextPair} {
		if text != "" {
			texts = append(texts, text)
		}
	}
	texts = append(texts, r.Words...)
	for _, c := range r.Choices {
		texts = append(texts, c.Text)
	}
	return texts
}

// Bytes is the size of all texts.
func (r Row) Bytes() int {
	n := 0
	for _, text := range r.Texts() {
		n += len(text)
	}
	return n
}

// characters is the length of all texts.
func (r Row) characters() int {
	n := 0
	for _, text := range r.Texts() {
		n += utf8.RuneCountInString(text)
	}
	return n
}

// key is equal exactly for equal rows.
func (r Row) key() string {
	var b strings.Builder
	text := func(s string) {
		b.WriteString(strconv.Itoa(len(s)))
		b.WriteByte(' ')
		b.WriteString(s)
	}
	text(r.Text)
	text(r.TextPair)
	for _, w := range r.Words {
		b.WriteByte('w')
		text(w)
	}
	for _, c := range r.Choices {
		b.WriteByte('c')
		text(c.Text)
		text(c.Name)
	}
	for _, s := range r.Spans {
		b.WriteByte('s')
		text(strconv.Itoa(s.Start))
		text(strconv.Itoa(s.End))
	}
	return b.String()
}

// Example is a row with what is true of it.
type Example struct {
	Row
	// Target is a class index (classification, multiple choice), the value (regression), the index of each word's
	// tag, 0 or 1 for each candidate (coreference), 0 or 1 for each label (multilabel), or texts as [metric.Target]
	// writes them.
	Target []float64
}
