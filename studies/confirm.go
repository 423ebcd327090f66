package studies

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"

	"peftsearch/evaluator"
	"peftsearch/peft"
	"peftsearch/studies/config"
	"peftsearch/studies/store"
)

// firstSeed is the seed of a candidate's first full training; the next ones count up. The seeds are the
// same for every candidate, and no trial's.
const firstSeed = 40

// ErrNoTestRows says that there is nothing to confirm on.
var ErrNoTestRows = errors.New("the task has no test rows")

// Confirmation is what the full trainings of one candidate say.
type Confirmation struct {
	Candidate evaluator.Candidate
	Params    int64            // trainable parameters, without the head; all of the backbone in full fine-tuning
	Trainings []store.Training // by seed
	Test      Sample           // of the test score in the study's metric
}

// Confirmations holds one Confirmation for each candidate, in the order in which they were first trained.
type Confirmations []*Confirmation

// Of finds the confirmation of a candidate; nil if it was never confirmed.
func (all Confirmations) Of(c evaluator.Candidate) *Confirmation {
	key := c.Key()
	for _, confirmation := range all {
		if confirmation.Candidate.Key() == key {
			return confirmation
		}
	}
	return nil
}

// Confirmed reads the confirmations of a study that can be compared with each other: those under the conditions of the
// study file as it was last used or, if there are none, under those of the last full training.
func Confirmed(ctx context.Context, db *store.Store, r *store.Record) (Confirmations, error) {
	trainings, err := trainingsOf(ctx, db, r)
	if err != nil || len(trainings) == 0 {
		return nil, err
	}
	now := trainings[len(trainings)-1].Conditions
	if file, err := StudyFile(r); err == nil {
		c := conditions(file, evaluator.TrainingVersion)
		if slices.ContainsFunc(trainings, func(t store.Training) bool { return t.Conditions == c }) {
			now = c
		}
	}
	return under(now, trainings, r), nil
}

// Confirmed reads the confirmations under the present conditions, which are those that Confirm counts.
func (s *Study) Confirmed(ctx context.Context) (Confirmations, error) {
	trainings, err := trainingsOf(ctx, s.db, s.record)
	return under(conditions(s.config, evaluator.TrainingVersion), trainings, s.record), err
}

// conditions are what the result of a full training depends on beside its candidate, its seed, and what the whole study
// has in common.
func conditions(file *config.Config, version int) string {
	full := file.Budget.Train
	text := fmt.Sprintf("epochs %g, patience %d", full.Epochs, full.Patience)
	if file.Builtin() {
		text += fmt.Sprintf(", training %d", version)
	}
	return text
}

// trainingsOf reads full trainings. Those that do not say their conditions had the study file at the start.
func trainingsOf(ctx context.Context, db *store.Store, r *store.Record) ([]store.Training, error) {
	trainings, err := db.Trainings(ctx, r)
	if err != nil {
		return nil, err
	}
	first := ""
	if file, err := config.Parse(r.Path, []byte(r.First)); err == nil {
		first = conditions(file, 1)
	}
	for i := range trainings {
		trainings[i].Conditions = cmp.Or(trainings[i].Conditions, first)
	}
	return trainings, nil
}

func under(conditions string, trainings []store.Training, r *store.Record) (all Confirmations) {
	for _, t := range trainings {
		if t.Conditions == conditions {
			all.add(t, r)
		}
	}
	return all
}

func (all *Confirmations) add(t store.Training, r *store.Record) {
	c := t.Candidate
	confirmation := all.Of(c)
	if confirmation == nil {
		confirmation = &Confirmation{Candidate: c, Params: c.Plan.Params(r.Geometry).Total()}
		if c.Training.Backbone {
			confirmation.Params += r.Geometry.BackboneParams
		}
		*all = append(*all, confirmation)
	}
	confirmation.Trainings = append(confirmation.Trainings, t)
	slices.SortFunc(confirmation.Trainings, func(a, b store.Training) int { return cmp.Compare(a.Seed, b.Seed) })
	scores := make([]float64, len(confirmation.Trainings))
	for i, t := range confirmation.Trainings {
		scores[i] = t.Result.Test[r.Metric]
	}
	confirmation.Test = NewSample(scores)
}

// trainerDropout is that of the configurations of BERT and its kin, which Trainer leaves on.
const trainerDropout = 0.1

// FullFineTuning trains the head and every weight of the backbone as transformers' Trainer does: with dropout, with the
// head of transformers' class for the task, and without weight decay of biases and LayerNorms. The other settings are
// the study's own, but for the learning rate: one that suits small modules ruins a pretrained backbone.
func FullFineTuning(file *config.Config, inputs *config.Inputs, learningRate float64) evaluator.Candidate {
	c := evaluator.Candidate{Plan: peft.Plan{Layers: make([]peft.Layer, inputs.Geometry.Layers)},
		Training: inputs.Training}
	c.Training.Backbone, c.Training.LearningRate, c.Training.Dropout = true, learningRate, trainerDropout
	c.Training.Pooler = peft.HasPooler(inputs.Geometry, file.Task.Kind)
	return c
}

// FullFineTuning is that of the study's file.
func (s *Study) FullFineTuning(learningRate float64) evaluator.Candidate {
	return FullFineTuning(s.config, s.inputs, learningRate)
}

// ConfirmEvent tells a listener of Confirm what happened.
type ConfirmEvent struct {
	Kind        EventKind // started, progress, finished, failed or delayed
	Candidate   evaluator.Candidate
	Seed        uint64
	Progress    evaluator.Progress // of progress
	Score       float64            // of finished: on test, in the study's metric
	Failure     *evaluator.Failure // of failed
	Err         error              // of delayed
	Done, Total int                // trainings of this call and those that were there
}

// ConfirmOptions adjusts one call of Confirm.
type ConfirmOptions struct {
	// Events receives every event, one at a time, from the goroutines of the workers. It must return
	// quickly. Nil ignores them.
	Events func(ConfirmEvent)
	// Drain, when closed, lets running trainings end and starts no new ones. Nil never does.
	Drain <-chan struct{}
}

// ConfirmError says that trainings failed. Nothing of them is stored: the next call tries them again.
type ConfirmError struct {
	Failed, Total int
	First         *evaluator.Failure
}

func (e *ConfirmError) Error() string {
	return fmt.Sprintf("%d of %d trainings failed: %v", e.Failed, e.Total, e.First)
}

func (e *ConfirmError) Unwrap() error { return e.First }

// Confirm trains every candidate with the full budget on so many seeds and scores it on the test split.
// Trainings that are stored already, under the same conditions, are not repeated, so that a call that was
// interrupted, in whatever way, is continued by the same call. Errors: ctx.Err(), a *ConfirmError, ErrNoTestRows, an
// evaluator that cannot be opened, a database that cannot be written. Whatever the error, trainings that ended are
// stored.
func (s *Study) Confirm(ctx context.Context, open Open, candidates []evaluator.Candidate, seeds int,
	options ConfirmOptions) error {
	if s.inputs.Splits.Test.Rows == 0 {
		return ErrNoTestRows
	}
	stored, err := s.Confirmed(ctx)
	if err != nil {
		return err
	}
	c := &confirmer{Study: s, options: options, total: len(candidates) * seeds}
	c.queue = missing(stored, candidates, seeds)
	c.done = c.total - len(c.queue)
	trainings := &pool{workers: min(int(s.config.Evaluator.Workers), len(c.queue)), open: open, drain: options.Drain,
		next: c.next}
	err = trainings.run(ctx)
	switch {
	case err != nil:
		return err
	case ctx.Err() != nil:
		return ctx.Err()
	case c.failed > 0:
		return &ConfirmError{Failed: c.failed, Total: c.total, First: c.first}
	}
	return nil
}

// missing lists the trainings that are not stored, seed by seed, so that all candidates get on alike.
func missing(stored Confirmations, candidates []evaluator.Candidate, seeds int) []evaluator.Job {
	var jobs []evaluator.Job
	for i := range seeds {
		seed := uint64(firstSeed + i)
		for _, candidate := range candidates {
			known := stored.Of(candidate)
			if known != nil && slices.ContainsFunc(known.Trainings, func(t store.Training) bool { return t.Seed == seed }) {
				continue
			}
			jobs = append(jobs, evaluator.Job{Trial: int64(len(jobs)), Candidate: candidate, Seed: seed, Test: true})
		}
	}
	return jobs
}

// confirmer is one call of Confirm.
type confirmer struct {
	*Study
	options ConfirmOptions
	total   int

	mu     sync.Mutex // guards the rest, and calls of options.Events
	queue  []evaluator.Job
	done   int
	failed int
	first  *evaluator.Failure
}

// next takes a training from the queue.
func (c *confirmer) next(context.Context) (*training, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) == 0 {
		return nil, nil
	}
	job := c.queue[0]
	c.queue = c.queue[1:]
	return &training{
		do: func(ctx context.Context, eval evaluator.Evaluator) error { return c.train(ctx, eval, job) },
		loading: func(p evaluator.Progress) {
			c.emit(ConfirmEvent{Kind: EventProgress, Candidate: job.Candidate, Seed: job.Seed, Progress: p})
		},
		giveBack: func() error { return c.giveBack(job) },
	}, nil
}

// giveBack puts a training back into the queue.
func (c *confirmer) giveBack(job evaluator.Job) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queue = append([]evaluator.Job{job}, c.queue...)
	return nil
}

// train does one training and stores its result.
func (c *confirmer) train(ctx context.Context, eval evaluator.Evaluator, job evaluator.Job) error {
	event := ConfirmEvent{Kind: EventStarted, Candidate: job.Candidate, Seed: job.Seed}
	c.emit(event)
	job.Budget = c.config.FullBudget()
	result, err := eval.Evaluate(ctx, job, func(p evaluator.Progress) evaluator.Verdict {
		progress := event
		progress.Kind, progress.Progress = EventProgress, p
		c.emit(progress)
		return evaluator.Verdict{}
	})
	switch {
	case errors.As(err, &event.Failure):
		event.Kind = EventFailed
		c.emit(event)
		return nil
	case err != nil && ctx.Err() != nil:
		return nil
	case err != nil:
		return errors.Join(&brokenError{err}, c.giveBack(job))
	}
	score, ok := result.Test[c.record.Metric]
	if !ok || math.IsNaN(score) || math.IsInf(score, 0) {
		return fmt.Errorf("the evaluator gave no finite test score in %s", c.record.Metric)
	}
	// A result is stored even if the call is being cancelled.
	done := store.Training{Candidate: job.Candidate, Seed: job.Seed,
		Conditions: conditions(c.config, evaluator.TrainingVersion), Result: result}
	done.Result.Resampled = nil // it is the test score that counts
	if err := repeat(context.WithoutCancel(ctx), func(ctx context.Context) error {
		return c.db.AddTraining(ctx, c.record, done)
	},
		func(err error) {
			c.emit(ConfirmEvent{Kind: EventDelayed, Candidate: job.Candidate, Seed: job.Seed, Err: err})
		}); err != nil {
		return err
	}
	event.Kind, event.Score = EventFinished, score
	c.emit(event)
	return nil
}

// emit counts and sends an event.
func (c *confirmer) emit(e ConfirmEvent) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch e.Kind {
	case EventFinished:
		c.done++
	case EventFailed:
		c.failed++
		c.first = cmp.Or(c.first, e.Failure)
	}
	e.Done, e.Total = c.done, c.total
	if c.options.Events != nil {
		c.options.Events(e)
	}
}
