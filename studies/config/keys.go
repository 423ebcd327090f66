package config

import (
	"reflect"
	"strconv"
	"strings"

	"peftsearch/peft"
	"peftsearch/space"
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
	// of a field that is a map with an entry for each of several keys: the one of this key
	entry     reflect.Value
	fieldType reflect.Type // of the value
}

// lists are what tags and docs say of tables elsewhere.
var lists = strings.NewReplacer("{methods}", list(peft.Methods), "{standard}", list(peft.Standard),
	"{presets}", list(peft.Presets()))

func list[T ~string](names []T) string {
	var texts []string
	for _, name := range names {
		texts = append(texts, string(name))
	}
	return strings.Join(texts, ", ")
}

// entries is a field that stands for several keys of its section, as a map with a value for each.
type entries interface {
	Keys() []space.Key
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
		if name == ",inline" {
			for _, e := range reflect.Zero(f.Type).Interface().(entries).Keys() {
				out = append(out, key{name: e.Name, path: prefix + e.Name, doc: e.Doc, typeName: typeName(f.Type.Elem()),
					standard: e.Default, optional: true, was: e.Was, index: i,
					entry: reflect.ValueOf(e.Name).Convert(f.Type.Key()), fieldType: f.Type.Elem()})
			}
			continue
		}
		k := key{name: name, path: prefix + name, doc: docOf(prefix + name), typeName: typeName(f.Type),
			identity: f.Tag.Get("identity"), index: i, fieldType: f.Type}
		k.standard, k.optional = f.Tag.Lookup("default")
		k.standard = lists.Replace(k.standard)
		var said bool
		if k.was, said = f.Tag.Lookup("was"); !said {
			k.was = k.standard
		}
		out = append(out, k)
	}
	return out
}

// docOf says what the key at a path means.
func docOf(path string) string {
	return lists.Replace(docs[strings.Replace(path, "task.test_columns.", "task.columns.", 1)])
}

// isSection reports whether a field's value is a mapping with keys of its own.
func isSection(t reflect.Type) bool { return t.Kind() == reflect.Struct }

// value is a copy of the key's value that can be changed.
func (k key) value(section reflect.Value) reflect.Value {
	copied := reflect.New(k.fieldType).Elem()
	field := section.Field(k.index)
	if k.entry.IsValid() {
		if field = field.MapIndex(k.entry); !field.IsValid() {
			return copied
		}
	}
	copied.Set(field)
	return copied
}

// set changes the key's value.
func (k key) set(section, value reflect.Value) {
	field := section.Field(k.index)
	switch {
	case !k.entry.IsValid():
		field.Set(value)
	case !value.IsZero():
		if field.IsNil() {
			field.Set(reflect.MakeMap(field.Type()))
		}
		field.SetMapIndex(k.entry, value)
	}
}

// before is the canonical value that the key had in a study that is older than the key.
func (k key) before() string {
	value := reflect.New(k.fieldType).Elem()
	parseDefault(k.was, value)
	return canonical(value)
}

// walk visits every key of a section that is no section itself, those of its sections included; identity
// is that of the section. What is done to a value changes the section's if that can be changed.
func walk(section reflect.Value, prefix, identity string, visit func(k key, value reflect.Value)) {
	for _, k := range keys(section.Type(), prefix) {
		if k.identity == "" {
			k.identity = identity
		}
		if isSection(k.fieldType) {
			walk(section.Field(k.index), k.path+".", k.identity, visit)
		} else {
			value := k.value(section)
			if visit(k, value); section.CanSet() {
				k.set(section, value)
			}
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
