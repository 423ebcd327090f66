package data

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"peftsearch/data/metric"
)

func TestReport(t *testing.T) {
	task := Task{
		Kind: KindClassification, Metric: metric.Accuracy, MaxLength: 8,
		Columns: Columns{Text: "a", TextPair: "b", Label: "label"},
		Train:   file(t, "t.tsv", "a\tb\tlabel\nx\ty\tno\nčaša\tzzz\tyes\nx\tx\tno\nu\tv\tmaybe\n"),
		Dev:     file(t, "d.tsv", "a\tb\tlabel\ny\tx\tno\nx\tx\tno\nx\ty\tyes\nnew\tpair\tyes\n"),
		Test:    file(t, "e.tsv", "a\tb\tlabel\nv\tu\tno\nu\tv\tno\nv\tu\tyes\n"),
	}
	d, err := Load(task)
	if err != nil {
		t.Fatal(err)
	}
	want := Report{
		Splits: []SplitReport{
			{Name: "train", Rows: 4, MedianLength: 2, MaxLength: 7},
			{Name: "dev", Rows: 4, InTrain: 2, Swapped: 1, MedianLength: 2, MaxLength: 7},
			{Name: "test", Rows: 3, InTrain: 1, Swapped: 2, MedianLength: 2, MaxLength: 2},
		},
		Classes: []ClassReport{{"maybe", 1, 0, 0}, {"no", 2, 2, 2}, {"yes", 1, 2, 1}},
		Notes: []string{
			"dev: 2 of its 4 rows stand in train too, 1 of its 4 pairs stand in train with their sentences swapped; scores " +
				"on them say little about new rows",
			"test: 1 of its 3 rows stand in train too, 2 of its 3 pairs stand in train with their sentences swapped; scores " +
				"on them say little about new rows",
			`dev has no row with 1 of the 3 labels: "maybe"`,
			`test has no row with 1 of the 3 labels: "maybe"`,
		},
	}
	if diff := cmp.Diff(want, d.Report()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	lines := strings.Join(d.Report().Lines(), "\n")
	for _, want := range []string{"train  4 rows, 2 characters each (median), at most 7\n",
		"class 1  \"no\": 2 train, 2 dev, 2 test\n"} {
		if !strings.Contains(lines, want) {
			t.Errorf("%q is missing in\n%s", want, lines)
		}
	}
}

// The overlaps that the shipped example data is known to have.
func TestReportOfExampleData(t *testing.T) {
	dir := "../examples/data/stsb/"
	d, err := Load(Task{
		Kind: KindRegression, Metric: metric.Spearman, Train: dir + "train.tsv", Dev: dir + "dev.tsv", Test: dir + "test.tsv",
		Columns: Columns{Text: "sentence1", TextPair: "sentence2", Label: "score"}, MaxLength: 64,
	})
	if err != nil {
		t.Fatal(err)
	}
	r := d.Report()
	for i, want := range [][3]int{{5749, 0, 0}, {1500, 6, 3}, {1379, 7, 6}} {
		if got := [3]int{r.Splits[i].Rows, r.Splits[i].InTrain, r.Splits[i].Swapped}; got != want {
			t.Errorf("%s has %d rows, in train, swapped; want %d", r.Splits[i].Name, got, want)
		}
	}
	if r.Splits[0].MinTarget != 0 || r.Splits[0].MaxTarget != 5 || r.Classes != nil {
		t.Errorf("%+v", r.Splits[0])
	}
}

// Of tags those of entities are missed, if train has them.
func TestReportOfTags(t *testing.T) {
	task := taskOf(KindTokenClassification, file(t, "t.tsv", "a\tB-X\n\nb\tB-Y\nc\tI-Y\n\nd\tO\n"),
		Columns{Text: "#1", Label: "#2"})
	task.Dev = file(t, "d.tsv", "e\tB-X\nf\tO\n\ng\tB-X\n")
	d, err := Load(task)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{`dev has no row with 2 of the 5 labels: "B-Y", "I-Y"`}, d.Report().Notes); diff != "" {
		t.Errorf("notes (-want +got)\n%s", diff)
	}
}

// A task without test rows is one: nothing about them is reported, and nothing scored.
func TestReportWithoutTest(t *testing.T) {
	d, err := Load(classifier(file(t, "t.tsv", labelled("a", "b"))))
	if err != nil {
		t.Fatal(err)
	}
	r := d.Report()
	if r.Splits[2] != (SplitReport{Name: "test"}) || len(r.Notes) != 0 || d.Scores(nil, nil) != nil {
		t.Errorf("%+v", r)
	}
}

func TestReportOfManyClasses(t *testing.T) {
	var labels []string
	for i := range 300 {
		labels = append(labels, strings.Repeat("x", i+1))
	}
	d, err := Load(classifier(file(t, "t.tsv", labelled(append(append(labels, labels...), labels...)...))))
	if err != nil {
		t.Fatal(err)
	}
	if lines := d.Report().Lines(); len(lines) != 3+20+1 || lines[23] != "and 280 more classes" {
		t.Errorf("%d lines:\n%s", len(lines), strings.Join(lines, "\n"))
	}
}
