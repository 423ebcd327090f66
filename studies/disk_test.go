package studies

import (
	"os"
	"path/filepath"
	"testing"

	"peftsearch/studies/store"
)

func TestAReadOnlyDirectoryCanBeViewed(t *testing.T) {
	path := writeStudy(t, t.TempDir(), 3)
	study, db := start(t, path)
	mustRun(t, study)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(t.TempDir(), "archive")
	if err := os.CopyFS(archive, os.DirFS(filepath.Dir(path))); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(archive, 0o555); err != nil {
		t.Fatal(err)
	}
	defer os.Chmod(archive, 0o755)
	viewer, err := store.View(filepath.Join(archive, "studies.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer viewer.Close()
	records, err := viewer.Studies(t.Context())
	if err != nil || len(records) != 1 {
		t.Errorf("%d studies, %v", len(records), err)
	}
}
