package train

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"peftsearch/data"
	"peftsearch/evaluator"
	"peftsearch/evaluator/model"
	"peftsearch/evaluator/torch"
	"peftsearch/peft"
)

// Control connects a running job with whoever asked for it. Both functions are called from the job's
// goroutine, at every step and at every rung; Stop also between the batches of all that takes long. Report may
// block at a rung until it is decided whether the job goes on.
type Control struct {
	Stop   func() (reason string, stop bool)
	Report func(evaluator.Progress)
}

const checkpointEvery = 60 * time.Second

// reportEvery is the time between reports of progress, but for rungs. Tests shorten it.
var reportEvery = 300 * time.Millisecond

// Train runs a job. Errors are *evaluator.Failure, and the session can run other jobs after them; or they wrap
// torch.ErrDevice, and the process must end.
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
	plans   []peft.Plan // of a map: those that the steps train; nil of other jobs
	rows    *split      // the training rows of the budget
	steps   int         // of the whole budget
	rungs   []int       // steps after which the dev split is scored, ascending

	epoch   int     // of batches
	batches [][]int // of one epoch; nil before the first step

	hidden    []*hiddenStates // those that are kept
	parts     int             // most parts of a batch
	gradients []*torch.Tensor // of the parts

	progress           // what a checkpoint holds beside the model's state
	best     []float32 // snapshot of the best rung, if it is needed at the end
	started  time.Time
	loss     float64 // sum over the terms since the last rung
	terms    int
}

// progress is where a run stands.
type progress struct {
	Step     int                `json:"step"`   // steps done
	Scored   int                `json:"scored"` // step of the last rung that was scored
	Score    float64            `json:"score"`
	BestStep int                `json:"best_step"` // 0 before the first rung
	Dev      map[string]float64 `json:"dev"`
	// Predictions are those for the dev rows at the best rung.
	Predictions [][]float64 `json:"predictions"`
	Stale       int         `json:"stale"` // rungs since the best
	Seconds     float64     `json:"seconds"`
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

// newRun makes a run before its first step; plans may share its weights. Its model must be closed.
func (s *Session) newRun(job evaluator.Job, control Control, shared ...peft.Plan) (*run, error) {
	if s.dataset == nil {
		return nil, errors.New("this session has no task to train on")
	}
	if err := checkJob(job); err != nil {
		return nil, err
	}
	r := &run{Session: s, job: job, control: control, started: time.Now()}
	var err error
	for _, plan := range append(slices.Clip(shared), job.Candidate.Plan) {
		if err := s.checkPrompt(plan); err != nil {
			return nil, err
		}
	}
	spec := model.Spec{Plan: job.Candidate.Plan, Task: s.hello.Task.Kind, Head: s.hello.Head,
		Outputs: s.dataset.Outputs(), Training: job.Candidate.Training, Seed: job.Seed, Shared: shared}
	if text := job.Candidate.Training.Methods.Prompt.Text; text != "" {
		spec.PromptText = s.tokenizer.Encode(s.backbone.MaxLength(), text).IDs
	}
	r.model, err = model.New(s.backbone, spec)
	if err != nil {
		return nil, err
	}
	r.plan()
	if job.From != "" {
		if err := r.begin(job.From); err != nil {
			r.model.Close()
			return nil, err
		}
	}
	r.parts = s.lanes.count()
	if job.Candidate.Training.Dropout > 0 { // its masks are those of whole batches
		r.parts = 1
	}
	for range splitBatch(r.next(), r.rows.lengths, r.parts) { // the first batch is a full one
		r.gradients = append(r.gradients, r.model.NewGradient())
	}
	return r, nil
}

// checkPrompt refuses a plan whose prompt leaves no room for the longest rows.
func (s *Session) checkPrompt(plan peft.Plan) error {
	prompt, _ := peft.Find[peft.Prompt](plan.Input)
	longest, limit := s.hello.Task.Longest(), s.backbone.MaxLength()
	if prompt.Normed || prompt.Length+longest <= limit {
		return nil
	}
	return &evaluator.Failure{Kind: evaluator.FailureInvalidPlan,
		Message: fmt.Sprintf("a prompt of %d and max_length %d: the model reads at most %d tokens", prompt.Length,
			longest, limit)}
}

// checkJob refuses what a study file cannot say, but another supervisor might.
func checkJob(job evaluator.Job) error {
	t, b := job.Candidate.Training, job.Budget
	switch {
	case !(t.LearningRate > 0) || math.IsInf(t.LearningRate, 0):
		return fmt.Errorf("learning rate %g: must be above 0", t.LearningRate)
	case t.Methods.Rates.Validate() != nil:
		return t.Methods.Rates.Validate()
	case !(t.Methods.LoRAPlus >= 0 && t.Methods.LoRAPlus <= 1e6):
		return fmt.Errorf("lora_plus %g: must be between 0 and 1e6", t.Methods.LoRAPlus)
	case t.Methods.Prompt.Validate() != nil:
		return t.Methods.Prompt.Validate()
	case t.Methods.AdapterDrop < 0:
		return fmt.Errorf("adapter_drop %d: at least 0", t.Methods.AdapterDrop)
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
		// A share such as 9/11 of 77 steps is 63, and a little more in floating point.
		r.rungs = append(r.rungs, max(1, int(math.Ceil(share*float64(r.steps)-1e-6))))
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

// prepare fills the cache for this plan. Dropout in the backbone changes what training reads, not what
// evaluation does.
func (r *run) prepare() (err error) {
	splits := []*split{r.rows, r.dev}
	if r.job.Test {
		splits = append(splits, r.test)
	}
	var wanted []*hiddenStates
	want := func(sp *split, at model.Frontier) {
		if at.Step > 0 && len(sp.lengths) > 0 && find(wanted, sp, at) == nil {
			wanted = append(wanted, r.cache.layout(sp, at))
		}
	}
	for _, sp := range splits {
		want(sp, r.model.Frontier(sp == r.rows))
	}
	least := len(wanted)
	for bare := range r.model.MostBare() {
		want(r.rows, r.model.BareFrontier(bare+1))
	}
	all := slices.Clone(wanted)
	tell := func(d evaluator.Doing) { r.control.Report(evaluator.Progress{Doing: d}) }
	r.hidden, err = r.cache.get(r.halted, tell, all...)
	if err == nil && r.hidden == nil && len(all) > least { // too much: steps with bare layers begin lower
		r.hidden, err = r.cache.get(r.halted, tell, wanted[:least]...)
	}
	return err
}

// find is the hidden states of a split at a frontier, nil if they are not there.
func find(all []*hiddenStates, sp *split, at model.Frontier) *hiddenStates {
	i := slices.IndexFunc(all, func(h *hiddenStates) bool { return h.split == sp && h.at == at })
	if i < 0 {
		return nil
	}
	return all[i]
}

// batch gathers training examples for a step, with the hidden states that it can begin with.
func (r *run) batch(scope *torch.Scope, examples []int) model.Batch {
	bare := r.model.Bare(r.Step)
	if hidden := find(r.hidden, r.rows, r.model.BareFrontier(bare)); hidden != nil {
		b := batch(scope, r.rows, examples, hidden)
		b.Bare = bare
		return b
	}
	return batch(scope, r.rows, examples, find(r.hidden, r.rows, r.model.Frontier(true)))
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
		r.epoch, r.batches = epoch, trainBatches(len(r.rows.lengths), r.job.Candidate.Training.BatchSize, r.job.Seed, epoch)
	}
	return r.batches[r.Step%perEpoch]
}

// update makes one optimiser step. Every example of an epoch has the same weight: the gradient of a batch
// that is not full counts as much less.
func (r *run) update(examples []int) error {
	parts := splitBatch(examples, r.rows.lengths, r.parts)
	sums, terms := make([]float64, len(parts)), make([]int, len(parts))
	if err := r.lanes.run(len(parts), func(part int) (err error) {
		sums[part], terms[part], err = r.backward(parts[part], r.gradients[part])
		return err
	}); err != nil {
		return err
	}
	scope := r.model.Scope()
	defer scope.Free()
	sum, count, gradient := sums[0], terms[0], r.gradients[0]
	for part := 1; part < len(parts); part++ {
		sum, count = sum+sums[part], count+terms[part]
		scope.AddTo(gradient, r.gradients[part])
	}
	full := min(r.job.Candidate.Training.BatchSize, len(r.rows.lengths))
	scope.ScaleTo(gradient, float64(len(examples))/float64(full)/float64(max(1, count)))
	norm := r.model.Update(scope, gradient, learningRate(r.job.Candidate.Training, r.Step, r.steps))
	r.loss, r.terms = r.loss+sum, r.terms+count
	r.Step++
	return cmp.Or(scope.Err(), r.finite("gradient's norm", norm))
}

// finite is a failure if a value is not.
func (r *run) finite(what string, value float64) error {
	if math.IsNaN(value) || math.IsInf(value, 0) {
		return &evaluator.Failure{Kind: evaluator.FailureDiverged,
			Message: fmt.Sprintf("the %s is %g at step %d: try a lower learning rate", what, value, r.Step)}
	}
	return nil
}

// backward computes the sum of the losses of some examples, of how many terms it is, and its gradient.
func (r *run) backward(examples []int, gradient *torch.Tensor) (sum float64, terms int, err error) {
	scope := r.model.Scope()
	defer scope.Free()
	var targets []float64
	for _, example := range examples {
		for _, target := range r.hello.Task.Wanted(r.rows.inputs[example], r.rows.examples[example].Target) {
			targets = append(targets, (target-r.rows.mean)/r.rows.scale)
		}
	}
	trained, err := r.stepModel(scope)
	if err != nil {
		return 0, 0, err
	}
	loss, terms := trained.Loss(scope, r.batch(scope, examples), targets, r.Step)
	sum = scope.Item(loss)
	if err := cmp.Or(scope.Err(), r.finite("loss", sum)); err != nil {
		return 0, 0, err
	}
	scope.CopyTo(gradient, r.model.Gradient(scope, loss))
	return sum, terms, scope.Err()
}

// report passes on progress with the mean loss since the last rung: reports between rungs come by the clock, and what
// is kept of a trial does not depend on it.
func (r *run) report(score *float64) {
	p := evaluator.Progress{Step: r.Step, Steps: r.steps, Score: score}
	if r.terms > 0 {
		p.Loss = r.loss / float64(r.terms)
	}
	if score != nil {
		r.loss, r.terms = 0, 0
	}
	r.control.Report(p)
}

// score evaluates the dev split at a rung and keeps the weights if they are the best so far. It returns
// the reason if it was stopped.
func (r *run) score() (stopped string, err error) {
	metrics, predictions, halted, err := r.evaluate(r.model, r.dev, 0)
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
		r.Score, r.BestStep, r.Dev, r.Predictions, r.Stale = score, r.Step, metrics, predictions, 0
		if r.keepsBest() {
			if r.best, err = r.model.Snapshot(); err != nil {
				return "", err
			}
		}
	}
	r.report(&score)
	return "", nil
}

// keepsBest reports whether the weights of the best rung are needed at the end.
func (r *run) keepsBest() bool { return r.job.Output != "" || r.job.Test }

// evaluate predicts the rows of a split with a model and scores that in every metric of the task's kind, with the
// lowest so many layers bare.
func (r *run) evaluate(m *model.Model, sp *split, bare int) (
	metrics map[string]float64, predictions [][]float64, stopped bool, err error) {
	outputs, stopped, err := r.outputs(m, sp, find(r.hidden, sp, m.Frontier(false)), bare, nil, r.halted)
	if err != nil || stopped {
		return nil, nil, stopped, err
	}
	predictions = make([][]float64, len(outputs))
	for i, row := range outputs {
		for j := range row { // errors are in the labels' units
			row[j] = row[j]*r.rows.scale + r.rows.mean
		}
		predictions[i] = r.hello.Task.Answer(sp.inputs[i], row, r.dataset.Labels)
	}
	if generation, asked := r.generation(sp); asked {
		texts, stopped, err := r.generate(r.model, sp, generation, bare, r.halted)
		if err != nil || stopped {
			return nil, nil, stopped, err
		}
		for i, text := range texts {
			predictions[i] = data.Written(predictions[i], text)
		}
	}
	return r.dataset.Scores(predictions, sp.examples), predictions, false, nil
}

// generation is how the texts of a split are written, if they are. A rung needs them for a metric of texts alone, and
// has them from a greedy search, so that it costs no more than it must; the test split has them as the task says.
func (r *run) generation(sp *split) (g data.Generation, asked bool) {
	task := r.hello.Task
	if !task.Kind.Writes() {
		return g, false
	}
	if sp == r.test {
		return task.Generation, true
	}
	return task.Generation.Greedy(), !task.Metric.OfTokens()
}

// finish makes the result, and leaves the trained directory of a job that was not interrupted. The weights
// are written before the test split is scored: nothing that happens there loses them, and a job that was
// interrupted there continues.
func (r *run) finish(stopped string) (evaluator.Result, error) {
	if r.BestStep == 0 {
		return evaluator.Result{}, fmt.Errorf("stopped before the first rung: %s", stopped)
	}
	result := evaluator.Result{Score: r.Score, BestStep: r.BestStep, Steps: r.Step, Dev: r.Dev,
		Resampled: r.resample(r.dev, r.Predictions), Head: r.model.HeadParams(), Stopped: stopped}
	if !r.halted() {
		if err := r.conclude(&result); err != nil {
			return evaluator.Result{}, err
		}
	}
	result.WallS = r.seconds()
	result.PeakB = torch.PeakRSS()
	return result, nil
}

// conclude restores the best weights, writes them and scores them on the test split, as the job wants.
func (r *run) conclude(result *evaluator.Result) error {
	if !r.keepsBest() {
		return nil
	}
	if err := r.model.Restore(r.best); err != nil {
		return err
	}
	if r.job.Output != "" {
		if err := r.write(); err != nil {
			return err
		}
	}
	var tested [][]float64 // predictions
	if r.job.Test && len(r.test.lengths) > 0 {
		for bare := range r.model.MostBare() + 1 {
			metrics, predictions, halted, err := r.evaluate(r.model, r.test, bare)
			if err != nil {
				return err
			}
			if halted {
				return r.save()
			}
			if bare == 0 {
				result.Test, tested = metrics, predictions
			} else {
				result.TestDropped = append(result.TestDropped, metrics[string(r.hello.Task.Metric)])
			}
		}
	}
	if r.job.Output != "" {
		return r.complete(*result, tested)
	}
	return nil
}

// seconds counts the time of the job, that before an interruption included.
func (r *run) seconds() float64 { return r.Seconds + time.Since(r.started).Seconds() }
