package store_test

import (
	"path/filepath"
	"testing"

	"peftsearch/studies/store"
	"peftsearch/studies/store/storetest"
)

func TestConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) func() *store.Store {
		path := filepath.Join(t.TempDir(), "studies.db")
		return func() *store.Store { return open(t, path) }
	})
}

func open(t *testing.T, path string) *store.Store {
	t.Helper()
	s, err := store.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}
