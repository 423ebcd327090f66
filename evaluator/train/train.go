package train

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"peftsearch/data"
	"peftsearch/evaluator"
	"peftsearch/evaluator/model"
	"peftsearch/evaluator/torch"
)

// Control connects a running job with whoever asked for it. Both functions are called from the job's
// goroutine, at every step and at every rung; Stop also between the batches of all that takes long. Report may
// block at a rung until it is decided whether the job goes on.
type Control struct {
	Stop   func() (reason string, stop bool)
	Report func(evaluator.Progress)
}

const (
	reportEvery     = 300 * time.Millisecond
	checkpointEvery = 60 * time.Second
)

// Train runs a job. Errors are *evaluator.Failure: the session can run other jobs after them.
func (s *Session) Train(job evaluator.Job, control Control) (evaluator.Result, error) {
	result, err := s.runJob(job, control)
	return result, asFailure(err)
}

// run is one job in progress.
type run struct {
	*Session
	job     evaluator.Job
	control Control
	model   *model.Model
	outputs int
	rows    *split // the training rows of the budget
	steps   int    // of the whole budget
	rungs   []int  // steps after which the dev split is scored, ascending

	epoch   int     // of batches
	batches [][]int // of one epoch; nil before the first step

	trainHidden, devHidden *hiddenStates   // nil without cache
	gradients              []*torch.Tensor // of the parts of a batch

	progress           // what a checkpoint holds beside the model's state
	best     []float32 // snapshot of the best rung, if it is needed at the end
	started  time.Time
	loss     float64 // sum over the steps since the last report
	losses   int
}

// progress is where a run stands.
type progress struct {
	Step     int                `json:"step"`   // steps done
	Scored   int                `json:"scored"` // step of the last rung that was scored
	Score    float64            `json:"score"`
	BestStep int                `json:"best_step"` // 0 before the first rung
	Dev      map[string]float64 `json:"dev"`
	Stale    int                `json:"stale"` // rungs since the best
	Seconds  float64            `json:"seconds"`
}

func (s *Session) runJob(job evaluator.Job, control Control) (evaluator.Result, error) {
	r, err := s.newRun(job, control)
	if err != nil {
		return evaluator.Result{}, err
	}
	defer r.model.Close()
	if job.Output != "" {
		if err := r.restore(); err != nil {
			return evaluator.Result{}, err
		}
	}
	stopped, err := r.fit()
	if err != nil {
		return evaluator.Result{}, err
	}
	return r.finish(stopped)
}

// newRun makes a run before its first step; its model must be closed.
func (s *Session) newRun(job evaluator.Job, control Control) (*run, error) {
	if s.dataset == nil {
		return nil, errors.New("this session has no task to train on")
	}
	if err := checkJob(job); err != nil {
		return nil, err
	}
	r := &run{Session: s, job: job, control: control, outputs: max(1, len(s.dataset.Labels)), started: time.Now()}
	var err error
	r.model, err = model.New(s.backbone, model.Spec{Plan: job.Candidate.Plan, Head: s.hello.Head, Outputs: r.outputs,
		Training: job.Candidate.Training, Seed: job.Seed})
	if err != nil {
		return nil, err
	}
	parts := splitBatch(make([]int, job.Candidate.Training.BatchSize), s.lanes.count())
	if job.Candidate.Training.Dropout > 0 { // its masks are those of whole batches
		parts = parts[:1]
	}
	for range parts {
		r.gradients = append(r.gradients, r.model.NewGradient())
	}
	r.plan()
	return r, nil
}

// checkJob refuses what a study file cannot say, but another supervisor might.
func checkJob(job evaluator.Job) error {
	t, b := job.Candidate.Training, job.Budget
	switch {
	case !(t.LearningRate > 0) || math.IsInf(t.LearningRate, 0):
		return fmt.Errorf("learning rate %g: must be above 0", t.LearningRate)
	case t.BatchSize < 1:
		return fmt.Errorf("batch size %d: at least 1", t.BatchSize)
	case !(t.WarmupRatio >= 0 && t.WarmupRatio <= 1):
		return fmt.Errorf("warm-up ratio %g: must be between 0 and 1", t.WarmupRatio)
	case !slices.Contains(evaluator.Schedules, t.Schedule):
		return fmt.Errorf("schedule %q: must be one of %v", t.Schedule, evaluator.Schedules)
	case !(b.Epochs > 0 && b.Epochs <= 1e6):
		return fmt.Errorf("epochs %g: must be above 0", b.Epochs)
	case len(b.Rungs) == 0 || b.Rungs[len(b.Rungs)-1] != 1 || b.Rungs[0] <= 0 || !slices.IsSorted(b.Rungs):
		return fmt.Errorf("rungs %v: must be ascending shares of the budget that end in 1", b.Rungs)
	}
	return nil
}

// plan lays out rows, steps and rungs.
func (r *run) plan() {
	r.rows = r.subset(r.job.Budget.TrainRows)
	r.steps = max(1, int(math.Round(r.job.Budget.Epochs*float64(r.epochSteps()))))
	for _, share := range r.job.Budget.Rungs {
		r.rungs = append(r.rungs, max(1, int(math.Ceil(share*float64(r.steps)))))
	}
}

func (r *run) epochSteps() int {
	size := r.job.Candidate.Training.BatchSize
	return (len(r.rows.lengths) + size - 1) / size
}

func (r *run) halted() bool {
	_, stop := r.control.Stop()
	return stop
}

// prepare fills the cache for this plan.
func (r *run) prepare() error {
	layer, fixed := r.model.Boundary()
	if !fixed || layer == 0 || !r.cache.fits(layer, r.rows, r.dev) {
		return nil
	}
	get := func(sp *split) (*hiddenStates, error) {
		return r.cache.get(sp, layer, func(examples []int) model.Batch { return r.batch(nil, sp, examples, nil) }, r.halted)
	}
	var err error
	if r.trainHidden, err = get(r.rows); err != nil || r.trainHidden == nil {
		return err
	}
	r.devHidden, err = get(r.dev)
	return err
}

// fit does the steps that are left; stopped is the reason for which it ended early.
func (r *run) fit() (stopped string, err error) {
	if err := r.prepare(); err != nil {
		return "", err
	}
	reported, saved := time.Now(), time.Now()
	for {
		if r.Scored < r.Step && slices.Contains(r.rungs, r.Step) {
			reason, err := r.score()
			if err != nil {
				return "", err
			}
			if reason != "" {
				return reason, r.save()
			}
			if p := r.job.Budget.Patience; p > 0 && r.Stale >= p && r.Step < r.steps {
				return "", nil
			}
			saved = time.Time{}
		}
		if r.Step == r.steps {
			return "", nil
		}
		if time.Since(saved) > checkpointEvery {
			saved = time.Now()
			if err := r.save(); err != nil {
				return "", err
			}
		}
		if reason, stop := r.control.Stop(); stop {
			return reason, r.save()
		}
		if err := r.update(r.next()); err != nil {
			return "", err
		}
		if time.Since(reported) > reportEvery && !slices.Contains(r.rungs, r.Step) {
			reported = time.Now()
			r.report(nil)
		}
	}
}

// next is the examples of the next step.
func (r *run) next() []int {
	perEpoch := r.epochSteps()
	if epoch := r.Step / perEpoch; r.batches == nil || epoch != r.epoch {
		r.epoch, r.batches = epoch, trainBatches(r.rows.lengths, r.job.Candidate.Training.BatchSize, r.job.Seed, epoch)
	}
	return r.batches[r.Step%perEpoch]
}

// update makes one optimiser step.
func (r *run) update(examples []int) error {
	parts := splitBatch(examples, len(r.gradients))
	losses := make([]float64, len(parts))
	if err := r.lanes.run(len(parts), func(part int) (err error) {
		losses[part], err = r.backward(parts[part], float64(len(parts[part]))/float64(len(examples)), r.gradients[part])
		return err
	}); err != nil {
		return err
	}
	scope := r.model.Scope()
	defer scope.Free()
	value, gradient := losses[0], r.gradients[0]
	for part := 1; part < len(parts); part++ {
		value += losses[part]
		scope.AddTo(gradient, r.gradients[part])
	}
	r.model.Update(scope, gradient, learningRate(r.job.Candidate.Training, r.Step, r.steps))
	r.loss, r.losses = r.loss+value, r.losses+1
	r.Step++
	return scope.Err()
}

// backward computes the loss of some examples and its gradient, both times share.
func (r *run) backward(examples []int, share float64, gradient *torch.Tensor) (value float64, err error) {
	scope := r.model.Scope()
	defer scope.Free()
	labels := make([]float64, len(examples))
	for i, example := range examples {
		labels[i] = (r.rows.labels[example] - r.mean) / r.scale
	}
	loss := r.model.Loss(scope, r.batch(scope, r.rows, examples, r.trainHidden), labels, r.Step)
	if share != 1 {
		loss = scope.Scale(loss, share)
	}
	value = scope.Item(loss)
	if scope.Err() == nil && (math.IsNaN(value) || math.IsInf(value, 0)) {
		return 0, &evaluator.Failure{Kind: evaluator.FailureDiverged, Message: fmt.Sprintf("the loss is %g at step %d: try a lower learning rate", value, r.Step+1)}
	}
	scope.CopyTo(gradient, r.model.Gradient(scope, loss))
	return value, scope.Err()
}

// report passes on progress with the mean loss since the last report.
func (r *run) report(score *float64) {
	p := evaluator.Progress{Step: r.Step, Steps: r.steps, Score: score}
	if r.losses > 0 {
		p.Loss = r.loss / float64(r.losses)
	}
	r.loss, r.losses = 0, 0
	r.control.Report(p)
}

// score evaluates the dev split at a rung and keeps the weights if they are the best so far. It returns
// the reason if it was stopped.
func (r *run) score() (stopped string, err error) {
	metrics, halted, err := r.evaluate(r.dev, r.devHidden)
	if err != nil {
		return "", err
	}
	if halted { // a continued job scores the rung first
		reason, _ := r.control.Stop()
		return reason, nil
	}
	r.Scored = r.Step
	score := metrics[string(r.hello.Task.Metric)]
	r.Stale++
	if r.BestStep == 0 || score > r.Score {
		r.Score, r.BestStep, r.Dev, r.Stale = score, r.Step, metrics, 0
		if r.job.Output != "" || r.job.Test {
			if r.best, err = r.model.Snapshot(); err != nil {
				return "", err
			}
		}
	}
	r.report(&score)
	return "", nil
}

// evaluate scores a split in every metric of the task's kind.
func (r *run) evaluate(sp *split, hidden *hiddenStates) (metrics map[string]float64, stopped bool, err error) {
	rows, stopped, err := r.logits(r.model, sp, r.outputs, hidden, r.halted)
	if err != nil || stopped {
		return nil, stopped, err
	}
	predictions := make([]float64, len(rows))
	for i, row := range rows {
		if r.hello.Task.Kind == data.KindRegression {
			predictions[i] = row[0]
		} else {
			predictions[i] = float64(argmax(row))
		}
	}
	return r.dataset.Scores(predictions, sp.labels), false, nil
}

// finish makes the result, and writes the trained directory of a job that was not interrupted.
func (r *run) finish(stopped string) (evaluator.Result, error) {
	if r.BestStep == 0 {
		return evaluator.Result{}, fmt.Errorf("stopped before the first rung: %s", stopped)
	}
	result := evaluator.Result{Score: r.Score, BestStep: r.BestStep, Steps: r.Step, Dev: r.Dev,
		Head: r.model.HeadParams(), Stopped: stopped}
	if !r.halted() && (r.job.Output != "" || r.job.Test) {
		if err := r.model.Restore(r.best); err != nil {
			return evaluator.Result{}, err
		}
		if r.job.Test {
			metrics, halted, err := r.evaluate(r.test, nil)
			if err != nil || halted {
				return result, err
			}
			result.Test = metrics
		}
		if r.job.Output != "" {
			if err := r.write(result.Test); err != nil {
				return evaluator.Result{}, err
			}
		}
	}
	result.WallS = r.seconds()
	result.PeakB = torch.PeakRSS()
	return result, nil
}

// seconds counts the time of the job, that before an interruption included.
func (r *run) seconds() float64 { return r.Seconds + time.Since(r.started).Seconds() }
