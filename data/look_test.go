package data

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// repeat makes n rows of a pattern; # is the number of the row and % is 0 or 1.
func repeat(n int, pattern string) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.NewReplacer("#", string(rune('a'+i%26))+string(rune('a'+i/26)), "%",
			string(rune('0'+i%2))).Replace(pattern))
	}
	return b.String()
}

func TestLook(t *testing.T) {
	for name, test := range map[string]struct {
		file, content string
		kind          Kind
		want          Columns
		unsure        string
	}{
		"header": {"t.tsv", "review\tstars\n" + repeat(20, "good or bad film #\t%\n"), KindClassification,
			Columns{Text: "review", Label: "stars"}, ""},
		"no header": {"t.tsv", repeat(20, "%\tgood or bad film #\n"), KindClassification,
			Columns{Text: "#2", Label: "#1"}, "fewest different"},
		"unusual names": {"t.csv", "Aussage,Urteil\n" + repeat(20, "\"gut, oder schlecht #\",%\n"), KindClassification,
			Columns{Text: "Aussage", Label: "Urteil"}, "taken for names"},
		"pair": {"t.tsv", "index\tpremise\thypothesis\tlabel\n" +
			repeat(20, "7\ta man sleeps #\tno man is awake\t%\n"), KindClassification,
			Columns{Text: "premise", TextPair: "hypothesis", Label: "label"}, ""},
		"numbered pair": {"t.tsv", "Quality\t#1 String\t#2 String\n" + repeat(20, "%\ta man sleeps #\ta man is awake #\n"),
			KindClassification, Columns{Text: "#1 String", TextPair: "#2 String", Label: "Quality"}, "for a pair"},
		"CoNLL": {"t.tsv", repeat(20, "# x\tB-PER\nsleeps\tO\n\n"), KindTokenClassification,
			Columns{Text: "#1", Label: "#2"}, ""},
		"CoNLL-U": {"t.conllu", repeat(20, "1-2\t#x\t_\tO\n1\t#\t_\tB-PER\n2\tsleeps\t_\tO\n\n"),
			KindTokenClassification, Columns{Text: "#2", Label: "#4"}, "words are taken from column #2"},
		"SWAG": {"t.csv", "sent1,sent2,ending0,ending1,label\n" +
			repeat(20, "She sat down there #.,Then she went,home again,out to dance,%\n"), KindMultipleChoice,
			Columns{Text: "sent1", Choices: []string{"ending0", "ending1"}, Label: "label"}, `"sent2" has texts too`},
		"labels or none": {"t.csv",
			"text,tags\n" + repeat(20, "some text #,\"joy,fear\"\nsome more #,joy\na third #,fear\nno #,\n"),
			KindMultilabel, Columns{Text: "text", Label: "tags"}, ""},
		"token lists": {"t.jsonl", repeat(20, `{"id":"#","tokens":["#","x"],"ner_tags":["B-PER","O"]}`+"\n"),
			KindTokenClassification, Columns{Text: "tokens", Label: "ner_tags"}, ""},
		"COPA": {"t.jsonl",
			repeat(20, `{"premise":"It rained #","choice1":"Wet it was.","choice2":"Dry it was.","question":"effect",`+
				`"label":%}`+"\n"), KindMultipleChoice, Columns{
				Text: "premise", Question: "question", Choices: []string{"choice1", "choice2"}, Label: "label"}, ""},
		"CommonsenseQA": {"t.jsonl",
			repeat(100, `{"id":"#","question":"What is it #?","choices":{"label":["0","1"],"text":["a big dog","a cat"]},`+
				`"answerKey":"%"}`+"\n"), KindMultipleChoice, Columns{
				Text: "question", Choices: []string{"choices.text"}, ChoiceNames: "choices.label", Label: "answerKey"}, ""},
		"OpenBookQA": {"t.jsonl",
			repeat(100, `{"question":{"stem":"What is it #?","choices":[{"text":"a big dog","label":"0"},`+
				`{"text":"a cat","label":"1"}]},"answerKey":"%"}`+"\n"), KindMultipleChoice, Columns{
				Text: "question.stem", Choices: []string{"question.choices.text"}, ChoiceNames: "question.choices.label",
				Label: "answerKey"}, ""},
		"WSC": {"t.jsonl",
			repeat(20, `{"text":"Mark saw # and he ran.","target":{"span1_text":"Mark","span1_index":0,"span2_text":"he",`+
				`"span2_index":4},"label":%}`+"\n"), KindCoreference, Columns{
				Text: "text", Spans: []string{"target.span2_text", "target.span1_text"},
				Offsets: []string{"target.span2_index", "target.span1_index"}, Label: "label"}, "pronouns"},
		"GAP": {"t.tsv", "ID\tText\tPronoun\tPronoun-offset\tA\tA-offset\tA-coref\tB\tB-offset\tB-coref\n" +
			repeat(20, "#\tEva saw Ana and she ran #\tshe\t16\tEva\t0\tTRUE\tAna\t8\tFALSE\n"), KindCoreference,
			Columns{Text: "Text", Spans: []string{"Pronoun", "A", "B"},
				Offsets: []string{"Pronoun-offset", "A-offset", "B-offset"}, Labels: []string{"A-coref", "B-coref"}}, "pronouns"},
		"label lists": {"t.jsonl", repeat(10, `{"text":"some text #","emotions":["joy","sad"]}`+"\n"+
			`{"text":"other text #","emotions":["sad"]}`+"\n"), KindMultilabel,
			Columns{Text: "text", Label: "emotions"}, ""},
		"label columns": {"t.csv", "comment_text,toxic,rude,threat\n" + repeat(20, "some text #,%,0,1\n") +
			"some text,0,1,0\n", KindMultilabel, Columns{Text: "comment_text", Labels: []string{"toxic", "rude", "threat"}}, ""},
		"joined labels": {"t.tsv", "text\tlabel\n" + repeat(20,
			"some text #\tjoy\nother text #\tsad\nthird text #\tjoy,sad\n"), KindClassification,
			Columns{Text: "text", Label: "label"}, "kind: multilabel"},
		"scale": {"t.tsv", "text\tlabel\n" + repeat(20,
			"one more text #\t1\ntext two #\t2\ntext no #\t3\ntext x #\t4\n"), KindClassification,
			Columns{Text: "text", Label: "label"}, "kind: regression"},
		"a second text": {"t.tsv", "text\tremark\tlabel\n" + repeat(20,
			"one more good text #\tthis is a long remark #\t%\n"), KindClassification, Columns{Text: "text", Label: "label"},
			`"remark" has texts too`},
		"only one class": {"t.tsv", "text\tlabel\n" + repeat(20, "one more good text #\t0\n"), "", Columns{}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			g, err := Look(file(t, test.file, test.content))
			if test.kind == "" {
				if err == nil {
					t.Errorf("it is taken for %s %+v", g.Task.Kind, g.Task.Columns)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if g.Task.Kind != test.kind {
				t.Errorf("it is taken for %s, not %s", g.Task.Kind, test.kind)
			}
			if diff := cmp.Diff(test.want, g.Task.Columns); diff != "" {
				t.Errorf("columns (-want +got)\n%s", diff)
			}
			if unsure := strings.Join(g.Unsure, "; "); !strings.Contains(unsure, test.unsure) {
				t.Errorf("unsure of %q, want %q", unsure, test.unsure)
			}
			g.Task.Metric = g.Task.Kind.Metrics()[0]
			if _, err := Load(g.Task); err != nil && test.kind != KindTokenClassification {
				t.Errorf("the task cannot be loaded: %v", err)
			}
		})
	}
}

// A file of one JSON array is said to be one, whoever reads it.
func TestArraysAreNoRows(t *testing.T) {
	content := `[{"text":"a","label":"x"}]`
	for _, name := range []string{"t.json", "t.jsonl"} {
		path := file(t, name, content)
		_, looked := Look(path)
		_, loaded := Load(classifier(path))
		for _, err := range []error{looked, loaded} {
			if err == nil || !strings.Contains(err.Error(), "jq -c '.[]' FILE > NEW.jsonl makes rows") {
				t.Errorf("%s: error %v", name, err)
			}
		}
	}
}

func TestLookAtNumberedTags(t *testing.T) {
	_, err := Look(file(t, "t.jsonl", repeat(20, `{"id":"#","tokens":["#x","y"],"ner_tags":[3,%]}`+"\n")))
	if err == nil || !strings.Contains(err.Error(), `column "ner_tags" has numbers that stand for the tags of words`) {
		t.Errorf("error %v", err)
	}
}

func TestLookAtNumbers(t *testing.T) {
	var b strings.Builder
	b.WriteString("sentence1\tsentence2\tscore\n")
	for i := range 40 {
		b.WriteString("a man sleeps\ta man is awake\t" + string(rune('0'+i%5)) + "." + string(rune('0'+i%7)) + "\n")
	}
	g, err := Look(file(t, "t.tsv", b.String()))
	if err != nil || g.Task.Kind != KindRegression {
		t.Errorf("%s (%v)", g.Task.Kind, err)
	}
}

func FuzzLook(f *testing.F) {
	for _, content := range []string{"text\tlabel\na b\t0\n", `{"a":[{"b":"c"}],"d":1}`, "a B-X\n\nb O\n",
		"x,1,0,1\ny,0,1,0\n", "", "\t\n\t\n"} {
		for extension := range byte(4) {
			f.Add([]byte(content), extension)
		}
	}
	f.Fuzz(func(t *testing.T, content []byte, extension byte) {
		path := file(t, "t"+[]string{".tsv", ".csv", ".jsonl", ".conll"}[extension%4], string(content))
		if g, err := Look(path); err == nil {
			g.Task.Metric = g.Task.Kind.Metrics()[0]
			if err := g.Task.Validate(); err != nil {
				t.Errorf("%+v: %v", g.Task, err)
			}
		}
	})
}
