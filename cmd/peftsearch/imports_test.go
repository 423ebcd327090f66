package main

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// layers lists the packages from the top down: one may import only those further down. The last element
// of a layer's pattern may be * for any package below it.
var layers = []string{
	"benchmarks/*",
	"examples/*",
	"cmd/*",
	"studies/web",
	"studies/report",
	"studies",
	"studies/store/storetest",
	"studies/server",
	"studies/slurm",
	"studies/store",
	"studies/config",
	"search",
	"space",
	"evaluator",
	"evaluator/worker",
	"evaluator/train",
	"evaluator/model",
	"evaluator/torch",
	"peft",
	"data",
	"data/onnx",
	"data/checkpoint",
	"data/hub",
	"data/tokenizer",
	"data/metric",
	"data/files",
	"data/quote",
}

// owners names the only places that may import a library.
var owners = []struct{ library, place string }{
	{"github.com/sugarme/gotch", "evaluator/torch/"},
	{"github.com/c-bata/goptuna", "search/"},
	{"github.com/mattn/go-sqlite3", "studies/store/"},
	{"github.com/jackc/pgx", "studies/store/"},
	{"database/sql", "studies/store/"},
	{"github.com/spf13/cobra", "cmd/"},
	{"github.com/jedib0t/go-pretty", "cmd/"},
	{"github.com/vbauerster/mpb", "cmd/"},
	{"golang.org/x/term", "cmd/"},
	{"gonum.org/v1/plot", "studies/report/"},
	{"charm.land", "cmd/"},
	{"github.com/charmbracelet", "cmd/"},
	{"google.golang.org/protobuf", "data/"},
	{"github.com/clipperhouse/uax29", "data/tokenizer/"},
}

// layer is the position of a package in the list, -1 if it has none.
func layer(pkg string) int {
	return slices.IndexFunc(layers, func(pattern string) bool {
		ok, err := path.Match(pattern, pkg)
		return ok && err == nil
	})
}

// allowed reports whether a package may import another. The types of the root of evaluator are for all
// of evaluator; it links no libtorch itself.
func allowed(from, to string) bool {
	if to == "evaluator" && strings.HasPrefix(from, "evaluator/") && from != "evaluator/torch" {
		return true
	}
	if from == "evaluator" && strings.HasPrefix(to, "evaluator/") {
		return false
	}
	return layer(to) > layer(from)
}

func TestImports(t *testing.T) {
	root := "../.."
	seen := map[string]bool{}
	err := filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if name != "." && (strings.HasPrefix(entry.Name(), ".") ||
				slices.Contains([]string{"models", "bin", "testdata", "scripts"}, entry.Name())) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		name = filepath.ToSlash(name)
		pkg := path.Dir(name)
		if strings.HasSuffix(pkg, "test") { // conformance suites, which tests import
			return nil
		}
		seen[pkg] = true
		if layer(pkg) < 0 {
			t.Errorf("%s: the package is in no layer", name)
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range parsed.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if ours, ok := strings.CutPrefix(imported, "peftsearch/"); ok && !allowed(pkg, ours) {
				t.Errorf("%s imports %s, which is not below it", name, imported)
			}
			for _, o := range owners {
				if (imported == o.library || strings.HasPrefix(imported, o.library+"/")) && !strings.HasPrefix(name, o.place) {
					t.Errorf("%s imports %s, which only %s* may", name, imported, o.place)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, pkg := range []string{"cmd/peftsearch", "studies", "studies/store", "studies/config", "search", "space",
		"evaluator", "peft", "data"} {
		if !seen[pkg] {
			t.Errorf("package %s was not found: the test looks in the wrong place", pkg)
		}
	}
}

// The command line must start where there is no libtorch.
func TestNoLibtorch(t *testing.T) {
	for _, from := range []string{"cmd/peftsearch", "studies", "studies/store", "studies/config", "search", "space"} {
		files, err := filepath.Glob(filepath.Join("../..", from, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files, %v", from, len(files), err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
			if err != nil {
				t.Fatal(err)
			}
			for _, spec := range parsed.Imports {
				if strings.HasPrefix(spec.Path.Value, `"peftsearch/evaluator/`) {
					t.Errorf("%s imports %s, which links libtorch", file, spec.Path.Value)
				}
			}
		}
	}
}
