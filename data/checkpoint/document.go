package checkpoint

import (
	"encoding/json"
	"errors"
	"fmt"

	"peftsearch/data/files"
	"peftsearch/data/quote"
)

// document is a config.json. It collects what is wrong with the values that are asked for.
type document struct {
	path   string
	values map[string]json.RawMessage
	errs   []error
}

func readDocument(path string) (*document, error) {
	d := &document{path: path}
	return d, files.ReadJSON(path, files.Document, &d.values)
}

func (d *document) refuse(format string, args ...any) {
	d.errs = append(d.errs, fmt.Errorf("%s: %w", d.path, quote.Error(fmt.Errorf(format, args...))))
}

// valueOf is the value of a key, fallback where it is absent or null; wanted says what it has to be.
func valueOf[T any](d *document, key, wanted string, fallback T) T {
	value := fallback
	raw, ok := d.values[key]
	if !ok {
		return fallback
	}
	if err := json.Unmarshal(raw, &value); err != nil {
		what := "something else"
		if mismatch := (*json.UnmarshalTypeError)(nil); errors.As(err, &mismatch) {
			what = mismatch.Value
		}
		d.refuse("%s is %s, not %s", key, what, wanted)
		return fallback
	}
	return value
}

func (d *document) text(key, fallback string) string { return valueOf(d, key, "a text", fallback) }

func (d *document) flag(key string) bool { return valueOf(d, key, "true or false", false) }

// size is a number from 1 to most; a fallback of 0 is none.
func (d *document) size(key string, fallback, most int) int {
	before := len(d.errs)
	n := valueOf(d, key, "a whole number", fallback)
	switch _, ok := d.values[key]; {
	case len(d.errs) > before:
	case !ok && n == 0:
		d.refuse("%s is missing", key)
	case n < 1 || n > most:
		d.refuse("%s is %d: must be from 1 to %d", key, n, most)
	}
	return n
}

// epsilon is the value of a key that keeps a normalisation's divisor from 0.
func (d *document) epsilon(key string, fallback float64) float64 {
	eps := valueOf(d, key, "a number", fallback)
	if !(eps > 0 && eps < 1) {
		d.refuse("%s %g: must be above 0 and below 1", key, eps)
	}
	return eps
}

// activation is the value of a key that names a feed-forward part's function.
func (d *document) activation(key string, fallback Activation) Activation {
	name := d.text(key, string(fallback))
	activation, known := activations[name]
	if !known {
		d.refuse("%s %s is not supported: must be one of %s", key, quote.Text(name), list(activations))
	}
	return activation
}
