package studies

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"peftsearch/peft"
	"peftsearch/studies/config"
	"peftsearch/studies/store"
)

// A calibration trains each method of the space alone, at a middle size in every layer, at three rates, and takes the
// top of the parabola through the three scores over the logarithm of the rate. Scores of all rates have one seed.
const (
	calibrationShare = 0.1  // of the study's budget, at most
	leastCalibration = 0.25 // share of a trial's budget that one of its trainings has at least
	ratesTried       = 3    // for each method
	rateStep         = 4.0  // from one to the next
	firstRate        = 2e-3
)

// ErrNotCalibrated says that a study has no learning rates yet.
var ErrNotCalibrated = errors.New("the study's learning rates are not calibrated yet")

// RateScore is a training of a calibration.
type RateScore struct {
	Method peft.Method
	Rate   float64
	Score  float64
	Failed bool // the training gave no score
}

// Calibration lists the trainings that have calibrated a study's rates, by method and rate.
func Calibration(ctx context.Context, db *store.Store, r *store.Record) ([]RateScore, error) {
	jobs, err := db.Jobs(ctx, r, 0)
	return rateScores(jobs), err
}

func rateScores(jobs []store.Job) (scores []RateScore) {
	for _, j := range jobs {
		if j.Kind == store.JobCalibration && j.State.Finished() {
			scores = append(scores, RateScore{Method: peft.Method(j.Method), Rate: j.Candidate.Training.LearningRate,
				Score: j.Result.Score, Failed: j.State == store.Failed})
		}
	}
	slices.SortFunc(scores, func(a, b RateScore) int {
		return cmp.Or(cmp.Compare(a.Method, b.Method), cmp.Compare(a.Rate, b.Rate))
	})
	return scores
}

// nextRate is the rate at which a method is trained after others, 0 for none: the first two, and then one beyond the
// better of them.
func nextRate(done []RateScore) float64 {
	switch len(done) {
	case 0:
		return firstRate
	case 1:
		if done[0].Failed {
			return firstRate / rateStep
		}
		return firstRate * rateStep
	case 2:
		low, high := done[0], done[1]
		if !high.Failed && (low.Failed || high.Score > low.Score) {
			return high.Rate * rateStep
		}
		return low.Rate / rateStep
	}
	return 0
}

// bestRate is the rate for a method, of ratesTried scores: where the parabola through them is highest, but within what
// was tried, and no farther from the best of it than half of a step. A training without a score is one at the chance
// level.
func bestRate(done []RateScore, chance float64) float64 {
	scores := make([]float64, len(done))
	best := 0
	for i, d := range done {
		if scores[i] = d.Score; d.Failed {
			scores[i] = chance
		}
		if scores[i] > scores[best] {
			best = i
		}
	}
	middle := len(done) / 2
	left, right := scores[middle]-scores[middle-1], scores[middle]-scores[middle+1]
	top := float64(best - middle) // steps from the middle
	if curvature := left + right; curvature > 0 {
		parabola := (left - right) / (2 * curvature)
		top = min(max(parabola, top-0.5, -1), top+0.5, 1)
	}
	return config.TwoDigits(done[middle].Rate * math.Pow(rateStep, top))
}

// plannedCalibration is how a study's rates are calibrated: which methods, with what share of a trial's budget for each
// training. The error says why they cannot be.
func (s *Study) plannedCalibration() (methods []peft.Method, share float64, err error) {
	for _, m := range s.inputs.Space.Methods() {
		if _, ok := s.inputs.Space.Alone(m); ok {
			methods = append(methods, m)
		}
	}
	trainings := ratesTried * len(methods)
	if trainings == 0 {
		return nil, 0, errors.New("no method fits in space.max_params alone")
	}
	budget := s.config.Trainings(s.inputs)
	share = min(1, calibrationShare*budget/float64(trainings))
	if share < leastCalibration {
		return nil, 0, fmt.Errorf("%.0f trainings are too few: a calibration takes a tenth of at least %d", budget,
			int(math.Ceil(leastCalibration*float64(trainings)/calibrationShare)))
	}
	return methods, share, nil
}

// calibrate finds the learning rates of a study that leaves them open, together with other processes that do, and makes
// them the study's. It does nothing for a study that has them.
func (r *runner) calibrate(ctx context.Context) error {
	if r.config.Training.LearningRate != config.AutoRate {
		return nil
	}
	methods, share, err := r.plannedCalibration()
	if err != nil {
		r.emit(ctx, Event{Kind: EventUncalibrated, Rate: config.AutoRate, Err: err})
		return r.repeat(ctx, r.rated)
	}
	c := &calibrator{runner: r, methods: methods, share: share}
	if err := r.before(ctx, min(r.workers, len(methods)), c.over, c.next); err != nil || ctx.Err() != nil ||
		r.draining() {
		return err
	}
	rates := map[string]float64{}
	for _, m := range methods {
		if done := c.done(m); len(done) == ratesTried {
			rates[string(m)] = bestRate(done, r.record.Reference.Chance)
		} else {
			return nil // the pool was drained
		}
	}
	if err := r.repeat(ctx, func(ctx context.Context) error {
		return r.settleRate(ctx, config.CalibratedRate(rates))
	}); err != nil {
		return err
	}
	r.emit(ctx, Event{Kind: EventCalibrated, Rate: r.config.Training.LearningRate})
	return nil
}

// settleRate makes rates those of the study, unless another process has settled them.
func (s *Study) settleRate(ctx context.Context, rate config.Rate) error {
	settled, err := s.db.Settle(ctx, s.record, rateKey, string(rate))
	if err != nil {
		return err
	}
	return s.learnWith(config.Rate(settled))
}

// rated makes sure that the study has rates: the standard one if it cannot be calibrated. The error is ErrNotCalibrated
// if it will be when it runs.
func (s *Study) rated(ctx context.Context) error {
	if s.config.Training.LearningRate != config.AutoRate {
		return nil
	}
	if _, _, err := s.plannedCalibration(); err == nil {
		return ErrNotCalibrated
	}
	return s.settleRate(ctx, config.NewRate(config.AutoRate.Default()))
}

// learnWith makes rates those with which plans are trained from now on.
func (s *Study) learnWith(rate config.Rate) error {
	s.config.Training.LearningRate = rate
	s.inputs = trainedAs(s.config, s.inputs)
	return s.prepare()
}

// calibrator is one call of calibrate.
type calibrator struct {
	*runner
	methods []peft.Method
	share   float64
}

// done lists the trainings of a method that have ended, by rate.
func (c *calibrator) done(m peft.Method) []RateScore {
	return slices.DeleteFunc(rateScores(c.history.Jobs()), func(s RateScore) bool { return s.Method != m })
}

// over reports whether all trainings have ended.
func (c *calibrator) over() bool {
	return !slices.ContainsFunc(c.methods, func(m peft.Method) bool { return len(c.done(m)) < ratesTried })
}

// next is the next training of a method of which none runs; the error is store.ErrNothing if there is none.
func (c *calibrator) next() (*store.Job, error) {
	jobs := c.history.Jobs()
	for _, m := range c.methods {
		if slices.ContainsFunc(jobs, func(j store.Job) bool { return j.Method == string(m) && !j.State.Finished() }) {
			continue
		}
		rate := nextRate(c.done(m))
		if rate == 0 {
			continue
		}
		point, _ := c.inputs.Space.Alone(m)
		candidate, err := c.inputs.Space.Candidate(point)
		candidate.Training.LearningRate = rate
		return &store.Job{Kind: store.JobCalibration, Trial: -1, Method: string(m), Candidate: candidate,
			Seed: store.JobSeed(c.record.Seed, -1, 0), Share: c.share}, err
	}
	return nil, store.ErrNothing
}

// calibrated finds a study of the database whose calibration holds for another: of the same model, training and budget,
// with about as many steps. It returns its rates, and its name.
func calibrated(ctx context.Context, db *store.Store, file *config.Config, inputs *config.Inputs,
	want store.Identity) (rate config.Rate, name string, err error) {
	if file.Training.LearningRate != config.AutoRate {
		return "", "", nil
	}
	records, err := db.Studies(ctx)
	if err != nil {
		return "", "", err
	}
	steps := float64(file.Budget.Epochs) * float64(file.TrainRows(inputs)) / float64(file.Training.BatchSize)
	for _, r := range slices.Backward(records) {
		if r.Name == file.Study || r.Identity[rateKey] == "" || !trainsAlike(r, want, "training.", "evaluator.", "budget.") {
			continue
		}
		jobs, err := db.Jobs(ctx, r, 0)
		if err != nil {
			return "", "", err
		}
		for _, j := range jobs {
			ratio := float64(j.Result.Steps) / j.Share / steps
			if j.Kind == store.JobCalibration && j.State == store.Complete && ratio > 0.5 && ratio < 2 {
				return config.Rate(r.Identity[rateKey]), r.Name, nil
			}
		}
	}
	return "", "", nil
}
