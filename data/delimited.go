package data

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"iter"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"peftsearch/data/quote"
)

// position is a column of a file without a header.
var position = regexp.MustCompile(`^#([1-9][0-9]{0,3})$`)

// readTSV splits at tabs: fields of a TSV file have no quoting and may contain quotation marks.
func readTSV(content []byte, columns []column) (table, error) {
	s := &selection{columns: columns, separator: "\t"}
	rows := func(yield func(int, []string) bool) {
		line := 0
		var fields []string
		for text := range bytes.Lines(content) {
			line++
			if text = bytes.TrimRight(text, "\r\n"); len(text) == 0 {
				continue
			}
			fields = slices.AppendSeq(fields[:0], strings.SplitSeq(string(text), "\t"))
			if !yield(line, fields) {
				return
			}
		}
	}
	return s.read(rows)
}

func readCSV(content []byte, columns []column) (table, error) {
	s := &selection{columns: columns, separator: ","}
	reader := csv.NewReader(bytes.NewReader(content))
	reader.FieldsPerRecord = -1
	reader.ReuseRecord = true
	rows := func(yield func(int, []string) bool) {
		for {
			fields, err := reader.Read()
			var bad *csv.ParseError
			switch {
			case err == io.EOF:
				return
			case errors.As(err, &bad): // reading goes on in the next line
				where := ""
				if bad.StartLine < bad.Line {
					where = fmt.Sprintf(" (up to line %d)", bad.Line)
				}
				s.bad.add(bad.StartLine,
					"its quotation marks do not pair%s: a field that holds any must be in quotation marks, with each of its own "+
						"twice", where)
			default:
				line, _ := reader.FieldPos(0)
				if !yield(line, fields) {
					return
				}
			}
		}
	}
	return s.read(rows)
}

// unquotedTSV is what to do about a .tsv file with quoting.
const unquotedTSV = "a .tsv file is read without quoting: write it so (pandas: quoting=csv.QUOTE_NONE), " +
	"or save it as .csv with commas"

// selection finds the wanted columns in rows of fields.
type selection struct {
	columns   []column
	separator string // "\t" means a file without quoting

	first   []string // row
	header  bool     // the first row is one
	indices []int    // of the columns
	widest  int
	bad     problems
	table   table

	rowNames map[string]bool // first fields, as long as every row has one field more than the header
	wider    int             // without a header: the first line with more fields than the first one
	quoted   int             // rows whose wanted fields are all in quotation marks
	doubled  int             // the first line with a field that is quoted as in CSV
	// open is a row that ends in the middle of a quoted field.
	open struct{ line, fields int }
}

// read collects the wanted columns of all rows. They are found by the header in the first row, or by
// position if any is "#N": then there is no header.
func (s *selection) read(rows iter.Seq2[int, []string]) (table, error) {
	for line, fields := range rows {
		if len(fields) > maxFields {
			return table{}, fmt.Errorf("line %d has more than %d fields", line, maxFields)
		}
		if s.widest = max(s.widest, len(fields)); s.first != nil {
			s.add(line, fields)
			continue
		}
		if err := s.begin(fields); err != nil {
			return table{}, err
		}
		if !s.header {
			s.add(line, fields)
		}
	}
	return s.end()
}

// begin finds the columns in the first row.
func (s *selection) begin(fields []string) error {
	s.first = slices.Clone(fields)
	s.header = !slices.ContainsFunc(s.columns, func(c column) bool { return position.MatchString(c.name) })
	s.indices = make([]int, len(s.columns))
	if !s.header {
		for i, column := range s.columns {
			match := position.FindStringSubmatch(column.name)
			if match == nil {
				return fmt.Errorf("column %s: a file is mapped by header names or by positions like #1, not by both",
					quote.Text(column.name))
			}
			n, _ := strconv.Atoi(match[1])
			s.indices[i] = n - 1
		}
		return nil
	}
	s.rowNames = map[string]bool{}
	for i, c := range s.columns {
		column := c.name
		s.indices[i] = slices.Index(s.first, column)
		switch {
		case s.indices[i] < 0 && slices.Contains(s.first, `"`+column+`"`):
			return fmt.Errorf("there is no column %s, but its name in quotation marks: %s",
				quote.Text(column), unquotedTSV)
		case s.indices[i] < 0:
			return fmt.Errorf("%w%s", missingColumn(column, s.first), s.otherSeparator())
		case slices.Contains(s.first[s.indices[i]+1:], column):
			return fmt.Errorf("two columns are called %s: rename one", quote.Text(column))
		}
	}
	return nil
}

func (s *selection) add(line int, fields []string) {
	width := len(s.first)
	surplus := fields[min(width, len(fields)):]
	if slices.ContainsFunc(surplus, func(f string) bool { return strings.TrimSpace(f) != "" }) {
		if s.header {
			s.bad.add(line, "it has %d fields, the header has %d: is there a separator inside of a field?",
				len(fields), width)
		} else if s.wider == 0 {
			s.wider = line
		}
	}
	if s.rowNames != nil && len(fields) == width+1 && !s.rowNames[fields[0]] {
		s.rowNames[strings.Clone(fields[0])] = true
	} else {
		s.rowNames = nil
	}
	values := make([][]string, len(s.columns))
	for i, index := range s.indices {
		if index < len(fields) {
			values[i] = []string{strings.Clone(fields[index])}
		}
	}
	s.table.records = append(s.table.records, record{line: line, values: values})
	if s.separator == "\t" {
		s.lookForQuoting(line, fields, values)
	}
}

// lookForQuoting collects what shows that a .tsv file has quoting after all.
func (s *selection) lookForQuoting(line int, fields []string, values [][]string) {
	inQuotes := func(f string) bool { return len(f) > 1 && f[0] == '"' && f[len(f)-1] == '"' }
	wanted := slices.Concat(values...)
	if len(wanted) == len(values) && !slices.ContainsFunc(wanted, func(f string) bool { return !inQuotes(f) }) {
		s.quoted++
	}
	if s.doubled == 0 && slices.ContainsFunc(wanted, func(f string) bool {
		if !inQuotes(f) {
			return false
		}
		rest := strings.ReplaceAll(f[1:len(f)-1], `""`, "")
		return len(rest) < len(f)-2 && !strings.Contains(rest, `"`)
	}) {
		s.doubled = line
	}
	odd := func(f string) bool { return strings.Count(f, `"`)%2 == 1 }
	if closes := strings.HasSuffix(fields[0], `"`) && odd(fields[0]); closes && s.open.line > 0 &&
		s.open.fields+len(fields)-1 == len(s.first) {
		s.bad.add(s.open.line, "its last field begins with a quotation mark that line %d closes", line)
		s.bad.cause, s.open.line = unquotedTSV, 0
	}
	if last := fields[len(fields)-1]; len(fields) < len(s.first) && strings.HasPrefix(last, `"`) && odd(last) {
		s.open.line, s.open.fields = line, len(fields)
	}
}

// end is the table, or the error of its bad rows.
func (s *selection) end() (table, error) {
	if s.first == nil && s.bad.count == 0 {
		return table{}, errors.New("the file is empty")
	}
	if n := len(s.rowNames); n > 1 && s.bad.count == n {
		records := s.table.records
		return table{}, fmt.Errorf("all %d rows (lines %d to %d) have %d fields, the header has %d: "+
			"R leaves the column of row names without a name; write the table with row.names = FALSE, or name that column too",
			n, records[0].line, records[n-1].line, len(s.first)+1, len(s.first))
	}
	if err := s.bad.err(); err != nil {
		return table{}, err
	}
	if i := slices.IndexFunc(s.indices, func(index int) bool { return index >= s.widest }); i >= 0 {
		return table{}, fmt.Errorf("there is no column %s: the widest row has %d columns%s",
			s.columns[i].name, s.widest, s.otherSeparator())
	}
	if rows := len(s.table.records); rows > 0 && rows == s.quoted && len(s.columns) > 1 {
		return table{}, errors.New("all fields are in quotation marks: " + unquotedTSV)
	}
	if s.wider > 0 {
		s.table.notes = append(s.table.notes,
			fmt.Sprintf("line %d has more fields than the first row, which has %d: are the columns shifted there?", s.wider,
				len(s.first)))
	}
	if s.doubled > 0 {
		s.table.notes = append(s.table.notes,
			fmt.Sprintf("line %d has a field in quotation marks with others twice inside, which are read as they stand: %s",
				s.doubled, unquotedTSV))
	}
	return s.table, nil
}

func missingColumn(column string, have []string) error {
	hint := ""
	if near := quote.Nearest(column, have); near != "" {
		hint = fmt.Sprintf(" (did you mean %s?)", quote.Text(near))
	}
	return fmt.Errorf("there is no column %s: the file has %s%s", quote.Text(column), quote.List(have), hint)
}

// otherSeparator says that a file of one column seems to have more, with another separator.
func (s *selection) otherSeparator() string {
	if s.widest > 1 {
		return ""
	}
	for _, other := range []struct{ separator, advice string }{
		{"\t", "rename it to .tsv"}, {";", "save it with commas, or with tabs as .tsv"}, {"|",
			"save it with commas, or with tabs as .tsv"},
		{",", "rename it to .csv"},
	} {
		if other.separator != s.separator && strings.Contains(s.first[0], other.separator) {
			return fmt.Sprintf("; its fields are separated by %q, not by %q: %s",
				other.separator, s.separator, other.advice)
		}
	}
	return ""
}
