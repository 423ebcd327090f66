package data

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// record is one row of a file: the values of the wanted columns. An absent value is "".
type record struct {
	line   int
	values []string
}

// shownProblems is how many bad rows an error spells out.
const shownProblems = 10

// problems collects the bad rows of a file.
type problems struct {
	shown []string
	count int
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
	return fmt.Errorf("%d rows cannot be used: correct or remove them%s%s", p.count, strings.Join(p.shown, ""), more)
}

// position is a column of a file without a header.
var position = regexp.MustCompile(`^#([1-9][0-9]{0,3})$`)

// readTable reads the wanted columns of a file. Rows that cannot be read at all are an error; empty
// values are left to the caller.
func readTable(path string, columns []string) ([]record, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	content = bytes.TrimPrefix(content, []byte("\ufeff"))
	if !utf8.Valid(content) {
		line := 1
		for rest := content; ; line++ {
			head, tail, found := bytes.Cut(rest, []byte("\n"))
			if !utf8.Valid(head) || !found {
				break
			}
			rest = tail
		}
		return nil, fmt.Errorf("%s: line %d is not UTF-8: convert the file, for example with iconv -t UTF-8", path, line)
	}
	var records []record
	switch extension := strings.ToLower(filepath.Ext(path)); extension {
	case ".tsv":
		records, err = selectColumns(readTSV(content), columns)
	case ".csv":
		var all []record
		if all, err = readCSV(content); err == nil {
			records, err = selectColumns(all, columns)
		}
	case ".jsonl":
		records, err = readJSONL(content, columns)
	default:
		err = fmt.Errorf("unknown kind of file %q: use .tsv, .csv or .jsonl", extension)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return records, nil
}

// readTSV splits at tabs: fields of a TSV file have no quoting and may contain quotation marks.
func readTSV(content []byte) []record {
	var records []record
	line := 0
	for text := range strings.Lines(string(content)) {
		line++
		if text = strings.TrimRight(text, "\r\n"); text != "" {
			records = append(records, record{line, strings.Split(text, "\t")})
		}
	}
	return records
}

func readCSV(content []byte) ([]record, error) {
	reader := csv.NewReader(bytes.NewReader(content))
	reader.FieldsPerRecord = -1
	var records []record
	for {
		values, err := reader.Read()
		if err == io.EOF {
			return records, nil
		}
		if err != nil {
			return nil, err // names the line
		}
		line, _ := reader.FieldPos(0)
		records = append(records, record{line, values})
	}
}

// selectColumns finds the columns by the header in the first row, or by position if any is "#N": then
// there is no header.
func selectColumns(rows []record, columns []string) ([]record, error) {
	if len(rows) == 0 {
		return nil, errors.New("the file is empty")
	}
	indices := make([]int, len(columns))
	if slices.ContainsFunc(columns, position.MatchString) {
		for i, column := range columns {
			match := position.FindStringSubmatch(column)
			if match == nil {
				return nil, fmt.Errorf("column %q: a file is mapped by header names or by positions like #1, not by both", column)
			}
			n, _ := strconv.Atoi(match[1])
			indices[i] = n - 1
		}
		width := 0
		for _, row := range rows {
			width = max(width, len(row.values))
		}
		if i := slices.Index(indices, slices.Max(indices)); indices[i] >= width {
			return nil, fmt.Errorf("there is no column %s: the widest row has %d columns", columns[i], width)
		}
	} else {
		header := rows[0].values
		for i, column := range columns {
			indices[i] = slices.Index(header, column)
			if indices[i] < 0 {
				return nil, missingColumn(column, header)
			}
			if slices.Contains(header[indices[i]+1:], column) {
				return nil, fmt.Errorf("two columns are called %q: rename one", column)
			}
		}
		rows = rows[1:]
	}
	selected := make([]record, len(rows))
	for r, row := range rows {
		values := make([]string, len(columns))
		for i, index := range indices {
			if index < len(row.values) {
				values[i] = row.values[index]
			}
		}
		selected[r] = record{row.line, values}
	}
	return selected, nil
}

func missingColumn(column string, have []string) error {
	return fmt.Errorf("there is no column %q: the file has %q", column, have)
}

// readJSONL reads one object per line. Strings, numbers and booleans are values.
func readJSONL(content []byte, columns []string) ([]record, error) {
	var records []record
	var bad problems
	seen := map[string]bool{}
	line := 0
	for text := range bytes.Lines(content) {
		line++
		if text = bytes.TrimSpace(text); len(text) == 0 {
			continue
		}
		var object map[string]json.RawMessage
		if err := json.Unmarshal(text, &object); err != nil {
			bad.add(line, "no JSON object: %v", err)
			continue
		}
		for key := range object {
			seen[key] = true
		}
		values := make([]string, len(columns))
		for i, column := range columns {
			value, err := scalar(object[column])
			if err != nil {
				bad.add(line, "%q: %v", column, err)
			}
			values[i] = value
		}
		records = append(records, record{line, values})
	}
	if err := bad.err(); err != nil {
		return nil, err
	}
	if len(records) == 0 {
		return nil, errors.New("the file is empty")
	}
	for _, column := range columns {
		if !seen[column] {
			return nil, missingColumn(column, slices.Sorted(maps.Keys(seen)))
		}
	}
	return records, nil
}

// scalar is the text of a JSON value; a number in its shortest form, so that 1 and 1.0 are the same label.
func scalar(raw json.RawMessage) (string, error) {
	if len(raw) == 0 {
		return "", nil
	}
	var value any
	if err := json.Unmarshal(raw, &value); err != nil {
		return "", err
	}
	switch value := value.(type) {
	case nil:
		return "", nil
	case string:
		return value, nil
	case bool:
		return strconv.FormatBool(value), nil
	case float64:
		return strconv.FormatFloat(value, 'g', -1, 64), nil
	default:
		return "", errors.New("must be a string, a number or a boolean")
	}
}

// parseNumber reads a finite number.
func parseNumber(text string) (float64, bool) {
	v, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	return v, err == nil && !math.IsInf(v, 0) && !math.IsNaN(v)
}

// ReadRows reads inputs without labels; columns.Label is not looked at. The file is .tsv, .csv or
// .jsonl, and every bad row is reported with its line number.
func ReadRows(path string, columns Columns) ([]Row, error) {
	records, err := readTable(path, columns.inputs())
	if err != nil {
		return nil, err
	}
	var bad problems
	rows := make([]Row, len(records))
	for i, r := range records {
		rows[i] = r.row(columns, &bad)
	}
	if err := bad.err(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
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
			bad.add(r.line, "%q is missing or empty", column)
		}
	}
	if columns.TextPair == "" {
		return Row{Text: r.values[0]}
	}
	return Row{Text: r.values[0], TextPair: r.values[1]}
}
