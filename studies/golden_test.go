package studies

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"peftsearch/studies/config"
	"peftsearch/studies/store"
)

// rows are the rows that the studies of store/testdata were made on.
func rows() string {
	var b strings.Builder
	b.WriteString("text\tlabel\n")
	for i := range 40 {
		fmt.Fprintf(&b, "sentence number %d\t%s\n", i, []string{"no", "yes"}[i%2])
	}
	return b.String()
}

// A study of an older version goes on: what it found stays as it is, what waited runs, and new trials follow.
func TestStudiesOfOlderVersionsGoOn(t *testing.T) {
	model, err := filepath.Abs("../models/bert-tiny")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(model); err != nil {
		t.Skip("models/bert-tiny is not there: make models/bert-tiny fetches it")
	}
	for schema := 1; schema <= 9; schema++ {
		t.Run(fmt.Sprint("schema ", schema), func(t *testing.T) {
			dir := t.TempDir()
			content, err := os.ReadFile(fmt.Sprintf("store/testdata/schema-%d.db", schema))
			if err != nil {
				t.Fatal(err)
			}
			for name, content := range map[string][]byte{"studies.db": content, "train.tsv": []byte(rows())} {
				if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Symlink(model, filepath.Join(dir, "bert-tiny")); err != nil {
				t.Fatal(err)
			}
			db, err := store.Open(filepath.Join(dir, "studies.db"))
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			record, err := db.Study(t.Context(), "golden")
			if err != nil {
				t.Fatal(err)
			}
			before, err := db.Trials(t.Context(), record)
			if err != nil {
				t.Fatal(err)
			}
			done := len(before) - 1
			file, err := config.Parse(filepath.Join(dir, "study.yaml"), []byte(strings.Replace(record.Config,
				fmt.Sprintf("trials: %d", done), fmt.Sprintf("trials: %d", done+7), 1)))
			if err != nil {
				t.Fatal(err)
			}
			Continue(record, file)
			inputs, err := file.Open()
			if err != nil {
				t.Fatal(err)
			}
			study, err := Start(t.Context(), db, file, inputs)
			if err != nil {
				t.Fatal(err)
			}
			if !study.Continued() {
				t.Error("it begins anew")
			}
			after := mustRun(t, study)
			if len(after) != done+7 || after[done].Origin != "enqueued:mam" {
				t.Errorf("%d trials, number %d is %s", len(after), done, after[done].Origin)
			}
			if diff := cmp.Diff(before[:done], after[:done]); diff != "" {
				t.Errorf("trials that were there have changed:\n%s", diff)
			}
			for _, trial := range after[done:] {
				if !trial.State.Finished() || trial.State == store.Failed {
					t.Errorf("trial %d is %s", trial.Number, trial.State)
				}
			}
			if record, err = db.Study(t.Context(), "golden"); err != nil ||
				record.Path != filepath.Join(dir, "study.yaml") || record.First == record.Config {
				t.Errorf("the study file as it was last used: %s, %v", record.Path, err)
			}
		})
	}
}
