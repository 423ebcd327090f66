package data

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"peftsearch/data/quote"
)

// decide finds the kind and the columns, the more special kinds first.
func (g *guesser) decide() error {
	for _, try := range []func() bool{g.tokens, g.spans, g.choices, g.indicators} {
		if try() {
			return nil
		}
	}
	if f := g.numberedTags(); f != nil {
		return fmt.Errorf("column %s has numbers that stand for the tags of words: write the tags themselves, O, B- or I- "+
			"and a type", quote.Text(f.name))
	}
	return g.texts()
}

// last is the end of a field's path, in small letters.
func (f *field) last() string {
	return strings.ToLower(f.name[strings.LastIndex(f.name, ".")+1:])
}

// find is the first field that is so.
func (g *guesser) find(is func(*field) bool) *field {
	if i := slices.IndexFunc(g.fields, is); i >= 0 {
		return g.fields[i]
	}
	return nil
}

// tokens looks for lists of words and of as many BIO tags.
func (g *guesser) tokens() bool {
	tags := g.find(func(f *field) bool { return f.list && f.every(bioTag.MatchString) })
	if tags == nil {
		return false
	}
	words := g.beside(tags)
	if words == nil {
		return false
	}
	g.Task.Kind, g.Task.Columns = KindTokenClassification, Columns{Text: words.name, Label: tags.name}
	g.saw("%s are lists of BIO tags, one for each entry of %s", quote.Text(tags.name), quote.Text(words.name))
	return true
}

// beside is the first field with as many entries in every row as another that is a list.
func (g *guesser) beside(list *field) *field {
	return g.find(func(f *field) bool {
		return f != list && f.list && slices.EqualFunc(f.values, list.values,
			func(a, b []string) bool { return len(a) == len(b) })
	})
}

// numberedTags is a field with a number for each of the words of another.
func (g *guesser) numberedTags() *field {
	return g.find(func(f *field) bool {
		words := g.beside(f)
		return f.list && f.every(isWhole) && words != nil && !words.every(isNumber)
	})
}

var (
	offsetName = regexp.MustCompile(`(?i)[-_ ]?(offset|index|start)$`)
	pronoun    = regexp.MustCompile(`(?i)^(he|she|it|they|him|her|them|his|hers|its|their|theirs|himself|herself)$`)
)

// spans looks for columns of spans with their offsets.
func (g *guesser) spans() bool {
	type span struct{ text, offset *field }
	var spans []span
	for _, offset := range g.fields {
		stem := strings.ToLower(offsetName.ReplaceAllString(offset.name, ""))
		if stem == strings.ToLower(offset.name) || !offset.every(isWhole) {
			continue
		}
		text := g.find(func(f *field) bool {
			name := strings.ToLower(f.name)
			return f != offset && (name == stem || name == stem+"_text" || name == stem+"-text")
		})
		if text != nil {
			spans = append(spans, span{text, offset})
		}
	}
	text := g.longest()
	if len(spans) < 2 || text == nil {
		return false
	}
	share := func(f *field) float64 {
		n := 0
		for _, v := range f.all() {
			if pronoun.MatchString(strings.TrimSpace(v)) {
				n++
			}
		}
		return float64(n) / float64(g.rows)
	}
	slices.SortStableFunc(spans, func(a, b span) int { return int(100 * (share(b.text) - share(a.text))) })
	c := Columns{Text: text.name}
	for _, s := range spans {
		c.Spans, c.Offsets = append(c.Spans, s.text.name), append(c.Offsets, s.offset.name)
	}
	decisions := slices.DeleteFunc(slices.Clone(g.fields), func(f *field) bool {
		return !f.every(isYes) || !f.complete() || offsetName.MatchString(f.name)
	})
	var labels []string
	for _, s := range spans[1:] { // A-coref for A
		for _, f := range decisions {
			if strings.HasPrefix(strings.ToLower(f.name), strings.ToLower(s.text.name)+"-") ||
				strings.HasPrefix(strings.ToLower(f.name), strings.ToLower(s.text.name)+"_") {
				labels = append(labels, f.name)
				break
			}
		}
	}
	switch named := g.find(func(f *field) bool { return slices.Contains(decisions, f) && known[f.last()] == "label" }); {
	case len(labels) == len(spans)-1:
		c.Labels = labels
	case named != nil && len(spans) == 2:
		c.Label = named.name
	default:
		return false
	}
	g.Task.Kind, g.Task.Columns = KindCoreference, c
	g.saw("spans with their offsets: %s", quote.List(c.Spans))
	g.unsure("%s is taken for the mention, since its values are pronouns more often; the others are candidates",
		quote.Text(c.Spans[0]))
	return true
}

var choiceName = regexp.MustCompile(`(?i)^(choice|option|ending|answer|alternative|sol|solution)[-_ ]?([0-9]|[a-h])$`)

// choices looks for a list of texts, or for columns of them, beside a label that names one.
func (g *guesser) choices() bool {
	label := g.label(func(f *field) bool { return !f.list && f.complete() && f.words() <= 2 && f.distinct() <= 26 })
	if label == nil {
		return false
	}
	var c Columns
	lists := slices.DeleteFunc(slices.Clone(g.fields), func(f *field) bool {
		return !f.list || slices.ContainsFunc(f.values, func(v []string) bool { return len(v) < 2 })
	})
	texts := slices.MaxFunc(append(lists, &field{}), func(a, b *field) int { return int(1000 * (a.words() - b.words())) })
	if len(lists) > 0 {
		c.Choices = []string{texts.name}
		names := slices.IndexFunc(lists, func(f *field) bool {
			for i, values := range f.values {
				if f == texts || len(label.values[i]) == 0 || !slices.Contains(values, label.values[i][0]) {
					return false
				}
			}
			return true
		})
		if names >= 0 {
			c.ChoiceNames = lists[names].name
		}
	} else {
		for _, f := range g.fields {
			if f != label && choiceName.MatchString(f.last()) && f.complete() {
				c.Choices = append(c.Choices, f.name)
			}
		}
	}
	if len(c.Choices) == 0 || len(lists) == 0 && len(c.Choices) < 2 {
		return false
	}
	g.rest(label)
	text := g.longest(c.Choices...)
	if text == nil {
		return false
	}
	c.Text, c.Label = text.name, label.name
	question := g.find(func(f *field) bool {
		return f.last() == "question" && f.name != text.name && !slices.Contains(c.Choices, f.name) && f.complete()
	})
	if question != nil {
		c.Question = question.name
	}
	other := g.longest(append(slices.Clone(c.Choices), text.name, label.name, c.Question)...)
	if other != nil && other.words() >= 3 {
		g.unsure("%s has texts too, and is left out: task.columns.question adds it to the text", quote.Text(other.name))
	}
	g.Task.Kind, g.Task.Columns = KindMultipleChoice, c
	g.saw("choices in %s, of which %s names one", quote.List(c.Choices), quote.Text(label.name))
	return true
}

// indicators looks for three or more columns with 0 and 1, for a list of a few words, or for a column that has several
// of them in some rows and none in others.
func (g *guesser) indicators() bool {
	var columns []string
	for _, f := range g.fields {
		if !f.list && f.complete() && f.every(isYes) && f.distinct() == 2 {
			columns = append(columns, f.name)
		}
	}
	text := g.longest(columns...)
	if len(columns) >= 3 && text != nil {
		g.Task.Kind, g.Task.Columns = KindMultilabel, Columns{Text: text.name, Labels: columns}
		g.saw("%d columns with yes or no: %s", len(columns), quote.List(columns))
		return true
	}
	list := g.find(func(f *field) bool {
		_, commas := f.separated()
		return (f.list || commas && !f.complete()) && f.words() <= 3 && f.distinct() <= max(20, g.rows/5)
	})
	if list == nil || text == nil {
		return false
	}
	g.Task.Kind, g.Task.Columns = KindMultilabel, Columns{Text: text.name, Label: list.name}
	if list.list {
		g.saw("%s has lists of %d different labels", quote.Text(list.name), list.distinct())
	} else {
		g.saw("%s has several labels in some rows and none in others", quote.Text(list.name))
	}
	return true
}

var digits = regexp.MustCompile(`[0-9]`)

// texts decides between classification and regression of one or two texts.
func (g *guesser) texts() error {
	label := g.label(func(f *field) bool {
		return !f.list && f.words() <= 4 && (f.complete() || known[f.last()] == "label") // Load names the rows without one
	})
	if label == nil {
		return errors.New("no column looks like a label: a short value in every row; peftsearch init writes a study file " +
			"to fill in")
	}
	g.rest(label)
	c := Columns{Label: label.name}
	first := g.find(func(f *field) bool { return f != label && known[f.last()] == "text" && !f.list && f.complete() })
	second := g.find(func(f *field) bool { return f != label && known[f.last()] == "pair" && !f.list && f.complete() })
	if first == nil {
		first = g.longest(label.name)
	}
	if first == nil {
		return errors.New("no column looks like a text; peftsearch init writes a study file to fill in")
	}
	c.Text = first.name
	if second != nil && second != first {
		c.TextPair = second.name
	} else if other := g.longest(label.name, first.name); other != nil &&
		digits.ReplaceAllString(other.name, "") == digits.ReplaceAllString(first.name, "") &&
		other.words() > 0.7*first.words() && len(g.fields) > 2 && digits.MatchString(first.name) &&
		!position.MatchString(first.name) {
		c.Text, c.TextPair = min(first.name, other.name), max(first.name, other.name)
		g.unsure("%s and %s are taken for a pair", quote.Text(c.Text), quote.Text(c.TextPair))
	} else if other != nil && other.words() >= 4 {
		g.unsure("%s has texts too, and is left out: task.columns.text_pair takes a second sentence", quote.Text(other.name))
	}
	g.Task.Columns = c
	classes := label.distinct()
	numbers := label.every(isNumber)
	switch {
	case numbers && (classes > 20 || !label.every(isWhole) && classes > 5):
		g.Task.Kind, g.Task.Split = KindRegression, ""
		g.saw("%s has %d different numbers", quote.Text(label.name), classes)
	case classes > max(2, g.rows/3):
		return fmt.Errorf("column %s has %d different values in %d rows: neither classes nor numbers; peftsearch init "+
			"writes a study file to fill in",
			quote.Text(label.name), classes, g.rows)
	default:
		g.Task.Kind = KindClassification
		g.saw("%s has %d different values", quote.Text(label.name), classes)
		if numbers && classes > 3 {
			g.unsure("the numbers of %s are taken for classes; if they are a scale, kind: regression learns their order",
				quote.Text(label.name))
		}
		if few := label.fewest(); few < 5 {
			g.unsure("some class of %s has %d rows only", quote.Text(label.name), few)
		}
		if value, commas := label.separated(); commas {
			g.unsure("%s may hold several labels, as in %s: then kind: multilabel reads them", quote.Text(label.name),
				quote.Text(value))
		}
	}
	return nil
}

// label is the field that a name or the values show to be the answer: one with a usual name first, then the one
// with the fewest different values, at least two.
func (g *guesser) label(may func(*field) bool) *field {
	var best *field
	rank := func(f *field) (int, int) {
		if known[f.last()] == "label" {
			return 0, 0
		}
		return 1, f.distinct()
	}
	for _, f := range g.fields {
		if !may(f) || f.distinct() < 2 || f.distinct() == g.rows && !f.every(isNumber) || f.last() == "id" ||
			f.last() == "idx" || f.last() == "index" {
			continue
		}
		if best != nil {
			a, b := rank(f)
			c, d := rank(best)
			if a > c || a == c && b >= d {
				continue
			}
		}
		best = f
	}
	return best
}

// rest says that the label has no usual name.
func (g *guesser) rest(label *field) {
	if known[label.last()] != "label" {
		g.unsure("%s is taken for the label, since it has the fewest different values", quote.Text(label.name))
	}
}

// longest is the field with the most words in its values, at least two; not one of those named.
func (g *guesser) longest(but ...string) *field {
	var best *field
	for _, f := range g.fields {
		if !f.list && f.complete() && !slices.Contains(but, f.name) && f.words() >= 2 &&
			(best == nil || f.words() > best.words()) {
			best = f
		}
	}
	return best
}

// fewest is the number of rows of the rarest value.
func (f *field) fewest() int {
	count := map[string]int{}
	for _, v := range f.all() {
		count[v]++
	}
	fewest := len(f.values)
	for _, n := range count {
		fewest = min(fewest, n)
	}
	return fewest
}

// separated reports whether values are other values joined by commas, and shows one.
func (f *field) separated() (string, bool) {
	seen := map[string]bool{}
	for _, v := range f.all() {
		seen[strings.TrimSpace(v)] = true
	}
	for _, v := range f.all() {
		parts := strings.Split(v, ",")
		if len(parts) > 1 && !slices.ContainsFunc(parts, func(p string) bool { return !seen[strings.TrimSpace(p)] }) {
			return v, true
		}
	}
	return "", false
}
