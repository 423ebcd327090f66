package data

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"peftsearch/data/quote"
)

// labelled makes a TSV file with the given labels in turn.
func labelled(labels ...string) string {
	var b strings.Builder
	b.WriteString("text\tlabel\n")
	for i := range max(40, len(labels)) {
		fmt.Fprintf(&b, "text %d\t%s\n", i, labels[i%len(labels)])
	}
	return b.String()
}

func TestLoadLabelSpellings(t *testing.T) {
	for _, test := range []struct {
		name   string
		labels []string
		want   string // "" if they are classes of their own
	}{
		{"case", []string{"yes", "no", "Yes", "NO"},
			`"yes" (10 rows, the first is line 2) and "Yes" (10 rows, the first is line 4)`},
		{"case, second group", []string{"yes", "no", "Yes", "NO"}, `"no" (10 rows, the first is line 3) and "NO"`},
		{"numbers", []string{"0", "1", "0.0", "1.0"}, `"0" (10 rows, the first is line 2) and "0.0"`},
		{"leading zeros", []string{"7", "007", "8"}, `"7" (14 rows, the first is line 2) and "007"`},
		{"exponents", []string{"100", "1e2", "8"}, `"100" (14 rows, the first is line 2) and "1e2"`},
		{"hexadecimal", []string{"1", "0x1", "8"}, `"1" (14 rows, the first is line 2) and "0x1"`},
		{"decimal comma", []string{"1.0", "1,0", "8"}, `"1.0" (14 rows, the first is line 2) and "1,0"`},
		{"digits of another script", []string{"12", "\u0661\u0662", "8"},
			`"12" (14 rows, the first is line 2) and "\u0661\u0662"`},
		{"signs", []string{"-1", "-1.0", "1"}, `"-1"`},
		{"normal form", []string{"na\u00efve", "nai\u0308ve", "plain"},
			`"na\u00efve" (14 rows, the first is line 2) and "nai\u0308ve"`},
		{"compatibility", []string{"２", "2", "3"}, `"\uff12" (14 rows, the first is line 2) and "2"`},
		{"zero width", []string{"neg", "\u200bneg", "pos"}, `"neg" (14 rows, the first is line 2) and "\u200bneg"`},
		{"byte order mark", []string{"neg", "\ufeffneg", "pos"}, `"\ufeffneg"`},
		{"no-break space", []string{"very good", "very\u00a0good", "bad"}, `"very\u00a0good"`},
		{"inner space", []string{"very good", "very  good", "bad"}, `"very  good"`},
		{"bidi mark", []string{"neg", "neg\u200e", "pos"}, `"neg\u200e"`},
		{"variation", []string{"☀", "☀\ufe0f", "x"}, `"\u2600\ufe0f"`},
		{"nan", []string{"0", "1", "nan"}, `"nan" (13 rows, the first is line 4), which stands for a missing value`},
		{"NULL", []string{"a", "b", "NULL"}, "which stands for a missing value"},
		{"None", []string{"a", "b", "None"}, "which stands for a missing value"},
		{"different words", []string{"none", "yes", "no"}, ""},
		{"different numbers", []string{"1", "1.5", "-1", "10", "2,5", "0x2"}, ""},
		{"long numbers", []string{"12345678901234567890", "12345678901234567891"}, ""},
		{"accents", []string{"casa", "čaša"}, ""},
		{"surrounding space", []string{" yes", "no ", "yes", "\u00a0no"}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			task := classifier(file(t, "t.tsv", labelled(test.labels...)))
			d, err := Load(task)
			if test.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("error %v (labels %v), want %q", err, d, test.want)
			}
			task.Labels = test.labels
			if d, err := Load(task); err != nil {
				t.Errorf("listed labels are refused: %v", err)
			} else if diff := cmp.Diff(test.labels, d.Labels); diff != "" {
				t.Errorf("labels (-want +got)\n%s", diff)
			}
		})
	}
}

func TestLoadJSONLabels(t *testing.T) {
	var b strings.Builder
	for i := range 6 {
		for j, label := range []string{"12345678901234567890", "12345678901234567891", "1", "1.0", "-0", "1000000", "1e6",
			"2.50", "true"} {
			fmt.Fprintf(&b, "{\"text\":\"t %d %d\",\"label\":%s}\n", i, j, label)
		}
	}
	d, err := Load(classifier(file(t, "t.jsonl", b.String())))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"0", "1", "1000000", "12345678901234567890", "12345678901234567891", "2.5", "true"}
	if diff := cmp.Diff(want, d.Labels); diff != "" {
		t.Errorf("labels (-want +got)\n%s", diff)
	}
	if _, err := Load(classifier(file(t, "t.jsonl", `{"text":"a","label":1e999}`))); err == nil ||
		!strings.Contains(err.Error(), `"1e999" is too large`) {
		t.Errorf("error %v", err)
	}
}

func TestLoadManyLabels(t *testing.T) {
	many := make([]string, 1_000_000)
	for i := range many {
		many[i] = fmt.Sprintf("label %d", i)
	}
	_, err := Load(classifier(file(t, "t.tsv", labelled(many...))))
	if err == nil || len(err.Error()) > quote.MessageLimit ||
		!strings.Contains(err.Error(), "has 1000000 different labels, the limit is 1000") {
		t.Errorf("%.3000v", err)
	}
	task := classifier(file(t, "t.tsv", labelled("a", "b")))
	task.Labels = many
	if err := task.Validate(); err == nil || !strings.Contains(err.Error(),
		"labels: 1000000 are too many, the limit is 1000") {
		t.Errorf("%.3000v", err)
	}
	if _, err := Load(classifier(file(t, "t.tsv", labelled(many[:1000]...)))); err == nil ||
		!strings.Contains(err.Error(), "too few") {
		t.Errorf("%.3000v", err) // a row for each label is needed for training, none is left for dev
	}
	long := strings.Repeat("x", 1<<20)
	for name, labels := range map[string][]string{"long": {long, strings.ToUpper(long)},
		"long and rare": {long + "a", long + "b", long + "nan"}} {
		task := classifier(file(t, "t.tsv", "text\tlabel\na\t"+labels[0]+"\nb\t"+labels[1]+"\n"))
		if _, err := Load(task); err == nil || len(err.Error()) > quote.MessageLimit {
			t.Errorf("%s: %.3000v", name, err)
		}
	}
}

func TestLoadSuggestsLabels(t *testing.T) {
	task := classifier(file(t, "t.tsv", labelled("positive", "negative")))
	task.Dev = file(t, "d.tsv", "text\tlabel\na\tpositve\nb\tNegative\n")
	_, err := Load(task)
	for _, want := range []string{`label "positve" is none of the training labels "negative", "positive" (did you mean "positive"?)`, `(did you mean "negative"?)`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
	task.Labels = []string{"positive", "Negative"}
	if _, err := Load(task); err == nil || !strings.Contains(err.Error(),
		`label "Negative" of task.labels stands in no row (did you mean "negative"?)`) {
		t.Errorf("error %v", err)
	}
	task.Columns.Text = "txt"
	if _, err := Load(task); err == nil || !strings.Contains(err.Error(),
		`there is no column "txt": the file has "text", "label" (did you mean "text"?)`) {
		t.Errorf("error %v", err)
	}
}
