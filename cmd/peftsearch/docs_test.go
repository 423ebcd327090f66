package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/pflag"
)

// pages are README.md and what is in docs, by path.
func pages(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	add := func(path string) {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		out[path] = string(content)
	}
	add("../../README.md")
	if err := filepath.WalkDir("../../docs", func(path string, _ fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".md") {
			add(path)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

var links = regexp.MustCompile(`\]\(([^)#\s]+)(#[^)]*)?\)`)

// Every link within the documentation leads somewhere, and every page can be reached from its first one.
func TestLinksOfTheDocumentation(t *testing.T) {
	all := pages(t)
	reached := map[string]bool{"../../docs/index.md": true}
	for queue := []string{"../../docs/index.md", "../../README.md"}; len(queue) > 0; queue = queue[1:] {
		for _, link := range links.FindAllStringSubmatch(all[queue[0]], -1) {
			if strings.Contains(link[1], "://") {
				continue
			}
			to := filepath.Join(filepath.Dir(queue[0]), link[1])
			if _, err := os.Stat(to); err != nil {
				t.Errorf("%s: %s leads nowhere", queue[0], link[1])
			}
			if _, page := all[to]; page && !reached[to] {
				reached[to] = true
				queue = append(queue, to)
			}
		}
	}
	for path := range all {
		if !reached[path] {
			t.Errorf("no link leads to %s", path)
		}
	}
}

var (
	fences  = regexp.MustCompile("(?s)```(\\w*)\n(.*?)```")
	inlines = regexp.MustCompile("`(peftsearch [^`\n]+)`")
)

// commandsOf lists the commands of this program that a page shows.
func commandsOf(page string) (commands []string) {
	for _, block := range fences.FindAllStringSubmatch(page, -1) {
		for line := range strings.Lines(strings.ReplaceAll(block[2], "\\\n", " ")) {
			line = strings.TrimPrefix(strings.TrimSpace(line), "$ ")
			if line = strings.TrimPrefix(line, "bin/"); strings.HasPrefix(line, "peftsearch ") {
				commands = append(commands, line)
			}
		}
	}
	for _, inline := range inlines.FindAllStringSubmatch(fences.ReplaceAllString(page, ""), -1) {
		commands = append(commands, inline[1])
	}
	return commands
}

// The commands of the documentation are commands of this program, with flags that it has.
func TestCommandsOfTheDocumentation(t *testing.T) {
	n := 0
	for path, page := range pages(t) {
		for _, line := range commandsOf(page) {
			if strings.ContainsAny(line, "…{}[]'\"$") ||
				line == "peftsearch auto" { // a pattern, or a sampler of a comparison
				continue
			}
			words := strings.Fields(strings.ReplaceAll(line+" ", " N ", " 0 "))[1:]
			for i, word := range words { // what follows is another program's, or a remark
				if slices.Contains([]string{"|", ">", "#", "&&", "2>&1", ";"}, word) {
					words = words[:i]
					break
				}
			}
			cmd, rest, err := newRoot().Find(words)
			if err == nil && cmd.HasParent() {
				err = cmd.ParseFlags(rest)
			}
			if err != nil && strings.HasPrefix(err.Error(), "flag needs an argument") { // it is named, not used
				err = nil
			}
			if err == nil && !cmd.HasParent() && len(words) > 0 && !strings.HasPrefix(words[0], "-") &&
				words[0] != "completion" &&
				words[0] != "help" {
				err = pflag.ErrHelp
			}
			if err != nil {
				t.Errorf("%s: %s: %v", path, line, err)
			}
			n++
		}
	}
	if n < 30 {
		t.Errorf("%d commands were found: the test looks in the wrong place", n)
	}
}

// The tutorial does what it says: its study file and its commands, one after the other, in place of the worker one that
// does not train.
func TestTutorial(t *testing.T) {
	model, err := filepath.Abs("../../models/bert-tiny")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(model); err != nil {
		t.Skip("models/bert-tiny is not there: make models/bert-tiny fetches it")
	}
	page := pages(t)["../../docs/tutorial.md"]
	var script strings.Builder
	for _, block := range fences.FindAllStringSubmatch(page, -1) {
		if block[1] == "sh" {
			for line := range strings.Lines(block[2]) {
				script.WriteString("exec " + line)
			}
		}
	}
	script.WriteString("exists reviews.html trained adapter\n")
	for _, block := range fences.FindAllStringSubmatch(page, -1) {
		if block[1] == "yaml" {
			script.WriteString("-- reviews.yaml --\n" + block[2])
		}
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "tutorial.txtar"), []byte(script.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{Dir: dir, Setup: func(env *testscript.Env) error {
		if err := os.CopyFS(env.WorkDir, os.DirFS("testdata/study")); err != nil {
			return err
		}
		return os.Symlink(model, filepath.Join(env.WorkDir, "model"))
	}})
}
