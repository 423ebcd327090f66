package store

import (
	"context"
	"iter"
)

// pageSize is how many rows of a long table are in memory at a time.
const pageSize = 1000

// Pages goes through what is numbered from the first on, of which read has those from some number to below another.
func Pages[T any](first int64, read func(first, last int64) ([]T, error)) iter.Seq2[T, error] {
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

// Walk goes through the trials of a study by number, some in memory at a time; curves asks for their curves.
func (s *Store) Walk(ctx context.Context, r *Record, curves bool) iter.Seq2[Trial, error] {
	return Pages(0, func(first, last int64) ([]Trial, error) { return s.Range(ctx, r, first, last, curves) })
}
