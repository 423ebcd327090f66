package studies

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"peftsearch/evaluator"
	"peftsearch/studies/config"
	"peftsearch/studies/store"
)

// The keys of what is read.
const (
	identityModel = "model.path (contents)"
	identityRows  = "task (rows)"
)

// identity describes a study file with its inputs.
func identity(c *config.Config, in *config.Inputs) store.Identity {
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
	return store.Identity{
		identityModel:       in.Fingerprint.Model,
		"model.head":        string(c.Model.Head),
		identityRows:        in.Fingerprint.Data,
		"task.kind":         string(c.Task.Kind),
		"task.metric":       string(c.Task.Metric),
		"task.max_length":   text(c.Task.MaxLength),
		"space":             in.Space.Hash(),
		"training":          text(c.Training),
		"budget.epochs":     text(c.Budget.Epochs),
		"budget.train_rows": text(c.Budget.TrainRows),
		"budget.rungs":      text(c.Budget.Rungs),
		"budget.patience":   text(c.Budget.Patience),
		"search.seed":       text(c.Search.Seed),
		"evaluator.command": trains,
	}
}

// Loaded is what the worker of a study's own evaluator.command had loaded when the study started; of other
// studies nothing, since peftsearch itself reads what its worker loads.
func Loaded(r *store.Record, file *config.Config) evaluator.Ready {
	if len(file.Evaluator.Command) == 0 {
		return evaluator.Ready{}
	}
	return evaluator.Ready{Geometry: r.Geometry,
		Fingerprint: evaluator.Fingerprint{Model: r.Identity[identityModel], Data: r.Identity[identityRows]}}
}

// IdentityError refuses to continue a study with other inputs.
type IdentityError struct {
	Study   string
	Changes []string // "key: old → new", sorted
}

func (e *IdentityError) Error() string {
	return fmt.Sprintf("study %s was started with other inputs, its scores would not be comparable:\n  %s", e.Study, strings.Join(e.Changes, "\n  "))
}

// StudyFile reads the study file as it was when the study started.
func StudyFile(r *store.Record) (*config.Config, error) {
	return config.Parse(r.Path, []byte(r.Config))
}

// Check reports how the inputs differ from those that the study was started with, as an *IdentityError.
func Check(r *store.Record, file *config.Config, inputs *config.Inputs) error {
	now := identity(file, inputs)
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
