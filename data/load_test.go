package data

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"peftsearch/data/files"
	"peftsearch/data/metric"
)

// file writes a file into a new directory.
func file(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	write(t, path, content)
	return path
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func classifier(train string) Task {
	return Task{
		Kind: KindClassification, Metric: metric.Accuracy, Train: train, Columns: Columns{Text: "text", Label: "label"},
		DevShare: 0.25, MaxLength: 32, Split: Stratified,
	}
}

func TestLoadExampleData(t *testing.T) {
	dir := filepath.Join("..", "examples", "data", "stsb")
	d, err := Load(Task{
		Kind: KindRegression, Metric: metric.Spearman, Train: filepath.Join(dir, "train.tsv"),
		Dev:  filepath.Join(dir, "dev.tsv"),
		Test: filepath.Join(dir, "test.tsv"), Columns: Columns{Text: "sentence1", TextPair: "sentence2", Label: "score"},
		MaxLength: 64,
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int{5749, 1500, 1379}, []int{len(d.Train), len(d.Dev), len(d.Test)}); diff != "" {
		t.Errorf("rows (-want +got)\n%s", diff)
	}
	want := Example{Row{Text: "A plane is taking off.", TextPair: "An air plane is taking off."}, []float64{5}}
	if diff := cmp.Diff(want, d.Train[0]); diff != "" {
		t.Errorf("first row (-want +got)\n%s", diff)
	}
	// Studies are recognised by it: no later version may change it.
	if want := "59caa6a595e1ba5b432b1040182eb1bb54bcad1694d727df6e12a84225163bb8"; d.Fingerprint != want {
		t.Errorf("the fingerprint is %s, want %s", d.Fingerprint, want)
	}
	if d.Chance() != 0 || d.Labels != nil {
		t.Errorf("chance %g, labels %v", d.Chance(), d.Labels)
	}
}

// The same rows in every format give the same data set and fingerprint.
func TestLoadFormats(t *testing.T) {
	want := []Example{
		{Row{Text: `She said "no", twice`, TextPair: "naïve"}, []float64{1}},
		{Row{Text: "two", TextPair: "b"}, []float64{0}},
		{Row{Text: "three", TextPair: "c"}, []float64{0}},
		{Row{Text: "four", TextPair: "d"}, []float64{1}},
	}
	dev := file(t, "dev.jsonl", `{"text":"x","pair":"y","label":true}`+"\n"+`{"text":"y","pair":"y","label":false}`)
	fingerprint := ""
	for _, test := range []struct {
		name, file, content string
		columns             Columns
	}{
		{"TSV", "t.tsv", "id\ttext\tpair\tlabel\n1\tShe said \"no\", twice\tnaïve\ttrue\n2\ttwo\tb\tfalse\n" +
			"3\tthree\tc\tfalse\n4\tfour\td\ttrue\n", Columns{}},
		{"TSV with BOM and CRLF, without a last line end", "t.TSV",
			"\ufefftext\tpair\tlabel\r\nShe said \"no\", twice\tnaïve\ttrue\r\n\r\ntwo\tb\tfalse\r\nthree\tc\tfalse\r\n" +
				"four\td\ttrue", Columns{}},
		{"TSV by position, with extra columns", "t.tsv",
			"x\ttrue\tShe said \"no\", twice\tnaïve\nx\tfalse\ttwo\tb\tmore\tmore\nx\tfalse\tthree\tc\nx\ttrue\tfour\td\n",
			Columns{Text: "#3", TextPair: "#4", Label: "#2"}},
		{"CSV", "t.csv", "\ufefftext,pair,label\r\n\"She said \"\"no\"\", twice\",naïve,true\r\ntwo,b,false\n" +
			"three,c,false\nfour,d,true\n", Columns{}},
		{"JSONL", "t.jsonl", `{"text":"She said \"no\", twice","pair":"na\u00efve","label":true,"x":[1]}` + "\n\n" +
			`{"text":"two","pair":"b","label":false}` + "\n" + `{"label":"false","text":"three","pair":"c"}` + "\r\n" +
			`{"text":"four","pair":"d","label":true}`, Columns{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			task := classifier(file(t, test.file, test.content))
			task.Columns = Columns{Text: "text", TextPair: "pair", Label: "label"}
			task.Dev = dev
			if !test.columns.IsZero() {
				task.Dev, task.Columns, task.Labels = file(t, "dev.tsv", "z\ttrue\tx\ty\nz\tfalse\ty\ty\n"), test.columns,
					[]string{"false", "true"}
			}
			d, err := Load(task)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, d.Train); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if diff := cmp.Diff([]string{"false", "true"}, d.Labels); diff != "" {
				t.Errorf("labels (-want +got)\n%s", diff)
			}
			if fingerprint == "" {
				fingerprint = d.Fingerprint
			}
			if d.Fingerprint != fingerprint {
				t.Error("the fingerprint depends on the format")
			}
		})
	}
}

func TestLoadLabels(t *testing.T) {
	for _, test := range []struct {
		name   string
		labels []string // of the rows
		fixed  []string
		want   []string
	}{
		{"text", []string{"no", "yes", "maybe"}, nil, []string{"maybe", "no", "yes"}},
		{"numbers", []string{"10", "9", "-1", "9"}, nil, []string{"-1", "9", "10"}},
		{"mixed", []string{"10", "9", "x"}, nil, []string{"10", "9", "x"}},
		{"fixed", []string{"no", "yes"}, []string{"yes", "no"}, []string{"yes", "no"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			content := "text\tlabel\n"
			for i, label := range test.labels {
				content += fmt.Sprintf("t%d\t%s\n", i, label)
			}
			task := classifier(file(t, "t.tsv", content))
			task.Labels, task.Dev = test.fixed, task.Train
			d, err := Load(task)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, d.Labels); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			for i, e := range d.Train {
				if d.Labels[int(e.Target[0])] != test.labels[i] {
					t.Errorf("row %d has label %g", i, e.Target[0])
				}
			}
		})
	}
}

func TestLoadRefuses(t *testing.T) {
	good := "text\tlabel\na\t0\nb\t1\nc\t0\nd\t1\n"
	for _, test := range []struct {
		name, file, content string
		change              func(t *testing.T, task *Task)
		want                []string
	}{
		{name: "missing column", file: "t.tsv", content: "sentence\tlabel\na\t0\n",
			want: []string{`no column "text"`, `"sentence", "label"`}},
		{name: "missing JSON key", file: "t.jsonl", content: `{"sentence":"a","label":0}`,
			want: []string{`no column "text"`, `"label", "sentence"`}},
		{name: "ambiguous column", file: "t.tsv", content: "text\ttext\tlabel\na\tb\t0\n", want: []string{"two columns"}},
		{name: "names and positions", file: "t.tsv", content: good,
			change: func(_ *testing.T, task *Task) { task.Columns.Text = "#1" },
			want:   []string{`column "label"`, "not by both"}},
		{name: "position beyond", file: "t.tsv", content: good,
			change: func(_ *testing.T, task *Task) { task.Columns = Columns{Text: "#1", Label: "#3"} },
			want:   []string{"no column #3", "2 columns"}},
		{name: "bad rows", file: "t.tsv", content: "text\tlabel\na\t0\n \t1\nc\nd\t1\n",
			want: []string{"2 rows cannot be used", `line 3: "text" is missing`, `line 4: "label" is missing`}},
		{name: "many bad rows", file: "t.tsv", content: good + strings.Repeat("x\n", 25),
			want: []string{"25 rows", "line 6:", "line 15:", "and 15 more"}},
		{name: "CSV lines", file: "t.csv", content: "text,label\n\"a\nb\",0\nb,1\nc\n",
			want: []string{`line 5: "label" is missing`}},
		{name: "CSV quotes", file: "t.csv", content: "text,label\na\"b,0\n", want: []string{"line 2"}},
		{name: "a JSON array", file: "t.jsonl", content: "[{\"text\":\"a\",\"label\":0},\n{\"text\":\"b\",\"label\":1}]\n",
			want: []string{"the file is one JSON array", "jq -c"}},
		{name: "a JSON array on many lines", file: "t.jsonl", content: "[\n{\"text\":\"a\",\"label\":0}\n]",
			want: []string{"the file is one JSON array"}},
		{name: "a key twice", file: "t.jsonl", content: "{\"text\":\"a\",\"label\":0,\"text\":\"b\"}\n",
			want: []string{`line 1: the key "text" stands there twice`}},
		{name: "two objects in a line", file: "t.jsonl", content: "{\"text\":\"a\",\"label\":0} {}\n{\"text\"\n{\"text\":1",
			want: []string{"line 1: no JSON object: more follows", "line 2: no JSON object", "line 3: no JSON object"}},
		{name: "invisible text", file: "t.jsonl",
			content: "{\"text\":\"\u200b\",\"label\":0}\n{\"text\":\"a\\u0000b\",\"label\":1}\n",
			want:    []string{`line 1: "text" is missing or empty`, `line 2: "text" has a NUL character`}},
		{name: "JSON lines", file: "t.jsonl", content: "{\"text\":\"a\",\"label\":0}\n[1]\n{\"text\":{},\"label\":1}\n",
			want: []string{"2 rows", "line 2: no JSON object", `line 3: "text": must be a string`}},
		{name: "no number", file: "t.tsv", content: "text\tlabel\na\t1\nb\tNaN\nc\tmany\nd\tinf\n",
			change: func(_ *testing.T, task *Task) { task.Kind, task.Metric = KindRegression, metric.Pearson },
			want:   []string{"3 rows", `line 3: "label" is "NaN"`, "line 4", "line 5"}},
		{name: "unseen label", file: "t.tsv", content: good, change: func(t *testing.T,
			task *Task) {
			task.Dev = file(t, "d.tsv", "text\tlabel\na\t0\nb\t2\n")
		},
			want: []string{"d.tsv", `line 3: label "2" is none of the training labels "0", "1"`}},
		{name: "both files", file: "t.tsv", content: good, change: func(t *testing.T, task *Task) {
			task.Dev, task.Test = file(t, "d.tsv", "text\tlabel\na\t9\n"), file(t, "e.tsv", "text\tlabel\na\t8\n")
		}, want: []string{"d.tsv", `"9"`, "e.tsv", `"8"`}},
		{name: "label without rows", file: "t.tsv", content: good,
			change: func(_ *testing.T, task *Task) { task.Labels = []string{"0", "1", "2"} }, want: []string{`label "2"`}},
		{name: "one label", file: "t.tsv", content: "text\tlabel\na\t0\n", want: []string{"at least 2"}},
		{name: "binary metric", file: "t.tsv", content: good + "e\t2\n",
			change: func(_ *testing.T, task *Task) { task.Metric = metric.F1 }, want: []string{"f1_macro"}},
		{name: "too few rows", file: "t.tsv", content: "text\tlabel\na\t0\na\t1\n", want: []string{"too few"}},
		{name: "header only", file: "t.tsv", content: "text\tlabel\n", want: []string{"no rows"}},
		{name: "empty file", file: "t.tsv", content: "", want: []string{"empty"}},
		{name: "not UTF-8", file: "t.tsv", content: "text\tlabel\na\t0\n\xff\xfe\t1\n",
			want: []string{"line 3 is not UTF-8"}},
		{name: "extension", file: "t.xlsx", content: good, want: []string{".tsv, .csv or .jsonl"}},
		{name: "absent file", file: "t.tsv", content: good, change: func(_ *testing.T, task *Task) { task.Train += ".tsv" },
			want: []string{"no such file"}},
		{name: "settings", file: "t.tsv", content: good, change: func(_ *testing.T, task *Task) {
			task.Metric, task.DevShare, task.Labels, task.Columns.Label, task.MaxLength = metric.Pearson, math.NaN(),
				[]string{"a", "a"}, "", 2
		}, want: []string{`metric "pearson"`, "dev_share NaN", `"a" stands twice`, "label must name a column",
			"max_length 2: at least 5"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			task := classifier(file(t, test.file, test.content))
			if test.change != nil {
				test.change(t, &task)
			}
			_, err := Load(task)
			for _, want := range test.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("error %v\nwant %q", err, want)
				}
			}
		})
	}
}

func TestLoadTestColumns(t *testing.T) {
	task := classifier(file(t, "t.tsv", "text\tlabel\na\t0\nb\t1\nc\t0\nd\t1\n"))
	task.Test, task.TestColumns = file(t, "e.tsv", "1\tx\n0\ty\tmore\n"), Columns{Text: "#2", Label: "#1"}
	d, err := Load(task)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Example{{Row{Text: "x"}, []float64{1}}, {Row{Text: "y"}, []float64{0}}}, d.Test); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestCarve(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(60, 200).Draw(t, "rows")
		kinds := rapid.IntRange(40, 200).Draw(t, "inputs")
		content := "text\tlabel\n"
		for i := range n {
			content += fmt.Sprintf("input %d\t%d\n", i%kinds, i)
		}
		path := filepath.Join(dir, "t.tsv")
		if err := files.Write(path, []byte(content)); err != nil {
			t.Fatal(err)
		}
		task := Task{
			Kind: KindRegression, Metric: metric.Spearman, Train: path, Columns: Columns{Text: "text", Label: "label"},
			MaxLength: 8,
			DevShare:  rapid.Float64Range(0.05, 0.4).Draw(t, "dev"), TestShare: rapid.Float64Range(0, 0.4).Draw(t, "test"),
			SplitSeed: rapid.Uint64().Draw(t, "seed"),
		}
		d, err := Load(task)
		if err != nil {
			t.Fatal(err)
		}
		var values []float64
		split := map[string]int{}
		for i, examples := range [][]Example{d.Train, d.Dev, d.Test} {
			if !slices.IsSortedFunc(examples, func(a, b Example) int { return int(a.Target[0] - b.Target[0]) }) {
				t.Fatalf("split %d is not in the order of the file", i)
			}
			for _, e := range examples {
				values = append(values, e.Target[0])
				if other, ok := split[e.Text]; ok && other != i {
					t.Fatalf("%q is in two splits", e.Text)
				}
				split[e.Text] = i
			}
		}
		slices.Sort(values)
		for i, v := range values {
			if v != float64(i) {
				t.Fatalf("row %d was lost or doubled", i)
			}
		}
		largest := (n + kinds - 1) / kinds
		for name, c := range map[string]struct {
			have int
			want float64
		}{"dev": {len(d.Dev), task.DevShare}, "test": {len(d.Test), task.TestShare}} {
			if want := c.want * float64(n); math.Abs(float64(c.have)-want) > float64(largest) {
				t.Fatalf("%s has %d rows, want about %g", name, c.have, want)
			}
		}
		again, err := Load(task)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(d, again); diff != "" {
			t.Fatalf("the same seed splits differently (-first +second)\n%s", diff)
		}
		task.SplitSeed++
		if other, err := Load(task); err != nil || other.Fingerprint == d.Fingerprint {
			t.Fatalf("another seed gives the same split (%v)", err)
		}
	})
}

func TestChance(t *testing.T) {
	train := "text\tlabel\na\t0\nb\t1\n"
	dev := "text\tlabel\na\t0\nb\t0\nc\t1\nd\t0\n"
	for name, want := range map[metric.Name]float64{metric.Accuracy: 0.75, metric.F1: 0.4, metric.F1Macro: 3.0 / 7,
		metric.MCC: 0} {
		task := classifier(file(t, "t.tsv", train))
		task.Metric, task.Dev = name, file(t, "d.tsv", dev)
		d, err := Load(task)
		if err != nil {
			t.Fatal(err)
		}
		if got := d.Chance(); !(math.Abs(got-want) <= 1e-12) {
			t.Errorf("%s: %g, want %g", name, got, want)
		}
	}
}

func TestReadRows(t *testing.T) {
	path := file(t, "t.csv", "a,b\nx,\"y, z\"\nx,y\n")
	rows, err := Task{Kind: KindClassification, Columns: Columns{Text: "a", TextPair: "b"}}.ReadRows(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Row{{Text: "x", TextPair: "y, z"}, {Text: "x", TextPair: "y"}}, rows); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if _, err := (Task{Kind: KindClassification, Columns: Columns{Text: "a", TextPair: "b"}}).ReadRows(file(t, "t.tsv",
		"a\tb\nx\t\n")); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("error %v", err)
	}
}

// Metrics of two classes are left out where there are more.
func TestScores(t *testing.T) {
	rows := func(values ...float64) (predictions [][]float64, examples []Example) {
		for _, v := range values {
			predictions, examples = append(predictions, []float64{v}), append(examples, Example{Target: []float64{v}})
		}
		return predictions, examples
	}
	predictions, _ := rows(0, 1, 1, 0)
	_, examples := rows(0, 1, 0, 0)
	for _, test := range []struct {
		kind    Kind
		labels  []string
		without []metric.Name
	}{
		{KindClassification, []string{"a", "b"}, nil},
		{KindClassification, []string{"a", "b", "c"}, []metric.Name{metric.F1, metric.Precision, metric.Recall}},
		{KindRegression, nil, nil},
	} {
		d := Dataset{Task: Task{Kind: test.kind}, Labels: test.labels}
		a := d.answers(examples)
		a.Predicted = predictions
		want := map[string]float64{}
		for _, name := range test.kind.Metrics() {
			if !slices.Contains(test.without, name) {
				want[string(name)] = metric.Score(name, a)
			}
		}
		if diff := cmp.Diff(want, d.Scores(predictions, examples)); diff != "" {
			t.Errorf("%s with labels %q (-want +got)\n%s", test.kind, test.labels, diff)
		}
	}
}
