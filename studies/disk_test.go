package studies

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// SQLite reports its own page limit exactly as it reports a full disk.
func TestAFullDiskStopsTheSearchAndLosesNothing(t *testing.T) {
	whole, _ := start(t, writeStudy(t, t.TempDir(), 20))
	want := mustRun(t, whole)

	study, store := start(t, writeStudy(t, t.TempDir(), 20))
	var pages int
	if err := store.db.QueryRow("PRAGMA page_count").Scan(&pages); err != nil {
		t.Fatal(err)
	}
	var limit int
	if err := store.db.QueryRow(fmt.Sprintf("PRAGMA max_page_count = %d", pages+3)).Scan(&limit); err != nil || limit != pages+3 {
		t.Fatalf("the limit is %d, %v", limit, err)
	}
	_, err := run(t, study, RunOptions{})
	if err == nil || !strings.Contains(err.Error(), "the disk is full or failing") {
		t.Fatalf("the error is %v", err)
	}
	if _, err := store.db.Exec("PRAGMA max_page_count = 1000000"); err != nil {
		t.Fatal(err)
	}
	finished := 0
	for _, trial := range trialsOf(t, study) {
		if trial.State == Complete {
			finished++
		}
	}
	if finished == 0 || finished == 20 {
		t.Fatalf("%d trials were stored before the disk was full", finished)
	}
	if diff := cmp.Diff(want, mustRun(t, study), ignoreTimes); diff != "" {
		t.Errorf("after the disk was full the study ends differently:\n%s", diff)
	}
}

func TestAReadOnlyDirectoryCanBeViewed(t *testing.T) {
	path := writeStudy(t, t.TempDir(), 3)
	study, store := start(t, path)
	mustRun(t, study)
	if err := store.Close(); err != nil {
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
	viewer, err := ViewStore(filepath.Join(archive, "studies.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer viewer.Close()
	records, err := viewer.Studies(t.Context())
	if err != nil || len(records) != 1 {
		t.Errorf("%d studies, %v", len(records), err)
	}
}
