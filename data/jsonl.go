package data

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"

	"peftsearch/data/quote"
)

// shownKeys is how many keys an error about a missing one looks at.
const shownKeys = 1000

// readJSONL reads one object per line. Strings, numbers and booleans are values.
func readJSONL(content []byte, columns []string) (table, error) {
	var t table
	var bad problems
	found, seen := make([]bool, len(columns)), map[string]bool{}
	line := 0
	for text := range bytes.Lines(content) {
		line++
		if text = bytes.TrimSpace(text); len(text) == 0 {
			continue
		}
		var object map[string]json.RawMessage
		if err := json.Unmarshal(text, &object); err != nil {
			bad.add(line, "no JSON object: %v", quote.Error(err))
			continue
		}
		for key := range object {
			if len(seen) == shownKeys {
				break
			}
			seen[key] = true
		}
		values := make([]string, len(columns))
		for i, column := range columns {
			raw, ok := object[column]
			found[i] = found[i] || ok
			value, err := scalar(raw)
			if err != nil {
				bad.add(line, "%s: %v", quote.Text(column), err)
			}
			values[i] = value
		}
		t.records = append(t.records, record{line, values})
	}
	if err := bad.err(); err != nil {
		return t, err
	}
	if len(t.records) == 0 {
		return t, errors.New("the file is empty")
	}
	for i, column := range columns {
		if !found[i] {
			return t, missingColumn(column, slices.Sorted(maps.Keys(seen)))
		}
	}
	return t, nil
}

var integer = regexp.MustCompile(`^-?[0-9]+$`)

// scalar is the text of a JSON value. An integer keeps its digits; another number is written in its
// shortest form, so that 1 and 1.0 are the same label.
func scalar(raw json.RawMessage) (string, error) {
	text := string(raw)
	switch {
	case text == "" || text == "null":
		return "", nil
	case text == "true" || text == "false":
		return text, nil
	case text == "-0":
		return "0", nil
	case integer.MatchString(text):
		return text, nil
	case text[0] == '"':
		var value string
		err := json.Unmarshal(raw, &value)
		return value, err
	case text[0] == '[' || text[0] == '{':
		return "", errors.New("must be a string, a number or a boolean")
	}
	value, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return "", fmt.Errorf("the number %s is too large", quote.Text(text))
	}
	format := byte('g')
	if value == math.Trunc(value) && math.Abs(value) < 1e21 {
		format = 'f'
	}
	return strconv.FormatFloat(value, format, -1, 64), nil
}
