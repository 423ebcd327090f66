package config

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
)

// examples are the values that the template shows for required keys.
var examples = map[string]string{
	"study": "my-study", "model.path": "models/all-MiniLM-L6-v2", "task.kind": "classification",
	"task.train": "train.tsv", "task.columns.text": "sentence", "task.columns.label": "label",
}

// Template is a commented study file: required keys with an example, all others commented out with
// their default. It is generated from the tags of Config.
func Template() []byte {
	var b bytes.Buffer
	b.WriteString("# Study file of peftsearch. Keys in comments show their defaults.\n")
	writeSection(&b, reflect.TypeFor[Config](), "", 0)
	return b.Bytes()
}

func writeSection(b *bytes.Buffer, t reflect.Type, prefix string, depth int) {
	indent := strings.Repeat("  ", depth)
	for _, f := range keys(t, prefix) {
		if depth == 0 {
			b.WriteByte('\n')
		}
		if isSection(f.fieldType) {
			fmt.Fprintf(b, "%s# %s\n%s%s:\n", indent, f.doc, indent, f.name)
			writeSection(b, f.fieldType, f.path+".", depth+1)
			continue
		}
		fmt.Fprintf(b, "%s# %s (%s)\n", indent, f.doc, f.typeName)
		if example, ok := examples[f.path]; ok {
			fmt.Fprintf(b, "%s%s: %s\n", indent, f.name, example)
		} else {
			fmt.Fprintf(b, "%s# %s: %s\n", indent, f.name, f.standard)
		}
	}
}

// Markdown is docs/reference/config.md, generated from the tags of Config.
func Markdown() []byte {
	var b bytes.Buffer
	b.WriteString("# Study file\n\nYAML. `peftsearch init` writes one with every key. Paths are relative to the file. " +
		"Unknown keys are errors.\n\n")
	b.WriteString("| key | type | default | meaning |\n|---|---|---|---|\n")
	var section func(t reflect.Type, prefix string)
	section = func(t reflect.Type, prefix string) {
		for _, f := range keys(t, prefix) {
			if isSection(f.fieldType) {
				fmt.Fprintf(&b, "| **`%s`** | | | %s |\n", f.path, f.doc)
				section(f.fieldType, f.path+".")
				continue
			}
			standard := "*required*"
			if f.optional {
				standard = f.standard
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.path, f.typeName, standard, f.doc)
		}
	}
	section(reflect.TypeFor[Config](), "")
	return b.Bytes()
}

func typeName(t reflect.Type) string {
	if t == reflect.TypeFor[Workers]() {
		return "integer or auto"
	}
	if t == reflect.TypeFor[Epochs]() {
		return "number or auto"
	}
	if t == reflect.TypeFor[Rate]() {
		return "number, auto, or mapping of numbers"
	}
	switch t.Kind() {
	case reflect.Slice:
		return "list of " + typeName(t.Elem())
	case reflect.String:
		return "text"
	case reflect.Bool:
		return "true or false"
	case reflect.Float64:
		return "number"
	default:
		return "integer"
	}
}
