// Package report makes the documents that describe studies: what --json prints is what tables show. It reads
// records, trials and confirmations, and computes nothing that package studies does not.
package report

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"peftsearch/data/quote"
	"peftsearch/evaluator"
	"peftsearch/peft"
)

// SchemaVersion is that of every document; docs/reference/json.md describes them.
const SchemaVersion = 2

// WriteJSON prints a document. What others wrote does nothing to a terminal that it is printed on.
func WriteJSON(w io.Writer, document any) error {
	encoded, err := json.MarshalIndent(document, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding JSON: %w", err)
	}
	_, err = w.Write(append(quote.JSON(encoded), '\n'))
	return err
}

// Training is what train --json prints.
type Training struct {
	SchemaVersion int                `json:"schema_version"`
	Directory     string             `json:"directory"`
	Params        int64              `json:"params"` // without the head
	HeadParams    int64              `json:"head_params"`
	BestStep      int                `json:"best_step"`
	Dev           map[string]float64 `json:"dev"`
	Test          map[string]float64 `json:"test"`
	TestDropped   []float64          `json:"test_dropped,omitempty"` // peft.Metrics says of what
	Plan          peft.Plan          `json:"plan"`
}

// Predictions is what predict --json prints; predictions are in the order of the rows.
type Predictions struct {
	SchemaVersion int                    `json:"schema_version"`
	Labels        []string               `json:"labels"` // by logit; null for regression
	Predictions   []evaluator.Prediction `json:"predictions"`
}

// percentOf is a number of parameters in percent of the backbone's.
func percentOf(params int64, g peft.Geometry) float64 {
	return 100 * float64(params) / float64(g.BackboneParams)
}

func optionalTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
