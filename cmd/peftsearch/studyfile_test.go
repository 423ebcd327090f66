package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"peftsearch/studies/config"
	"peftsearch/studies/store"
)

// A program runs if a study file of the user's asks for it, and not because a database does.
func TestProgramsThatOnlyTheDatabaseAsksFor(t *testing.T) {
	const text = "study: s\nmodel: {path: m}\ntask:\n  kind: classification\n  train: t.tsv\n" +
		"  columns: {text: a, label: b}\n"
	path := filepath.Join(t.TempDir(), "study.yaml")
	write := func(command string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text+"evaluator: {command: "+command+"}\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	record := &store.Record{Name: "s", Path: path}
	file, err := config.Parse(path, []byte(text+"evaluator: {command: [python3, \"w\\e[2J.py\"]}\n"))
	if err != nil {
		t.Fatal(err)
	}
	refused := func(what string) {
		t.Helper()
		err := fileFlags{}.mayRun(record, file)
		if err == nil {
			t.Fatalf("%s: the program may run", what)
		}
		if explain(err).code != exitUsage || !strings.Contains(err.Error(), "python3") ||
			strings.Contains(err.Error(), "\x1b") {
			t.Errorf("%s: %q", what, err)
		}
	}
	allowed := func(what string, flags fileFlags) {
		t.Helper()
		if err := flags.mayRun(record, file); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	refused("no study file where the database says")
	allowed("--trust", fileFlags{trust: true})
	allowed("--config", fileFlags{config: "given.yaml"})
	write(`[python3, "w\e[2J.py"]`)
	allowed("a study file of the user's", fileFlags{})
	write(`[python3, "w\e[2J.py", more]`)
	refused("a study file that asks for another program")
	write(`[`)
	refused("a study file that cannot be read")
	write(`[python3, "w\e[2J.py"]`)
	if err := os.Chown(path, os.Getuid()+1, -1); err != nil {
		t.Skip("only root can give a file to another user:", err)
	}
	refused("somebody else's study file")
	file.Evaluator.Command = nil
	allowed("peftsearch-worker", fileFlags{})
}
