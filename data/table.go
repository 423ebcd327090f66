package data

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"peftsearch/data/files"
	"peftsearch/data/quote"
)

// record is one row of a file.
type record struct {
	line int
	// values are those of each wanted column: one, or as many as a list has. An absent value is nil.
	values [][]string
	// lines says that the entries of the lists stand in lines of their own, one after another.
	lines bool
}

// lineOf is the line of an entry of the record's lists.
func (r record) lineOf(entry int) int {
	if r.lines {
		return r.line + entry
	}
	return r.line
}

// reader reads the wanted columns of a file's content.
type reader func(content []byte, columns []column) (table, error)

// tableReaders read files with a row in each line, by extension.
var tableReaders = map[string]reader{".tsv": readTSV, ".csv": readCSV, ".jsonl": readJSONL}

// table is what was read of a file.
type table struct {
	records []record
	notes   []string // what is no error, but may not be as meant
}

const (
	maxLine   = 16 << 20 // bytes
	maxFields = 1 << 20  // of a row

	shownProblems = 10 // bad rows that an error spells out
)

// problems collects the bad rows of a file.
type problems struct {
	kept  []problem // of the lowest lines
	count int
	rows  map[int]bool // that have one, by line
	cause string       // what may be behind them
}

type problem struct {
	line    int
	message string
}

func (p *problems) add(line int, format string, args ...any) {
	p.count++
	if p.rows == nil {
		p.rows = map[int]bool{}
	}
	p.rows[line] = true
	at := len(p.kept)
	for at > 0 && p.kept[at-1].line > line {
		at--
	}
	if at == shownProblems {
		return
	}
	p.kept = slices.Insert(p.kept, at, problem{line, fmt.Sprintf(format, args...)})
	p.kept = p.kept[:min(len(p.kept), shownProblems)]
}

// join adds the problems of other.
func (p *problems) join(other problems) {
	for _, problem := range other.kept {
		p.add(problem.line, "%s", problem.message)
	}
	p.count += other.count - len(other.kept)
	maps.Copy(p.rows, other.rows)
}

// err is nil if no row was bad.
func (p *problems) err() error {
	if p.count == 0 {
		return nil
	}
	more := ""
	if p.count > shownProblems {
		more = fmt.Sprintf("\n  and %d more", p.count-shownProblems)
	}
	if p.cause != "" {
		more += "\n  " + p.cause
	}
	rows := "rows cannot be used: correct or remove them"
	if len(p.rows) == 1 {
		rows = "row cannot be used: correct or remove it"
	}
	var shown strings.Builder
	for _, problem := range p.kept {
		fmt.Fprintf(&shown, "\n  line %d: %s", problem.line, problem.message)
	}
	return fmt.Errorf("%d %s%s%s", len(p.rows), rows, shown.String(), more)
}

// readTable reads the wanted columns of a file. Rows that cannot be read as they are meant are an error;
// empty values are left to the caller.
func readTable(path string, kind Kind, columns []column) (table, error) {
	content, err := files.Read(path, files.Table)
	if err != nil {
		return table{}, err
	}
	if bytes.IndexByte(content, '\r') >= 0 && bytes.IndexByte(content, '\n') < 0 {
		unix := strings.TrimSuffix(path, filepath.Ext(path)) + "-unix" + filepath.Ext(path)
		return table{}, fmt.Errorf("%s: its lines end with carriage returns alone, as on old Macs: convert it: tr '\\r' "+
			"'\\n' < %s > %s",
			path, quote.Shell(path), quote.Shell(unix))
	}
	line := 0
	for text := range bytes.Lines(content) {
		if line++; len(text) > maxLine {
			return table{}, fmt.Errorf("%s: line %d has %d bytes: at most %d can be a row",
				path, line, len(text), maxLine)
		}
	}
	extension := strings.ToLower(filepath.Ext(path))
	read := kinds[kind].reader(extension)
	if read == nil {
		return table{}, unknownFile(path, extension, extensions(kind))
	}
	t, err := read(content, columns)
	if err != nil {
		return table{}, fmt.Errorf("%s: %w", path, err)
	}
	return t, nil
}

// parseNumber reads a finite number.
func parseNumber(text string) (float64, bool) {
	v, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	return v, err == nil && !math.IsInf(v, 0) && !math.IsNaN(v)
}

// unknownFile refuses an extension.
func unknownFile(path, extension, use string) error {
	advice := ""
	if extension == ".json" {
		advice = "; of an array " + arrayToLines
	}
	return fmt.Errorf("%s: unknown kind of file %s: use %s%s", path, quote.Text(extension), use, advice)
}

// extensions lists those of the files that a kind reads.
func extensions(kind Kind) string {
	if kinds[kind].reader(".csv") == nil {
		return ".conll, .tsv or .jsonl"
	}
	return ".tsv, .csv or .jsonl"
}

// ReadRows reads inputs; columns with answers are not looked at. Every bad row is reported with its line number.
func (t Task) ReadRows(path string) ([]Row, error) {
	rows, err := t.readRows(path)
	return rows, quote.Error(err)
}

func (t Task) readRows(path string) ([]Row, error) {
	if _, ok := kinds[t.Kind]; !ok {
		return nil, fmt.Errorf("kind %s: must be one of %v", quote.Text(string(t.Kind)), Kinds())
	}
	layout := t.Columns.layout(t.Kind, false)
	table, err := readTable(path, t.Kind, layout.columns)
	if err != nil {
		return nil, err
	}
	var bad problems
	rows := kinds[t.Kind].rows(layout, table.records, &bad)
	if err := bad.err(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return rows, nil
}
