package config

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"peftsearch/data/quote"
)

// Error is one mistake in a study file.
type Error struct {
	File    string
	Line    int // from 1; 0 if the mistake is no line's
	Column  int
	Excerpt string // the line, or what is around the column
	Message string
	Hint    string // what to do, "" if the message says it
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(quote.Line(e.File))
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", e.Line, e.Column)
	}
	fmt.Fprintf(&b, ": %s", quote.Message(e.Message))
	if e.Excerpt != "" {
		fmt.Fprintf(&b, "\n  %4d | %s", e.Line, e.Excerpt)
	}
	if e.Hint != "" {
		fmt.Fprintf(&b, "\n         %s", e.Hint)
	}
	return b.String()
}

// byLine sorts mistakes by their place. It lists as many as a message has room for, and counts the others.
func byLine(path string, errs []error) []error {
	line := func(err error) int {
		if e, ok := err.(*Error); ok {
			return e.Line
		}
		return 0
	}
	slices.SortStableFunc(errs, func(a, b error) int { return cmp.Compare(line(a), line(b)) })
	const between = 10 // bytes that are printed around a mistake
	size := 0
	for i, err := range errs {
		if size += len(err.Error()) + between; i > 0 && size > quote.MessageLimit {
			more := &Error{File: path, Message: fmt.Sprintf("and %d more mistakes", len(errs)-i)}
			return append(errs[:i:i], more)
		}
	}
	return errs
}

// Mistake is a mistake in the file that shows when it is used, at a key.
func (c *Config) Mistake(key, hint, format string, args ...any) error {
	return c.file.errorAt(key, hint, format, args...)
}

// document is a parsed study file that knows where its keys stand.
type document struct {
	path     string
	sections reflect.Type // the struct of the whole file
	lines    []string
	where    map[string][2]int // line and column of each key, by dotted path
	bad      map[string]bool   // keys with an error
}

// decodeDocument reads YAML into the struct that into points to, by the tags of its fields. It goes
// through the whole file whatever it finds, and applies defaults to keys that are left out. Without a
// document there is nothing that could be checked further.
func decodeDocument(path string, content []byte, into any) (*document, []error) {
	d := &document{path: path, sections: reflect.TypeOf(into).Elem(), where: map[string][2]int{}, bad: map[string]bool{}}
	body, errs := d.parseYAML(content)
	if errs != nil {
		return nil, errs
	}
	return d, d.decode(body, reflect.ValueOf(into).Elem(), "")
}

// decode fills a section.
func (d *document) decode(node ast.Node, into reflect.Value, prefix string) []error {
	var errs []error
	values := map[string]ast.Node{}
	known := keys(into.Type(), prefix)
	switch n := node.(type) {
	case nil, *ast.NullNode, *ast.CommentGroupNode:
	case *ast.MappingNode:
		for _, value := range n.Values {
			errs = append(errs, d.key(value, values, known, prefix)...)
		}
	case *ast.MappingValueNode:
		errs = append(errs, d.key(n, values, known, prefix)...)
	default:
		position := node.GetToken().Position
		d.bad[strings.TrimSuffix(prefix, ".")] = true
		return []error{d.errorIn(position.Line, position.Column, "", "%s must be a mapping of keys to values",
			cmp.Or(strings.TrimSuffix(prefix, "."), "the file"))}
	}
	for _, k := range known {
		value, given := values[k.name]
		if isSection(k.fieldType) {
			errs = append(errs, d.decode(value, into.Field(k.index), k.path+".")...)
			continue
		}
		field := k.value(into)
		switch {
		case given:
			if err := decodeValue(value, field); err != nil {
				d.bad[k.path] = true
				errs = append(errs, d.errorOf(k.path, err))
			}
		case !k.optional:
			d.bad[k.path] = true
			errs = append(errs, d.errorAt(k.path, k.doc, "%s is missing", k.path))
		default:
			parseDefault(k.standard, field) // one in words leaves the field empty
		}
		k.set(into, field)
	}
	return errs
}

// key notes where a key stands, and refuses one that is unknown or stands twice.
func (d *document) key(node *ast.MappingValueNode, values map[string]ast.Node, known []key, prefix string) []error {
	name := node.Key.GetToken().Value
	position := node.Key.GetToken().Position
	if !slices.ContainsFunc(known, func(k key) bool { return k.name == name }) {
		where := "at the top of the file"
		if prefix != "" {
			where = "in " + strings.TrimSuffix(prefix, ".")
		}
		names := make([]string, len(known))
		for i, k := range known {
			names[i] = k.name
		}
		hint := cmp.Or(d.elsewhere(name), nearest(name, names), "the keys here are "+strings.Join(names, ", "))
		return []error{d.errorIn(position.Line, position.Column, hint, "unknown key %s %s", quote.Text(name), where)}
	}
	if values[name] != nil {
		return []error{d.errorIn(position.Line, position.Column, "", "%s%s stands twice", prefix, name)}
	}
	values[name] = node.Value
	d.where[prefix+name] = [2]int{position.Line, position.Column}
	return nil
}

// elsewhere suggests the keys of other sections with a name.
func (d *document) elsewhere(name string) string {
	var found []string
	var search func(section reflect.Type, prefix string)
	search = func(section reflect.Type, prefix string) {
		for _, k := range keys(section, prefix) {
			if k.name == name {
				found = append(found, k.path)
			}
			if isSection(k.fieldType) {
				search(k.fieldType, k.path+".")
			}
		}
	}
	search(d.sections, "")
	if len(found) == 0 || len(found) > 3 { // a name that many sections have says nothing
		return ""
	}
	return fmt.Sprintf("did you mean %s?", strings.Join(found, " or "))
}

// failed reports whether a key, or one below or above it, already has an error.
func (d *document) failed(key string) bool {
	for bad := range d.bad {
		if bad == "" || bad == key || strings.HasPrefix(bad, key+".") || strings.HasPrefix(key, bad+".") {
			return true
		}
	}
	return false
}

// errorOf is the mistake in a key's value: at the entry of a list, or at the key.
func (d *document) errorOf(key string, err *valueError) error {
	if err.entry == nil {
		return d.errorAt(key, "", "%s: %s", key, err.message)
	}
	position := err.entry.GetToken().Position
	return d.errorIn(position.Line, position.Column, "", "%s: %s", key, err.message)
}

// errorAt is a mistake at a key, or at the nearest section above it that the file has.
func (d *document) errorAt(key, hint, format string, args ...any) error {
	for {
		if at, ok := d.where[key]; ok {
			return d.errorIn(at[0], at[1], hint, format, args...)
		}
		dot := strings.LastIndex(key, ".")
		if dot < 0 {
			return &Error{File: d.path, Message: fmt.Sprintf(format, args...), Hint: hint}
		}
		key = key[:dot]
	}
}

func (d *document) errorIn(line, column int, hint, format string, args ...any) error {
	e := &Error{File: d.path, Line: line, Column: column, Hint: hint, Message: fmt.Sprintf(format, args...)}
	if line >= 1 && line <= len(d.lines) {
		e.Excerpt = excerpt(d.lines[line-1], column)
	}
	return e
}

// excerpt is a line, or what is around the column of a long one.
func excerpt(line string, column int) string {
	const before, most = 30, 100 // characters
	first, last, n := 0, len(line), 0
	for at := range line {
		switch n++; n {
		case column - before:
			first = at
		case max(column-before, 1) + most:
			last = at
		}
	}
	if n <= most {
		return quote.Line(line)
	}
	cut := line[first:last]
	if first > 0 {
		cut = "…" + cut
	}
	if last < len(line) {
		cut += "…"
	}
	return quote.Line(cut)
}

// nearest suggests the known word that looks most like the given one, "" if none does.
func nearest(word string, known []string) string {
	if best := quote.Nearest(word, known); best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	return ""
}
