package studies

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"peftsearch/evaluator"
	"peftsearch/peft"
	"peftsearch/search"
	"peftsearch/space"
	"peftsearch/studies/config"
	"peftsearch/studies/store"
)

// A map of shared weights is made before the first trial: one network has the modules of all plans at their largest,
// each step trains the part of it that is a random plan's, and then plans of all sizes are scored with it
// (docs/explain/shared-weights.md has the measurements behind the numbers).
const (
	mapRate   = 0.5  // of the rates that plans are trained with: modules that act alike add up
	mapPlans  = 256  // that train the weights, drawn uniformly: almost all of them are large
	mapScored = 64   // plans that are scored, spread evenly over the sizes
	mapRows   = 300  // of dev that they are scored on
	mapShare  = 0.25 // of the study's budget, at most

	fewDimensions = 10 // for which the training is as long as
	shortMap      = 3  // trials, and for more as
	longMap       = 6
	passesOfAStep = 2 // through the layers; scoring takes one
)

// mapLength is how many trials the training of the shared weights is as long as.
func (s *Study) mapLength() float64 {
	if len(s.inputs.Space.Dimensions()) <= fewDimensions {
		return shortMap
	}
	return longMap
}

// mapCost is what a map takes in trainings of trials: its own, and the rows that are read to score plans.
func (s *Study) mapCost() float64 {
	dev := s.inputs.Splits.Dev.Rows
	trained := passesOfAStep * float64(s.config.Budget.Epochs) * float64(s.config.TrainRows(s.inputs))
	trial := trained + float64(len(s.config.Budget.Rungs)*dev)
	return (s.mapLength()*trained + float64(mapScored*min(mapRows, dev))) / trial
}

// plannedMap reports why the study makes no map of shared weights; nil if it does.
func (s *Study) plannedMap() error {
	c, cost, budget := s.config, s.mapCost(), s.config.Trainings(s.inputs)
	switch {
	case !slices.Contains(learning, c.Search.Sampler):
		return fmt.Errorf("sampler %s learns from none, gp and auto do", c.Search.Sampler)
	case len(c.Space.LearningRate) > 0 || len(c.Space.Schedule) > 0:
		return errors.New("plans that are trained in several ways share no weights: space.learning_rate and " +
			"space.schedule exclude it")
	case c.Training.PrefixMLP > 0:
		return errors.New("one MLP for the prefixes of all layers is another one for each plan: training.prefix_mlp " +
			"excludes it")
	case cost > mapShare*budget:
		return fmt.Errorf("it would take %.1f of %.0f trainings, and may take a quarter", cost, budget)
	}
	return nil
}

// shareWeights makes the map of a study that is to have one, together with other processes, and learns from it.
func (r *runner) shareWeights(ctx context.Context) error {
	if r.config.Search.WarmStart != config.WarmStartShared || r.record.WarmStart != nil {
		return nil
	}
	if err := r.repeat(ctx, r.history.Sync); err != nil {
		return err
	}
	if _, begun := r.mapJob(); !begun {
		err := r.plannedMap()
		if err == nil && r.history.Outcomes() > 0 {
			err = errors.New("the study has trials")
		}
		if err != nil {
			r.emit(ctx, Event{Kind: EventUnmapped, Err: err})
			return nil
		}
	}
	if err := r.before(ctx, 1, func() bool { j, _ := r.mapJob(); return j.State.Finished() }, r.newMap); err != nil {
		return err
	}
	switch job, _ := r.mapJob(); job.State {
	case store.Failed:
		r.emit(ctx, Event{Kind: EventUnmapped, Err: job.Failure})
	case store.Complete:
		if err := r.repeat(ctx, func(ctx context.Context) error {
			stored, err := r.db.Study(ctx, r.record.Name)
			if err == nil {
				r.record.WarmStart = stored.WarmStart
			}
			return err
		}); err != nil {
			return err
		}
		if err := r.prepare(); err != nil {
			return err
		}
		r.emit(ctx, Event{Kind: EventMapped, Job: &job})
	}
	return nil
}

// mapJob is the job of the study's map, if it has been begun.
func (r *runner) mapJob() (job store.Job, begun bool) {
	jobs := r.history.Jobs()
	i := slices.IndexFunc(jobs, func(j store.Job) bool { return j.Kind == store.JobMap })
	if i < 0 {
		return job, false
	}
	return jobs[i], true
}

// newMap is the job of the map; the error is store.ErrNothing if somebody has made it.
func (r *runner) newMap() (*store.Job, error) {
	if _, begun := r.mapJob(); begun {
		return nil, store.ErrNothing
	}
	t := r.inputs.Training
	t.LearningRate *= mapRate
	if rates := t.Methods.Rates.Map(); len(rates) > 0 {
		for name := range rates {
			rates[name] *= mapRate
		}
		t.Methods.Rates = evaluator.NewRates(rates)
	}
	head := peft.Plan{Layers: make([]peft.Layer, r.inputs.Geometry.Layers)} // what all plans have
	return &store.Job{Kind: store.JobMap, Trial: -1, Candidate: evaluator.Candidate{Plan: head, Training: t},
		Seed: store.JobSeed(r.record.Seed, -1, 1), Share: r.mapCost()}, nil
}

// makeMap makes the study's map, and stores what it estimates.
func (r *runner) makeMap(ctx context.Context, eval evaluator.Evaluator, job store.Job, lease store.Lease,
	alive *alive) error {
	r.emit(ctx, Event{Kind: EventStarted, Job: &job})
	points, scored, trained, err := r.mapped(job.Seed)
	budget := r.config.TrialBudget()
	budget.Epochs, budget.Rungs, budget.Patience = budget.Epochs*r.mapLength(), []float64{1}, 0
	var result evaluator.MapResult
	switch mapper, ok := eval.(evaluator.Mapper); {
	case err != nil:
	case ok:
		result, err = mapper.Map(alive.ctx, evaluator.MapJob{Trial: firstJob + job.Number, Training: job.Candidate.Training,
			Seed: job.Seed, Budget: budget, Plans: trained, Score: scored, Rows: mapRows},
			func(p evaluator.Progress) { r.report(alive, Event{Job: &job}, p) })
	default:
		err = &evaluator.Failure{Kind: evaluator.FailureInternal, Message: "the evaluator makes no maps"}
	}
	estimates := &store.WarmStart{}
	for i, score := range result.Scores {
		estimates.Trials = append(estimates.Trials, store.WarmTrial{Point: points[i],
			Params: r.inputs.Space.Params(points[i]), Score: score})
	}
	done := job
	done.State = store.Complete
	done.Result = evaluator.Result{Steps: result.Steps, WallS: result.WallS, PeakB: result.PeakB}
	return r.conclude(ctx, lease, alive.stop(), err, Event{Job: &done}, func(ctx context.Context) error {
		return r.db.FinishMap(ctx, r.record, lease, done, estimates)
	})
}

// mapped are the points whose plans a map scores, these plans, and those that train its weights. They depend on the
// seed and the space alone.
func (s *Study) mapped(seed uint64) (points []space.Point, scored, trained []peft.Plan, err error) {
	sp := s.inputs.Space
	optimizer, err := search.NewOptimizer(sp, search.Options{Seed: seed, Sampler: "random",
		Reference: s.record.Reference})
	if err != nil {
		return nil, nil, nil, err
	}
	history, err := search.NewHistory(sp, nil)
	for number := int64(0); number < mapScored && err == nil; number++ {
		var suggestion search.Suggestion
		if suggestion, err = optimizer.Ask(history, number); err == nil {
			points = append(points, suggestion.Point)
			err = history.Set(search.Observation{Number: number, Point: suggestion.Point,
				Params: sp.Params(suggestion.Point)})
		}
	}
	if err != nil && !errors.Is(err, search.ErrExhausted) { // a small space has fewer plans
		return nil, nil, nil, err
	}
	plan := func(p space.Point) (peft.Plan, error) {
		candidate, err := sp.Candidate(p)
		return candidate.Plan, err
	}
	scored, trained = make([]peft.Plan, len(points)), make([]peft.Plan, mapPlans)
	for i := range scored {
		if scored[i], err = plan(points[i]); err != nil {
			return nil, nil, nil, err
		}
	}
	rng := rand.New(rand.NewPCG(seed, 0))
	for i := range trained {
		if trained[i], err = plan(uniform(sp, rng)); err != nil {
			return nil, nil, nil, err
		}
	}
	return points, scored, trained, nil
}

// uniform draws a point of the space: every level of every dimension alike, and lower ones of some dimensions where
// that is too large a plan.
func uniform(s *space.Space, rng *rand.Rand) space.Point {
	dimensions := s.Dimensions()
	p := make(space.Point, len(dimensions))
	for {
		for i, d := range dimensions {
			p[i] = rng.IntN(len(d.Levels))
		}
		for s.Params(p) > 0 {
			if s.Feasible(p) {
				return p
			}
			if i := rng.IntN(len(p)); p[i] > 0 {
				p[i] = rng.IntN(p[i])
			}
		}
	}
}
