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
	"strings"

	"peftsearch/data/quote"
)

// shownKeys is how many keys an error about a missing one looks at.
const shownKeys = 1000

// arrayToLines is what makes rows of a JSON array.
const arrayToLines = "jq -c '.[]' FILE > NEW.jsonl makes rows"

var errArray = errors.New("the file is one JSON array, and a .jsonl has an object in each line: of an array " +
	arrayToLines)

// isArray reports whether a file that begins with such a line is one array.
func isArray(line, content []byte) bool {
	return line[0] == '[' && (len(line) == 1 || bytes.HasSuffix(bytes.TrimSpace(content), []byte("]")))
}

// readJSONL reads one object per line. Strings, numbers and booleans are values, and lists of them where a list is
// wanted.
func readJSONL(content []byte, columns []column) (table, error) {
	var t table
	var bad problems
	found, seen := make([]bool, len(columns)), map[string]bool{}
	line := 0
	for text := range bytes.Lines(content) {
		line++
		if text = bytes.TrimSpace(text); len(text) == 0 {
			continue
		}
		if len(t.records) == 0 && isArray(text, content) {
			return t, errArray
		}
		object, err := readObject(text)
		if err != nil {
			bad.add(line, "%v", quote.Error(err))
			continue
		}
		for key := range object {
			if len(seen) == shownKeys {
				break
			}
			seen[key] = true
		}
		values := make([][]string, len(columns))
		for i, column := range columns {
			raws, ok := lookUp(object, column.name)
			found[i] = found[i] || ok
			if values[i], err = texts(raws, column.list); err != nil {
				bad.add(line, "%s: %v", quote.Text(column.name), err)
			}
		}
		t.records = append(t.records, record{line: line, values: values})
	}
	if err := bad.err(); err != nil {
		return t, err
	}
	if len(t.records) == 0 {
		return t, errors.New("the file is empty")
	}
	for i, column := range columns {
		if !found[i] {
			return t, missingColumn(column.name, slices.Sorted(maps.Keys(seen)))
		}
	}
	return t, nil
}

// readObject reads a JSON object, in which every key stands once.
func readObject(text []byte) (map[string]json.RawMessage, error) {
	if text[0] != '{' {
		return nil, errors.New("no JSON object")
	}
	object := map[string]json.RawMessage{}
	decoder := json.NewDecoder(bytes.NewReader(text))
	if _, err := decoder.Token(); err != nil {
		return nil, fmt.Errorf("no JSON object: %w", err)
	}
	for decoder.More() {
		key, err := decoder.Token()
		if err != nil {
			return nil, fmt.Errorf("no JSON object: %w", err)
		}
		name := key.(string) // of an object
		if _, twice := object[name]; twice {
			return nil, fmt.Errorf("the key %s stands there twice", quote.Text(name))
		}
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return nil, fmt.Errorf("no JSON object: %w", err)
		}
		object[name] = value
	}
	if _, err := decoder.Token(); err != nil {
		return nil, errors.New("no JSON object: it does not end")
	}
	if rest := bytes.TrimSpace(text[decoder.InputOffset():]); len(rest) > 0 {
		return nil, errors.New("no JSON object: more follows it in the line")
	}
	return object, nil
}

// lookUp finds the values of a column: a key, or keys joined by dots that lead into objects, and into every object
// of a list.
func lookUp(object map[string]json.RawMessage, column string) (values []json.RawMessage, ok bool) {
	if raw, ok := object[column]; ok {
		return []json.RawMessage{raw}, true
	}
	key, rest, nested := strings.Cut(column, ".")
	raw, ok := object[key]
	if !nested || !ok {
		return nil, false
	}
	var inner map[string]json.RawMessage
	if json.Unmarshal(raw, &inner) == nil {
		return lookUp(inner, rest)
	}
	var list []map[string]json.RawMessage
	if json.Unmarshal(raw, &list) != nil {
		return nil, false
	}
	for _, inner := range list {
		more, found := lookUp(inner, rest)
		values, ok = append(values, more...), ok && found
	}
	return values, ok
}

// texts are the texts of values; without list there is one at most. None is nil, and an empty list is not.
func texts(raws []json.RawMessage, list bool) ([]string, error) {
	if len(raws) > 1 && !list {
		return nil, errors.New("must be one value, not several")
	}
	var entries []json.RawMessage
	isList := list && (len(raws) > 1 || len(raws) == 1 && json.Unmarshal(raws[0], &entries) == nil && entries != nil)
	if len(raws) > 1 {
		entries = raws
	}
	if !isList {
		if len(raws) == 0 || string(raws[0]) == "null" {
			return nil, nil
		}
		text, err := scalar(raws[0])
		return []string{text}, err
	}
	texts := make([]string, len(entries))
	for i, raw := range entries {
		var err error
		if texts[i], err = scalar(raw); err != nil {
			return texts, fmt.Errorf("entry %d: %w", i+1, err)
		}
	}
	return texts, nil
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
