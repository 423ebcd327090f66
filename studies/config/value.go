package config

import (
	"encoding"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"peftsearch/data/quote"
)

// valueError is a value that a key cannot have.
type valueError struct {
	message string
	entry   ast.Node // of a list; nil for the whole value
}

// decodeValue sets a field of the study file to what stands in it. A text may be any scalar and is taken
// as it is spelled, so that labels such as 1.0 and no stay what they are in the data.
func decodeValue(node ast.Node, into reflect.Value) *valueError {
	if into.Kind() == reflect.Slice {
		return decodeList(node, into)
	}
	if rate, ok := into.Addr().Interface().(*Rate); ok {
		return rate.decode(node)
	}
	text, quoted, ok := scalar(node)
	if !ok {
		return &valueError{message: "must be a single value, no mapping and no list"}
	}
	if _, null := node.(*ast.NullNode); null {
		return &valueError{message: "has no value: give it one, or leave the key out"}
	}
	if message := decodeScalar(text, quoted, into); message != "" {
		return &valueError{message: fmt.Sprintf("%s: %s", quote.Text(text), message)}
	}
	return nil
}

func decodeList(node ast.Node, into reflect.Value) *valueError {
	list, ok := node.(*ast.SequenceNode)
	if !ok {
		return &valueError{message: "must be a list, such as [a, b]"}
	}
	values := reflect.MakeSlice(into.Type(), len(list.Values), len(list.Values))
	for i, entry := range list.Values {
		if err := decodeValue(entry, values.Index(i)); err != nil {
			return &valueError{message: fmt.Sprintf("entry %d: %s", i+1, err.message), entry: entry}
		}
	}
	into.Set(values)
	return nil
}

// scalar is the text of a scalar, as it is spelled.
func scalar(node ast.Node) (text string, quoted, ok bool) {
	switch n := node.(type) {
	case *ast.LiteralNode:
		return n.Value.Value, true, true
	case *ast.StringNode:
		return n.Value, n.Token.Type == token.SingleQuoteType || n.Token.Type == token.DoubleQuoteType, true
	case ast.ScalarNode:
		return n.GetToken().Value, false, true
	}
	return "", false, false
}

// decodeScalar says what is wrong with a text, "" for nothing.
func decodeScalar(text string, quoted bool, into reflect.Value) string {
	if special, ok := into.Addr().Interface().(encoding.TextUnmarshaler); ok {
		if err := special.UnmarshalText([]byte(text)); err != nil {
			return err.Error()
		}
		return ""
	}
	if quoted && into.Kind() != reflect.String {
		return "in quotes it is a text: write it without"
	}
	switch into.Kind() {
	case reflect.String:
		into.SetString(text)
	case reflect.Bool:
		switch text {
		case "true", "false":
			into.SetBool(text == "true")
		default:
			return "must be true or false"
		}
	case reflect.Float64:
		v, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(v) || math.IsInf(v, 0) || strings.ContainsAny(text, "_xX") {
			return "must be a finite number, such as 0.001 or 1e-3"
		}
		into.SetFloat(v)
	case reflect.Uint64:
		v, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return notWhole(text, fmt.Sprintf("must be a whole number from 0 to %d", uint64(math.MaxUint64)))
		}
		into.SetUint(v)
	case reflect.Int, reflect.Int64:
		v, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return notWhole(text, "must be a whole number, such as 100")
		}
		into.SetInt(v)
	default:
		panic("config: a field of kind " + into.Kind().String())
	}
	return ""
}

// notWhole adds how a whole number in another spelling is written.
func notWhole(text, message string) string {
	if v, err := strconv.ParseFloat(text, 64); err == nil && v == math.Trunc(v) && math.Abs(v) < 1<<53 {
		if whole := fmt.Sprintf("%.0f", v); whole != text {
			message += ": write " + whole
		}
	}
	return message
}

// parseDefault reads the default of a key into a value. It reports whether it is one: some are in words.
func parseDefault(standard string, into reflect.Value) bool {
	if into.Kind() == reflect.String && into.Type() != reflect.TypeFor[Rate]() {
		if strings.Contains(standard, " ") {
			return false
		}
		into.SetString(standard)
		return true
	}
	if into.Kind() == reflect.Slice && !strings.HasPrefix(standard, "[") {
		return false
	}
	file, err := parser.ParseBytes([]byte(standard), 0)
	return err == nil && decodeValue(file.Docs[0].Body, into) == nil
}
