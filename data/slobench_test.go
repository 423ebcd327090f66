package data

import (
	"archive/zip"
	"bytes"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// unzip reads an archive.
func unzip(t *testing.T, archive []byte) map[string]string {
	t.Helper()
	r, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	if err != nil {
		t.Fatal(err)
	}
	contents := map[string]string{}
	for _, f := range r.File {
		file, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(file)
		if err != nil {
			t.Fatal(err)
		}
		contents[f.Name] = string(content)
	}
	return contents
}

func TestSloBENCH(t *testing.T) {
	var archive bytes.Buffer
	labels := Answered{Rows: make([]Row, siNLIRows), Said: slices.Repeat([][]string{{"Entailment"}}, siNLIRows)}
	if err := (Task{Kind: KindClassification}).WriteSloBENCH(&archive, []Answered{labels}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"submission.txt": strings.Repeat("entailment\n", siNLIRows)},
		unzip(t, archive.Bytes())); diff != "" {
		t.Errorf("SI-NLI (-want +got)\n%s", diff)
	}
	archive.Reset()
	sentences := []Answered{
		{"test/001.tsv", []Row{{Words: []string{"Ana", "spi"}}, {Words: []string{"."}}}, [][]string{{"B-per", "O"}, {"O"}}},
		{"test/002.tsv", []Row{{Words: []string{"slovenski"}}}, [][]string{{"B-deriv-per"}}},
	}
	if err := (Task{Kind: KindTokenClassification}).WriteSloBENCH(&archive, sentences); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"001.conll2002": "Ana B-PER\nspi O\n\n. O\n\n",
		"002.conll2002": "slovenski B-DERIV-PER\n\n"}, unzip(t, archive.Bytes())); diff != "" {
		t.Errorf("named entities (-want +got)\n%s", diff)
	}
	for name, test := range map[string]struct {
		kind Kind
		rows []Answered
		want string
	}{
		"too few rows": {KindClassification, []Answered{{Rows: make([]Row, 3)}}, "998 rows"},
		"another label": {KindClassification, []Answered{{Rows: make([]Row, siNLIRows),
			Said: slices.Repeat([][]string{{"yes"}}, siNLIRows)}}, `not "yes"`},
		"another type": {KindTokenClassification, []Answered{{"a", []Row{{Words: []string{"x"}}}, [][]string{{"B-EVT"}}}},
			`not "EVT"`},
		"a blank": {KindTokenClassification, []Answered{{"a", []Row{{Words: []string{"x y"}}}, [][]string{{"O"}}}},
			"sentence 1"},
		"two names":    {KindTokenClassification, []Answered{{Path: "a/1.tsv"}, {Path: "b/1.conll"}}, "two files"},
		"another kind": {KindRegression, nil, "not for regression"},
	} {
		if err := (Task{Kind: test.kind}).WriteSloBENCH(io.Discard, test.rows); err == nil ||
			!strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}
