package studies

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"peftsearch/evaluator"
	"peftsearch/search"
	"peftsearch/studies/config"
	"peftsearch/studies/store"
)

// WarmStartError says why a study cannot start from another.
type WarmStartError struct {
	Study, From string
	Reason      string
}

func (e *WarmStartError) Error() string {
	return fmt.Sprintf("study %s cannot start from study %s: %s", e.Study, e.From, e.Reason)
}

// learning are the samplers that learn from other studies.
var learning = []string{"auto", "gp"}

// warmStart reads the other study.
func warmStart(ctx context.Context, db *store.Store, file *config.Config, inputs *config.Inputs,
	from string) (*store.WarmStart, error) {
	refuse := func(format string, args ...any) error {
		return &WarmStartError{file.Study, from, fmt.Sprintf(format, args...)}
	}
	record, err := db.Study(ctx, from)
	if err != nil {
		return nil, err
	}
	if !record.Geometry.SameShape(inputs.Geometry) {
		return nil, refuse("their models have different shapes")
	}
	if !slices.Contains(learning, file.Search.Sampler) {
		return nil, refuse("sampler %s does not learn from other studies, gp and auto do", file.Search.Sampler)
	}
	trials, err := warmTrials(ctx, db, record, file, inputs, 0)
	if err != nil {
		return nil, err
	}
	if len(trials) < 2 {
		return nil, refuse("%d of its trials are finished and in the space of %s, it takes 2", len(trials), file.Study)
	}
	return &store.WarmStart{Study: from, Trials: trials}, nil
}

const (
	mostSources  = 8  // that a study learns from by itself: the latest
	leastTrained = 10 // finished trials of such a study
)

// related is what a study can learn from without being told: the studies of the database, and the maps, that had the
// same model and trained plans in the same way; nil for nothing. Which plans are good is a matter of these far more
// than of the task (docs/explain/search.md).
func related(ctx context.Context, db *store.Store, file *config.Config, inputs *config.Inputs,
	want store.Identity) (*store.WarmStart, error) {
	if file.Search.WarmStart == config.WarmStartNone || file.Evaluator.Analytic ||
		!slices.Contains(learning, file.Search.Sampler) {
		return nil, nil
	}
	records, err := db.Studies(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	out := &store.WarmStart{}
	add := func(name string, trials []store.WarmTrial) {
		names, out.Trials = append(names, name), append(out.Trials, trials...)
	}
	for _, record := range slices.Backward(records) {
		if len(names) == mostSources {
			break
		}
		if record.Name == file.Study || record.Identity[rateKey] == "" || want[rateKey] == "" ||
			!trainsAlike(record, want, "training.", "evaluator.") {
			continue
		}
		trials, err := warmTrials(ctx, db, record, file, inputs, len(names))
		if err != nil {
			return nil, err
		}
		if len(trials) >= leastTrained {
			add(record.Name, trials)
		}
	}
	maps, err := Maps()
	if err != nil {
		return nil, err
	}
	for _, m := range maps {
		if m.fits(file, inputs) {
			for _, task := range m.Tasks {
				if trials := m.trials(task, inputs.Space, len(names)); len(trials) >= leastTrained {
					add(fmt.Sprintf("map %s/%s", m.Name, task.Name), trials)
				}
			}
		}
	}
	if len(names) == 0 {
		return nil, nil
	}
	out.Study = strings.Join(names, ", ")
	return out, nil
}

// trainsAlike reports whether a study had the same model and, in some sections of the study file, the same keys, as far
// as both say.
func trainsAlike(r *store.Record, want store.Identity, sections ...string) bool {
	old, err := startedWith(r)
	if err != nil {
		return false
	}
	if old[modelKey] != want[modelKey] || old[trainingKey] != want[trainingKey] {
		return false
	}
	for _, change := range config.Changes(comparable(old, want), comparable(want, old)) {
		if slices.ContainsFunc(sections, func(s string) bool { return strings.HasPrefix(change.Key, s) }) {
			return false
		}
	}
	return true
}

// warmTrials are the finished trials of another study, at the points that they have in the space; what that cannot
// express is left out.
func warmTrials(ctx context.Context, db *store.Store, record *store.Record, file *config.Config, inputs *config.Inputs,
	source int) (out []store.WarmTrial, err error) {
	trials, err := db.Trials(ctx, record)
	if err != nil {
		return nil, err
	}
	for i, trial := range trials {
		if trial.State != store.Complete && trial.State != store.Pruned {
			continue
		}
		score, sd := trial.Result.Score, 0.0
		if trial.State == store.Pruned {
			score, sd = trial.Forecast.Score, trial.Forecast.SD
		}
		candidate := evaluator.Candidate{Plan: trials[i].Candidate.Plan, Training: inputs.Training}
		if len(file.Space.LearningRate) > 0 {
			candidate.Training.LearningRate = trials[i].Candidate.Training.LearningRate
		}
		if len(file.Space.Schedule) > 0 {
			candidate.Training.Schedule = trials[i].Candidate.Training.Schedule
		}
		if point, err := inputs.Space.Point(candidate); err == nil {
			out = append(out, store.WarmTrial{Source: source, Point: point, Params: trial.Params, Score: score, SD: sd})
		}
	}
	return out, nil
}

// priorOf is what the samplers are told.
func priorOf(w *store.WarmStart) (sources [][]search.Observation) {
	if w == nil {
		return nil
	}
	for _, t := range w.Trials {
		for len(sources) <= t.Source {
			sources = append(sources, nil)
		}
		of := &sources[t.Source]
		*of = append(*of, search.Observation{Number: int64(len(*of)), Point: t.Point, Params: t.Params,
			State: search.Complete,
			Score: t.Score, SD: t.SD})
	}
	return sources
}

// Known is what a study knew before its first trial, and how far that agrees with its trials.
type Known struct {
	From      string  // other studies and maps; "" of a map of its own
	Plans     int     // whose scores it knew
	Trainings float64 // that a map of its own cost; 0 of others
	Agreement *search.Agreement
}

// agreementTrials is how many trials, the latest, are compared with what was known.
const agreementTrials = 1000

// ReadKnown reads what a study knew; nil for nothing. Its Agreement is nil where there are too few trials, or this
// version cannot read the study's space.
func ReadKnown(ctx context.Context, db *store.Store, record *store.Record) (*Known, error) {
	warm := record.WarmStart
	if warm == nil {
		return nil, nil
	}
	k := &Known{From: warm.Study, Plans: len(warm.Trials)}
	if warm.Estimates() {
		jobs, err := db.Jobs(ctx, record, 0)
		if err != nil {
			return nil, err
		}
		for _, j := range jobs {
			if j.Kind == store.JobMap {
				k.Trainings = j.Share
			}
		}
	}
	latest, err := db.Latest(ctx, record, agreementTrials)
	if err != nil {
		return nil, err
	}
	file, err := StudyFile(record)
	if err != nil {
		return k, nil
	}
	space, err := file.SpaceOn(record.Geometry)
	if err != nil {
		return k, nil
	}
	var trials []search.Observation
	for _, e := range latest {
		trials = append(trials, observation(e))
	}
	if a, err := search.NewAgreement(space, record.Reference, priorOf(warm), trials); err == nil {
		k.Agreement = &a
	}
	return k, nil
}
