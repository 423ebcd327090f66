package data

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"peftsearch/data/metric"
	"peftsearch/data/quote"
	"peftsearch/data/tokenizer"
)

// tokenClassification gives each word of a sentence a BIO tag. A word's tag is that of its first token; a word
// without a token gets O, and so does one beyond the maximal length.
type tokenClassification struct{ plain }

func (tokenClassification) form() metric.Form { return metric.Tags }

func (tokenClassification) metrics() []metric.Name {
	return []metric.Name{metric.EntityF1, metric.EntityF1Strict, metric.EntityPrecision, metric.EntityRecall,
		metric.EntityF1Macro, metric.Accuracy}
}

func (tokenClassification) keys() []columnKey {
	return []columnKey{{name: "text", required: true, list: true},
		{name: "label", required: true, list: true, answer: true}}
}

func (tokenClassification) reader(extension string) reader {
	switch extension {
	case ".jsonl":
		return readJSONL
	case ".conll", ".conll2002", ".conll2003", ".conllu", ".bio", ".iob2", ".tsv", ".txt":
		return readCoNLL
	}
	return nil
}

// outside is the tag of words in no entity.
const outside = "O"

// classes are O, and B- and I- of every type: dev may go on where train has entities of one word only.
func (tokenClassification) classes(t Task, l layout, records []record) ([]string, error) {
	if t.Labels != nil {
		return nil, fmt.Errorf("labels: the tags of %s are those of the training rows", KindTokenClassification)
	}
	types := map[string]bool{}
	for _, r := range records {
		for _, tag := range l.values(r, "label") {
			if _, kind, err := parseTag(tag); err == nil && kind != "" {
				types[kind] = true
			}
		}
	}
	if len(types) == 0 {
		return nil, fmt.Errorf("%s: column %s has no tag of an entity, such as B-PER", t.Train, l.names("label"))
	}
	if len(types) > maxLabels/2 {
		return nil, fmt.Errorf("%s: column %s has %d types of entities, the limit is %d", t.Train, l.names("label"),
			len(types), maxLabels/2)
	}
	tags := []string{outside}
	for _, kind := range slices.Sorted(maps.Keys(types)) {
		tags = append(tags, "B-"+kind, "I-"+kind)
	}
	return tags, nil
}

// parseTag takes a BIO tag apart.
func parseTag(tag string) (prefix, kind string, err error) {
	prefix, kind, _ = strings.Cut(tag, "-")
	switch {
	case tag == outside:
		return outside, "", nil
	case (prefix == "B" || prefix == "I") && kind != "":
		return prefix, kind, nil
	case slices.Contains([]string{"E", "S", "L", "U"}, prefix) && kind != "":
		return "", "", fmt.Errorf("tag %s: its scheme marks ends and single words (BIOES, BILOU): convert it to BIO",
			quote.Text(tag))
	}
	if isWhole(tag) {
		return "", "", fmt.Errorf("tag %s: a number stands for a tag that the file does not say: write O, "+
			"or B- or I- and a type", quote.Text(tag))
	}
	return "", "", fmt.Errorf("tag %s: must be O, or B- or I- and a type", quote.Text(tag))
}

func (tokenClassification) rows(l layout, records []record, bad *problems) []Row {
	rows := make([]Row, len(records))
	for i, r := range records {
		rows[i].Words = l.values(r, "text")
		if len(rows[i].Words) == 0 {
			bad.add(r.line, "%s is missing or empty", l.names("text"))
		}
	}
	return rows
}

func (tokenClassification) target(l layout, r record, row Row, classes []string, bad *problems) []float64 {
	tags := l.values(r, "label")
	if len(tags) != len(row.Words) {
		shown := ""
		if len(row.Words) == 1 {
			shown = fmt.Sprintf(" (%s): they are a list of words", quote.Text(row.Words[0]))
		}
		bad.add(r.line, "%d tags for %d words%s", len(tags), len(row.Words), shown)
		return nil
	}
	target := make([]float64, len(tags))
	for i, tag := range tags {
		if _, _, err := parseTag(tag); err != nil {
			bad.add(r.lineOf(i), "%v", err)
		} else if class := slices.Index(classes, tag); class >= 0 {
			target[i] = float64(class)
		} else {
			bad.add(r.lineOf(i), "tag %s is of a type that the training rows lack: they have %s", quote.Text(tag),
				quote.List(classes))
		}
	}
	return target
}

// notes says where a tag I- begins an entity, and where words are empty.
func (tokenClassification) notes(l layout, records []record) []string {
	var orphans, empty sighting
	for _, r := range records {
		for i, word := range l.values(r, "text") {
			if word == "" {
				empty.at(r.lineOf(i))
			}
		}
		last := ""
		for i, tag := range l.values(r, "label") {
			prefix, kind, _ := strings.Cut(tag, "-")
			if prefix == "I" && kind != last {
				orphans.at(r.lineOf(i))
			}
			last = kind
		}
	}
	var notes []string
	if orphans.count > 0 {
		notes = append(notes, fmt.Sprintf("line %d has a tag I- that follows no tag of its type%s: an entity begins there, "+
			"but not for entity_f1_strict", orphans.first, orphans.more()))
	}
	if empty.count > 0 {
		notes = append(notes, fmt.Sprintf("line %d has an empty word%s: nothing can be learnt of it", empty.first,
			empty.more()))
	}
	return notes
}

// sighting counts what is no error and says where it was seen first.
type sighting struct{ count, first int }

func (s *sighting) at(line int) {
	if s.count++; s.count == 1 {
		s.first = line
	}
}

// more says how many there are behind the first.
func (s *sighting) more() string {
	if s.count == 1 {
		return ""
	}
	return fmt.Sprintf(" (and %d more)", s.count-1)
}

// counted are the tags other than O, or O if there is no other.
func (tokenClassification) counted(target []float64) []int {
	var classes []int
	for _, class := range target {
		if class != 0 {
			classes = append(classes, int(class))
		}
	}
	if classes == nil {
		return []int{0}
	}
	return classes
}

func (tokenClassification) encode(t *tokenizer.Tokenizer, task Task, e Example) Input {
	maxLength, row := task.MaxLength, e.Row
	sequence, spans := t.EncodeWords(maxLength, row.Words)
	in := Input{Sequences: []tokenizer.Encoding{sequence}, Words: make([]int, len(row.Words))}
	for i := range in.Words {
		in.Words[i] = -1
	}
	for token, span := range spans {
		if span.Text >= 0 && in.Words[span.Word] < 0 {
			in.Words[span.Word] = len(in.Marked)
			in.Marked = append(in.Marked, token)
		}
	}
	if len(in.Marked) == 0 { // a head reads something of every row
		in.Marked = []int{0}
	}
	if len(sequence.IDs) == maxLength {
		longer, _ := t.EncodeWords(maxLength+1, row.Words)
		in.Truncated = len(longer.IDs) > maxLength
	}
	return in
}

// ignored is a target that no loss counts.
const ignored = -100

func (tokenClassification) wanted(in Input, target []float64) []float64 {
	wanted := slices.Repeat([]float64{ignored}, len(in.Marked))
	for word, at := range in.Words {
		if at >= 0 {
			wanted[at] = target[word]
		}
	}
	return wanted
}

func (tokenClassification) answer(in Input, outputs []float64, classes []string) []float64 {
	answer := make([]float64, len(in.Words)) // 0 is O
	for word, at := range in.Words {
		if at >= 0 {
			answer[word] = float64(largest(outputs[at*len(classes):][:len(classes)]))
		}
	}
	return answer
}

func (tokenClassification) check(_ Task, row Row) error {
	if len(row.Words) == 0 {
		return errors.New("it has no words")
	}
	return nil
}

func (tokenClassification) several() bool { return true }

func (tokenClassification) say(_ Row, answer []float64, classes []string) []string {
	said := make([]string, len(answer))
	for i, class := range answer {
		said[i] = classes[int(class)]
	}
	return said
}

// lines are columns of words and tags, and an empty line.
func (tokenClassification) lines(row Row, said []string) []string {
	lines := make([]string, 0, len(said)+1)
	for i, tag := range said {
		lines = append(lines, row.Words[i]+"\t"+tag)
	}
	return append(lines, "")
}
