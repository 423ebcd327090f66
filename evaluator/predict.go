package evaluator

import (
	"context"
	"fmt"

	"peftsearch/data"
)

const (
	// predictRows and predictBytes bound a request for predictions, so that no line is long and a worker
	// gives signs of life.
	predictRows  = 256
	predictBytes = 1 << 20
)

// Predict scores rows with the directory that a job with Output wrote. An error says what the worker said, or
// is ctx.Err().
func (p *Process) Predict(ctx context.Context, dir string, rows []data.Row) ([]Prediction, error) {
	if err := p.start(ctx, nil); err != nil {
		return nil, err
	}
	predictions := make([]Prediction, 0, len(rows))
	for len(rows) > 0 {
		count := chunk(rows)
		if size := rows[0].Bytes(); size > MaxLine/8 { // JSON may write a byte as six
			return nil, fmt.Errorf("row %d has %d MiB of text, which no model reads", len(predictions)+1, size>>20)
		}
		answer, err := p.predict(ctx, PredictRequest{Type: TypePredict, Dir: dir, Rows: rows[:count]})
		if err != nil {
			p.end(0)
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			return nil, fmt.Errorf("worker: %w", err)
		}
		predictions, rows = append(predictions, answer...), rows[count:]
	}
	return predictions, nil
}

// chunk is how many of the rows go into one request: at least one.
func chunk(rows []data.Row) int {
	size := 0
	for i, row := range rows[:min(len(rows), predictRows)] {
		if size += row.Bytes(); i > 0 && size > predictBytes {
			return i
		}
	}
	return min(len(rows), predictRows)
}

// predict sends one request and collects its predictions.
func (p *Process) predict(ctx context.Context, request PredictRequest) ([]Prediction, error) {
	if err := p.send(ctx, request, p.options.Stall); err != nil {
		return nil, err
	}
	var all []Prediction
	for len(all) < len(request.Rows) {
		text, err := p.answer(ctx, TypeScores, nil)
		if err != nil {
			return nil, err
		}
		var report PredictionsReport
		if err := decode(text, &report); err != nil {
			return nil, err
		}
		all = append(all, report.Predictions...)
		if len(report.Predictions) == 0 || len(all) > len(request.Rows) {
			return nil, slipIn(text, "", "%d predictions for %d rows", len(all), len(request.Rows))
		}
	}
	return all, nil
}
