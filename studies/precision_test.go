package studies

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"peftsearch/studies/config"
)

// The first worker of a study chooses; every later one, of whichever process, computes the same way.
func TestPrecisionIsSettledOnce(t *testing.T) {
	path := writeStudy(t, t.TempDir(), 3)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	trained := []byte(strings.Replace(string(content), "evaluator: {analytic: true}", "", 1))
	if err := os.WriteFile(path, trained, 0o644); err != nil {
		t.Fatal(err)
	}
	one, _ := start(t, path)
	other, _ := start(t, path)
	if one.Precision() != config.AutoPrecision || one.Expect().Precision != "" {
		t.Errorf("a new study computes in %s", one.Precision())
	}
	ctx := context.Background()
	if same, err := one.Settle(ctx, ""); err != nil || !same || one.Precision() != config.AutoPrecision {
		t.Errorf("a worker that says nothing: %v, %v, %s", same, err, one.Precision())
	}
	for range 2 {
		if same, err := one.Settle(ctx, "bfloat16"); err != nil || !same {
			t.Errorf("the first worker: %v, %v", same, err)
		}
		if same, err := other.Settle(ctx, "float32"); err != nil || same {
			t.Errorf("a worker of a process that came second: %v, %v", same, err)
		}
	}
	later, _ := start(t, path)
	for _, s := range []*Study{one, other, later} {
		if s.Precision() != "bfloat16" || s.Expect().Precision != "bfloat16" {
			t.Errorf("precision %s, expected %s", s.Precision(), s.Expect().Precision)
		}
	}
	if p := later.Config().Hello(1).Settings.Precision; p != "bfloat16" {
		t.Errorf("a worker is told %s", p)
	}
	if err := os.WriteFile(path, append(trained, "evaluator: {precision: float32}\n"...), 0o644); err != nil {
		t.Fatal(err)
	}
	file, err := config.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	inputs, err := file.Open()
	if err != nil {
		t.Fatal(err)
	}
	var refused *IdentityError
	if _, err := Start(ctx, one.db, file, inputs); !errors.As(err, &refused) ||
		refused.Changes[0] != "evaluator.precision: bfloat16 → float32" {
		t.Errorf("another precision by name: %v", err)
	}
}
