package data

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"peftsearch/data/metric"
	"peftsearch/data/tokenizer"
)

// taskOf is a task of a kind on one file, of which it takes a share for dev.
func taskOf(kind Kind, train string, columns Columns) Task {
	return Task{Kind: kind, Metric: kind.Metrics()[0], Train: train, Columns: columns, DevShare: 0.3, MaxLength: 32}
}

// all loads a file as the training rows, with the same file for dev.
func all(t *testing.T, name, content string, task Task) ([]Example, *Dataset) {
	t.Helper()
	task.Train = file(t, name, content)
	task.Dev = task.Train
	d, err := Load(task)
	if err != nil {
		t.Fatal(err)
	}
	return d.Train, d
}

func testTokenizer(t *testing.T) *tokenizer.Tokenizer {
	t.Helper()
	dir := filepath.Join("..", "models", "bert-tiny")
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("%s is absent: make models/bert-tiny fetches it", dir)
	}
	tok, err := tokenizer.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func TestTokenClassificationFiles(t *testing.T) {
	want := []Example{
		{Row{Words: []string{"Ana", "Novak", "spi"}}, []float64{3, 4, 0}},
		{Row{Words: []string{"Ljubljana"}}, []float64{1}},
	}
	labels := []string{"O", "B-LOC", "I-LOC", "B-PER", "I-PER"}
	for name, test := range map[string]struct {
		file, content string
		columns       Columns
	}{
		"tabs": {"t.tsv", "# comment\nAna\tB-PER\nNovak\tI-PER\nspi\tO\n\n\nLjubljana\tB-LOC\n",
			Columns{Text: "#1", Label: "#2"}},
		"blanks": {"t.conll",
			"-DOCSTART- -X- O O\n\nAna NNP x B-PER\nNovak NNP x I-PER\nspi V x O\n\r\nLjubljana NNP x B-LOC",
			Columns{Text: "#1", Label: "#4"}},
		"lists": {"t.jsonl", `{"tokens":["Ana","Novak","spi"],"tags":["B-PER","I-PER","O"]}` + "\n" +
			`{"tokens":["Ljubljana"],"tags":["B-LOC"]}`, Columns{Text: "tokens", Label: "tags"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, d := all(t, test.file, test.content, taskOf(KindTokenClassification, "", test.columns))
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if diff := cmp.Diff(labels, d.Labels); diff != "" {
				t.Errorf("tags (-want +got)\n%s", diff)
			}
			said := d.Task.Say(got[0].Row, got[0].Target, d.Labels)
			if diff := cmp.Diff([]string{"Ana\tB-PER", "Novak\tI-PER", "spi\tO", ""},
				d.Task.Lines(got[0].Row, said)); diff != "" {
				t.Errorf("prediction (-want +got)\n%s", diff)
			}
		})
	}
	for name, test := range map[string]struct {
		content string
		columns Columns
		lines   [2]int // of the first I-, and of the first empty word
	}{
		"t.tsv": {"a\tB-X\n\na\tI-X\n\tO\nc\tI-X\nd\tI-X\n\na\tO\n", Columns{Text: "#1", Label: "#2"}, [2]int{3, 4}},
		"t.jsonl": {`{"w":["a"],"t":["B-X"]}` + "\n" + `{"w":["a","b","c","d"],"t":["I-X","O","I-X","I-X"]}` + "\n" +
			`{"w":["a",null],"t":["O","O"]}`, Columns{Text: "w", Label: "t"}, [2]int{2, 3}},
	} {
		_, d := all(t, name, test.content, taskOf(KindTokenClassification, "", test.columns))
		said := strings.Join(d.Notes, "; ")
		for i, want := range []string{"line %d has a tag I- that follows no tag of its type (and 1 more): an entity",
			"line %d has an empty word: nothing"} {
			if want = fmt.Sprintf(want, test.lines[i]); !strings.Contains(said, want) {
				t.Errorf("%s: notes %q, want %q", name, said, want)
			}
		}
	}
}

func TestMultipleChoiceFiles(t *testing.T) {
	two := func(text string, choices ...Choice) Row { return Row{Text: text, Choices: choices} }
	for name, test := range map[string]struct {
		file, content string
		columns       Columns
		labels        []string
		want          []Example
		said          string // of the first
	}{
		"COPA": {"t.jsonl", `{"premise":"It rained.","choice1":"Wet.","choice2":"Dry.","question":"effect","label":0}` +
			"\n" + `{"premise":"Wet.","choice1":"Sun.","choice2":"Rain.","question":"cause","label":1}`,
			Columns{Text: "premise", Question: "question", Choices: []string{"choice1", "choice2"}, Label: "label"}, nil,
			[]Example{{two("It rained. What happened as a result?", Choice{Text: "Wet."}, Choice{Text: "Dry."}), []float64{0}},
				{two("Wet. What was the cause of this?", Choice{Text: "Sun."}, Choice{Text: "Rain."}), []float64{1}}}, "0"},
		"CommonsenseQA and ARC": {"t.jsonl",
			`{"question":"Q","choices":{"label":["A","B","C"],"text":["x","y","z"]},"answerKey":"C"}` + "\n" +
				`{"question":"R","choices":{"label":["1","2"],"text":["x","y"]},"answerKey":"1"}`,
			Columns{Text: "question", Choices: []string{"choices.text"}, ChoiceNames: "choices.label", Label: "answerKey"}, nil,
			[]Example{{two("Q", Choice{"x", "A"}, Choice{"y", "B"}, Choice{"z", "C"}), []float64{2}},
				{two("R", Choice{"x", "1"}, Choice{"y", "2"}), []float64{0}}}, "C"},
		"OpenBookQA": {"t.jsonl",
			`{"question":{"stem":"Q","choices":[{"text":"x","label":"A"},{"text":"y","label":"B"}]},"answerKey":"B"}` + "\n" +
				`{"question":{"stem":"R","choices":[{"text":"x","label":"A"},{"text":"y","label":"B"}]},"answerKey":"A"}`,
			Columns{Text: "question.stem", Choices: []string{"question.choices.text"}, ChoiceNames: "question.choices.label",
				Label: "answerKey"}, nil,
			[]Example{{two("Q", Choice{"x", "A"}, Choice{"y", "B"}), []float64{1}},
				{two("R", Choice{"x", "A"}, Choice{"y", "B"}), []float64{0}}}, "B"},
		"from 1, with an unused place": {"t.tsv", "q\ta\tb\tc\tanswer\nQ\tx\ty\tz\t1\nR\tx\ty\tz\t2\n",
			Columns{Text: "q", Choices: []string{"a", "b", "c"}, Label: "answer"}, []string{"1", "2", "3"},
			[]Example{{two("Q", Choice{Text: "x"}, Choice{Text: "y"}, Choice{Text: "z"}), []float64{0}},
				{two("R", Choice{Text: "x"}, Choice{Text: "y"}, Choice{Text: "z"}), []float64{1}}}, "1"},
	} {
		t.Run(name, func(t *testing.T) {
			task := taskOf(KindMultipleChoice, "", test.columns)
			task.Labels = test.labels
			got, d := all(t, test.file, test.content, task)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if said := d.Task.Say(got[0].Row, got[0].Target, d.Labels)[0]; said != test.said {
				t.Errorf("it says %q, want %q", said, test.said)
			}
		})
	}
}

func TestCoreferenceFiles(t *testing.T) {
	wsc := Columns{Text: "text", Label: "label", Spans: []string{"target.span2_text", "target.span1_text"},
		Offsets: []string{"target.span2_index", "target.span1_index"}}
	got, _ := all(t, "t.jsonl",
		`{"text":"Mark told Pete lies. He, too, lied.","target":{"span1_text":"mark","span1_index":0,`+
			`"span2_text":"He","span2_index":4},"label":true}`+"\n"+
			`{"text":"Mark told Pete lies. He, too, lied.","target":{"span1_text":"Pete","span1_index":2,`+
			`"span2_text":"He","span2_index":4},"label":false}`, taskOf(KindCoreference, "", wsc))
	text := "Mark told Pete lies. He, too, lied."
	want := []Example{{Row{Text: text, Spans: []Span{{21, 24}, {0, 4}}}, []float64{1}},
		{Row{Text: text, Spans: []Span{{21, 24}, {10, 14}}}, []float64{0}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("WSC (-want +got)\n%s", diff)
	}
	gap := Columns{Text: "Text", Labels: []string{"A-coref", "B-coref"}, Spans: []string{"Pronoun", "A", "B"},
		Offsets: []string{"Pronoun-offset", "A-offset", "B-offset"}}
	got, d := all(t, "t.tsv",
		"Text\tPronoun\tPronoun-offset\tA\tA-offset\tA-coref\tB\tB-offset\tB-coref\n"+
			"Žana saw Eva and she ran.\tshe\t17\tŽana\t0\tTRUE\tEva\t9\tFALSE\nI saw I.\tI\t0\tI\t0\tTRUE\tI\t6\tFALSE\n",
		taskOf(KindCoreference, "", gap))
	want = []Example{{Row{Text: "Žana saw Eva and she ran.", Spans: []Span{{17, 20}, {0, 4}, {9, 12}}}, []float64{1, 0}},
		{Row{Text: "I saw I.", Spans: []Span{{0, 1}, {0, 1}, {6, 7}}}, []float64{1, 0}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("GAP (-want +got)\n%s", diff)
	}
	if lines := d.Task.Lines(got[0].Row, d.Task.Say(got[0].Row, []float64{1, 0}, d.Labels)); lines[0] != "true\tfalse" {
		t.Errorf("prediction %q", lines)
	}

	// Rows of one text stay together.
	var content strings.Builder
	for i := range 40 {
		text := strings.Repeat("x", 1+i/4)
		content.WriteString(`{"text":"` + text + ` y z","a":"y","b":"z","i":1,"j":2,"label":` +
			[]string{"true", "false"}[i%2] + "}\n")
	}
	task := taskOf(KindCoreference, file(t, "many.jsonl", content.String()),
		Columns{Text: "text", Label: "label", Spans: []string{"a", "b"}, Offsets: []string{"i", "j"}})
	d, err := Load(task)
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Dev) != 12 {
		t.Errorf("%d dev rows of 10 texts with 4 rows each", len(d.Dev))
	}
	for _, dev := range d.Dev {
		for _, train := range d.Train {
			if dev.Text == train.Text {
				t.Fatalf("%q is on both sides", dev.Text)
			}
		}
	}
}

func TestMultilabelFiles(t *testing.T) {
	want := []Example{{Row{Text: "a"}, []float64{1, 0}}, {Row{Text: "b"}, []float64{1, 1}},
		{Row{Text: "c"}, []float64{0, 0}}}
	for name, test := range map[string]struct {
		file, content string
		columns       Columns
	}{
		"commas": {"t.tsv", "text\tlabel\na\tjoy\nb\tsad, joy\nc\t\n", Columns{Text: "text", Label: "label"}},
		"lists": {"t.jsonl", `{"text":"a","label":["joy"]}` + "\n" + `{"text":"b","label":["sad","joy"]}` + "\n" +
			`{"text":"c","label":[]}`, Columns{Text: "text", Label: "label"}},
		"columns": {"t.csv", "text,joy,sad\na,1,0\nb,TRUE,yes\nc,no,0\n",
			Columns{Text: "text", Labels: []string{"joy", "sad"}}},
	} {
		t.Run(name, func(t *testing.T) {
			got, d := all(t, test.file, test.content, taskOf(KindMultilabel, "", test.columns))
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if diff := cmp.Diff([]string{"joy", "sad"}, d.Labels); diff != "" {
				t.Errorf("labels (-want +got)\n%s", diff)
			}
		})
	}
}

// Bad rows of every kind are named by their line, in the order of lines.
func TestKindsRefuse(t *testing.T) {
	wsc := Columns{Text: "text", Label: "label", Spans: []string{"a", "b"}, Offsets: []string{"i", "j"}}
	copa := Columns{Text: "t", Choices: []string{"x", "y"}, Label: "l"}
	for name, test := range map[string]struct {
		kind          Kind
		columns       Columns
		file, content string
		want          []string
	}{
		"BIOES": {KindTokenClassification, Columns{Text: "#1", Label: "#2"}, "t.conll",
			"a B-X\nb E-X\n\nc S-X\n", []string{"line 2: tag \"E-X\": its scheme marks ends", "line 4"}},
		"no tag": {KindTokenClassification, Columns{Text: "#1", Label: "#2"}, "t.conll", "a B-X\nb NOUN\n",
			[]string{`line 2: tag "NOUN": must be O`}},
		"numbers": {KindTokenClassification, Columns{Text: "w", Label: "t"}, "t.jsonl",
			`{"w":["a"],"t":["B-X"]}` + "\n" + `{"w":["a"],"t":[3]}`, []string{`line 2: tag "3": a number stands for`}},
		"no list": {KindTokenClassification, Columns{Text: "w", Label: "t"}, "t.jsonl",
			`{"w":["a"],"t":["B-X"]}` + "\n" + `{"w":"a b","t":["O","O"]}`,
			[]string{`line 2: 2 tags for 1 words ("a b"): they are a list of words`}},
		"a column less": {KindTokenClassification, Columns{Text: "#1", Label: "#2"}, "t.tsv", "a\tB-X\nb\n",
			[]string{"line 2: there is no column #2 in it"}},
		"names of columns": {KindTokenClassification, Columns{Text: "token", Label: "tag"}, "t.tsv", "token\ttag\na\tO\n",
			[]string{"by position"}},
		"no entities": {KindTokenClassification, Columns{Text: "#1", Label: "#2"}, "t.tsv", "a\tO\n",
			[]string{"no tag of an entity"}},
		"tags and words": {KindTokenClassification, Columns{Text: "w", Label: "t"}, "t.jsonl",
			`{"w":["a"],"t":["B-X"]}` + "\n" + `{"w":["a","b"],"t":["O"]}` + "\n" + `{"w":[],"t":[]}`,
			[]string{"line 2: 1 tags for 2 words", "line 3: \"w\" is missing"}},
		"a CSV file of tags": {KindTokenClassification, Columns{Text: "#1", Label: "#2"}, "t.csv", "a,O\n",
			[]string{"use .conll, .tsv or .jsonl"}},
		"one choice": {KindMultipleChoice, Columns{Text: "t", Choices: []string{"c"}, Label: "l"}, "t.jsonl",
			`{"t":"a","c":["x","y"],"l":0}` + "\n" + `{"t":"a","c":["x"],"l":1}`,
			[]string{"1 row cannot", "line 2: \"c\": 1 choices", "line 2: label \"1\" is choice 2 of 1"}},
		"an empty choice": {KindMultipleChoice, copa, "t.tsv", "t\tx\ty\tl\na\tb\tc\t0\na\tb\t \t1\n",
			[]string{"line 3: choice 2 is empty"}},
		"unused places": {KindMultipleChoice, Columns{Text: "t", Choices: []string{"x", "y", "z"}, Label: "l"},
			"t.tsv", "t\tx\ty\tz\tl\na\tb\tc\td\t1\na\tb\tc\td\t2\n", []string{"up to 3 choices", "task.labels"}},
		"no such name": {KindMultipleChoice, Columns{Text: "t", Choices: []string{"c"}, ChoiceNames: "n", Label: "l"},
			"t.jsonl", `{"t":"a","c":["x","y"],"n":["A","B"],"l":"C"}`, []string{`line 1: label "C" is the name of no choice`}},
		"names twice": {KindMultipleChoice, Columns{Text: "t", Choices: []string{"c"}, ChoiceNames: "n", Label: "l"},
			"t.jsonl", `{"t":"a","c":["x","y"],"n":["A","A"],"l":"A"}`, []string{"stands twice"}},
		"a span elsewhere": {KindCoreference, wsc, "t.jsonl",
			`{"text":"He saw it.","a":"He","b":"it","i":0,"j":2,"label":true}` + "\n" +
				`{"text":"He saw it.","a":"He","b":"cat","i":0,"j":2,"label":true}`,
			[]string{`line 2: "b" "cat" does not stand at word 2`}},
		"no offset": {KindCoreference, wsc, "t.jsonl",
			`{"text":"He saw it.","a":"He","b":"it","i":"x","j":2,"label":true}`, []string{`line 1: "i" is "x": an offset`}},
		"perhaps": {KindCoreference, wsc, "t.jsonl",
			`{"text":"He saw it.","a":"He","b":"it","i":0,"j":2,"label":"perhaps"}`, []string{`line 1: "label" is "perhaps"`}},
		"too few offsets": {KindCoreference, Columns{Text: "text", Label: "label", Spans: []string{"a", "b"},
			Offsets: []string{"i"}}, "t.jsonl", `{"text":"He saw it.","a":"He","b":"it","i":0,"label":true}`,
			[]string{"2 spans need as many offsets and 1 labels"}},
		"a label unseen": {KindMultilabel, Columns{Text: "t", Labels: []string{"x", "y"}}, "t.tsv",
			"t\tx\ty\na\t1\t0\nb\t2\t0\n", []string{`line 3: "x" is "2"`}},
		"both mappings": {KindMultilabel, Columns{Text: "t", Label: "x", Labels: []string{"x"}}, "t.tsv",
			"t\tx\na\t1\n", []string{"needs label"}},
		"keys of others": {KindClassification, Columns{Text: "t", Label: "l", Choices: []string{"x"}}, "t.tsv",
			"t\tl\na\tb\n", []string{"columns: classification has no choices"}},
		"a path astray": {KindMultipleChoice, Columns{Text: "t", Choices: []string{"c.text"}, Label: "l"}, "t.jsonl",
			`{"t":"a","c":["x","y"],"l":0}`, []string{`there is no column "c.text"`}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Load(taskOf(test.kind, file(t, test.file, test.content), test.columns))
			for _, want := range test.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("error %v\nwant %q", err, want)
				}
			}
		})
	}
}

// Rows for predictions need no answers.
func TestReadRowsOfKinds(t *testing.T) {
	for kind, test := range map[Kind]struct {
		columns       Columns
		file, content string
	}{
		KindTokenClassification: {Columns{Text: "#1", Label: "#2"}, "t.tsv", "a\nb\n"},
		KindMultipleChoice:      {Columns{Text: "t", Choices: []string{"x", "y"}, Label: "l"}, "t.tsv", "t\tx\ty\na\tb\tc\n"},
		KindCoreference: {Columns{Text: "t", Spans: []string{"a", "b"}, Offsets: []string{"i", "j"}, Label: "l"},
			"t.tsv", "t\ta\tb\ti\tj\nx y\tx\ty\t0\t1\n"},
		KindMultilabel: {Columns{Text: "t", Labels: []string{"x", "y"}}, "t.tsv", "t\na\n"},
	} {
		task := taskOf(kind, "", test.columns)
		rows, err := task.ReadRows(file(t, test.file, test.content))
		if err != nil || len(rows) != 1 {
			t.Errorf("%s: %v (%v)", kind, rows, err)
		} else if err := task.CheckRow(rows[0]); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		if err := task.CheckRow(Row{}); err == nil {
			t.Errorf("%s takes a row without anything", kind)
		}
	}
}

func TestEncodeOfKinds(t *testing.T) {
	tok := testTokenizer(t)
	ids := func(texts ...string) []int32 { return tok.Encode(512, texts...).IDs }

	// The tag of a word is that of its first token, and a word that is cut off gets O.
	words := Row{Words: []string{"Unbelievable", "\u200b", "snowboarding", "Ljubljana"}}
	task := taskOf(KindTokenClassification, "", Columns{})
	in := task.Encode(tok, Example{Row: words})
	if len(in.Marked) != 3 || in.Marked[0] != 1 || in.Words[1] != -1 || in.Words[3] != 2 || in.Truncated {
		t.Errorf("%+v", in)
	}
	if diff := cmp.Diff([]float64{1, 2, 0}, task.Wanted(in, []float64{1, 1, 2, 0})); diff != "" {
		t.Errorf("targets (-want +got)\n%s", diff)
	}
	labels := []string{"O", "B-X", "I-X"}
	outputs := []float64{0, 5, 1, 0, 1, 5, 9, 0, 0}
	if diff := cmp.Diff([]float64{1, 0, 2, 0}, task.Answer(in, outputs, labels)); diff != "" {
		t.Errorf("answer (-want +got)\n%s", diff)
	}
	task.MaxLength = in.Marked[2] + 1 // the last word is cut off
	if cut := task.Encode(tok, Example{Row: words}); !cut.Truncated || cut.Words[3] != -1 || len(cut.Marked) != 2 {
		t.Errorf("cut: %+v", cut)
	}
	if empty := task.Encode(tok, Example{Row: Row{Words: []string{"\u200b"}}}); len(empty.Marked) != 1 ||
		task.Wanted(empty, []float64{1})[0] != ignored {
		t.Errorf("a row without tokens: %+v", empty)
	}

	// The first text loses its end, the choice stays.
	task = taskOf(KindMultipleChoice, "", Columns{})
	row := Row{Text: "one two three four five six seven", Choices: []Choice{{Text: "eight nine"}, {Text: "ten"}}}
	in = task.Encode(tok, Example{Row: row})
	if diff := cmp.Diff(ids(row.Text, "ten"), in.Sequences[1].IDs); diff != "" || in.Truncated {
		t.Errorf("whole (-want +got)\n%s", diff)
	}
	task.MaxLength = 8
	in = task.Encode(tok, Example{Row: row})
	if diff := cmp.Diff([][]int32{ids("one two three", "eight nine"), ids("one two three four", "ten")},
		[][]int32{in.Sequences[0].IDs, in.Sequences[1].IDs}); diff != "" || !in.Truncated {
		t.Errorf("cut (-want +got)\n%s", diff)
	}

	// Spans are the tokens that their characters are in.
	task = taskOf(KindCoreference, "", Columns{})
	row = Row{Text: "Mark told Pete unbelievable lies.", Spans: []Span{{10, 14}, {15, 27}, {0, 14}}}
	in = task.Encode(tok, Example{Row: row})
	if in.Spans[0] != (tokenizer.Range{Start: 3, End: 4}) || in.Spans[2] != (tokenizer.Range{Start: 1, End: 4}) ||
		in.Marked[0] != 1 || in.Truncated {
		t.Errorf("%+v", in)
	}
	task.MaxLength = 5
	if in = task.Encode(tok, Example{Row: row}); in.Spans[1] != (tokenizer.Range{Start: 0, End: 1}) ||
		in.Marked[0] != 0 || !in.Truncated {
		t.Errorf("a span that is cut off: %+v", in)
	}
}

func TestMultilabelAnswers(t *testing.T) {
	task := taskOf(KindMultilabel, "", Columns{})
	labels := []string{"joy", "sad", "calm"}
	answer := task.Answer(Input{}, []float64{0.1, -2, 3}, labels)
	if diff := cmp.Diff([]string{"joy,calm"}, task.Lines(Row{}, task.Say(Row{}, answer, labels))); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// Every kind has a metric that says 1, or no error, for the truth.
func TestTruthScoresBest(t *testing.T) {
	for _, kind := range Kinds() {
		examples := []Example{{Target: []float64{0, 1}}, {Target: []float64{1, 0}}}
		d := Dataset{Task: Task{Kind: kind}, Labels: []string{"O", "B-X"}}
		var truth [][]float64
		for _, e := range examples {
			truth = append(truth, e.Target)
		}
		if kind.Writes() {
			examples = []Example{{Target: metric.Target([]string{"one two three four"})}}
			truth = [][]float64{Written([]float64{0, 5, 5}, "one two three four")}
		}
		for name, score := range d.Scores(truth, examples) {
			if _, best := metric.Name(name).Range(); score < 1 && score != best {
				t.Errorf("%s of %s: %g", name, kind, score)
			}
		}
	}
}
