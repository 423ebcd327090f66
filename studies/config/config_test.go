package config

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"peftsearch/data"
	"peftsearch/evaluator"
	"peftsearch/peft"
)

const minimal = `study: s
model: {path: m}
task:
  kind: classification
  train: t.tsv
  columns: {text: a, label: b}
`

func parse(t *testing.T, content string) *Config {
	t.Helper()
	c, err := Parse("study.yaml", []byte(content))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestDefaultsAreThoseOfTheTags(t *testing.T) {
	c := parse(t, minimal)
	if c.Training.LearningRate.Default() != 1e-3 || c.Budget.Trials != 100 || c.Search.Sampler != "auto" ||
		c.Task.MaxLength != 128 ||
		c.Task.Metric != "accuracy" || len(c.Budget.Rungs) != 4 || c.Evaluator.Workers != 1 ||
		!cmp.Equal(c.Baselines, []string{"head"}) {
		t.Errorf("%+v", c)
	}
	if b := c.FullBudget(); b.Epochs != 10 || len(b.Rungs) != 10 || b.Rungs[0] != 0.1 || b.Rungs[9] != 1 ||
		b.Patience != 3 {
		t.Errorf("full budget %+v", b)
	}
}

func TestWorkersAreANumberOrAuto(t *testing.T) {
	if c := parse(t, minimal+"evaluator: {workers: auto}\n"); c.Evaluator.Workers != AutoWorkers ||
		c.Hello(4).Settings.Threads != 4 {
		t.Errorf("%+v", c.Evaluator)
	}
	if c := parse(t, minimal+"evaluator: {workers: 3}\n"); c.Evaluator.Workers != 3 || c.Hello(8).Settings.Threads != 2 {
		t.Errorf("%+v", c.Evaluator)
	}
	for value, want := range map[string]string{"0": "auto or a number", "-1": "auto or a number",
		"many": "auto or a number",
		"2000": "between 1 and 1024"} {
		_, err := Parse("study.yaml", []byte(minimal+"evaluator: {workers: "+value+"}\n"))
		if err == nil || !strings.Contains(err.Error(), "study.yaml:7:13: evaluator.workers") ||
			!strings.Contains(err.Error(), want) {
			t.Errorf("workers: %s: %v", value, err)
		}
	}
}

func TestTemplateSaysWhatTheDefaultsAre(t *testing.T) {
	template := string(Template())
	fromTemplate := parse(t, template)
	// With every commented default in force the configuration stays the same.
	var lines []string
	for _, line := range strings.Split(template, "\n") {
		trimmed := strings.TrimLeft(line, " ")
		if rest, ok := strings.CutPrefix(trimmed, "# "); ok {
			key, value, _ := strings.Cut(rest, ": ")
			isKey := !strings.Contains(key, " ") && !strings.Contains(rest, "(") && value != ""
			inWords := strings.Contains(value, " ") && !strings.HasPrefix(value, "[") || value == "columns" ||
				strings.HasPrefix(value, "training.")
			if isKey && !inWords {
				line = line[:len(line)-len(trimmed)] + rest
			}
		}
		lines = append(lines, line)
	}
	uncommented := parse(t, strings.Join(lines, "\n"))
	if n := strings.Count(strings.Join(lines, "\n"), "#"); n >= strings.Count(template, "#")-20 {
		t.Fatalf("too few defaults were uncommented: %d comments are left", n)
	}
	fill := func(c *Config) {
		if c.Space.Preset == "" {
			c.Space.Preset = "per-layer"
		}
		if c.Space.Groups == 0 {
			c.Space.Groups = 3
		}
		if c.Space.LoRA.Scale == 0 {
			c.Space.LoRA.Scale = 1
		}
	}
	fill(fromTemplate)
	if diff := cmp.Diff(fromTemplate, uncommented, cmpopts.IgnoreUnexported(Config{}), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("the template's comments are not the defaults (-defaults +comments):\n%s", diff)
	}
}

func TestReferenceIsUpToDate(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "reference", "config.md")
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(path, Markdown(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, Markdown()) {
		t.Error("docs/reference/config.md is stale: UPDATE=1 go test ./studies/config -run Reference writes it")
	}
}

func TestAllMistakesAreReportedWithTheirPlaces(t *testing.T) {
	content := `study: a/b
modle: {path: m}
task:
  kind: clasification
  train: t.tsv
  colums: {text: a, label: b}
space:
  lora:
    rank: [1, 2]
training:
  learning_rate: fast
  schedule: linear
budget:
  rungs: [0.5, 0.2]
  trials: 10
  trials: 20
search: {sampler: bayes}
baselines: [lora-r9]
`
	_, err := Parse("study.yaml", []byte(content))
	if err == nil {
		t.Fatal("no error")
	}
	text := err.Error()
	for _, want := range []string{
		`study.yaml:1:1: study "a/b": a name is of 1 to 100 visible characters without a slash`,
		`study.yaml:2:1: unknown key "modle" at the top of the file`, `did you mean "model"?`,
		"model.path is missing",
		`study.yaml:6:3: unknown key "colums" in task`, `did you mean "columns"?`,
		`study.yaml:9:5: unknown key "rank" in space.lora`, `did you mean "ranks"?`,
		"study.yaml:11:3: training.learning_rate: ",
		"study.yaml:14:3: budget.rungs 0.2 after 0.5: must be ascending",
		"study.yaml:16:3: budget.trials stands twice",
		`study.yaml:17:10: search.sampler "bayes": must be one of`,
		`study.yaml:18:1: baselines "lora-r9": must be one of`, `did you mean "lora-r8"?`,
		"  11 |   learning_rate: fast",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in:\n%s", want, text)
		}
	}
}

func TestAValueThatIsNoneIsReportedWithTheOneThatIsMeant(t *testing.T) {
	_, err := Parse("study.yaml", []byte(minimal+"training:\n  schedule: linaer\n"))
	if want := `training.schedule "linaer": must be one of linear, cosine, constant`; err == nil ||
		!strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), `did you mean "linear"?`) {
		t.Errorf("the error is %v, want %q", err, want)
	}
}

func TestAKeyOfAnotherSectionIsFound(t *testing.T) {
	_, err := Parse("study.yaml", []byte(minimal+"training: {epochs: 2}\n"))
	if want := "did you mean budget.epochs or budget.train.epochs?"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("the error is %v, want %q", err, want)
	}
}

func TestTaskMistakesStandAtTheirKeys(t *testing.T) {
	for change, want := range map[[2]string]string{
		{"kind: classification", "kind: clasification"}: `study.yaml:4:3: task.kind "clasification": must be`,
		{"train: t.tsv", "train: t.tsv\n  metric: f2"}:  `study.yaml:6:3: task.metric "f2": must be one of`,
		{"text: a, ", ""}: `study.yaml:6:3: task.columns: text must name a column`,
		{"train: t.tsv", "train: t.tsv\n  dev_share: 0.9"}: "study.yaml:6:3: task.dev_share 0.9: must be from 0 to 0.5",
	} {
		_, err := Parse("study.yaml", []byte(strings.Replace(minimal, change[0], change[1], 1)))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: the error is %v, want %q", change[1], err, want)
		}
	}
}

func TestFilesThatAreNoStudyFiles(t *testing.T) {
	for content, want := range map[string]string{
		"":                     "study is missing",
		"- a\n- b\n":           "must be a mapping",
		"study: [unclosed\n":   "study.yaml:",
		"study: s\nmodel: m\n": "study.yaml:2:8: model must be a mapping",
	} {
		_, err := Parse("study.yaml", []byte(content))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: the error is %v", content, err)
		} else if strings.Contains(err.Error(), "must be one of") {
			t.Errorf("%q: mistakes that are none: %v", content, err)
		}
	}
	_, err := Read(filepath.Join(t.TempDir(), "none.yaml"))
	var mistake *Error
	if !errors.As(err, &mistake) || !strings.Contains(mistake.Hint, "peftsearch init") {
		t.Errorf("no file: %v", err)
	}
}

func TestInputsThatCannotBeOpened(t *testing.T) {
	model, err := filepath.Abs("../../models/bert-tiny")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(model); err != nil {
		t.Skip("models/bert-tiny is not there: make models/bert-tiny fetches it")
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "study.yaml")
	if err := os.WriteFile(filepath.Join(dir, "t.tsv"), []byte("a\tb\n"+strings.Repeat("one\tno\ntwo\tyes\n", 20)),
		0o644); err != nil {
		t.Fatal(err)
	}
	content := strings.Replace(minimal, "path: m", "path: "+model, 1)
	broken := strings.NewReplacer("train: t.tsv", "train: none.tsv", "bert-tiny", "bert-none").Replace(content)
	c, err := Parse(path, []byte(broken))
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Open()
	for _, want := range []string{"bert-none", "none.tsv"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no word about %s in: %v", want, err)
		}
	}
	c, err = Parse(path, []byte(content+"space: {max_params: 5}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Open(); err == nil || !strings.Contains(err.Error(),
		"study.yaml:7:9: space.max_params: 5: the smallest plan") {
		t.Errorf("max_params: %v", err)
	}
}

// What a worker of the user's own leaves out is read from the checkpoint; what it says counts.
func TestWorkersMayLeaveOutTheirGeometry(t *testing.T) {
	model, err := filepath.Abs("../../models/bert-tiny")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(model); err != nil {
		t.Skip("models/bert-tiny is not there: make models/bert-tiny fetches it")
	}
	dir := t.TempDir()
	rows := "a\tb\n"
	for i := range 40 {
		rows += fmt.Sprintf("row %d\t%d\n", i, i%2)
	}
	if err := os.WriteFile(filepath.Join(dir, "t.tsv"), []byte(rows), 0o644); err != nil {
		t.Fatal(err)
	}
	open := func(model string) (*Inputs, error) {
		c, err := Parse(filepath.Join(dir, "study.yaml"), []byte(strings.Replace(minimal, "path: m", "path: "+model, 1)+
			"evaluator: {command: [worker]}\n"))
		if err != nil {
			t.Fatal(err)
		}
		return c.OpenLoaded(evaluator.Ready{Fingerprint: evaluator.Fingerprint{Model: "mine", Data: "rows"}})
	}
	in, err := open(model)
	if err != nil || in.Geometry.Layers != 2 || in.Fingerprint != (evaluator.Fingerprint{Model: "mine", Data: "rows"}) {
		t.Errorf("%+v, %v", in, err)
	}
	if _, err := open(dir); err == nil || !strings.Contains(err.Error(), "says its geometry") {
		t.Errorf("a directory without a checkpoint: %v", err)
	}
}

func TestATrialsSecondsFollowFromTheStudyFileAndTheRows(t *testing.T) {
	c := parse(t, minimal)
	c.Task.MaxLength, c.Budget.Epochs, c.Budget.TrainRows, c.Budget.Rungs = 50, 2, 500, []float64{0.5, 1}
	rows := func(n, length int) (out []data.Example) {
		for range n {
			out = append(out, data.Example{Row: data.Row{Text: strings.Repeat("x", length)}})
		}
		return out
	}
	in := &Inputs{Geometry: peft.Geometry{Layers: 2, Hidden: 100, FFN: 400},
		Dataset: &data.Dataset{Train: rows(1000, 90), Dev: rows(100, 900)}} // 20 tokens, and 200 cut at 50
	const weights = 2 * (4*100*100 + 2*100*400)
	want := weights * (4.0*500*20*2 + 2.0*100*50*2) / 1e11
	if got := c.TrialSeconds(in); math.Abs(got-want) > 1e-9*want {
		t.Errorf("%g s, want %g", got, want)
	}
	c.Evaluator.Command = []string{"another"}
	if got := c.TrialSeconds(in); got != 0 {
		t.Errorf("%g s for another program, want 0: not known", got)
	}
}
