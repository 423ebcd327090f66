package config

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// Error is one mistake in a study file.
type Error struct {
	File    string
	Line    int // from 1; 0 if the mistake is no line's
	Column  int
	Excerpt string // the line
	Message string
	Hint    string // what to do, "" if the message says it
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", e.Line, e.Column)
	}
	fmt.Fprintf(&b, ": %s", e.Message)
	if e.Excerpt != "" {
		fmt.Fprintf(&b, "\n  %4d | %s", e.Line, e.Excerpt)
	}
	if e.Hint != "" {
		fmt.Fprintf(&b, "\n         %s", e.Hint)
	}
	return b.String()
}

func byPosition(a, b error) int {
	line := func(err error) int {
		var e *Error
		if errors.As(err, &e) {
			return e.Line
		}
		return 0
	}
	return cmp.Compare(line(a), line(b))
}

// document is a parsed study file that knows where its keys stand.
type document struct {
	path  string
	lines []string
	where map[string][2]int // line and column of each key, by dotted path
	bad   map[string]bool   // keys with an error
}

// decodeDocument reads YAML into the struct that into points to, by the tags of its fields. It goes
// through the whole file whatever it finds, and applies defaults to keys that are left out.
func decodeDocument(path string, content []byte, into any) (*document, []error) {
	d := &document{path: path, lines: strings.Split(string(content), "\n"), where: map[string][2]int{}, bad: map[string]bool{}}
	file, err := parser.ParseBytes(content, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		var syntax yaml.Error
		if errors.As(err, &syntax) {
			position := syntax.GetToken().Position
			return nil, []error{d.errorIn(position.Line, position.Column, "", "%s", syntax.GetMessage())}
		}
		return nil, []error{&Error{File: path, Message: err.Error()}}
	}
	var body ast.Node
	if len(file.Docs) > 0 {
		body = file.Docs[0].Body
	}
	return d, d.decode(body, reflect.ValueOf(into).Elem(), "")
}

// fieldKey is the yaml key of a struct field, "" if it has none.
func fieldKey(f reflect.StructField) string { return f.Tag.Get("yaml") }

// isSection reports whether a field's value is a mapping with keys of its own.
func isSection(t reflect.Type) bool { return t.Kind() == reflect.Struct }

func (d *document) decode(node ast.Node, into reflect.Value, prefix string) []error {
	var errs []error
	values := map[string]ast.Node{}
	switch n := node.(type) {
	case nil, *ast.NullNode, *ast.CommentGroupNode:
	case *ast.MappingNode:
		for _, value := range n.Values {
			errs = append(errs, d.key(value, values, into.Type(), prefix)...)
		}
	case *ast.MappingValueNode:
		errs = append(errs, d.key(n, values, into.Type(), prefix)...)
	default:
		position := node.GetToken().Position
		d.bad[strings.TrimSuffix(prefix, ".")] = true
		return []error{d.errorIn(position.Line, position.Column, "", "%s must be a mapping of keys to values", cmp.Or(strings.TrimSuffix(prefix, "."), "the file"))}
	}
	for i := range into.NumField() {
		field := into.Type().Field(i)
		key := fieldKey(field)
		if key == "" {
			continue
		}
		value, given := values[key]
		switch path := prefix + key; {
		case isSection(field.Type):
			errs = append(errs, d.decode(value, into.Field(i), path+".")...)
		case given:
			if err := yaml.NodeToValue(value, into.Field(i).Addr().Interface()); err != nil {
				message := err.Error()
				var typed yaml.Error
				if errors.As(err, &typed) {
					message = typed.GetMessage()
				}
				d.bad[path] = true
				errs = append(errs, d.errorAt(path, "", "%s: %s", path, message))
			}
		default:
			standard, optional := field.Tag.Lookup("default")
			if !optional {
				d.bad[path] = true
				errs = append(errs, d.errorAt(path, field.Tag.Get("doc"), "%s is missing", path))
			} else {
				setDefault(into.Field(i), standard)
			}
		}
	}
	return errs
}

// key notes where a key stands, and refuses one that is unknown or stands twice.
func (d *document) key(node *ast.MappingValueNode, values map[string]ast.Node, t reflect.Type, prefix string) []error {
	key := node.Key.GetToken().Value
	position := node.Key.GetToken().Position
	var known []string
	for i := range t.NumField() {
		if name := fieldKey(t.Field(i)); name != "" {
			known = append(known, name)
		}
	}
	for _, name := range known {
		if name != key {
			continue
		}
		if values[key] != nil {
			return []error{d.errorIn(position.Line, position.Column, "", "%s%s stands twice", prefix, key)}
		}
		values[key] = node.Value
		d.where[prefix+key] = [2]int{position.Line, position.Column}
		return nil
	}
	where := "at the top of the file"
	if prefix != "" {
		where = "in " + strings.TrimSuffix(prefix, ".")
	}
	return []error{d.errorIn(position.Line, position.Column, nearest(key, known), "unknown key %q %s", key, where)}
}

// setDefault fills a field with its default if that is a value, and leaves it empty if it is in words.
func setDefault(field reflect.Value, standard string) {
	fresh := reflect.New(field.Type())
	if field.Kind() == reflect.String && strings.Contains(standard, " ") {
		return
	}
	if field.Kind() == reflect.Slice && !strings.HasPrefix(standard, "[") {
		return
	}
	if err := yaml.Unmarshal([]byte(standard), fresh.Interface()); err == nil {
		field.Set(fresh.Elem())
	}
}

// failed reports whether a key, or one below it, already has an error.
func (d *document) failed(key string) bool {
	for bad := range d.bad {
		if bad == key || strings.HasPrefix(bad, key+".") {
			return true
		}
	}
	return false
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
		e.Excerpt = strings.TrimRight(d.lines[line-1], "\r")
	}
	return e
}

// nearest suggests the known word that looks most like the given one.
func nearest(word string, known []string) string {
	best, distance := "", len(word)/2+2
	for _, k := range known {
		if d := editDistance(word, k); d < distance {
			best, distance = k, d
		}
	}
	if best == "" {
		return "the keys here are " + strings.Join(known, ", ")
	}
	return fmt.Sprintf("did you mean %q?", best)
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
