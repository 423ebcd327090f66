package main

import (
	"fmt"
	"io/fs"
	"maps"
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

// notRun are the commands of the documentation that no test can run as they stand, with the reason or with what runs
// them in another form.
var notRun = map[string]string{
	"peftsearch auto":                            "the name of a sampler in a comparison",
	"peftsearch run":                             "is named, not shown",
	"peftsearch train":                           "is named, not shown",
	"peftsearch init":                            "is named, not shown",
	"peftsearch pull":                            "is named, not shown",
	"peftsearch copy":                            "is named, not shown",
	"peftsearch predict":                         "is named, not shown",
	"peftsearch train --plan":                    "is named, not shown",
	"peftsearch init --data FILE":                "a pattern",
	"peftsearch doctor STUDY.yaml":               "a pattern",
	"peftsearch db start DIR":                    "a pattern",
	"peftsearch db stop DIR":                     "a pattern",
	"peftsearch front STUDY --db DIR/studies.db": "a pattern; mirror.txtar",
	"peftsearch export … --to FORMAT --out DIR":  "a pattern",
	"peftsearch import ADAPTER --model MODEL":    "a pattern",
	"peftsearch predict DIR --input FILE --format slobench --out NEW.zip": "a pattern; TestSloBENCH",
	"peftsearch import ADAPTER --config study.yaml --out trained":         "a pattern",
	"peftsearch export best --to transformers --out stsb-hybrid --name stsb-hybrid    --base-model " +
		"sentence-transformers/all-MiniLM-L6-v2 --license apache-2.0 --language en": "needs weights: make check-exports",
	"peftsearch export best --to onnx --out served": "needs weights: make check-exports",
	"peftsearch serve":                                                               "never ends: serve.txtar",
	"peftsearch serve my-study":                                                      "never ends: serve.txtar",
	"peftsearch watch my-study":                                                      "never ends: watch.txtar",
	"peftsearch pull EMBEDDIA/sloberta":                                              "needs a network: pull.txtar",
	"peftsearch run study.yaml --mirror /content/drive/MyDrive/study":                "needs Colab's disk: mirror.txtar",
	"peftsearch db start ~/peft-db --data /tmp/peft-db":                              "TestAServerOfOnesOwn",
	"peftsearch show stsb-demo --db ~/peft-db":                                       "TestTheClusterPage",
	"peftsearch doctor examples/stsb.yaml":                                           "needs weights: TestTheClusterPage",
	"peftsearch run examples/stsb.yaml --mirror /content/drive/MyDrive/stsb --plain": "needs Colab's disk: mirror.txtar",
	"peftsearch report stsb-demo --out /content/drive/MyDrive/stsb/stsb.html":        "needs Colab's disk: report.txtar",
}

// trains are the pages whose commands train for hours: what is in docs/results.md.
const trains = "docs/results.md"

// clusters is the page whose commands need a cluster.
const clusters = "docs/how-to/cluster.md"

// firstBlock is the first block of code of a page.
func firstBlock(page string) string { return fences.FindStringSubmatch(page)[2] }

// The commands of the documentation run, one page after another and each in its order, on studies of the names that
// they have, in place of the worker one that does not train. TestTutorial runs those of the tutorial.
func TestTheDocumentationRuns(t *testing.T) {
	script := `
env XDG_CONFIG_HOME=$WORK/config
exec mkdir models
symlink models/all-MiniLM-L6-v2 -> ../model
cp train.tsv reviews.tsv
cp train.tsv new.tsv
cp fake.yaml other.yaml
replace 'study: small' 'study: other' other.yaml
`
	for _, name := range []string{"my-study", "mine", "stsb", "stsb-demo"} {
		script += fmt.Sprintf("cp fake.yaml %[1]s.yaml\nreplace 'study: small' 'study: %[1]s' %[1]s.yaml\n"+
			"replace 'trials: 4' 'trials: 12' %[1]s.yaml\nexec peftsearch -q run %[1]s.yaml\n", name)
	}
	script += "cp studies.db demo.db\nrm study.yaml\n"
	all, used := pages(t), map[string]bool{}
	for _, path := range slices.Sorted(maps.Keys(all)) {
		page := all[path]
		if strings.HasSuffix(path, clusters) { // its first block is TestTheClusterPage's
			page = strings.Replace(page, firstBlock(page), "", 1)
		}
		if strings.HasSuffix(path, trains) || strings.HasSuffix(path, "docs/tutorial.md") ||
			strings.HasSuffix(path, "docs/reference/cli.md") { // its examples are the help's
			continue
		}
		for _, line := range commandsOf(page) {
			line = strings.TrimSpace(commentary.ReplaceAllString(line, ""))
			if _, ok := notRun[line]; ok {
				used[line] = true
				continue
			}
			script += fmt.Sprintf("# %s\nexec %s\n", strings.TrimPrefix(path, "../../"), strings.ReplaceAll(line, " N ", " 3 "))
		}
	}
	for line := range notRun {
		if !used[line] {
			t.Errorf("no page has %s any more", line)
		}
	}
	runScript(t, script)
}

// commentary is what follows a command on its line.
var commentary = regexp.MustCompile(` +(#|>|&&).*$`)

// The tutorial does what it says: its study file and its commands, one after the other, in place of the worker one that
// does not train.
func TestTutorial(t *testing.T) {
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
	runScript(t, script.String())
}

// runScript runs a script beside the study of the scripts.
func runScript(t *testing.T, script string) {
	t.Helper()
	model, err := filepath.Abs("../../models/bert-tiny")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(model); err != nil {
		t.Skip("models/bert-tiny is not there: make models/bert-tiny fetches it")
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "page.txtar"), []byte(script), 0o644); err != nil {
		t.Fatal(err)
	}
	commands := map[string]func(ts *testscript.TestScript, neg bool, args []string){"replace": replace}
	testscript.Run(t, testscript.Params{Dir: dir, Cmds: commands, Setup: func(env *testscript.Env) error {
		if err := os.CopyFS(env.WorkDir, os.DirFS("testdata/study")); err != nil {
			return err
		}
		return os.Symlink(model, filepath.Join(env.WorkDir, "model"))
	}})
}
