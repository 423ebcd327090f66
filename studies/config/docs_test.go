package config

import (
	"reflect"
	"strings"
	"testing"
)

func TestEveryKeyIsExplained(t *testing.T) {
	left := map[string]bool{}
	for path := range docs {
		left[path] = true
	}
	var visit func(section reflect.Type, prefix string)
	visit = func(section reflect.Type, prefix string) {
		for _, k := range keys(section, prefix) {
			if k.doc == "" {
				t.Errorf("nothing says what %s means", k.path)
			}
			if strings.Contains(k.doc, "{methods}") || strings.Contains(k.doc, "{presets}") {
				t.Errorf("%s: %s", k.path, k.doc)
			}
			delete(left, k.path)
			if isSection(k.fieldType) {
				visit(k.fieldType, k.path+".")
			}
		}
	}
	visit(reflect.TypeFor[Config](), "")
	for path := range left {
		t.Errorf("there is no key %s", path)
	}
}
