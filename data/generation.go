package data

import (
	"errors"
	"fmt"

	"peftsearch/data/quote"
)

// EarlyStopping says when a beam search ends that has as many finished texts as beams.
type EarlyStopping string

// The values of early_stopping.
const (
	StopFalse EarlyStopping = "false" // when the best text that is not finished is no better as it is
	StopTrue  EarlyStopping = "true"  // at once
	StopNever EarlyStopping = "never" // when none that is not finished can become better
)

// Generation is how texts are written: by transformers' greedy search, or its beam search where there are several
// beams. The keys are transformers'.
type Generation struct {
	// MaxNewTokens is the longest text in tokens, that at its end included; longer targets are cut.
	MaxNewTokens int `json:"max_new_tokens"`
	// MinNewTokens is how many tokens are written before the end may come.
	MinNewTokens int `json:"min_new_tokens,omitempty"`
	NumBeams     int `json:"num_beams"`
	// LengthPenalty is the power of the number of tokens that the log-probability of a text is divided by.
	LengthPenalty float64       `json:"length_penalty"`
	EarlyStopping EarlyStopping `json:"early_stopping"`
	// NoRepeatNgramSize is the length of sequences of tokens that never come twice, those that are read included; 0 for
	// none.
	NoRepeatNgramSize int `json:"no_repeat_ngram_size,omitempty"`
}

// Greedy is g without beams.
func (g Generation) Greedy() Generation {
	g.NumBeams = 1
	return g
}

// Validate reports every setting that nothing can be written with.
func (g Generation) Validate() error {
	const most = 1 << 16
	var errs []error
	for _, key := range []struct {
		name             string
		value, low, high int
	}{{"max_new_tokens", g.MaxNewTokens, 1, most}, {"min_new_tokens", g.MinNewTokens, 0, g.MaxNewTokens},
		{"num_beams", g.NumBeams, 1, 64}, {"no_repeat_ngram_size", g.NoRepeatNgramSize, 0, most}} {
		if key.value < key.low || key.value > key.high {
			errs = append(errs, fmt.Errorf("generation.%s %d: must be from %d to %d", key.name, key.value, key.low, key.high))
		}
	}
	if !(g.LengthPenalty >= -100 && g.LengthPenalty <= 100) {
		errs = append(errs, fmt.Errorf("generation.length_penalty %g: must be from -100 to 100", g.LengthPenalty))
	}
	if g.EarlyStopping != StopFalse && g.EarlyStopping != StopTrue && g.EarlyStopping != StopNever {
		errs = append(errs, fmt.Errorf("generation.early_stopping %s: must be %s, %s or %s",
			quote.Text(string(g.EarlyStopping)), StopFalse, StopTrue, StopNever))
	}
	return errors.Join(errs...)
}
