package config

import (
	"reflect"
	"strconv"
	"strings"
)

// The values of the tag identity: what a study's scores and proposals depend on, and so must stay as it is
// while the study continues. A key takes that of its section, a section at the top is "yes".
const (
	identityYes      = "yes"      // the key's value
	identityContents = "contents" // the contents of the files that the key helps to find
	identityNo       = "no"       // not this key
)

// key is one key of the study file, as its tags describe it.
type key struct {
	name, path, doc, typeName string
	standard                  string // the default
	optional                  bool
	identity                  string
	was                       string // the value that a study had before the key existed
	index                     int    // of the field
	fieldType                 reflect.Type
}

// keys lists the keys of a section.
func keys(section reflect.Type, prefix string) []key {
	var out []key
	for i := range section.NumField() {
		f := section.Field(i)
		name := f.Tag.Get("yaml")
		if name == "" {
			continue
		}
		k := key{name: name, path: prefix + name, doc: f.Tag.Get("doc"), typeName: typeName(f.Type), identity: f.Tag.Get("identity"),
			index: i, fieldType: f.Type}
		k.standard, k.optional = f.Tag.Lookup("default")
		var said bool
		if k.was, said = f.Tag.Lookup("was"); !said {
			k.was = k.standard
		}
		out = append(out, k)
	}
	return out
}

// isSection reports whether a field's value is a mapping with keys of its own.
func isSection(t reflect.Type) bool { return t.Kind() == reflect.Struct }

// setDefault fills a field with its default if that is a value, and leaves it empty if it is in words.
func (k key) setDefault(field reflect.Value) { parseDefault(k.standard, field) }

// before is the canonical value that the key had in a study that is older than the key.
func (k key) before() string {
	value := reflect.New(k.fieldType).Elem()
	parseDefault(k.was, value)
	return canonical(value)
}

// walk visits every key of a section that is no section itself, those of its sections included; identity
// is that of the section.
func walk(section reflect.Value, prefix, identity string, visit func(k key, value reflect.Value)) {
	for _, k := range keys(section.Type(), prefix) {
		if k.identity == "" {
			k.identity = identity
		}
		if isSection(k.fieldType) {
			walk(section.Field(k.index), k.path+".", k.identity, visit)
		} else {
			visit(k, section.Field(k.index))
		}
	}
}

// canonical spells a value in one way, whichever way the study file spells it.
func canonical(v reflect.Value) string {
	switch v.Kind() {
	case reflect.Bool:
		return strconv.FormatBool(v.Bool())
	case reflect.Int, reflect.Int64:
		return strconv.FormatInt(v.Int(), 10)
	case reflect.Uint64:
		return strconv.FormatUint(v.Uint(), 10)
	case reflect.Float64:
		return strconv.FormatFloat(v.Float()+0, 'g', -1, 64) // + 0 makes -0 the same as 0
	case reflect.Slice:
		parts := make([]string, v.Len())
		for i := range parts {
			if e := v.Index(i); e.Kind() == reflect.String {
				parts[i] = strconv.Quote(e.String())
			} else {
				parts[i] = canonical(e)
			}
		}
		return "[" + strings.Join(parts, ", ") + "]"
	default:
		return v.String()
	}
}
