package data

import (
	"archive/zip"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"peftsearch/data/quote"
)

// Answered is a file of rows with what was predicted for each, in words.
type Answered struct {
	Path string
	Rows []Row
	Said [][]string
}

// The boards of SloBENCH, as clarinsi/slobench-eval-docker scores them.
const (
	siNLIRows  = 998
	siNLIFile  = "submission.txt"
	nerSuffix  = ".conll2002"
	nerMessage = "SloBENCH's board of named entities"
)

var (
	siNLILabels = []string{"entailment", "neutral", "contradiction"}
	nerTypes    = []string{"PER", "LOC", "ORG", "MISC", "DERIV-PER"}
)

// WriteSloBENCH writes the zip file that SloBENCH's board of the task takes: of SI-NLI (board 9) for a classification,
// of named entities (board 12) for a token classification, with a file for each that was answered. It refuses what the
// board would.
func (t Task) WriteSloBENCH(w io.Writer, answered []Answered) error {
	type entry struct{ name, content string }
	var entries []entry
	switch t.Kind {
	case KindClassification:
		content, err := siNLI(answered)
		if err != nil {
			return err
		}
		entries = []entry{{siNLIFile, content}}
	case KindTokenClassification:
		for _, a := range answered {
			content, err := conll2002(a)
			if err != nil {
				return err
			}
			name := filepath.Base(a.Path)
			name = strings.TrimSuffix(name, filepath.Ext(name)) + nerSuffix
			if slices.ContainsFunc(entries, func(e entry) bool { return e.name == name }) {
				return fmt.Errorf("two files would be called %s", name)
			}
			entries = append(entries, entry{name, content})
		}
	default:
		return fmt.Errorf("SloBENCH has boards for %s and %s here, not for %s", KindClassification, KindTokenClassification,
			t.Kind)
	}
	archive := zip.NewWriter(w)
	for _, e := range entries {
		file, err := archive.Create(e.name)
		if err == nil {
			_, err = io.WriteString(file, e.content)
		}
		if err != nil {
			return err
		}
	}
	return archive.Close()
}

// siNLI is one label a line.
func siNLI(answered []Answered) (string, error) {
	if len(answered) != 1 || len(answered[0].Rows) != siNLIRows {
		return "", fmt.Errorf("SloBENCH's board of SI-NLI takes one file of %d rows, not %d of %d", siNLIRows,
			len(answered), len(answered[0].Rows))
	}
	var b strings.Builder
	for _, said := range answered[0].Said {
		label := strings.ToLower(said[0])
		if !slices.Contains(siNLILabels, label) {
			return "", fmt.Errorf("SloBENCH's board of SI-NLI has the labels %s, not %s", quote.List(siNLILabels),
				quote.Text(label))
		}
		b.WriteString(label + "\n")
	}
	return b.String(), nil
}

// conll2002 is a word and its tag a line, with one blank between them, and an empty line behind a sentence.
func conll2002(a Answered) (string, error) {
	var b strings.Builder
	for i, row := range a.Rows {
		for j, word := range row.Words {
			prefix, kind, isEntity := strings.Cut(strings.ToUpper(a.Said[i][j]), "-")
			if isEntity && !slices.Contains(nerTypes, kind) {
				return "", fmt.Errorf("%s has the types %s, not %s", nerMessage, quote.List(nerTypes), quote.Text(kind))
			}
			if word == "" || strings.ContainsAny(word, " \t") {
				return "", fmt.Errorf("%s: sentence %d: word %s: %s separates words and tags by a blank", a.Path, i+1,
					quote.Text(word), nerMessage)
			}
			b.WriteString(word + " " + prefix)
			if isEntity {
				b.WriteString("-" + kind)
			}
			b.WriteByte('\n')
		}
		b.WriteByte('\n')
	}
	return b.String(), nil
}
