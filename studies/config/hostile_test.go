package config

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"peftsearch/data/quote"
)

// many repeats a text with a number in it.
func many(n int, format string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

// deep puts a mark on each line, one column further to the right.
func deep(n int, mark string) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Repeat(" ", i) + mark + "\n")
	}
	return b.String()
}

// with replaces a line of the smallest study file, or adds one.
func with(line string) string {
	key, _, _ := strings.Cut(line, ":")
	var lines []string
	for _, l := range strings.Split(minimal, "\n") {
		if k, _, _ := strings.Cut(l, ":"); k != key {
			lines = append(lines, l)
		}
	}
	return line + "\n" + strings.Join(lines, "\n")
}

// Whatever stands in the file: a short message that says where, after bounded work, and no panic.
func TestHostileStudyFiles(t *testing.T) {
	for name, c := range map[string]struct{ content, want string }{
		"more than 1 MiB": {"x: " + strings.Repeat("y", 20<<20), "bytes are too many for a study file"},
		"a long line":     {with("x: " + strings.Repeat("y", 900_000)), `study.yaml:1:1: unknown key "x"`},
		"a long key":      {with(strings.Repeat("y", 900_000) + ": 1"), `study.yaml:1:1: unknown key "yyy`},
		"a long value": {with("evaluator: {device: " + strings.Repeat("y", 900_000) + "}"),
			`evaluator.device "yyy`},
		"a long study":  {with("study: " + strings.Repeat("y", 900_000)), `study "yyy`},
		"open brackets": {with("baselines: " + strings.Repeat("[", 100_000)), "too many"},
		"some open brackets": {with("baselines: " + strings.Repeat("[", 2000)),
			"study.yaml:1:31: mappings and lists are more than 20 deep"},
		"closed brackets":      {with("baselines: " + strings.Repeat("[", 2000) + strings.Repeat("]", 2000)), "20 deep"},
		"open braces":          {with("baselines: " + strings.Repeat("{", 2000)), "20 deep"},
		"braces with keys":     {with("baselines: " + strings.Repeat("{a: ", 2000)), "20 deep"},
		"dashes":               {with("baselines:\n" + strings.Repeat("- ", 2000)), "20 deep"},
		"dashes on many lines": {with("baselines:\n" + deep(40, "- ")), "20 deep"},
		"deep mappings":        {deep(40, "a:"), "20 deep"},
		"300,000 keys":         {many(80_000, "k%d: 1\n"), "too many keys and values"},
		"3,000 keys":           {many(3_000, "k%d: 1\n"), " more mistakes"},
		"100,000 labels":       {with("baselines: [" + many(100_000, "l%d, ") + "]"), "too many keys and values"},
		"4,000 labels": {strings.Replace(minimal, "kind: ", "labels: ["+many(4_000, "l%d, ")+"]\n  kind: ", 1),
			"4000 are too many"},
		"a binary tag":           {with("study: !!binary"), "study.yaml:1:8: a study file has no place for a tag (!)"},
		"a binary tag, in a map": {with("x: {study: !!binary }"), "no place for a tag"},
		"an unknown tag":         {with("study: !x y"), "no place for a tag"},
		"an anchor":              {with("study: &a b"), "no place for an anchor"},
		"an alias":               {with("study: *a"), "no place for an alias"},
		"a billion laughs":       {"a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n" + minimal, "no place for an alias"},
		"a merge key":            {with("<<: {study: t}"), `unknown key "<<"`},
		"a key in parts":         {"? study\n: s\n", "no place for a key in more than one part"},
		"a directive":            {"%YAML 1.2\n---\n" + minimal, "no place for a directive"},
		"a second document":      {minimal + "---\nstudy: t\n", "study.yaml:7:1: a second document begins here"},
		"text after the end":     {minimal + "...\nstudy: t\n", "study.yaml:8:1: the document ended above"},
		"no UTF-8":               {with("study: \xff"), `study.yaml:1:1: this line is not UTF-8`},
		"a NUL":                  {with("study: \"a\x00b\""), "study"},
		"an escape sequence":     {with("\"\\x1b[2J\": 1"), `unknown key "\x1b[2J"`},
		"a path with escapes": {strings.Replace(minimal, "kind: classification", "kind: \"\x1b[2J\"", 1),
			`task.kind "\x1b[2J"`},
		"no program": {with("evaluator: {command: [\"\"]}"),
			"evaluator.command \"\": must be the name of a program"},
		"a NUL in a command": {with("evaluator: {command: [a, \"\\0\"]}"), "must be the name of a program"},
		"no scale":           {with("space: {lora: {scale: 0}}"), "space.lora.scale 0: must be between"},
		"no groups":          {with("space: {groups: 0}"), "space.groups 0: must be between 1"},
		"a direction mark":   {with("stud\u202ey: s"), `unknown key "stud\u202ey"`},
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := Parse("study.yaml", []byte(c.content))
			runtime.ReadMemStats(&after)
			if err == nil {
				t.Fatal("it was accepted")
			}
			text := err.Error()
			if !strings.Contains(text, c.want) {
				t.Errorf("no %q in: %.500s", c.want, text)
			}
			if len(text) > 500*(1+strings.Count(text, "study.yaml:")) || len(text) > 2000 {
				t.Errorf("the message has %d bytes: %.300s…", len(text), text)
			}
			for _, line := range strings.Split(text, "\n") {
				if quote.Line(line) != line {
					t.Errorf("control characters in %q", line)
				}
			}
			if mb := (after.TotalAlloc - before.TotalAlloc) >> 20; mb > 300 {
				t.Errorf("%d MiB were allocated", mb)
			}
		})
	}
}

func TestFilesThatAreNotRegular(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	large := filepath.Join(dir, "large")
	if err := os.WriteFile(large, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(large, 1<<40); err != nil { // it takes no space
		t.Skip(err)
	}
	for _, path := range []string{pipe, dir, "/dev/zero", large} {
		if _, err := Read(path); err == nil || len(err.Error()) > 500 {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestNames(t *testing.T) {
	for _, name := range []string{"s", "my study", "studie-ä", "研究 1", "5", "a.b:c", strings.Repeat("ä", 100)} {
		if err := checkName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"", "  ", "\u00a0", "\u200d", "a\tb", "a\nb", "a\x1b[2J", "a\x00b", "a\u0085b",
		"a\u202eb", "a\u2028b",
		"\ufeffa", "-s", "--help", "a/b", ".", "..", " a", "a ", "a  b", "a\u00a0b", "a\u3000b", "a\u200db", "👩\u200d👧",
		"\u2800",
		"a\u2800", "\u115f", "\u1160", "\u3164", "\uffa0", "\u034f", "a\u00ad", "a\ufe0f", "\U000e0100", "a\U000e0041",
		"\u17b4", "\u180e", "\U0001d159", "\U0001d173", "\xff", "a\ufffe", strings.Repeat("a", 101)} {
		if err := checkName(name); err == nil {
			t.Errorf("%q was accepted", name)
		}
	}
}

// Numbers mean what they say: nothing is rounded, cut off or read as something else.
func TestNumbers(t *testing.T) {
	for line, want := range map[string]string{
		"budget: {trials: 1e6}":                  "must be a whole number, such as 100: write 1000000",
		"budget: {trials: 10.0}":                 "must be a whole number, such as 100: write 10",
		"budget: {trials: 2.5}":                  "must be a whole number",
		"budget: {trials: 0x10}":                 "must be a whole number",
		"budget: {trials: 1_000}":                "must be a whole number",
		"budget: {trials: \"10\"}":               "in quotes it is a text",
		"budget: {trials: }":                     "budget.trials: has no value",
		"budget: {trials: ~}":                    "budget.trials: has no value",
		"budget: {trials: [1]}":                  "must be a single value",
		"budget: {trials: {a: 1}}":               "must be a single value",
		"budget: {trials: 99999999999999999999}": "must be a whole number",
		"search: {seed: 18446744073709551616}":   "must be a whole number from 0 to 18446744073709551615",
		"search: {seed: -1}":                     "must be a whole number from 0",
		"budget: {epochs: .nan}":                 "must be a finite number",
		"budget: {epochs: nan}":                  "must be a finite number",
		"budget: {epochs: .inf}":                 "must be a finite number",
		"budget: {epochs: 1e999}":                "must be a finite number",
		"budget: {epochs: 0x1p4}":                "must be a finite number",
		"budget: {epochs: true}":                 "must be a finite number",
		"budget: {max_failures: .NaN}":           "must be a finite number",
		"budget: {rungs: [.nan, 1]}":             `budget.rungs: entry 1: ".nan": must be a finite number`,
		"budget: {rungs: [0.5, 0.5, 1]}":         "budget.rungs 0.5 after 0.5: must be ascending",
		"budget: {rungs: []}":                    "budget.rungs 0 is the last",
		"budget: {rungs: [0, 1]}":                "budget.rungs 0 comes first",
		"budget: {rungs: [0.5]}":                 "budget.rungs 0.5 is the last",
		"budget: {rungs: 1}":                     "must be a list",
		"budget: {rungs: {a: 1}}":                "must be a list",
		"space: {learning_rate: [.inf]}":         "must be a finite number",
		"evaluator: {analytic: yes}":             "must be true or false",
		"evaluator: {device: gpu}":               "must be cpu, cuda or cuda:N",
		"training:\n  batch_size:\n    - 3":      "training.batch_size: must be a single value",
		"space:\n  serial:\n    - 3\n    - x":    "study.yaml:4:7: space.serial: entry 2: \"x\": must be a whole number",
	} {
		if _, err := Parse("study.yaml", []byte(with(line))); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v\nwant %q", line, err, want)
		}
	}
	c := parse(t, with("search: {seed: 18446744073709551615}"))
	if c.Search.Seed != 1<<64-1 {
		t.Errorf("seed %d", c.Search.Seed)
	}
}

// Whatever floats stand in a file: they are refused, or the study has an identity and is the same as itself.
func TestOddFloats(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		number := rapid.OneOf(
			rapid.Map(rapid.Float64(), func(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }),
			rapid.Map(rapid.Float64Range(0, 1), func(v float64) string { return strconv.FormatFloat(v, 'e', -1, 64) }),
			rapid.SampledFrom([]string{".nan", "NaN", ".inf", "-.inf", "+Inf", "-0.0", "0", "1", "1.0",
				"5e-324", "1e-400", "1e309", "0x1p-2", "1_0", "1e", "."}))
		text := minimal
		for _, line := range []string{"training: {learning_rate: %s, dropout: %s}\n",
			"budget: {epochs: %s, rungs: [%s, 1]}\n",
			"space: {learning_rate: [%s], lora: {scale: %s}}\n"} {
			text += fmt.Sprintf(line, number.Draw(t, "one"), number.Draw(t, "two"))
		}
		c, err := Parse("study.yaml", []byte(text))
		if err != nil {
			if len(err.Error()) > 4000 {
				t.Fatal(err)
			}
			return
		}
		if changes := Changes(c.Identity(c.Space), c.Identity(c.Space)); changes != nil {
			t.Fatal(changes)
		}
		for key, value := range c.Identity(c.Space) {
			if strings.Contains(value, "NaN") || strings.Contains(value, "Inf") || value == "-0" {
				t.Fatalf("%s is %s", key, value)
			}
		}
	})
}

// Texts stay as they are spelled, whatever YAML would take them for.
func TestTexts(t *testing.T) {
	c := parse(t, strings.Replace(minimal, "kind: ",
		"labels: [1.0, 1, no, true, ~x, 0x1F, \"\\u00e9\", 2001-01-01]\n  kind: ", 1))
	if got, want := fmt.Sprintf("%q", c.Task.Labels), `["1.0" "1" "no" "true" "~x" "0x1F" "é" "2001-01-01"]`; got != want {
		t.Errorf("labels %s, want %s", got, want)
	}
	c = parse(t, strings.ReplaceAll("\ufeff# comment\n"+minimal+"# comment\nbudget: {trials: 3}\n", "\n", "\r\n"))
	if c.Study != "s" || c.Budget.Trials != 3 || !strings.HasPrefix(c.Text(), "\ufeff# comment\r\n") {
		t.Errorf("%+v", c)
	}
	_, err := Parse("study.yaml", []byte("# one\r\n# two\r\n"+strings.ReplaceAll(with("x: 1"), "\n", "\r\n")))
	if err == nil || !strings.Contains(err.Error(), "study.yaml:3:1: unknown key") {
		t.Errorf("%v", err)
	}
}

// FuzzParse: any bytes give a study file with an identity, or mistakes in short and printable words.
func FuzzParse(f *testing.F) {
	f.Add([]byte(minimal))
	f.Add(Template())
	f.Fuzz(func(t *testing.T, content []byte) {
		c, err := Parse("study.yaml", content)
		if err == nil {
			c.Identity(c.Space)
			c.Sources()
			c.FullBudget()
			again, err := Parse("study.yaml", []byte(c.Text()))
			if err != nil || Changes(c.Identity(c.Space), again.Identity(again.Space)) != nil {
				t.Errorf("its own text is another study: %v", err)
			}
			return
		}
		text := err.Error()
		if len(text) > 50_000 || !utf8.ValidString(text) || strings.ContainsAny(text, "\x00\x07\x1b\r\u202e") {
			t.Errorf("%d bytes: %.1000q", len(text), text)
		}
	})
}

// A file that is no text is named once, and what follows can be pasted.
func TestAStudyFileInAnotherEncoding(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.yaml")
	if err := os.WriteFile(path, []byte("study: \xe9t\xe9\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := Read(path)
	if err == nil || !strings.HasPrefix(err.Error(), path+": line 1 is not UTF-8") {
		t.Fatalf("the error is %v", err)
	}
	text, command, _ := strings.Cut(err.Error(), "convert it: ")
	if strings.Count(text, path) != 1 || strings.Count(command, path) != 1 {
		t.Errorf("the error is %v", err)
	}
}
