package data

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"peftsearch/data/metric"
	"peftsearch/data/quote"
	"peftsearch/data/tokenizer"
)

// coreference says of each candidate span of a text whether the mention, the first span, refers to it. WSC has one
// candidate in a row, GAP two.
type coreference struct{ plain }

func (coreference) form() metric.Form { return metric.Classes }

func (coreference) metrics() []metric.Name {
	return []metric.Name{metric.Accuracy, metric.F1, metric.Precision, metric.Recall, metric.MCC}
}

func (coreference) keys() []columnKey {
	return []columnKey{keyText, {name: "spans", required: true}, {name: "offsets", required: true},
		{name: "label", answer: true}, {name: "labels", answer: true}}
}

func (coreference) classes(t Task, l layout, _ []record) ([]string, error) {
	if t.Labels != nil {
		return nil, fmt.Errorf("labels: those of %s are false and true", KindCoreference)
	}
	candidates := len(t.Columns.Spans) - 1
	if have := len(l.of("label")) + len(l.of("labels")); candidates < 1 || len(t.Columns.Offsets) != candidates+1 ||
		have != candidates {
		return nil, fmt.Errorf("columns: %d spans need as many offsets and %d labels: spans are the mention and its "+
			"candidates, "+
			"and label, or labels, has a yes or no for each candidate", len(t.Columns.Spans), max(1, candidates))
	}
	return []string{"false", "true"}, nil
}

// rows finds out whether offsets count characters or words: the unit in which more spans stand where they should.
func (coreference) rows(l layout, records []record, bad *problems) []Row {
	var found [2][]Row
	var problem [2]problems
	for unit := range found {
		found[unit] = make([]Row, len(records))
		for i, r := range records {
			found[unit][i] = coreferenceRow(l, r, unit == 1, &problem[unit])
		}
	}
	unit := 0
	if problem[1].count < problem[0].count {
		unit = 1
	}
	bad.join(problem[unit])
	return found[unit]
}

func coreferenceRow(l layout, r record, words bool, bad *problems) Row {
	row := Row{Text: l.text(r, "text", bad)}
	spans, offsets := l.values(r, "spans"), l.values(r, "offsets")
	if len(spans) != len(l.of("spans")) || len(offsets) != len(spans) {
		bad.add(r.line, "%s: a span or its offset is missing", l.names("spans"))
		return row
	}
	for i, text := range spans {
		offset, err := strconv.Atoi(strings.TrimSpace(offsets[i]))
		if err != nil || offset < 0 {
			bad.add(r.line, "%s is %s: an offset is a number from 0", quote.Text(l.of("offsets")[i].name),
				quote.Text(offsets[i]))
			continue
		}
		span, ok := spanAt(row.Text, text, offset, words)
		if !ok {
			unit := "character"
			if words {
				unit = "word"
			}
			bad.add(r.line, "%s %s does not stand at %s %d of the text", quote.Text(l.of("spans")[i].name), quote.Text(text),
				unit, offset)
		}
		row.Spans = append(row.Spans, span)
	}
	return row
}

// spanAt is where a span stands whose offset counts characters, or words between blanks. Case, blanks, and
// punctuation at its ends may differ; the last word may go on behind an apostrophe.
func spanAt(text, span string, offset int, words bool) (Span, bool) {
	wanted := len(strings.Fields(span))
	if wanted == 0 {
		return Span{}, false
	}
	runes := []rune(text)
	start, end := offset, offset+utf8.RuneCountInString(span)
	if words {
		fields := wordSpans(runes)
		if offset+wanted > len(fields) {
			return Span{}, false
		}
		start, end = fields[offset].Start, fields[offset+wanted-1].End
	}
	if end > len(runes) {
		return Span{}, false
	}
	plain := func(s string) string {
		s = strings.TrimFunc(s, func(r rune) bool { return unicode.IsPunct(r) || unicode.IsSpace(r) })
		return strings.Join(strings.Fields(s), " ")
	}
	have, want := []rune(plain(string(runes[start:end]))), []rune(plain(span))
	if words && len(have) > len(want) && !unicode.IsLetter(have[len(want)]) { // "Emma" of "Emma's"
		have = have[:len(want)]
	}
	return Span{start, end}, strings.EqualFold(string(have), string(want))
}

// wordSpans are the words between blanks.
func wordSpans(runes []rune) []Span {
	var words []Span
	inside := false
	for i, r := range runes {
		switch blank := unicode.IsSpace(r); {
		case !blank && !inside:
			words, inside = append(words, Span{i, i + 1}), true
		case !blank:
			words[len(words)-1].End = i + 1
		default:
			inside = false
		}
	}
	return words
}

func (coreference) target(l layout, r record, row Row, _ []string, bad *problems) []float64 {
	var target []float64
	for _, key := range []string{"label", "labels"} {
		columns := l.of(key)
		for i, column := range columns {
			value := strings.Join(r.values[l.keys[key][0]+i], ",")
			target = append(target, decision(value, quote.Text(column.name), r.line, bad))
		}
	}
	return target
}

func (coreference) counted(target []float64) []int {
	classes := make([]int, len(target))
	for i, class := range target {
		classes[i] = int(class)
	}
	return classes
}

// group is the text: a text has several rows, which say much about each other.
func (coreference) group(row Row) string { return row.Text }

func (coreference) outputs(int) int { return 2 }

// encode marks the tokens of the spans. One that the maximal length has cut off is read at the first token.
func (coreference) encode(t *tokenizer.Tokenizer, task Task, e Example) Input {
	maxLength, row := task.MaxLength, e.Row
	sequence, tokens := t.Align(maxLength, row.Text)
	in := Input{Sequences: []tokenizer.Encoding{sequence}}
	marked := make([]bool, len(tokens))
	for _, span := range row.Spans {
		found := tokenizer.Range{}
		for i, token := range tokens {
			if token.Text < 0 || token.Chars.End <= span.Start || token.Chars.Start >= span.End {
				continue
			}
			if found.End == 0 {
				found.Start = i
			}
			found.End = i + 1
		}
		if found.End == 0 {
			found, in.Truncated = tokenizer.Range{Start: 0, End: 1}, true
		}
		in.Spans = append(in.Spans, found)
		for i := found.Start; i < found.End; i++ {
			marked[i] = true
		}
	}
	for i, is := range marked {
		if is {
			in.Marked = append(in.Marked, i)
		}
	}
	return in
}

func (coreference) answer(_ Input, outputs []float64, _ []string) []float64 {
	answer := make([]float64, len(outputs)/2)
	for i := range answer {
		answer[i] = float64(largest(outputs[2*i:][:2]))
	}
	return answer
}

func (coreference) check(_ Task, row Row) error {
	length := utf8.RuneCountInString(row.Text)
	for _, span := range row.Spans {
		if span.Start < 0 || span.Start >= span.End || span.End > length {
			return fmt.Errorf("span %d to %d is none of a text of %d characters", span.Start, span.End, length)
		}
	}
	if len(row.Spans) < 2 {
		return errors.New("it has no mention, or no candidate")
	}
	return nil
}

func (coreference) several() bool { return true }

func (coreference) say(_ Row, answer []float64, classes []string) []string {
	said := make([]string, len(answer))
	for i, class := range answer {
		said[i] = classes[int(class)]
	}
	return said
}

// lines has an answer for each candidate, separated by tabs as GAP's scorer wants them.
func (coreference) lines(_ Row, said []string) []string { return []string{strings.Join(said, "\t")} }
