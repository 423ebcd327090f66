package data

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"peftsearch/data/files"
	"peftsearch/data/quote"
)

// Guess is what a file of rows seems to be.
type Guess struct {
	// Task has the kind, the columns and the training file; the rest is as little as a valid task needs.
	Task   Task
	Saw    []string // what it was taken from, a sentence each
	Unsure []string // what may be otherwise, a sentence each
}

// Look guesses what a file of labelled rows is for, from the names of its columns and from its first rows.
func Look(path string) (Guess, error) {
	g, err := look(path)
	return g, quote.Error(err)
}

// lookedAt is how many rows are enough to tell.
const lookedAt = 5000

func look(path string) (Guess, error) {
	content, err := files.Read(path, files.Table)
	if err != nil {
		return Guess{}, err
	}
	g := &guesser{Guess: Guess{Task: Task{Train: path, DevShare: 0.1, TestShare: 0.1, Split: Stratified, MaxLength: 128}}}
	switch extension := strings.ToLower(filepath.Ext(path)); extension {
	case ".jsonl":
		err = g.readObjects(content)
	case ".csv", ".tsv":
		if g.readSentences(content) {
			return g.Guess, nil
		}
		g.readDelimited(content, extension)
	default:
		if kinds[KindTokenClassification].reader(extension) == nil || !g.readSentences(content) {
			return Guess{}, unknownFile(path, extension, ".tsv, .csv, .jsonl, or .conll with BIO tags")
		}
		return g.Guess, nil
	}
	if err == nil && g.rows < 2 {
		err = errors.New("it has fewer than 2 rows")
	}
	if err == nil {
		err = g.decide()
	}
	if err != nil {
		return Guess{}, fmt.Errorf("%s: %w", path, err)
	}
	return g.Guess, nil
}

// guesser collects what is seen of a file.
type guesser struct {
	Guess
	fields []*field
	rows   int
}

func (g *guesser) saw(format string, args ...any) {
	g.Saw = append(g.Saw, fmt.Sprintf(format, args...))
}
func (g *guesser) unsure(format string, args ...any) {
	g.Unsure = append(g.Unsure, fmt.Sprintf(format, args...))
}

// field is a column, with what its values have in common.
type field struct {
	name   string // as Columns name it
	values [][]string
	list   bool // some value is a list
}

func (f *field) all() []string { return slices.Concat(f.values...) }

// distinct counts the different values.
func (f *field) distinct() int {
	seen := map[string]bool{}
	for _, v := range f.all() {
		seen[strings.TrimSpace(v)] = true
	}
	return len(seen)
}

// every reports whether there are values and all are so.
func (f *field) every(is func(string) bool) bool {
	values := f.all()
	return len(values) > 0 && !slices.ContainsFunc(values, func(v string) bool { return !is(v) })
}

// words is the mean number of them in a value.
func (f *field) words() float64 {
	values := f.all()
	n := 0
	for _, v := range values {
		n += len(strings.Fields(v))
	}
	return float64(n) / float64(max(1, len(values)))
}

// complete reports whether every row has a value.
func (f *field) complete() bool {
	return !slices.ContainsFunc(f.values, func(values []string) bool {
		return len(values) == 0 || strings.TrimSpace(strings.Join(values, "")) == ""
	})
}

func isNumber(text string) bool { _, ok := parseNumber(text); return ok }
func isWhole(text string) bool  { return integer.MatchString(strings.TrimSpace(text)) }
func isYes(text string) bool    { _, ok := yes(text); return ok }

var bioTag = regexp.MustCompile(`^(O|[BI]-\S+)$`)

// readSentences reports whether the file has columns of words and BIO tags, and notes where.
func (g *guesser) readSentences(content []byte) bool {
	tabs := bytes.IndexByte(content, '\t') >= 0
	width, words, sentences, open := 0, 0, 0, false
	var numbered []bool // columns with numbers alone, as CoNLL-U begins with
	for raw := range bytes.Lines(content) {
		text := strings.TrimRight(string(raw), "\r\n")
		if strings.TrimSpace(text) == "" {
			open = false
			continue
		}
		fields := strings.Fields(text)
		if tabs {
			fields = strings.Split(text, "\t")
		}
		if !open && (fields[0] == "-DOCSTART-" || tabs && len(fields) == 1 && strings.HasPrefix(text, "#")) {
			continue
		}
		if !open {
			sentences++
		}
		open = true
		if words++; words == 1 {
			width = len(fields)
			numbered = slices.Repeat([]bool{true}, width)
		}
		for i := range min(width, len(fields)) {
			numbered[i] = numbered[i] && strings.Trim(fields[i], "0123456789-.") == "" // 1-2 and 1.1, too
		}
		if len(fields) != width || width < 2 || !bioTag.MatchString(strings.TrimSpace(fields[width-1])) {
			return false
		}
	}
	if sentences < 2 {
		return false
	}
	g.Task.Kind = KindTokenClassification
	first := 1 + slices.Index(numbered, false) // the tags are no numbers
	if first == width {
		first = 1
	}
	g.Task.Columns = Columns{Text: fmt.Sprintf("#%d", first), Label: fmt.Sprintf("#%d", width)}
	g.saw("%d sentences of %d words in columns; the last column, #%d, has BIO tags", sentences, words, width)
	if width > 2 {
		g.unsure("the words are taken from column #%d of %d", first, width)
	}
	return true
}

func (g *guesser) readDelimited(content []byte, extension string) {
	var rows [][]string
	if extension == ".csv" {
		reader := csv.NewReader(bytes.NewReader(content))
		reader.FieldsPerRecord, reader.LazyQuotes = -1, true
		for len(rows) <= lookedAt {
			row, err := reader.Read()
			if err == io.EOF {
				break
			} else if err == nil {
				rows = append(rows, row)
			}
		}
	} else {
		for line := range bytes.Lines(content) {
			if text := strings.TrimRight(string(line), "\r\n"); text != "" && len(rows) <= lookedAt {
				rows = append(rows, strings.Split(text, "\t"))
			}
		}
	}
	if len(rows) == 0 {
		return
	}
	header := g.hasHeader(rows)
	names := make([]string, len(rows[0]))
	for i := range names {
		if names[i] = fmt.Sprintf("#%d", i+1); header {
			names[i] = rows[0][i]
		}
	}
	if header {
		rows = rows[1:]
		g.saw("the first row has the names of the columns: %s", quote.List(names))
	} else {
		g.saw("no row with names: columns are called by their place")
	}
	g.rows = len(rows)
	for i, name := range names {
		f := &field{name: name}
		for _, row := range rows {
			var value []string
			if i < len(row) {
				value = row[i : i+1]
			}
			f.values = append(f.values, value)
		}
		g.fields = append(g.fields, f)
	}
}

// known are the usual names of columns.
var known = map[string]string{
	"text": "text", "sentence": "text", "sentence1": "text", "premise": "text", "review": "text", "content": "text",
	"tweet":    "text",
	"question": "text", "question1": "text", "document": "text", "title": "text", "body": "text", "comment": "text",
	"comment_text": "text",
	"sentence2":    "pair", "hypothesis": "pair", "text_pair": "pair", "question2": "pair", "answer_text": "pair",
	"text2": "pair",
	"text1": "text", "label": "label", "labels": "label", "class": "label", "category": "label", "score": "label",
	"target":    "label",
	"sentiment": "label", "rating": "label", "gold_label": "label", "quality": "label", "stars": "label",
	"answerkey": "label",
	"answer":    "label", "similarity": "label", "y": "label", "polarity": "label",
}

// hasHeader reports whether the first row has names, not values.
func (g *guesser) hasHeader(rows [][]string) bool {
	first := rows[0]
	seen := map[string]bool{}
	for _, name := range first {
		if seen[name] || isNumber(name) || len(name) > 60 || len(strings.Fields(name)) > 5 || strings.TrimSpace(name) == "" {
			return false
		}
		seen[name] = true
	}
	for _, name := range first {
		if known[strings.ToLower(name)] != "" {
			return true
		}
	}
	for i, name := range first {
		column := field{}
		for _, row := range rows[1:] {
			if i < len(row) {
				column.values = append(column.values, row[i:i+1])
			}
		}
		values := column.all()
		if len(values) > 3 && !slices.Contains(values, name) &&
			(column.every(isNumber) || column.distinct() <= max(2, len(values)/10)) {
			g.unsure("the first row is taken for names, since %s is no value of its column", quote.Text(name))
			return true
		}
	}
	return false
}

// readObjects takes the fields of JSON objects, those inside of others by their path.
func (g *guesser) readObjects(content []byte) error {
	byName := map[string]*field{}
	line := 0
	for text := range bytes.Lines(content) {
		line++
		if text = bytes.TrimSpace(text); len(text) == 0 || g.rows == lookedAt {
			continue
		}
		if g.rows == 0 && isArray(text, content) {
			return errArray
		}
		object, err := readObject(text)
		if err != nil {
			return fmt.Errorf("line %d: %w", line, err)
		}
		for _, path := range paths(object, "", 0) {
			f := byName[path]
			if f == nil {
				f = &field{name: path, values: make([][]string, g.rows)}
				byName[path] = f
			}
			raws, _ := lookUp(object, path)
			values, err := texts(raws, true)
			if err == nil {
				f.values = append(f.values, values)
				f.list = f.list || len(raws) > 1 || len(raws) == 1 && len(raws[0]) > 0 && raws[0][0] == '['
			}
		}
		g.rows++
		for _, f := range byName {
			for len(f.values) < g.rows {
				f.values = append(f.values, nil)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		g.fields = append(g.fields, byName[name])
	}
	g.saw("objects with the keys %s", quote.List(slices.Sorted(maps.Keys(byName))))
	return nil
}

// paths are those of all values in an object, a few levels deep.
func paths(object map[string]json.RawMessage, prefix string, depth int) []string {
	var out []string
	for _, key := range slices.Sorted(maps.Keys(object)) {
		raw := object[key]
		var inner map[string]json.RawMessage
		var list []map[string]json.RawMessage
		switch {
		case depth < 3 && len(raw) > 0 && raw[0] == '{' && json.Unmarshal(raw, &inner) == nil:
			out = append(out, paths(inner, prefix+key+".", depth+1)...)
		case depth < 3 && len(raw) > 0 && raw[0] == '[' && json.Unmarshal(raw, &list) == nil && len(list) > 0:
			out = append(out, paths(list[0], prefix+key+".", depth+1)...)
		default:
			out = append(out, prefix+key)
		}
	}
	return out
}
