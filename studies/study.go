package studies

import (
	"context"
	"errors"

	"peftsearch/evaluator"
	"peftsearch/peft"
	"peftsearch/search"
	"peftsearch/studies/config"
	"peftsearch/studies/store"
)

// Study is a stored study, opened with its inputs to run on.
type Study struct {
	db        *store.Store
	record    *store.Record
	config    *config.Config
	inputs    *config.Inputs
	ask       func(history *search.History, number int64) (search.Suggestion, error)
	pruner    search.Pruner // nil for none
	continued bool
	precision precision
}

// Start opens the study of a study file: it creates it, or continues it if the database has it. The
// error is an *IdentityError if the stored study had other inputs.
func Start(ctx context.Context, db *store.Store, file *config.Config, inputs *config.Inputs) (*Study, error) {
	return StartFrom(ctx, db, file, inputs, "")
}

// StartFrom is Start for a study that learns from the finished trials of another one of the database, which
// had a model of the same shape. A study that was started so continues so, with or without its name; one
// that was not cannot. The error can also be a *WarmStartError.
func StartFrom(ctx context.Context, db *store.Store, file *config.Config, inputs *config.Inputs,
	other string) (*Study, error) {
	smallest, largest := inputs.Space.ParamRange()
	reference := search.Reference{Chance: inputs.Dataset.Chance(), MinParams: smallest, MaxParams: largest}
	if err := reference.Check(); err != nil {
		return nil, file.Mistake("task.dev", "", "%v", err)
	}
	want := &store.Record{Name: file.Study, Path: file.File(), Config: file.Text(), Identity: identity(file, inputs),
		Metric: string(file.Task.Metric), Geometry: inputs.Geometry, Reference: reference, Seed: file.Search.Seed}
	if _, err := db.Study(ctx, file.Study); errors.Is(err, store.ErrNoStudy) {
		if other != "" {
			want.WarmStart, err = warmStart(ctx, db, file, inputs, other)
		} else {
			want.WarmStart, err = related(ctx, db, file, inputs, want.Identity)
		}
		if err != nil {
			return nil, err
		}
	} else if err != nil && !errors.Is(err, store.ErrNoStudy) {
		return nil, err
	}
	record, created, err := db.Ensure(ctx, want)
	if err != nil {
		return nil, err
	}
	if !created {
		if err := Check(record, file, inputs); err != nil {
			return nil, err
		}
		Continue(record, file)
		if other != "" && (record.WarmStart == nil || record.WarmStart.Study != other) {
			return nil, &WarmStartError{file.Study, other, "it was started already, without it"}
		}
		if record.Path != want.Path || record.Config != want.Config {
			if err := db.Used(ctx, record, want.Path, want.Config); err != nil {
				return nil, err
			}
		}
	}
	optimizer, err := search.NewOptimizer(inputs.Space, search.Options{Seed: record.Seed, Sampler: file.Search.Sampler,
		Initial: file.Search.Initial, Reference: record.Reference, Prior: priorOf(record.WarmStart),
		TrialSeconds: file.TrialSeconds(inputs)})
	if err != nil {
		return nil, err
	}
	s := &Study{db: db, record: record, config: file, inputs: inputs, ask: optimizer.Ask, continued: !created,
		precision: precision{value: file.Evaluator.Precision}}
	if file.Search.Pruner == config.PrunerFront {
		s.pruner = search.FrontPruner{Space: inputs.Space, Reference: record.Reference, Growth: search.DefaultGrowth}
	}
	return s, nil
}

// Record is the study as it is stored.
func (s *Study) Record() *store.Record { return s.record }

// Config is the study file.
func (s *Study) Config() *config.Config { return s.config }

// Expect is what a worker of the study must have loaded.
func (s *Study) Expect() evaluator.Expect {
	expect := s.config.Expect(s.inputs)
	if p := s.Precision(); p != config.AutoPrecision {
		expect.Precision = p
	}
	return expect
}

// Continued reports whether the study was in the database already.
func (s *Study) Continued() bool { return s.continued }

// Status reads where the study stands, without how long the rest will take.
func (s *Study) Status(ctx context.Context) (status Status, err error) {
	err = s.db.Snapshot(ctx, func(at *store.Store) error {
		tally, err := at.Tally(ctx, s.record)
		if err != nil {
			return err
		}
		front, members, err := latestFront(ctx, at, s.record)
		if err != nil {
			return err
		}
		status = Status{Trials: max(s.config.Budget.Trials, tally.Total()), Tally: tally,
			Hypervolume: front.Hypervolume, FrontSize: len(members)}
		if all := outcomes(members); len(all) > 0 {
			status.Best = &all[len(all)-1]
		}
		return nil
	})
	return status, err
}

func (s *Study) status(h *History) Status {
	return h.Status(s.config.Budget.Trials, int(s.config.Evaluator.Workers))
}

// TimingJob is a job without an end for measuring how fast this study's trials are: a usual plan with
// modules in every layer, on few rows, so that every measurement has the same ones.
func (s *Study) TimingJob() (evaluator.Job, error) {
	preset, err := peft.NewPreset("lora-r8", s.inputs.Geometry)
	return evaluator.Job{Candidate: s.Baseline(preset),
		Budget: evaluator.Budget{Epochs: 1e6, TrainRows: 8 * s.inputs.Training.BatchSize, Rungs: []float64{1}}}, err
}

// Analytic makes the evaluator of a study file with evaluator.analytic.
func (s *Study) Analytic() evaluator.Evaluator {
	return &evaluator.Analytic{Geometry: s.inputs.Geometry, Noise: 0.005, Metric: s.record.Metric}
}
