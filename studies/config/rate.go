package config

import (
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"

	"github.com/goccy/go-yaml/ast"

	"peftsearch/data/quote"
	"peftsearch/evaluator"
)

// Rate is the value of training.learning_rate: a number, auto, or rates by method in one spelling.
type Rate string

// AutoRate leaves the rates to a calibration.
const AutoRate Rate = "auto"

// rateDefault names what has no rate of its own.
const rateDefault = "default"

const standardRate = 1e-3

// NewRate is one rate for all.
func NewRate(rate float64) Rate { return Rate(strconv.FormatFloat(rate, 'g', -1, 64)) }

// CalibratedRate has a rate for each method, and one for all else: their geometric mean.
func CalibratedRate(methods map[string]float64) Rate {
	logs := 0.0
	for _, name := range slices.Sorted(maps.Keys(methods)) {
		logs += math.Log(methods[name])
	}
	rates := maps.Clone(methods)
	rates[rateDefault] = TwoDigits(math.Exp(logs / float64(len(methods))))
	return Rate(evaluator.NewRates(rates))
}

// TwoDigits rounds a rate to as much of it as means something.
func TwoDigits(rate float64) float64 {
	rounded, _ := strconv.ParseFloat(strconv.FormatFloat(rate, 'e', 1, 64), 64) // as FormatFloat wrote it
	return rounded
}

// orStandard is the rate, and the standard one in place of auto.
func (r Rate) orStandard() Rate {
	if r == AutoRate {
		return NewRate(standardRate)
	}
	return r
}

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

// decode reads a number, auto, or a mapping of names to numbers.
func (r *Rate) decode(node ast.Node) *valueError {
	var entries []*ast.MappingValueNode
	switch n := node.(type) {
	case *ast.MappingNode:
		entries = n.Values
	case *ast.MappingValueNode:
		entries = []*ast.MappingValueNode{n}
	default:
		if text, _, _ := scalar(node); text == string(AutoRate) {
			*r = AutoRate
			return nil
		}
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
