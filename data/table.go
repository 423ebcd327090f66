package data

import (
	"bytes"
	"fmt"
	"math"
	"path/filepath"
	"strconv"
	"strings"

	"peftsearch/data/files"
	"peftsearch/data/quote"
)

// record is one row of a file: the values of the wanted columns. An absent value is "".
type record struct {
	line   int
	values []string
}

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
	shown []string
	count int
	cause string // what may be behind them
}

func (p *problems) add(line int, format string, args ...any) {
	if p.count++; p.count <= shownProblems {
		p.shown = append(p.shown, fmt.Sprintf("\n  line %d: ", line)+fmt.Sprintf(format, args...))
	}
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
	if p.count == 1 {
		rows = "row cannot be used: correct or remove it"
	}
	return fmt.Errorf("%d %s%s%s", p.count, rows, strings.Join(p.shown, ""), more)
}

// readTable reads the wanted columns of a file. Rows that cannot be read as they are meant are an error;
// empty values are left to the caller.
func readTable(path string, columns []string) (table, error) {
	content, err := files.Read(path, files.Table)
	if err != nil {
		return table{}, err
	}
	if bytes.IndexByte(content, '\r') >= 0 && bytes.IndexByte(content, '\n') < 0 {
		unix := strings.TrimSuffix(path, filepath.Ext(path)) + "-unix" + filepath.Ext(path)
		return table{}, fmt.Errorf("%s: its lines end with carriage returns alone, as on old Macs: convert it: tr '\\r' '\\n' < %s > %s",
			path, quote.Shell(path), quote.Shell(unix))
	}
	line := 0
	for text := range bytes.Lines(content) {
		if line++; len(text) > maxLine {
			return table{}, fmt.Errorf("%s: line %d has %d bytes: at most %d can be a row",
				path, line, len(text), maxLine)
		}
	}
	var t table
	switch extension := strings.ToLower(filepath.Ext(path)); extension {
	case ".tsv":
		t, err = readTSV(content, columns)
	case ".csv":
		t, err = readCSV(content, columns)
	case ".jsonl":
		t, err = readJSONL(content, columns)
	default:
		err = fmt.Errorf("unknown kind of file %s: use .tsv, .csv or .jsonl", quote.Text(extension))
	}
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

// ReadRows reads inputs without labels; columns.Label is not looked at. The file is .tsv, .csv or
// .jsonl, and every bad row is reported with its line number.
func ReadRows(path string, columns Columns) ([]Row, error) {
	t, err := readTable(path, columns.inputs())
	if err != nil {
		return nil, quote.Error(err)
	}
	var bad problems
	rows := make([]Row, len(t.records))
	for i, r := range t.records {
		rows[i] = r.row(columns, &bad)
	}
	if err := bad.err(); err != nil {
		return nil, quote.Error(fmt.Errorf("%s: %w", path, err))
	}
	return rows, nil
}

// inputs lists the input columns in the order that record.row expects.
func (c Columns) inputs() []string {
	if c.TextPair == "" {
		return []string{c.Text}
	}
	return []string{c.Text, c.TextPair}
}

// row takes the inputs from the first values and reports those that are missing.
func (r record) row(columns Columns, bad *problems) Row {
	for i, column := range columns.inputs() {
		if strings.TrimSpace(r.values[i]) == "" {
			bad.add(r.line, "%s is missing or empty", quote.Text(column))
		}
	}
	if columns.TextPair == "" {
		return Row{Text: r.values[0]}
	}
	return Row{Text: r.values[0], TextPair: r.values[1]}
}
