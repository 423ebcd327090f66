package studies

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"strings"

	"peftsearch/data/quote"
	"peftsearch/evaluator"
	"peftsearch/studies/config"
	"peftsearch/studies/store"
)

// identityVersion says how to read a stored identity. Version 1 had a hash of the space and the training
// settings by their names in the program; from 2 on there are keys of the study file, in which no name and no
// order of the program shows.
const identityVersion = "2"

// What an identity has beside keys of the study file that stand for themselves.
const (
	versionKey   = "version"                // of the identity
	modelKey     = "model.path (contents)"  // fingerprint
	rowsKey      = "task (rows)"            // fingerprint of all splits
	precisionKey = "evaluator.precision"    // the one that trials ran in; missing while it is not known
	rateKey      = "training.learning_rate" // what auto became; missing until the study is calibrated
	trainingKey  = "training (version)"     // evaluator.TrainingVersion of peftsearch-worker; missing is 1
)

// identity describes a study file with its inputs.
func identity(c *config.Config, in *config.Inputs) store.Identity {
	out := store.Identity(c.Identity(in.Space.Config()))
	out[versionKey], out[modelKey], out[rowsKey] = identityVersion, in.Fingerprint.Model, in.Fingerprint.Data
	if p := c.Evaluator.Precision; p != config.AutoPrecision && !c.Evaluator.Analytic {
		out[precisionKey] = p
	}
	if c.Builtin() {
		out[trainingKey] = strconv.Itoa(evaluator.TrainingVersion)
	}
	return out
}

// startedWith is what a study was started with, in the present form.
func startedWith(r *store.Record) (store.Identity, error) {
	switch version := r.Identity[versionKey]; version {
	case identityVersion:
		return r.Identity, nil
	case "":
		return fromVersion1(r)
	default:
		return nil, fmt.Errorf("study %s is of a newer peftsearch (identity %s, this one knows %s): update peftsearch",
			quote.Text(r.Name), quote.Text(version), identityVersion)
	}
}

// fromVersion1 makes the identity of a study that has one of version 1: the study file that it was started
// with, with the fingerprints and with the values that the old identity tells, whatever defaults are now.
func fromVersion1(r *store.Record) (store.Identity, error) {
	file, err := config.Parse(r.Path, []byte(r.First))
	if err != nil {
		return nil, fmt.Errorf("the study file that study %s was started with: %w", quote.Text(r.Name), err)
	}
	file.Continue(nil)
	var training struct {
		LearningRate, WarmupRatio, WeightDecay, MaxGradNorm, Dropout float64
		Schedule                                                     evaluator.Schedule
		BatchSize, PrefixMLP                                         int
	}
	b, epochs := &file.Budget, 0.0
	for key, into := range map[string]any{"training": &training, "budget.epochs": &epochs,
		"budget.train_rows": &b.TrainRows, "budget.rungs": &b.Rungs, "budget.patience": &b.Patience,
		"task.max_length": &file.Task.MaxLength, "search.seed": &file.Search.Seed} {
		if err := json.Unmarshal([]byte(r.Identity[key]), into); err != nil {
			return nil, fmt.Errorf("the identity of study %s: %s: %w", quote.Text(r.Name), key, err)
		}
	}
	b.Epochs = config.Epochs(epochs)
	t := &file.Training
	t.LearningRate = config.NewRate(training.LearningRate)
	t.WarmupRatio, t.WeightDecay = training.WarmupRatio, training.WeightDecay
	t.MaxGradNorm, t.Dropout, t.Schedule = training.MaxGradNorm, training.Dropout, training.Schedule
	t.BatchSize, t.PrefixMLP = training.BatchSize, training.PrefixMLP
	space, err := file.SpaceOn(r.Geometry)
	if err != nil {
		return nil, fmt.Errorf("the space of study %s: %w", quote.Text(r.Name), err)
	}
	out := identity(file, &config.Inputs{Space: space,
		Fingerprint: evaluator.Fingerprint{Model: r.Identity[modelKey], Data: r.Identity[rowsKey]}})
	if p := r.Identity[precisionKey]; p != "" {
		out[precisionKey] = p
	}
	delete(out, trainingKey)
	return out, nil
}

// Loaded is what the worker of a study's own evaluator.command had loaded when the study started; of other
// studies nothing, since peftsearch itself reads what its worker loads.
func Loaded(r *store.Record, file *config.Config) evaluator.Ready {
	if len(file.Evaluator.Command) == 0 {
		return evaluator.Ready{}
	}
	return evaluator.Ready{Geometry: r.Geometry,
		Fingerprint: evaluator.Fingerprint{Model: r.Identity[modelKey], Data: r.Identity[rowsKey]}}
}

// IdentityError refuses to continue a study with other inputs.
type IdentityError struct {
	Study   string
	Changes []string // "key: old → new"; the contents of files come with the keys that say where they are
	Related bool     // the model has the same shape, so that a new study could learn from this one
}

// maxChanges is how many changes of a study's inputs are listed.
const maxChanges = 12

func (e *IdentityError) Error() string {
	changes := e.Changes
	if more := len(changes) - maxChanges; more > 0 {
		changes = append(changes[:maxChanges:maxChanges], fmt.Sprintf("and %d more", more))
	}
	return fmt.Sprintf("study %s was started with other inputs, and goes on only with those:\n  %s",
		quote.Line(e.Study), strings.Join(changes, "\n  "))
}

// StudyFile reads the study file of a study as it was last used.
func StudyFile(r *store.Record) (*config.Config, error) {
	file, err := config.Parse(r.Path, []byte(r.Config))
	if err == nil {
		Continue(r, file)
	}
	return file, err
}

// Continue makes a study file one of the stored study: a key that is newer than the study, and that the file does not
// name, has the value of before, and what trainings compute in and learn with is the study's where the file leaves it
// open. It comes before the file's inputs are opened.
func Continue(r *store.Record, file *config.Config) {
	if r.Identity[versionKey] == "" { // such an identity names no key
		file.Continue(nil)
	} else {
		file.Continue(config.Values(r.Identity))
	}
	if rate := r.Identity[rateKey]; rate != "" && file.Training.LearningRate == config.AutoRate {
		file.Training.LearningRate = config.Rate(rate)
	}
	if p := knownPrecision(r); p != "" && file.Evaluator.Precision == config.AutoPrecision {
		file.Evaluator.Precision = p
	}
}

// Check reports how the inputs differ from those that the study was started with, as an *IdentityError.
func Check(r *store.Record, file *config.Config, inputs *config.Inputs) error {
	old, err := startedWith(r)
	if err != nil {
		return err
	}
	now := identity(file, inputs)
	changes := config.Changes(comparable(old, now), comparable(now, old))
	shape := r.Geometry.Differences(inputs.Geometry)
	if changes == nil && shape == nil {
		return nil
	}
	refused := &IdentityError{Study: r.Name, Related: r.Geometry.SameShape(inputs.Geometry)}
	for _, c := range changes {
		if c.Key == modelKey || c.Key == rowsKey {
			refused.Changes = append(refused.Changes, fmt.Sprintf("%s: %.12s → %.12s", c.Key, c.Old, c.New))
			refused.Changes = append(refused.Changes, movedSources(r, file, c.Key)...)
		} else {
			refused.Changes = append(refused.Changes, describe(c))
		}
	}
	for _, difference := range shape {
		refused.Changes = append(refused.Changes, "the model's "+quote.Line(difference))
	}
	return refused
}

// TrainedOtherwise reports whether the trials of a study were trained by a version of peftsearch-worker that gives
// other scores than this one. Such a study goes on, since nobody can train as then, and its users are told.
func TrainedOtherwise(r *store.Record, file *config.Config) bool {
	return file.Builtin() && cmp.Or(r.Identity[trainingKey], "1") != strconv.Itoa(evaluator.TrainingVersion)
}

// comparable is an identity to be compared with another one: the precision and the rate count if both know them.
func comparable(one, other store.Identity) config.Values {
	out := config.Values(maps.Clone(one))
	delete(out, trainingKey)
	for _, key := range []string{precisionKey, rateKey} {
		if one[key] == "" || other[key] == "" {
			delete(out, key)
		}
	}
	return out
}

// movedSources lists the keys of the study file that may be why contents differ.
func movedSources(r *store.Record, file *config.Config, contents string) (changes []string) {
	last, err := StudyFile(r)
	if err != nil {
		return nil
	}
	section, _, _ := strings.Cut(contents, " ")
	section, _, _ = strings.Cut(section, ".")
	for _, c := range config.Changes(last.Sources(), file.Sources()) {
		if strings.HasPrefix(c.Key, section+".") {
			changes = append(changes, describe(c))
		}
	}
	return changes
}

// describe is a change in one short line. Of long values it shows where they begin to differ.
func describe(c config.Change) string {
	const context, most = 20, 60 // characters
	old, now := []rune(c.Old), []rune(c.New)
	same := 0
	for same < min(len(old), len(now)) && old[same] == now[same] {
		same++
	}
	brief := func(s []rune) string {
		from := 0
		if len(old) > most || len(now) > most {
			from = max(0, same-context)
		}
		text := string(s[from:min(len(s), from+most)])
		if from > 0 {
			text = "…" + text
		}
		if from+most < len(s) {
			text += "…"
		}
		if text == "" {
			return `""`
		}
		return quote.Line(text)
	}
	return fmt.Sprintf("%s: %s → %s", quote.Line(c.Key), brief(old), brief(now))
}
