package data

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"peftsearch/data/files"
	"peftsearch/data/metric"
)

// Every class keeps its share in every split, to within a group of equal inputs, and stays in train.
func TestStratified(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		sizes := rapid.SliceOfN(rapid.IntRange(1, 60), 2, 8).Draw(t, "rows of the classes")
		sizes[0], sizes[1] = sizes[0]+30, sizes[1]+30
		repeat := rapid.IntRange(1, 3).Draw(t, "rows with one input")
		var lines []string
		for class, n := range sizes {
			for i := range n {
				lines = append(lines, fmt.Sprintf("text %d of %d\tc%d\n", i/repeat, class, class))
			}
		}
		lines = rapid.Permutation(lines).Draw(t, "lines")
		path := dir + "/t.tsv"
		if err := files.Write(path, []byte("text\tlabel\n"+strings.Join(lines, ""))); err != nil {
			t.Fatal(err)
		}
		task := classifier(path)
		task.DevShare, task.TestShare = rapid.Float64Range(0.1, 0.4).Draw(t, "dev"),
			rapid.Float64Range(0, 0.4).Draw(t, "test")
		task.SplitSeed = rapid.Uint64().Draw(t, "seed")
		d, err := Load(task)
		if err != nil {
			t.Fatal(err)
		}
		if got := len(d.Train) + len(d.Dev) + len(d.Test); got != len(lines) {
			t.Fatalf("%d of %d rows are in a split", got, len(lines))
		}
		for _, c := range d.Report().Classes {
			var class int
			fmt.Sscanf(c.Label, "c%d", &class)
			n := float64(sizes[class])
			if c.Train == 0 {
				t.Errorf("%s is missing in train", c.Label)
			}
			// When dev is full, each class has been dealt to the same place, to within a group of rows and the one that is
			// kept; all classes together move the share of dev by as much over the rows of all.
			share := float64(len(d.Dev)) / float64(len(lines))
			off := float64(2*repeat) + n/float64(len(lines))*float64(2*repeat*len(sizes))
			if math.Abs(float64(c.Dev)-share*n) > off {
				t.Errorf("%s: %d of %g rows are in dev, the share is %g", c.Label, c.Dev, n, share)
			}
		}
		inTrain := map[string]bool{}
		for _, e := range d.Train {
			inTrain[e.key()] = true
		}
		for _, e := range slices.Concat(d.Dev, d.Test) {
			if inTrain[e.key()] {
				t.Fatalf("%q is on both sides", e.Text)
			}
		}
		again, err := Load(task)
		if err != nil || again.Fingerprint != d.Fingerprint {
			t.Errorf("the same seed splits differently (%v)", err)
		}
	})
}

// One input may have several labels; each of them stays in train.
func TestStratifiedKeepsEveryLabel(t *testing.T) {
	for seed := range uint64(50) {
		task := classifier(file(t, "t.tsv", labelled("a", "b")+"the same\tc\nthe same\td\nthe same\te\nother\te\n"))
		task.SplitSeed, task.TestShare = seed, 0.3
		d, err := Load(task)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range d.Report().Classes {
			if c.Train == 0 {
				t.Errorf("seed %d: %s is missing in train", seed, c.Label)
			}
		}
	}
}

// Studies that were begun when all rows were drawn alike keep their rows.
func TestSplitsOfOldStudies(t *testing.T) {
	task := classifier(file(t, "t.tsv", labelled("a", "b", "c")))
	task.Split, task.TestShare, task.SplitSeed = "", 0.2, 7
	d, err := Load(task)
	if err != nil {
		t.Fatal(err)
	}
	const want = "a9db07d3fb4a35b1917d7b96b7fb4159817ebb4ab8f9c95b02a0aefb567609c1"
	if d.Fingerprint != want {
		t.Errorf("fingerprint %s, at version 1 it was %s", d.Fingerprint, want)
	}
}

// What a split is good for is decided by all the parts of its rows.
func TestLoadKeepsUsefulSplits(t *testing.T) {
	columns := Columns{Text: "#1", Label: "#2"}
	train := file(t, "t.tsv", "a\tB-X\nb\tI-X\n\nc\tO\n")
	for content, want := range map[string]string{
		"a\tB-X\nb\tO\n\nc\tB-X\nd\tO\n": "",
		"a\tO\nb\tO\n\nc\tO\n":           `dev: all 2 rows have the label "O": entity_f1 cannot tell`,
		"a\tB-X\n\nc\tB-X\n":             `dev: all 2 rows have the label "B-X": entity_f1 cannot tell`,
	} {
		task := taskOf(KindTokenClassification, train, columns)
		task.Dev = file(t, "d.tsv", content)
		_, err := Load(task)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: error %v, want %q", content, err, want)
		}
	}
	sets := taskOf(KindMultilabel, file(t, "t.jsonl", `{"t":"a","l":["x","y"]}`+"\n"+`{"t":"b","l":["x"]}`),
		Columns{Text: "t", Label: "l"})
	sets.Dev = file(t, "d.jsonl", `{"t":"c","l":["x","y"]}`+"\n"+`{"t":"d","l":["y","x"]}`)
	if _, err := Load(sets); err == nil || !strings.Contains(err.Error(), `dev: all 2 rows have the label "x, y"`) {
		t.Errorf("error %v of rows with the same labels", err)
	}
}

func TestLoadRefusesUselessSplits(t *testing.T) {
	numbers := func(values ...string) string { return labelled(values...) }
	for _, test := range []struct {
		name, train, dev string
		regression       bool
		want             string
	}{
		{"constant dev targets", numbers("1", "2", "3"), numbers("3.5"), true,
			"dev: all 40 targets are 3.5: spearman cannot tell plans apart"},
		{"constant targets", numbers("3.5"), "", true, "train: all 30 targets are 3.5: there is nothing to learn"},
		{"one dev label", numbers("a", "b"), numbers("b"), false,
			`dev: all 40 rows have the label "b": accuracy cannot tell plans apart: name other rows under task.dev`},
		{"one dev row", numbers("a", "b"), "text\tlabel\nx\ta\n", false, "dev: it has 1 row: accuracy cannot"},
		{"one dev target", numbers("1", "2"), "text\tlabel\nx\t1\n", true, "dev: it has 1 row: spearman cannot"},
	} {
		t.Run(test.name, func(t *testing.T) {
			task := classifier(file(t, "t.tsv", test.train))
			if test.regression {
				task.Kind, task.Metric, task.Split = KindRegression, metric.Spearman, ""
			}
			if test.dev != "" {
				task.Dev = file(t, "d.tsv", test.dev)
			}
			if _, err := Load(task); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}

// A rare class does not keep dev from having two.
func TestDevHasTwoClasses(t *testing.T) {
	labels := slices.Repeat([]string{"common"}, 200)
	labels[20], labels[150] = "rare", "rare"
	for seed := range uint64(20) {
		task := classifier(file(t, "t.tsv", labelled(labels...)))
		task.DevShare, task.SplitSeed = 0.02, seed
		if _, err := Load(task); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
	}
}
