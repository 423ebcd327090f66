package studies

import (
	"context"
	"sync"

	"peftsearch/studies/config"
	"peftsearch/studies/store"
)

// precision is what the trainings of a study compute in: scores of one study are of one precision.
type precision struct {
	mu    sync.Mutex
	value string // config.AutoPrecision until a worker has chosen; guarded by mu
}

// knownPrecision is what a stored study computes in, "" while that is not known.
func knownPrecision(r *store.Record) string {
	started, err := startedWith(r)
	if err != nil {
		return ""
	}
	return started[precisionKey]
}

// Precision is what the study's trainings compute in; config.AutoPrecision until a worker has chosen.
func (s *Study) Precision() string {
	s.precision.mu.Lock()
	defer s.precision.mu.Unlock()
	return s.precision.value
}

// Settle makes the precision that a worker computes in the study's, if the study has none yet. It reports whether
// the two are the same: another process may have been first, on another machine. A worker that says nothing is
// believed to compute as it was told.
func (s *Study) Settle(ctx context.Context, worker string) (same bool, err error) {
	s.precision.mu.Lock()
	defer s.precision.mu.Unlock()
	if worker == "" {
		return true, nil
	}
	if s.precision.value == config.AutoPrecision {
		var settled string
		err := repeat(ctx, func(ctx context.Context) (err error) {
			settled, err = s.db.Settle(ctx, s.record, precisionKey, worker)
			return err
		}, func(error) {})
		if err != nil {
			return false, err
		}
		s.precision.value = settled
	}
	return worker == s.precision.value, nil
}
