package studies

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Identity is what a study's scores depend on, by the key of the study file that decides it. A study is
// continued only with the same identity.
type Identity map[string]string

// identity describes a study file with its inputs.
func (c *Config) identity(in *Inputs) Identity {
	text := func(v any) string {
		encoded, err := json.Marshal(v)
		if err != nil {
			panic(err) // checked configuration
		}
		return string(encoded)
	}
	trains := "peftsearch-worker"
	switch {
	case c.Evaluator.Analytic:
		trains = "analytic"
	case len(c.Evaluator.Command) > 0:
		trains = strings.Join(c.Evaluator.Command, " ")
	}
	return Identity{
		"model.path (contents)": in.Fingerprint.Model,
		"model.head":            string(c.Model.Head),
		"task (rows)":           in.Fingerprint.Data,
		"task.kind":             string(c.Task.Kind),
		"task.metric":           string(c.Task.Metric),
		"task.max_length":       text(c.Task.MaxLength),
		"space":                 in.Space.Hash(),
		"training":              text(c.Training),
		"budget.epochs":         text(c.Budget.Epochs),
		"budget.train_rows":     text(c.Budget.TrainRows),
		"budget.rungs":          text(c.Budget.Rungs),
		"budget.patience":       text(c.Budget.Patience),
		"search.seed":           text(c.Search.Seed),
		"evaluator.command":     trains,
	}
}

// IdentityError refuses to continue a study with other inputs.
type IdentityError struct {
	Study   string
	Changes []string // "key: old → new", sorted
}

func (e *IdentityError) Error() string {
	return fmt.Sprintf("study %s was started with other inputs, its scores would not be comparable:\n  %s", e.Study, strings.Join(e.Changes, "\n  "))
}

// ReadConfig reads the study file as it was when the study started.
func (r *Record) ReadConfig() (*Config, error) { return ParseConfig(r.Path, []byte(r.Config)) }

// Check reports how the inputs differ from those that the study was started with, as an *IdentityError.
func (r *Record) Check(config *Config, inputs *Inputs) error {
	now := config.identity(inputs)
	var changes []string
	brief := func(s string) string {
		if len(s) == 64 && !strings.ContainsAny(s, " {") { // a hash says only that it differs
			return s[:12]
		}
		return s
	}
	for _, key := range slices.Sorted(maps.Keys(now)) {
		if r.Identity[key] != now[key] {
			changes = append(changes, fmt.Sprintf("%s: %s → %s", key, brief(r.Identity[key]), brief(now[key])))
		}
	}
	if changes == nil {
		return nil
	}
	return &IdentityError{Study: r.Name, Changes: changes}
}
