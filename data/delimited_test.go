package data

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"peftsearch/data/quote"
)

// rows makes a file with a header and n rows of two labels; change replaces the rows of some lines.
func rows(header, row string, n int, change map[int]string) string {
	var b strings.Builder
	b.WriteString(header + "\n")
	for i := range n {
		text, ok := change[i+2]
		if !ok {
			text = fmt.Sprintf(row, i, []string{"neg", "pos"}[i%2])
		}
		b.WriteString(text + "\n")
	}
	return b.String()
}

func TestLoadSurplusFields(t *testing.T) {
	for _, test := range []struct {
		name, file, content string
		want                string // "" if the rows are accepted
	}{
		{"comma in the text", "t.csv", rows("text,label", "text %d,%s", 20,
			map[int]string{8: "good, really,pos", 13: "no, never,neg"}),
			"2 rows cannot be used: correct or remove them\n" +
				"  line 8: it has 3 fields, the header has 2: is there a separator inside of a field?\n  line 13: it has 3 fields"},
		{"row names of R", "t.tsv", rows("text\tlabel", "%[1]d\ttext %[1]d\t%[2]s", 20, nil),
			"all 20 rows (lines 2 to 21) have 3 fields, the header has 2: R leaves the column of row names without a name; " +
				"write the table with row.names = FALSE"},
		{"row names of R in quotation marks", "t.csv", rows(`"text","label"`, `"%[1]d","text %[1]d","%[2]s"`, 20, nil),
			"all 20 rows (lines 2 to 21)"},
		{"empty fields", "t.tsv", rows("text\tlabel", "text %d\t%s\t\t ", 20, nil), ""},
		{"some empty fields", "t.csv", rows("text,label", "text %d,%s", 20, map[int]string{8: "t,pos,,"}), ""},
		{"empty columns", "t.csv", rows("text,label,,", "text %d,%s,x,", 20, nil), ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			d, err := Load(classifier(file(t, test.file, test.content)))
			switch {
			case test.want == "" && err != nil:
				t.Error(err)
			case test.want == "":
				if diff := cmp.Diff([]string{"neg", "pos"}, d.Labels); diff != "" {
					t.Errorf("labels (-want +got)\n%s", diff)
				}
			case err == nil || !strings.Contains(err.Error(), test.want):
				t.Errorf("error %v\nwant %q", err, test.want)
			}
		})
	}
}

// A file without a header does not say how wide its rows are.
func TestLoadNotesWiderRows(t *testing.T) {
	task := classifier(file(t, "t.csv", "a,neg\nb,pos\nc,neg\ngood, really,pos\ne, or not,pos\n"))
	task.Columns = Columns{Text: "#1", Label: "#2"}
	task.Labels = nil
	task.Dev, task.Labels = file(t, "d.csv", "a,neg\nb,pos\n"), []string{"neg", "pos"}
	_, err := Load(task)
	if err == nil || !strings.Contains(err.Error(), `line 4: label "really" is none of`) {
		t.Errorf("error %v", err)
	}
	task.Labels = nil
	d, err := Load(task)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{task.Train +
		": line 4 has more fields than the first row, which has 2: are the columns shifted there?"}, d.Notes); diff != "" {
		t.Errorf("notes (-want +got)\n%s", diff)
	}
}

func TestLoadQuotes(t *testing.T) {
	const cause = "a .tsv file is read without quoting: write it so (pandas: quoting=csv.QUOTE_NONE), or save it as " +
		".csv with commas"
	pairs := `a field that holds any must be in quotation marks, with each of its own twice`
	for _, test := range []struct {
		name, file, content string
		columns             Columns
		want                []string
	}{
		{"TSV with a line break in a field", "t.tsv", rows("text\tlabel", "text %d\t%s", 20,
			map[int]string{7: "\"one\ntwo\"\tpos", 12: "\"one\n2\n3\"\tneg"}), Columns{},
			[]string{"2 rows cannot", "line 7: its last field begins with a quotation mark that line 8 closes",
				"line 13: its last", "that line 15 closes", cause}},
		{"TSV with all fields quoted", "t.tsv", rows("\"text\"\t\"label\"", "\"text %d\"\t\"%s\"", 20, nil), Columns{},
			[]string{`no column "text", but its name in quotation marks`, cause}},
		{"TSV with all fields quoted, by position", "t.tsv", rows("\"t\"\t\"neg\"", "\"text %d\"\t\"%s\"", 20, nil),
			Columns{Text: "#1", Label: "#2"}, []string{"all fields are in quotation marks", cause}},
		{"CSV with bare quotation marks", "t.csv", rows("text,label", "text %d,%s", 20,
			map[int]string{5: `a 27" screen,pos`, 13: `27" or 32",neg`, 21: `"a" b,pos`}), Columns{},
			[]string{"3 rows cannot", "line 5: its quotation marks do not pair: " + pairs, "line 13:", "line 21:"}},
		{"CSV that never ends a field", "t.csv", rows("text,label", "text %d,%s", 20, map[int]string{15: `"open,pos`}),
			Columns{}, []string{"1 row cannot", "line 15: its quotation marks do not pair (up to line "}},
		{"semicolons", "t.csv", rows("text;label", "text %d;%s", 20, nil), Columns{},
			[]string{`no column "text": the file has "text;label"; its fields are separated by ";", not by ",": save it`}},
		{"semicolons, by position", "t.csv", rows("a;neg", "text %d;%s", 20, nil), Columns{Text: "#1", Label: "#2"},
			[]string{`no column #2`, `separated by ";", not by ","`}},
		{"tabs in CSV", "t.csv", rows("text\tlabel", "text %d\t%s", 20, nil), Columns{},
			[]string{`separated by "\t", not by ",": rename it to .tsv`}},
		{"commas in TSV", "t.tsv", rows("text,label", "text %d,%s", 20, nil), Columns{},
			[]string{`separated by ",", not by "\t": rename it to .csv`}},
		{"old Mac", "t.tsv", strings.ReplaceAll(rows("text\tlabel", "text %d\t%s", 20, nil), "\n", "\r"), Columns{},
			[]string{`as on old Macs: convert it: tr '\r' '\n' < `}},
	} {
		t.Run(test.name, func(t *testing.T) {
			task := classifier(file(t, test.file, test.content))
			if !test.columns.IsZero() {
				task.Columns = test.columns
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

// Sentences of a TSV file may hold any quotation marks.
func TestLoadTSVKeepsQuotes(t *testing.T) {
	task := classifier(file(t, "t.tsv", rows("text\tlabel", "text %d\t%s", 8, map[int]string{
		3: "\"Come in,\" he said.\tpos", 4: `"` + "\tneg", 5: "\"All of it.\"\tpos", 6: "27\" or \"\tneg",
		7: "\"he said \"\"no\"\" twice\"\tpos"})))
	d, err := Load(task)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, e := range append(append(d.Train, d.Dev...), d.Test...) {
		seen[e.Text] = true
	}
	for _, want := range []string{`"Come in," he said.`, `"`, `"All of it."`, `27" or "`, `"he said ""no"" twice"`} {
		if !seen[want] {
			t.Errorf("%s is missing", want)
		}
	}
	if len(d.Notes) != 1 || !strings.Contains(d.Notes[0], "line 7 has a field in quotation marks") {
		t.Errorf("notes %q", d.Notes)
	}
}

func TestLoadWideFiles(t *testing.T) {
	header := make([]string, 1_000_000)
	for i := range header {
		header[i] = fmt.Sprintf("c%d", i)
	}
	wide := map[string]string{"t.tsv": strings.Join(header, "\t"), "t.csv": strings.Join(header, ","),
		"t.jsonl": `{"` + strings.Join(header[:100_000], `":1,"`) + `":1}`}
	for name, content := range wide {
		_, err := Load(classifier(file(t, name, content)))
		if err == nil || len(err.Error()) > quote.MessageLimit || !strings.Contains(err.Error(), `no column "text"`) {
			t.Errorf("%s: %.3000v", name, err)
		}
	}
	for name, content := range map[string]string{
		"a.tsv": strings.Repeat("\t", maxFields) + "\n", "b.csv": strings.Repeat(",", maxFields) + "\n",
		"c.tsv": strings.Repeat("x", maxLine) + "\n",
	} {
		_, err := Load(classifier(file(t, name, content)))
		if err == nil || len(err.Error()) > quote.MessageLimit || !strings.Contains(err.Error(), "line 1 has ") {
			t.Errorf("%s: %.3000v", name, err)
		}
	}
}
