package studies

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"peftsearch/evaluator"
	"peftsearch/peft"
	"peftsearch/studies/config"
	"peftsearch/studies/store"
)

func TestChangedInputsAreRefused(t *testing.T) {
	path := writeStudy(t, t.TempDir(), 3)
	study, db := start(t, path)
	mustRun(t, study)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	again := func(from, to string) error {
		t.Helper()
		file, err := config.Parse(path, []byte(strings.Replace(string(content), from, to, 1)))
		if err != nil {
			t.Fatal(err)
		}
		inputs, err := file.Open()
		if err != nil {
			t.Fatal(err)
		}
		_, err = Start(context.Background(), db, file, inputs)
		return err
	}
	for change, words := range map[[2]string]string{
		{"columns:", "metric: mcc\n  columns:"}: "task.metric: accuracy → mcc",
		{"trials: 3", "trials: 3\n  epochs: 9"}: "budget.epochs: 3 → 9",
		{"search:", "space: {lora: {ranks: [0, 1, 2, 4]}}\n" +
			"search:"}: "space.lora.ranks: [0, 1, 2, 4, 8, 16, 32] → [0, 1, 2, 4]",
		{"search:", "training: {dropout: 0.1}\nsearch:"}: "training.dropout: 0 → 0.1",
		{"seed: 11", "seed: 12"}:                         "search.seed: 11 → 12",
		{"evaluator: {analytic: true}", "evaluator: {}"}: "evaluator.analytic: true → false",
	} {
		var refused *IdentityError
		err := again(change[0], change[1])
		if !errors.As(err, &refused) || !strings.HasSuffix(err.Error(), ":\n  "+words) || !refused.Related {
			t.Errorf("%q: %v", change[1], err)
		}
	}
	// Other rows: the key that says which is named with the contents.
	var refused *IdentityError
	if err := again("dev_share: 0.3", "dev_share: 0.2"); !errors.As(err, &refused) || len(refused.Changes) != 2 ||
		!strings.HasPrefix(refused.Changes[0], "task (rows): ") || refused.Changes[1] != "task.dev_share: 0.3 → 0.2" {
		t.Errorf("%v", err)
	}
	if err := again("{analytic: true}", "{analytic: true, workers: 2, threads: 3, precision: float32}"); err != nil {
		t.Errorf("what trials do not depend on: %v", err)
	}
}

// storedStudy is a study of an earlier version.
func storedStudy(t *testing.T, path string) (*store.Record, *config.Config, *config.Inputs) {
	t.Helper()
	var stored struct {
		Config   string
		Identity store.Identity
		Geometry peft.Geometry
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(content, &stored); err != nil {
		t.Fatal(err)
	}
	record := &store.Record{Name: "old", Path: filepath.Join(t.TempDir(), "study.yaml"),
		Config: stored.Config, First: stored.Config, Identity: stored.Identity, Geometry: stored.Geometry}
	file, err := StudyFile(record)
	if err != nil {
		t.Fatal(err)
	}
	space, err := file.SpaceOn(stored.Geometry)
	if err != nil {
		t.Fatal(err)
	}
	return record, file, &config.Inputs{Geometry: stored.Geometry, Space: space,
		Fingerprint: evaluator.Fingerprint{Model: stored.Identity[modelKey], Data: stored.Identity[rowsKey]}}
}

// identity-1.json is what the last version with identities of version 1 stored.
func TestIdentitiesOfVersion1(t *testing.T) {
	record, file, inputs := storedStudy(t, "testdata/identity-1.json")
	if err := Check(record, file, inputs); err != nil {
		t.Errorf("the same file: %v", err)
	}
	old, err := startedWith(record)
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{
		"training.max_grad_norm": "1e+09", "training.dropout": "0.05", "training.warmup_ratio": "0.1",
		"budget.epochs": "1e-05", "search.seed": "18446744073709551615", "task.split": "random",
		"space.lora.ranks": "[0, 4]", "space.serial": "[0, 1, 2, 4, 8, 16, 32]",
		"evaluator.analytic": "true", "model.head": "dense", versionKey: identityVersion} {
		if old[key] != want {
			t.Errorf("%s: %q, want %q", key, old[key], want)
		}
	}
	// What the old identity tells counts, not what the file's defaults have become.
	record.Identity["training"] = strings.Replace(record.Identity["training"], `"WarmupRatio":0.1`, `"WarmupRatio":0.06`,
		1)
	if err := Check(record, file, inputs); err == nil || !strings.HasSuffix(err.Error(),
		":\n  training.warmup_ratio: 0.06 → 0.1") {
		t.Errorf("another default than then: %v", err)
	}
	record.Identity["training"] = "{"
	if err := Check(record, file, inputs); err == nil || !strings.Contains(err.Error(), "identity of study") {
		t.Errorf("a damaged identity: %v", err)
	}
	record.Identity[versionKey] = "3"
	if err := Check(record, file, inputs); err == nil || !strings.Contains(err.Error(), "newer peftsearch") {
		t.Errorf("a newer identity: %v", err)
	}
}

// The precision is the study's: unknown until a worker has said it, then a key like any other.
func TestPrecisionIsAKey(t *testing.T) {
	record, file, inputs := storedStudy(t, "testdata/identity-1.json")
	file.Evaluator.Analytic = false
	record.Identity = identity(file, inputs)
	for _, c := range []struct{ known, file, want string }{
		{"", "auto", ""},
		{"", "float32", ""},
		{"bfloat16", "auto", ""},
		{"bfloat16", "bfloat16", ""},
		{"bfloat16", "float32", "evaluator.precision: bfloat16 → float32"},
	} {
		delete(record.Identity, precisionKey)
		if c.known != "" {
			record.Identity[precisionKey] = c.known
		}
		file.Evaluator.Precision = c.file
		err := Check(record, file, inputs)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.HasSuffix(err.Error(), ":\n  "+c.want)) {
			t.Errorf("%s, then %s: %v", c.known, c.file, err)
		}
	}
}

// Nobody can train as an older version did, so such studies go on, and it can be told.
func TestTrainingOfAnotherVersionIsTold(t *testing.T) {
	record, file, inputs := storedStudy(t, "testdata/identity-1.json")
	if TrainedOtherwise(record, file) {
		t.Error("the formula has no version")
	}
	file.Evaluator.Analytic = false
	if !TrainedOtherwise(record, file) {
		t.Error("version 1 is not told from the present one")
	}
	record.Identity = identity(file, inputs)
	if TrainedOtherwise(record, file) {
		t.Error("a new study was trained otherwise")
	}
	record.Identity[trainingKey] = "1"
	if err := Check(record, file, inputs); err != nil || !TrainedOtherwise(record, file) {
		t.Errorf("a study of version 1: %v", err)
	}
}

func TestChangesAreShort(t *testing.T) {
	var changes []string
	for range 40 {
		changes = append(changes, "space.serial: [] → [0]")
	}
	text := (&IdentityError{Study: "\x1b[2J", Changes: changes}).Error()
	if len(text) > 1000 || !strings.HasSuffix(text, "\n  and 28 more") || strings.Contains(text, "\x1b") {
		t.Errorf("%d bytes: %q", len(text), text)
	}
	long := "[" + strings.Repeat("1, ", 1000)
	for c, want := range map[config.Change]string{
		{Key: "a", Old: "1", New: "2"}:                 "a: 1 → 2",
		{Key: "a", Old: "1", New: ""}:                  `a: 1 → ""`,
		{Key: "a", Old: long + "2]", New: long + "3]"}: "a: …, 1, 1, 1, 1, 1, 1, 2] → …, 1, 1, 1, 1, 1, 1, 3]",
		{Key: "a", Old: "[1]",
			New: long + "3]"}: "a: [1] → [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,…",
		{Key: "a\x1b", Old: "\u202e", New: "\x00\U0001f600"}: `a\x1b: \u202e → \x00` + "\U0001f600",
	} {
		if got := describe(c); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
