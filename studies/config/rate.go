package config

import (
	"reflect"
	"strconv"

	"github.com/goccy/go-yaml/ast"

	"peftsearch/data/quote"
	"peftsearch/evaluator"
)

// Rate is the value of training.learning_rate: a number, or rates by method in one spelling.
type Rate string

// rateDefault names what has no rate of its own.
const rateDefault = "default"

const standardRate = 1e-3

// NewRate is one rate for all.
func NewRate(rate float64) Rate { return Rate(strconv.FormatFloat(rate, 'g', -1, 64)) }

// Default is the rate of what has none of its own.
func (r Rate) Default() float64 {
	if rate, err := strconv.ParseFloat(string(r), 64); err == nil {
		return rate
	}
	if rate, ok := evaluator.Rates(r).Map()[rateDefault]; ok {
		return rate
	}
	return standardRate
}

// Methods are the rates by method.
func (r Rate) Methods() evaluator.Rates {
	rates := evaluator.Rates(r).Map()
	delete(rates, rateDefault)
	return evaluator.NewRates(rates)
}

// decode reads a number, or a mapping of names to numbers.
func (r *Rate) decode(node ast.Node) *valueError {
	var entries []*ast.MappingValueNode
	switch n := node.(type) {
	case *ast.MappingNode:
		entries = n.Values
	case *ast.MappingValueNode:
		entries = []*ast.MappingValueNode{n}
	default:
		var rate float64
		if err := decodeValue(node, reflect.ValueOf(&rate).Elem()); err != nil {
			return err
		}
		*r = NewRate(rate)
		return nil
	}
	rates := map[string]float64{}
	for _, entry := range entries {
		name := entry.Key.GetToken().Value
		var rate float64
		if err := decodeValue(entry.Value, reflect.ValueOf(&rate).Elem()); err != nil {
			return &valueError{message: quote.Text(name) + ": " + err.message, entry: entry.Value}
		}
		if _, twice := rates[name]; twice {
			return &valueError{message: quote.Text(name) + " stands twice", entry: entry.Value}
		}
		rates[name] = rate
	}
	*r = Rate(evaluator.NewRates(rates))
	return nil
}
