package data

import (
	"fmt"
	"slices"
	"strings"

	"peftsearch/data/quote"
)

// columnKey is a key of [Columns] as a kind uses it.
type columnKey struct {
	name     string
	required bool
	list     bool // a value may be a list
	answer   bool // what is predicted: predict needs no such column
}

// The keys that several kinds have.
var (
	keyText     = columnKey{name: "text", required: true}
	keyTextPair = columnKey{name: "text_pair"}
	keyLabel    = columnKey{name: "label", required: true, answer: true}
)

// mapping is a key of Columns with its columns.
type mapping struct {
	key     string
	columns []string
}

// named lists the columns of each key, in the order of Columns.
func (c Columns) named() []mapping {
	one := func(column string) []string {
		if column == "" {
			return nil
		}
		return []string{column}
	}
	return []mapping{
		{"text", one(c.Text)}, {"text_pair", one(c.TextPair)}, {"label", one(c.Label)}, {"labels", c.Labels},
		{"question", one(c.Question)}, {"choices", c.Choices}, {"choice_names", one(c.ChoiceNames)},
		{"spans", c.Spans}, {"offsets", c.Offsets},
	}
}

// check refuses a mapping that does not fit the kind.
func (c Columns) check(kind Kind) error {
	var missing []string
	for _, mapping := range c.named() {
		known := kinds[kind].keys()
		i := slices.IndexFunc(known, func(k columnKey) bool { return k.name == mapping.key })
		switch {
		case i < 0 && len(mapping.columns) > 0:
			names := make([]string, len(known))
			for i, k := range known {
				names[i] = k.name
			}
			return fmt.Errorf("columns: %s has no %s: its keys are %s", kind, mapping.key, strings.Join(names, ", "))
		case i >= 0 && known[i].required && len(mapping.columns) == 0:
			missing = append(missing, mapping.key)
		case slices.Contains(mapping.columns, ""):
			return fmt.Errorf("columns: %s has an empty entry", mapping.key)
		}
	}
	if missing != nil {
		return fmt.Errorf("columns: %s must name a column", strings.Join(missing, " and "))
	}
	return nil
}

// column is one that is wanted of a file.
type column struct {
	name string
	list bool // its value may be a list
}

// layout says where the values of each key stand in a record.
type layout struct {
	columns []column
	keys    map[string][2]int // beginning and end among columns
}

// layout is that of the columns of a kind, those with the answer included or not.
func (c Columns) layout(kind Kind, answers bool) layout {
	l := layout{keys: map[string][2]int{}}
	known := kinds[kind].keys()
	for _, mapping := range c.named() {
		i := slices.IndexFunc(known, func(k columnKey) bool { return k.name == mapping.key })
		if i < 0 || known[i].answer && !answers {
			continue
		}
		first := len(l.columns)
		for _, name := range mapping.columns {
			l.columns = append(l.columns, column{name, known[i].list})
		}
		l.keys[mapping.key] = [2]int{first, len(l.columns)}
	}
	return l
}

// of are the columns of a key.
func (l layout) of(key string) []column { return l.columns[l.keys[key][0]:l.keys[key][1]] }

// has reports whether the mapping has a key.
func (l layout) has(key string) bool { return len(l.of(key)) > 0 }

// names are the columns of a key, quoted.
func (l layout) names(key string) string {
	var names []string
	for _, c := range l.of(key) {
		names = append(names, quote.Text(c.name))
	}
	return strings.Join(names, ", ")
}

// values are those of a key's columns, one after another.
func (l layout) values(r record, key string) []string {
	return slices.Concat(r.values[l.keys[key][0]:l.keys[key][1]]...)
}

// value is the first of a key, "" if it is missing.
func (l layout) value(r record, key string) string {
	if values := l.values(r, key); len(values) > 0 {
		return values[0]
	}
	return ""
}

// text is the value of a key that must not be empty.
func (l layout) text(r record, key string, bad *problems) string {
	text := l.value(r, key)
	switch {
	case strings.TrimSpace(visible(text)) == "":
		bad.add(r.line, "%s is missing or empty", l.names(key))
	case strings.Contains(text, "\x00"):
		bad.add(r.line, "%s has a NUL character", l.names(key))
	}
	return text
}
