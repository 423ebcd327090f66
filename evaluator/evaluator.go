// Package evaluator scores candidates: it says what one trial is given and what it returns, and runs
// trials in a separate worker process ([Process]) or on an analytic surface ([Analytic]).
//
// The words: a [Candidate] is a plan with its training settings; a [Job] is one trial's work; a rung
// is an intermediate dev evaluation; a [Verdict] may stop the trial there.
package evaluator

import (
	"context"
	"errors"
	"fmt"
	"math"

	"peftsearch/data/metric"
	"peftsearch/peft"
)

// Candidate is everything about a trial that the search may choose.
type Candidate struct {
	Plan     peft.Plan `json:"plan"`
	Training Training  `json:"training"`
}

// Key is equal for two candidates exactly if they are the same.
func (c Candidate) Key() string {
	t := c.Training
	key := fmt.Sprintf("%s {LearningRate:%v Schedule:%v WarmupRatio:%v WeightDecay:%v BatchSize:%v MaxGradNorm:%v "+
		"PrefixMLP:%v Dropout:%v Backbone:%v}", c.Plan.Key(), t.LearningRate, t.Schedule, t.WarmupRatio, t.WeightDecay,
		t.BatchSize, t.MaxGradNorm, t.PrefixMLP, t.Dropout, t.Backbone)
	if t.Pooler {
		key += " {Pooler}"
	}
	return key + t.Methods.key()
}

// Schedule names how the learning rate falls after the warm-up.
type Schedule string

// The schedules, as transformers defines them.
const (
	ScheduleLinear   Schedule = "linear"   // to 0 at the last step
	ScheduleCosine   Schedule = "cosine"   // half a cosine wave to 0
	ScheduleConstant Schedule = "constant" // stays
)

// Schedules lists the schedules.
var Schedules = []Schedule{ScheduleLinear, ScheduleCosine, ScheduleConstant}

// TrainingVersion counts how often the same job has come to get other scores from peftsearch-worker on purpose.
// Version 1 had batches of rows of alike length.
const TrainingVersion = 2

// Training is how a plan is trained: AdamW with decoupled weight decay (β 0.9, 0.999, ε 1e-8).
type Training struct {
	LearningRate float64  `json:"learning_rate"` // peak, above 0
	Schedule     Schedule `json:"schedule"`
	WarmupRatio  float64  `json:"warmup_ratio"` // share of the steps with a rising rate, 0 to 1
	// WeightDecay is at least 0, and falls on what transformers' Trainer lets it fall on (get_decay_parameter_names of
	// 4.57.6): all but biases and LayerNorms, so on DoRA's magnitudes, VeRA's and IA3's vectors and learned scales too.
	WeightDecay float64 `json:"weight_decay"`
	BatchSize   int     `json:"batch_size"`    // examples per step, at least 1
	MaxGradNorm float64 `json:"max_grad_norm"` // gradients are scaled down to this norm; 0 means never
	// PrefixMLP is the width of the MLP that generates all prefixes in training (Li & Liang 2021); 0
	// trains them directly.
	PrefixMLP int `json:"prefix_mlp"`
	// Dropout is the dropout probability inside the backbone, and in the head if Backbone is set; 0 turns it off.
	Dropout float64 `json:"dropout"`
	// Backbone trains every weight of the backbone too: full fine-tuning, a baseline.
	Backbone bool `json:"backbone"`
	// Pooler makes the head dense, whatever the study's is, as transformers' class for the task has it: its first layer
	// begins as the checkpoint's pooler where that class has the pooler there.
	Pooler bool `json:"pooler,omitempty"`
	// Methods is what single methods are trained with.
	Methods MethodTraining `json:"methods,omitzero"`
}

// MethodTraining is how modules are trained, as far as methods differ in it. It is apart so that settings without it
// are stored, and compared, as before it existed.
type MethodTraining struct {
	// Rates are peak learning rates in place of Training.LearningRate, which the others have.
	Rates Rates `json:"rates,omitempty"`
	// LoRAPlus multiplies the rate of the second matrix of low-rank updates, B (Hayou et al. 2024, "LoRA+"); 0 is 1.
	LoRAPlus float64 `json:"lora_plus,omitempty"`
	// Prompt is how a prompt begins and is generated.
	Prompt PromptTraining `json:"prompt,omitzero"`
	// AdapterDrop leaves the modules of the lowest n layers out in every step, with n drawn evenly from 0 to it
	// (Rücklé et al. 2021, "AdapterDrop"), so that they can be left out of what was trained too. Modules that are
	// left out have gradients of 0.
	AdapterDrop int `json:"adapter_drop,omitempty"`
}

// key is empty without settings, and keys of stored candidates stay what they were.
func (m MethodTraining) key() (key string) {
	if m.Rates != "" || m.LoRAPlus != 0 {
		key = fmt.Sprintf(" {Rates:%s LoRAPlus:%v}", m.Rates, m.LoRAPlus)
	}
	if m.Prompt != (PromptTraining{}) {
		p := m.Prompt
		key += fmt.Sprintf(" {Prompt:%q %q %q %d}", p.Init, p.Text, p.Encoder, p.Width)
	}
	if m.AdapterDrop > 0 {
		key += fmt.Sprintf(" {AdapterDrop:%d}", m.AdapterDrop)
	}
	return key
}

// PromptTraining is how a prompt is trained.
type PromptTraining struct {
	Init PromptInit `json:"init,omitempty"`
	Text string     `json:"text,omitempty"` // of PromptText
	// Encoder generates the prompt in training (Liu et al. 2021, "P-tuning") from embeddings that begin as N(0, 1),
	// whatever Init is. It is not stored.
	Encoder PromptEncoder `json:"encoder,omitempty"`
	Width   int           `json:"width,omitempty"` // of the encoder's hidden layers; 0 is that of the backbone
}

// PromptInit names what a prompt begins as.
type PromptInit string

// The beginnings of prompts.
const (
	PromptRandom     PromptInit = ""           // N(0, 1), or U(±0.5) behind the LayerNorm: what PEFT and adapters do
	PromptVocabulary PromptInit = "vocabulary" // random rows of the word embeddings
	PromptText       PromptInit = "text"       // those of a text's tokens, again and again
)

// PromptEncoder names what generates a prompt in training.
type PromptEncoder string

// The encoders, those of PEFT.
const (
	PromptDirect PromptEncoder = ""     // nothing does
	PromptMLP    PromptEncoder = "mlp"  // three layers with ReLUs between them
	PromptLSTM   PromptEncoder = "lstm" // two layers in both directions, and two layers with a ReLU between them
)

// Validate reports settings that nothing can be trained with.
func (p PromptTraining) Validate() error {
	switch {
	case p.Init != PromptRandom && p.Init != PromptVocabulary && p.Init != PromptText:
		return fmt.Errorf("prompt init %q: must be %s or %s, or left out", p.Init, PromptVocabulary, PromptText)
	case (p.Init == PromptText) != (p.Text != ""):
		return errors.New("a prompt that begins as a text needs the text, and no other does")
	case p.Encoder != PromptDirect && p.Encoder != PromptMLP && p.Encoder != PromptLSTM:
		return fmt.Errorf("prompt encoder %q: must be %s or %s, or left out", p.Encoder, PromptMLP, PromptLSTM)
	case p.Width < 0 || p.Width > peft.MaxSize:
		return fmt.Errorf("prompt encoder width %d: must be between 0 and %d", p.Width, peft.MaxSize)
	}
	return nil
}

// Budget is the most training that one trial may use.
type Budget struct {
	Epochs    float64 `json:"epochs"`     // passes over the training rows, above 0; 0.5 is half of them
	TrainRows int     `json:"train_rows"` // a seeded subset of the training rows; 0 means all
	// Rungs are the dev evaluations, as ascending shares of the budget ending in 1.
	Rungs []float64 `json:"rungs"`
	// Patience ends training after so many rungs without a better dev score; 0 means never.
	Patience int `json:"patience"`
}

// Job is the work of one trial.
type Job struct {
	Trial     int64     `json:"trial"`
	Candidate Candidate `json:"candidate"`
	Seed      uint64    `json:"seed"` // below 2^53; fixes initialisation, batches and dropout
	Budget    Budget    `json:"budget"`
	// Output is a directory for the trained tensors of the best rung and, while training, for a
	// checkpoint from which an interrupted job with the same Output continues. Empty keeps nothing.
	Output string `json:"output,omitempty"`
	// From is a trained directory of the same plan and head that the job begins with, in place of fresh modules.
	From string `json:"from,omitempty"`
	// Test scores the best rung's weights on the test split too.
	Test bool `json:"test,omitempty"`
}

// Progress is reported at most a few times a second, and at every rung.
type Progress struct {
	Step  int     `json:"step"`
	Steps int     `json:"steps"` // of the whole budget
	Loss  float64 `json:"loss"`  // mean training loss since the last rung
	// Score is the dev score, at rungs only.
	Score *float64 `json:"score,omitempty"`
	Doing
}

// Doing is what a worker does beside steps, in a message of its own: what a job waits for. Its zero value is nothing.
type Doing struct {
	What string  `json:"doing,omitempty"`  // in a few words, such as tokenising
	Done int64   `json:"done,omitempty"`   // of Of, in whatever it counts
	Of   int64   `json:"of,omitempty"`     // 0 if it is not known how much there is
	Left float64 `json:"left_s,omitempty"` // seconds that the rest takes, as Process estimates; 0 if unknown
}

// Verdict answers a Progress. The zero value means go on.
type Verdict struct {
	Stop   bool
	Reason string // in words and numbers, stored with the trial; "stopped" if it is empty
}

// Resamples is the number of draws of the dev rows on which a result is scored too.
const Resamples = 128

// Result is the outcome of a trial that was trained to its end or stopped by a verdict.
type Result struct {
	Score    float64            `json:"score"`     // best dev score over the rungs, in the task's metric
	BestStep int                `json:"best_step"` // step of that rung
	Steps    int                `json:"steps"`     // steps done
	Dev      map[string]float64 `json:"dev"`       // every metric of the task kind at the best rung
	Test     map[string]float64 `json:"test,omitempty"`
	// TestDropped is the task's metric on the test split with the modules of the lowest 1, 2, … layers left out: as many
	// as MethodTraining.AdapterDrop says.
	TestDropped []float64 `json:"test_dropped,omitempty"`
	// Resampled is the score at the best rung on Resamples draws, with replacement, of as many dev rows, the same draws
	// for every job: what other dev rows would have changed. Empty where the worker does not tell.
	Resampled []float64 `json:"resampled,omitempty"`
	WallS     float64   `json:"wall_s"`     // seconds of training and evaluation
	PeakB     int64     `json:"peak_bytes"` // the worker's highest resident memory so far
	Head      int64     `json:"head_params"`
	// Stopped is the reason of the verdict that ended the job before its budget, or "" if none did. Patience
	// is part of the budget.
	Stopped string `json:"stopped,omitempty"`
}

// Bounds of what a result can say: no training takes 30 years, and sums of counts stay numbers.
const (
	maxSeconds = 1e9
	maxCount   = 1e15
	rounding   = 1e-6 // how far beside its range a score may be
)

// Check reports what no training that is scored in the metric can have as its result.
func (r Result) Check(m metric.Name) error {
	low, high := m.Range()
	switch {
	case !(r.Score >= low-rounding && r.Score <= high+rounding):
		return fmt.Errorf("the score %g is no %s: that is between %g and %g", r.Score, m, low, high)
	case r.Steps < 1 || r.BestStep < 1 || r.BestStep > r.Steps || r.Steps > maxCount:
		return fmt.Errorf("best_step %d of %d steps", r.BestStep, r.Steps)
	case r.WallS < 0 || r.PeakB < 0 || r.Head < 0:
		return errors.New("a number below 0")
	case !(r.WallS <= maxSeconds):
		return fmt.Errorf("wall_s %g: more than %g", r.WallS, float64(maxSeconds))
	case r.PeakB > maxCount || r.Head > maxCount:
		return fmt.Errorf("peak_bytes %d, head_params %d: more than %g", r.PeakB, r.Head, float64(maxCount))
	}
	return nil
}

// Rungs are a job's dev scores by step.
type Rungs map[int]float64

// Check reports that a result is not the best of the rungs.
func (rungs Rungs) Check(r Result) error {
	best, ok := rungs[r.BestStep]
	switch {
	case !ok:
		return fmt.Errorf("best_step %d is no rung", r.BestStep)
	case math.Abs(best-r.Score) > rounding:
		return fmt.Errorf("the score %g, and %g at the rung of best_step %d", r.Score, best, r.BestStep)
	}
	for step, score := range rungs {
		if score > best+rounding {
			return fmt.Errorf("best_step %d with the score %g, and %g at step %d", r.BestStep, best, score, step)
		}
	}
	return nil
}

// FailureKind says how a trial failed.
type FailureKind string

// The kinds of failure; all are outcomes of a trial, not of the search.
const (
	FailureDiverged    FailureKind = "diverged"      // a loss or score that is not finite
	FailureOutOfMemory FailureKind = "out_of_memory" // the allocator refused, or the kernel killed the worker
	FailureInvalidPlan FailureKind = "invalid_plan"  // does not fit the backbone
	FailureInternal    FailureKind = "internal"      // anything else the worker reports
	FailureCrashed     FailureKind = "crashed"       // the worker process ended
	FailureProtocol    FailureKind = "protocol"      // the worker was silent, or said what the protocol does not allow
)

// Failure is the error of one failed trial; the evaluator remains usable.
type Failure struct {
	Kind    FailureKind `json:"kind"`
	Message string      `json:"message"`
}

func (f *Failure) Error() string { return fmt.Sprintf("%s: %s", f.Kind, f.Message) }

// Evaluator scores jobs, one at a time.
//
// Evaluate blocks until the job ends. It calls report from the calling goroutine only, with every rung in the
// order of steps and with other progress in between, some of which only says what the job waits for ([Doing]) and
// needs no verdict. At a rung the job waits for report's verdict (but that of
// a worker which does not wait, see [RungsFree]), so report decides in the time of the training. The first
// verdict that stops counts: the job ends at the next step, and report is not called again but for rungs that a
// worker passes because it does not wait; at the last rung, when the job has ended, a stop changes nothing.
// Result.Stopped is not empty exactly if a verdict ended the job. Result.Score is the best of the rungs, which all
// were reported unless the job has an Output and so went on from a checkpoint.
//
// Three kinds of errors: a *[Failure] concerns this job alone, and the next one can succeed. When ctx is
// cancelled, Evaluate ends the job at the next step and returns ctx.Err(), unless the job is at its end; report
// is not called any more. Any other error, such as one that wraps [ErrWorker], means that the evaluator can
// score nothing for now.
//
// The same job gives the same Result (WallS and PeakB apart) on one machine. An Evaluator is used by one
// goroutine; run several for several jobs at once. Close ends it and releases everything; it may be called
// more than once.
type Evaluator interface {
	Evaluate(ctx context.Context, job Job, report func(Progress) Verdict) (Result, error)
	Close() error
}

// MapJob asks for a map: what many plans would score, by one training of weights that they share.
type MapJob struct {
	Trial    int64    `json:"trial"` // as of a Job
	Training Training `json:"training"`
	Seed     uint64   `json:"seed"`   // below 2^53
	Budget   Budget   `json:"budget"` // of the one training; of its rungs nothing is scored
	// Plans train the weights: a random one of them, with the part of the weights that is its own, in each step.
	Plans []peft.Plan `json:"plans"`
	// Score are scored with the weights, without any training of their own, on at most Rows of the dev rows.
	Score []peft.Plan `json:"score"`
	Rows  int         `json:"dev_rows"`
}

// MapResult is the outcome of a MapJob.
type MapResult struct {
	Scores []float64 `json:"scores"` // of MapJob.Score, in the task's metric
	Steps  int       `json:"steps"`
	WallS  float64   `json:"wall_s"`
	PeakB  int64     `json:"peak_bytes"`
}

// Mapper is an Evaluator that makes maps. Map reports what it does by [Doing] alone, and its errors are those of
// Evaluate; one that was cancelled begins anew when it is asked again. The same job gives the same scores.
type Mapper interface {
	Evaluator
	Map(ctx context.Context, job MapJob, report func(Progress)) (MapResult, error)
}
