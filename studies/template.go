package studies

import (
	"bufio"
	"fmt"
	"io"
	"reflect"
	"strings"
)

// field is a key of a section, with its documentation.
type field struct {
	reflect.StructField
	key string
}

// fieldsOf lists the keys of a section in order.
func fieldsOf(section reflect.Type) []field {
	var fields []field
	for f := range section.Fields() {
		if key := f.Tag.Get("yaml"); key != "" {
			fields = append(fields, field{f, key})
		}
	}
	return fields
}

// walk visits every key below a section in order, sections before what is in them.
func walk(section reflect.Value, path string, visit func(key string, f field, value reflect.Value)) {
	for _, f := range fieldsOf(section.Type()) {
		value, key := section.FieldByIndex(f.Index), joinKey(path, f.key)
		visit(key, f, value)
		if value.Kind() == reflect.Struct {
			walk(value, key, visit)
		}
	}
}

// required reports a key that has no default.
func (f field) required() bool { return f.Tag.Get("example") != "" }

// derived reports a default that is worked out later, which a study file cannot say. Lists are among
// them, since nil stands for their default.
func (f field) derived() bool {
	return f.Type.Kind() == reflect.Slice || strings.HasPrefix(f.Tag.Get("default"), "(")
}

// setDefaults fills in the default of every key that has a plain one.
func setDefaults(c *Config) {
	walk(reflect.ValueOf(c).Elem(), "", func(key string, f field, value reflect.Value) {
		if f.Type.Kind() == reflect.Struct || f.derived() || f.required() {
			return
		}
		if message := setScalar(value, f.Tag.Get("default")); message != "" {
			panic(fmt.Sprintf("studies: the default of %s %s", key, message))
		}
	})
}

// typeName is the type of a key in words.
func (f field) typeName() string { return typeName(f.Type) }

func typeName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "text"
	case reflect.Bool:
		return "true or false"
	case reflect.Float64:
		return "number"
	case reflect.Slice:
		return "list of " + map[reflect.Kind]string{reflect.String: "texts", reflect.Int: "whole numbers", reflect.Float64: "numbers"}[t.Elem().Kind()]
	case reflect.Struct:
		return "section"
	default:
		return "whole number"
	}
}

// WriteTemplate writes a study file with every key, its meaning, type and default. What must be given
// has an example; a default that depends on other things is commented out.
func WriteTemplate(w io.Writer) error {
	b := bufio.NewWriter(w)
	fmt.Fprintln(b, "# A study of peftsearch. Change what is marked (required); everything else shows its default.")
	fmt.Fprintln(b, "# Relative paths are relative to this file.")
	optional := "" // a section that is commented out as a whole
	walk(reflect.ValueOf(Config{}), "", func(key string, f field, _ reflect.Value) {
		depth := strings.Count(key, ".")
		indent := strings.Repeat("  ", depth)
		if depth == 0 {
			fmt.Fprintln(b)
		}
		if optional != "" && !strings.HasPrefix(key, optional+".") {
			optional = ""
		}
		doc := f.Tag.Get("doc")
		if f.Type.Kind() == reflect.Struct {
			mark := ""
			if f.Tag.Get("optional") != "" {
				optional, mark = key, "# "
			}
			fmt.Fprintf(b, "%s# %s\n%s%s%s:\n", indent, doc, indent, mark, f.key)
			return
		}
		status, mark := "default: "+defaultText(f), ""
		value := yamlText(f, f.Tag.Get("default"))
		switch {
		case f.required():
			status, value = "required", yamlText(f, f.Tag.Get("example"))
		case f.derived():
			mark, value = "# ", yamlText(f, strings.Trim(f.Tag.Get("default"), "()"))
		}
		if optional != "" {
			mark = "# "
		}
		fmt.Fprintf(b, "%s# %s (%s, %s)\n%s%s%s: %s\n", indent, doc, f.typeName(), status, indent, mark, f.key, value)
	})
	return b.Flush()
}

// defaultText is the default as the documentation says it.
func defaultText(f field) string {
	text := strings.Trim(f.Tag.Get("default"), "()")
	if text == "" {
		return "empty"
	}
	return text
}

// yamlText is a value as a study file spells it.
func yamlText(f field, text string) string {
	switch {
	case f.Type.Kind() == reflect.Slice:
		return "[" + text + "]"
	case text == "":
		return `""`
	}
	return text
}

// WriteReference writes the documentation of every key as Markdown.
func WriteReference(w io.Writer) error {
	b := bufio.NewWriter(w)
	fmt.Fprint(b, `# Study file

A study file is YAML; `+"`peftsearch init`"+` writes one with every key. Unknown keys are errors. Relative paths are
relative to the file. This page is generated from the program.

A study can be continued after changes to `+"`budget.trials`, `search.sampler`, `search.initial`, `evaluator`, `baselines`"+`
and `+"`max_failures`"+`. Any other change needs a new name in `+"`study`"+`.

| key | type | default | meaning |
|---|---|---|---|
`)
	walk(reflect.ValueOf(Config{}), "", func(key string, f field, _ reflect.Value) {
		fallback := defaultText(f)
		switch {
		case f.Type.Kind() == reflect.Struct:
			fallback = ""
		case f.required():
			fallback = "required"
		}
		fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", key, f.typeName(), fallback, strings.ReplaceAll(f.Tag.Get("doc"), "|", `\|`))
	})
	return b.Flush()
}
