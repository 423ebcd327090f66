package report

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"

	"peftsearch/data/quote"
	"peftsearch/studies/store"
)

// pageSize is how many rows of a long table are in memory at a time.
const pageSize = 1000

// pages goes through what is numbered from the first on, of which read has those from some number to below another.
func pages[T any](first int64, read func(first, last int64) ([]T, error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for from := first; ; from += pageSize {
			page, err := read(from, from+pageSize)
			if err != nil {
				yield(*new(T), err)
				return
			}
			if len(page) == 0 {
				return
			}
			for _, row := range page {
				if !yield(row, nil) {
					return
				}
			}
		}
	}
}

// trialsOf goes through the trials of a study by number, some in memory at a time.
func trialsOf(ctx context.Context, at *store.Store, record *store.Record) iter.Seq2[store.Trial, error] {
	return pages(0, func(first, last int64) ([]store.Trial, error) { return at.Range(ctx, record, first, last) })
}

// WriteStudy prints a study with all of its fronts and trials, some in memory at a time. at is a snapshot.
func WriteStudy(ctx context.Context, w io.Writer, at *store.Store, record *store.Record) error {
	document, err := ReadStudy(ctx, at, record)
	if err != nil {
		return err
	}
	head, err := json.MarshalIndent(document, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding JSON: %w", err)
	}
	if _, err := w.Write(quote.JSON(bytes.TrimSuffix(head, []byte("\n}")))); err != nil {
		return err
	}
	if err := writeList(w, "fronts", pages(1, func(first, last int64) ([]store.FrontPoint, error) {
		return at.Fronts(ctx, record, first, last)
	}), func(f store.FrontPoint) any { return FrontAfter(f) }); err != nil {
		return err
	}
	if err := writeList(w, "trials", trialsOf(ctx, at, record),
		func(t store.Trial) any { return NewTrialEntry(record, t) }); err != nil {
		return err
	}
	_, err = io.WriteString(w, "\n}\n")
	return err
}

// writeList goes on with a document by a list.
func writeList[T any](w io.Writer, key string, rows iter.Seq2[T, error], entry func(T) any) error {
	if _, err := fmt.Fprintf(w, ",\n  %q: [", key); err != nil {
		return err
	}
	before, after := "\n    ", "]"
	for row, err := range rows {
		if err != nil {
			return err
		}
		encoded, err := json.MarshalIndent(entry(row), "    ", "  ")
		if err != nil {
			return fmt.Errorf("encoding JSON: %w", err)
		}
		if _, err := w.Write(append([]byte(before), quote.JSON(encoded)...)); err != nil {
			return err
		}
		before, after = ",\n    ", "\n  ]"
	}
	_, err := io.WriteString(w, after)
	return err
}
