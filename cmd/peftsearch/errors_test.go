package main

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"

	"peftsearch/data/hub"
	"peftsearch/data/quote"
	"peftsearch/evaluator"
	"peftsearch/search"
	"peftsearch/studies"
	"peftsearch/studies/config"
	"peftsearch/studies/server"
	"peftsearch/studies/slurm"
	"peftsearch/studies/store"
)

// atEdge has an error of every kind that users may see, with its exit code and a part of the advice.
var atEdge = map[string]struct {
	err  error
	code int
	try  string
}{
	"evaluator.ErrWorker":      {evaluator.ErrWorker, exitEnvironment, "peftsearch doctor"},
	"search.ErrDamagedHistory": {search.ErrDamagedHistory, exitEnvironment, "restore the database"},
	"hub.ErrNetwork":           {hub.ErrNetwork, exitEnvironment, "HTTPS_PROXY"},
	"hub.ErrRefused":           {hub.ErrRefused, exitUsage, "docs/how-to/models.md"},
	"store.ErrDamaged":         {store.ErrDamaged, exitEnvironment, "restore the database"},
	"store.ErrNoStudy":         {store.ErrNoStudy, exitUsage, "peftsearch ls"},
	"store.ErrNoTrial":         {store.ErrNoTrial, exitUsage, "peftsearch show"},
	"store.ErrPath":            {store.ErrPath, exitUsage, "--db"},
	"store.ErrDiverged":        {store.ErrDiverged, exitUsage, "another file"},
	"store.Error": {&store.Error{Doing: "writing", Err: errors.New("full"), Advice: "make room"},
		exitEnvironment, "make room"},
	"config.Error":          {&config.Error{File: "s.yaml", Message: "bad"}, exitUsage, "peftsearch init -"},
	"studies.IdentityError": {&studies.IdentityError{Study: "a b", Related: true}, exitUsage, "--warm-start 'a b'"},
	"studies.MapError":      {&studies.MapError{Reason: "no"}, exitUsage, "the same section training"},
	"studies.WarmStartError": {&studies.WarmStartError{Study: "s", From: "t", Reason: "no"}, exitUsage,
		"leave out --warm-start"},
	"studies.ConfirmError": {&studies.ConfirmError{Failed: 1, Total: 2, First: &evaluator.Failure{}}, exitNoTrial,
		"tries them again"},
	"studies.ErrNotCalibrated":   {studies.ErrNotCalibrated, exitUsage, "run the study first"},
	"studies.ErrNoTestRows":      {studies.ErrNoTestRows, exitUsage, "task.test"},
	"studies.ErrTooManyFailures": {studies.ErrTooManyFailures, exitFailures, "peftsearch show"},
	"store.ErrMirrored":          {store.ErrMirrored, exitUsage, "session.json"},
	"server.ErrDiverged":         {server.ErrDiverged, exitUsage, "dump.db"},
	"server.ErrRunning":          {server.ErrRunning, exitUsage, "db status"},
	"slurm.ErrNoSlurm":           {slurm.ErrNoSlurm, exitEnvironment, "--dry-run"},
	"server.ErrNotInstalled":     {server.ErrNotInstalled, exitEnvironment, "postgresql"},
	"studies.ErrNoUsableTrial":   {studies.ErrNoUsableTrial, exitNoTrial, "peftsearch show"},
}

// inside names the errors that are handled before the edge, with the place that does.
var inside = map[string]string{
	"evaluator.Failure":    "an outcome of a trial; train and confirm say what to do",
	"evaluator.ErrKilled":  "the loop: it starts the worker again",
	"search.ErrFewTrials":  "the overview: it leaves out what mattered",
	"search.ErrExhausted":  "the normal end of a search: run says it",
	"space.KeyError":       "becomes a *config.Error with its place",
	"space.ErrOutside":     "a plan that was given need not be in the space",
	"store.ErrFenced":      "the loop: the other process's outcome counts",
	"store.ErrNothing":     "the loop: it proposes",
	"store.ErrEnough":      "the loop: the end of a run",
	"store.ErrProposed":    "the loop: it waits",
	"store.ErrKnown":       "the loop asks again",
	"store.ErrMoved":       "the loop asks again",
	"store.ErrNoFile":      "in a *store.Error that says what to do",
	"store.ErrEmpty":       "in a *store.Error that says what to do",
	"torch.ErrOutOfMemory": "the worker: a failure of its trial",
	"torch.ErrDevice":      "the worker: it ends after the failure of its trial",
}

// exportedErrors lists the errors that packages export, as package.Name.
func exportedErrors(t *testing.T) []string {
	t.Helper()
	var names, files []string
	for _, pattern := range []string{"../../*/*.go", "../../*/*/*.go"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		add := func(name string) { names = append(names, file.Name.Name+"."+name) }
		for _, d := range file.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl: // a method Error of an exported type
				if d.Name.Name != "Error" || d.Recv == nil {
					continue
				}
				receiver := d.Recv.List[0].Type
				if pointer, ok := receiver.(*ast.StarExpr); ok {
					receiver = pointer.X
				}
				if name, ok := receiver.(*ast.Ident); ok && name.IsExported() {
					add(name.Name)
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					if values, ok := spec.(*ast.ValueSpec); ok && d.Tok == token.VAR {
						for _, name := range values.Names {
							if strings.HasPrefix(name.Name, "Err") {
								add(name.Name)
							}
						}
					}
				}
			}
		}
	}
	return names
}

// Every error that a package exports is explained at the edge, or handled before.
func TestEveryErrorIsExplained(t *testing.T) {
	names := exportedErrors(t)
	if len(names) < 20 {
		t.Fatalf("only %q", names)
	}
	for _, name := range names {
		_, edge := atEdge[name]
		if _, ok := inside[name]; ok == edge {
			t.Errorf("%s: say in atEdge what users get, or in inside who handles it", name)
		}
	}
	for name, c := range atEdge {
		for _, err := range []error{c.err, fmt.Errorf("doing something: %w", c.err),
			errors.Join(c.err, errors.New("closing"))} {
			f := explain(err)
			if f.code != c.code || !strings.Contains(f.try, c.try) {
				t.Errorf("%s: exit code %d, Try: %s", name, f.code, f.try)
			}
			var printed strings.Builder
			code, text := printError(&printed, err), printed.String()
			if code != c.code || !strings.HasPrefix(text, "Error: ") || !strings.Contains(text, "\nTry:   ") {
				t.Errorf("%s: exit code %d, printed %q", name, code, printed.String())
			}
		}
	}
	if f := explain(errors.New("a surprise")); f.code != exitUnexpected || f.try != "" {
		t.Errorf("exit code %d, Try: %s", f.code, f.try)
	}
	for _, e := range []error{search.ErrExhausted, errors.New("x")} {
		if f := explain(errors.Join(e, studies.ErrNoUsableTrial)); f.code != exitNoTrial {
			t.Errorf("%v without a usable trial: exit code %d", e, f.code)
		}
	}
	hostile := fmt.Errorf("\x1b[2J%s: %w", strings.Repeat("x", 1<<20), studies.ErrNoUsableTrial)
	var printed strings.Builder
	if printError(&printed, hostile); printed.Len() > 3*quote.MessageLimit || strings.Contains(printed.String(), "\x1b") {
		t.Errorf("%d bytes: %.80q", printed.Len(), printed.String())
	}
}
