package data

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"peftsearch/data/quote"
)

// readCoNLL reads sentences: a word in each line, with its columns separated by tabs, or by blanks if the file has
// no tab; sentences end with an empty line. Columns are given by position. Comments of files with tabs, and
// CoNLL-2003's -DOCSTART-, are no words.
func readCoNLL(content []byte, columns []column) (table, error) {
	indices, widest := make([]int, len(columns)), 0
	for i, column := range columns {
		match := position.FindStringSubmatch(column.name)
		if match == nil {
			return table{}, fmt.Errorf("column %s: the columns of such a file are given by position, such as #1",
				quote.Text(column.name))
		}
		indices[i], _ = strconv.Atoi(match[1])
		indices[i]--
		widest = max(widest, indices[i]+1)
	}
	tabs := bytes.IndexByte(content, '\t') >= 0
	var t table
	var bad problems
	var open *record
	line := 0
	for raw := range bytes.Lines(content) {
		line++
		text := strings.TrimRight(string(raw), "\r\n")
		if strings.TrimSpace(text) == "" {
			open = nil
			continue
		}
		fields := strings.Fields(text)
		if tabs {
			fields = strings.Split(text, "\t")
		}
		if open == nil && (fields[0] == "-DOCSTART-" || tabs && len(fields) == 1 && strings.HasPrefix(text, "#")) {
			continue
		}
		if len(fields) < widest {
			bad.add(line, "there is no column #%d in it", widest)
			continue
		}
		if open == nil {
			t.records = append(t.records, record{line: line, values: make([][]string, len(columns)), lines: true})
			open = &t.records[len(t.records)-1]
		}
		for i, index := range indices {
			open.values[i] = append(open.values[i], strings.TrimSpace(fields[index]))
		}
	}
	if err := bad.err(); err != nil {
		return t, err
	}
	if len(t.records) == 0 {
		return t, errors.New("the file has no sentences")
	}
	return t, nil
}
