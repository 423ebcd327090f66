package peft_test

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"peftsearch/peft"
)

// Plans of version 1 are read as they were, are written as they were, and keep their keys.
func TestPlansOfVersion1(t *testing.T) {
	content, err := os.ReadFile("testdata/plans-version-1.json")
	if err != nil {
		t.Fatal(err)
	}
	var golden []struct{ Plan, Key string }
	if err := json.Unmarshal(content, &golden); err != nil {
		t.Fatal(err)
	}
	for _, want := range golden {
		p, err := peft.ReadPlan(file(t, "plan.json", want.Plan))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := json.Marshal(p); err != nil || string(got) != want.Plan {
			t.Errorf("%s is written as %s: %v", want.Plan, got, err)
		}
		if p.Key() != want.Key {
			t.Errorf("%s has the key %s, want %s", want.Plan, p.Key(), want.Key)
		}
	}
}

// Only the table lists the methods: any other file that names several of them would have to be changed for a new one.
// Presets are combinations from the literature, a fusion of adapters is one of two, bottlenecks share
// a file, and adapters calls a place of prompts "prefix".
func TestOnlyTheTableListsTheMethods(t *testing.T) {
	allowed := []string{"peft/method.go", "peft/preset.go", "peft/bottleneck.go", "peft/export_adapters.go",
		"peft/prompt.go",
		"evaluator/model/bottleneck.go"}
	root := ".."
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(root, path)
		name = filepath.ToSlash(name)
		if entry.IsDir() && (strings.HasPrefix(entry.Name(), ".") && name != "." || entry.Name() == "models" ||
			strings.HasSuffix(entry.Name(), "test") ||
			name == "benchmarks") {
			return fs.SkipDir
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") || slices.Contains(allowed, name) {
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		named := map[string]bool{}
		ast.Inspect(parsed, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.BasicLit:
				text, err := strconv.Unquote(n.Value)
				if err == nil && slices.Contains(peft.Methods, peft.Method(text)) {
					named[text] = true
				}
				words := map[string]bool{}
				for _, word := range strings.FieldsFunc(text, func(r rune) bool {
					return !unicode.IsLetter(r) &&
						!unicode.IsDigit(r)
				}) {
					if slices.Contains(peft.Methods, peft.Method(word)) {
						words[word] = true
					}
				}
				if len(words) > 3 {
					t.Errorf("%s lists methods: %.100s", name, text)
				}
			case *ast.Ident:
				for _, m := range peft.Methods {
					if constant := strings.ReplaceAll("method"+string(m), "_", ""); strings.EqualFold(n.Name, constant) {
						named[string(m)] = true
					}
				}
			}
			return true
		})
		if len(named) > 1 {
			t.Errorf("%s names %d methods", name, len(named))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
