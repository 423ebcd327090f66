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

	calibratedBy string // the study that a new one has its rates from, "" for none
}

// CalibratedBy is the study of which a new one took over the learning rates, "" for none.
func (s *Study) CalibratedBy() string { return s.calibratedBy }

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
	s := &Study{db: db, config: file, inputs: inputs}
	if _, err := db.Study(ctx, file.Study); errors.Is(err, store.ErrNoStudy) {
		rate, from, err := calibrated(ctx, db, file, inputs, want.Identity)
		if err != nil {
			return nil, err
		}
		if from != "" {
			s.calibratedBy, want.Identity[rateKey], file.Training.LearningRate = from, string(rate), rate
			inputs = trainedAs(file, inputs)
		}
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
	s.record, s.continued, s.precision.value = record, !created, file.Evaluator.Precision
	s.inputs = trainedAs(file, inputs)
	if err := s.prepare(); err != nil {
		return nil, err
	}
	if file.Search.Pruner == config.PrunerFront {
		s.pruner = search.FrontPruner{Space: inputs.Space, Reference: record.Reference, Growth: search.DefaultGrowth}
	}
	return s, nil
}

// prepare makes the study's optimiser.
func (s *Study) prepare() error {
	optimizer, err := search.NewOptimizer(s.inputs.Space, search.Options{Seed: s.record.Seed,
		Sampler: s.config.Search.Sampler, Initial: s.config.Search.Initial, Reference: s.record.Reference,
		Prior: priorOf(s.record.WarmStart), TrialSeconds: s.config.TrialSeconds(s.inputs),
		PerSecond: s.config.Budget.Hours > 0})
	if err == nil {
		s.ask = optimizer.Ask
	}
	return err
}

// trainedAs are the inputs of a study file whose rates may have come to be known since they were opened.
func trainedAs(file *config.Config, inputs *config.Inputs) *config.Inputs {
	trained := *inputs
	trained.Training = file.TrialTraining()
	trained.Space = inputs.Space.With(trained.Training)
	return &trained
}

// Record is the study as it is stored.
func (s *Study) Record() *store.Record { return s.record }

// Inputs are what the study file names.
func (s *Study) Inputs() *config.Inputs { return s.inputs }

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

// Status reads where the study stands.
func (s *Study) Status(ctx context.Context) (Status, error) {
	h := NewHistory(s.db, s.record)
	err := h.Sync(ctx)
	return s.status(h), err
}

func (s *Study) status(h *History) Status {
	return h.Status(s.config.Budget, int(s.config.Evaluator.Workers))
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
