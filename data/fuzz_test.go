package data

import (
	"path/filepath"
	"testing"

	"peftsearch/data/metric"
	"peftsearch/data/quote"
)

// FuzzLoad reads the bytes as a file of each kind, for both kinds of task.
func FuzzLoad(f *testing.F) {
	for _, content := range []string{
		"text\tlabel\na\t0\nb\t1\nc\t0\nd\t1\n", "text,label\n\"a, \"\"b\"\"\",yes\nc,no\n",
		"{\"text\":\"a\",\"label\":1}\n{\"text\":\"b\",\"label\":2.0}\n",
		"text\tlabel\r\n\"a\r\nb\"\tx\r\n", "1\ttext 1\tneg\n", "text;label\na;b\n", "\ufefftext,label,,\nx,y,,\n",
		"text\rlabel\r", "\xff\xfet\x00e\x00", "a\tna\n\u200ba\tNA\n",
	} {
		for kind := range byte(12) {
			f.Add([]byte(content), kind)
		}
	}
	f.Fuzz(func(t *testing.T, content []byte, kind byte) {
		task := Task{Kind: KindClassification, Metric: metric.Accuracy, Columns: Columns{Text: "text", Label: "label"},
			DevShare: 0.25, TestShare: 0.25, MaxLength: 8, Split: Stratified}
		task.Train = filepath.Join(t.TempDir(), "t"+[]string{".tsv", ".csv", ".jsonl"}[kind%3])
		if kind/3%2 == 1 {
			task.Kind, task.Metric, task.Split = KindRegression, metric.Spearman, ""
		}
		if kind/6%2 == 1 {
			task.Columns = Columns{Text: "#1", Label: "#2"}
		}
		write(t, task.Train, string(content))
		d, err := Load(task)
		if err != nil {
			if len(err.Error()) > quote.MessageLimit || quote.Message(err.Error()) != err.Error() {
				t.Errorf("%d bytes: %q", len(err.Error()), err)
			}
			return
		}
		report := d.Report()
		report.Lines()
		for i, c := range report.Classes {
			if c.Train == 0 {
				t.Errorf("class %d is missing in train", i)
			}
		}
		for _, e := range d.Train {
			if e.Text == "" || task.Kind == KindClassification && (e.Target[0] < 0 || int(e.Target[0]) >= len(d.Labels)) {
				t.Errorf("%+v", e)
			}
		}
		if chance := d.Chance(); !(chance >= 0 && chance < 1) {
			t.Errorf("the level of chance is %g", chance)
		}
	})
}

// FuzzLoadKinds reads the bytes as files of the kinds whose rows have parts.
func FuzzLoadKinds(f *testing.F) {
	tasks := []struct {
		kind    Kind
		columns Columns
	}{
		{KindTokenClassification, Columns{Text: "#1", Label: "#2"}},
		{KindTokenClassification, Columns{Text: "w", Label: "t"}},
		{KindMultipleChoice, Columns{Text: "t", Question: "q", Choices: []string{"x", "y"}, Label: "l"}},
		{KindMultipleChoice, Columns{Text: "q.t", Choices: []string{"q.c.x"}, ChoiceNames: "q.c.n", Label: "l"}},
		{KindCoreference, Columns{Text: "t", Spans: []string{"x", "y"}, Offsets: []string{"i", "j"}, Label: "l"}},
		{KindMultilabel, Columns{Text: "t", Label: "l"}},
		{KindMultilabel, Columns{Text: "t", Labels: []string{"x", "y"}}},
	}
	for _, content := range []string{
		"a\tB-X\nb\tO\n\nc\tI-Y\n", "a B-X\nb I-X\n", `{"w":["a","b"],"t":["B-X","O"]}` + "\n" + `{"w":["c"],"t":["O"]}`,
		"t\tq\tx\ty\tl\na\tcause\tb\tc\t0\nd\teffect\te\tf\t1\n",
		`{"q":{"t":"a","c":[{"x":"b","n":"A"},{"x":"c","n":"B"}]},"l":"B"}` + "\n",
		`{"t":"He saw it.","x":"He","y":"it","i":0,"j":2,"l":true}` + "\n" +
			`{"t":"He saw it.","x":"He","y":"it","i":0,"j":7,"l":false}`,
		"t\tl\na\tx,y\nb\t\nc\ty\n", "t\tx\ty\na\t1\t0\nb\tno\tyes\n",
	} {
		for i := range len(tasks) * 2 {
			f.Add([]byte(content), byte(i))
		}
	}
	f.Fuzz(func(t *testing.T, content []byte, choice byte) {
		chosen := tasks[int(choice/2)%len(tasks)]
		task := Task{Kind: chosen.kind, Metric: chosen.kind.Metrics()[0], Columns: chosen.columns, DevShare: 0.25,
			TestShare: 0.25, MaxLength: 8, Split: Stratified}
		task.Train = filepath.Join(t.TempDir(), "t"+[]string{".tsv", ".jsonl"}[choice%2])
		write(t, task.Train, string(content))
		d, err := Load(task)
		if err != nil {
			if len(err.Error()) > quote.MessageLimit || quote.Message(err.Error()) != err.Error() {
				t.Errorf("%d bytes: %q", len(err.Error()), err)
			}
			return
		}
		d.Report().Lines()
		if chance := d.Chance(); !(chance >= 0 && chance <= 1) {
			t.Errorf("the level of chance is %g", chance)
		}
		for _, e := range d.Train {
			if err := task.CheckRow(e.Row); err != nil {
				t.Errorf("%+v: %v", e, err)
			}
			task.Lines(e.Row, task.Say(e.Row, e.Target, d.Labels))
		}
	})
}
