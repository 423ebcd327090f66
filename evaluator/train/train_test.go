package train

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"gonum.org/v1/gonum/stat"

	"peftsearch/data"
	"peftsearch/data/checkpoint"
	"peftsearch/data/metric"
	"peftsearch/evaluator"
	"peftsearch/evaluator/torch"
	"peftsearch/peft"
)

const root = "../.."

// openTiny opens a session of a real two-layer BERT on STS-B.
func openTiny(t *testing.T, cacheMemory int64) *Session {
	t.Helper()
	model := filepath.Join(root, "models", "bert-tiny")
	if _, err := os.Stat(model); err != nil {
		t.Skip("models/bert-tiny is not there: make models/bert-tiny fetches it")
	}
	stsb := filepath.Join(root, "examples", "data", "stsb")
	s, err := Open(evaluator.Hello{Model: model, Head: evaluator.HeadDense,
		Task: data.Task{Kind: data.KindRegression, Metric: metric.Spearman, MaxLength: 64,
			Train: filepath.Join(stsb, "train.tsv"), Dev: filepath.Join(stsb, "dev.tsv"), Test: filepath.Join(stsb, "test.tsv"),
			Columns: data.Columns{Text: "sentence1", TextPair: "sentence2", Label: "score"}},
		Settings: evaluator.Settings{Device: "cpu", Precision: "float32", Threads: 1, CacheMemory: cacheMemory}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func upperLayer() evaluator.Job {
	return evaluator.Job{Trial: 1, Seed: 3,
		Candidate: evaluator.Candidate{
			Plan: peft.Plan{Layers: []peft.Layer{{}, {peft.Serial{Width: 16}, peft.Prefix{Length: 3}}}},
			Training: evaluator.Training{LearningRate: 2e-3, Schedule: evaluator.ScheduleLinear, WarmupRatio: 0.1,
				BatchSize: 32, MaxGradNorm: 1}},
		Budget: evaluator.Budget{Epochs: 1, TrainRows: 1600, Rungs: []float64{0.5, 1}}}
}

func free() Control {
	return Control{Stop: func() (string, bool) { return "", false }, Report: func(evaluator.Progress) {}}
}

func TestTrainingLearns(t *testing.T) {
	s := openTiny(t, 0)
	job := upperLayer()
	for i := range job.Candidate.Plan.Layers {
		job.Candidate.Plan.Layers[i] = peft.Layer{peft.Serial{Width: 32}, peft.LoRA{Rank: 8, Alpha: 8, Targets: peft.Targets}}
	}
	job.Budget = evaluator.Budget{Epochs: 3, Rungs: []float64{0.05, 1}}
	var scores []float64
	control := free()
	control.Report = func(p evaluator.Progress) {
		if p.Score != nil {
			scores = append(scores, *p.Score)
		}
	}
	result, err := s.Train(job, control)
	if err != nil {
		t.Fatal(err)
	}
	if len(scores) != 2 || scores[1] < scores[0]+0.1 || result.Score < 0.35 {
		t.Errorf("dev Spearman went %v", scores)
	}
	if rae := result.Dev[string(metric.NegRAE)]; !(rae > -1 && rae < -0.5) { // a constant has -1
		t.Errorf("the relative absolute error is %g: predictions are not in the labels' units", -rae)
	}
	mean, sd := stat.MeanStdDev(result.Resampled, nil)
	if len(result.Resampled) != evaluator.Resamples || math.Abs(mean-result.Score) > 0.02 || !(sd > 0.01 && sd < 0.1) {
		t.Errorf("on %d resamples of the dev rows the score %g is %g ± %g", len(result.Resampled), result.Score, mean, sd)
	}
}

// What is kept of a trial does not depend on the clock, by which progress is reported.
func TestRungsSayTheSameHoweverOftenProgressIsReported(t *testing.T) {
	s := openTiny(t, 0)
	job := upperLayer()
	job.Budget = evaluator.Budget{Epochs: 0.1, Rungs: []float64{0.5, 1}}
	usual := reportEvery
	defer func() { reportEvery = usual }()
	var losses [2][]float64
	var reports [2]int
	for i, every := range []time.Duration{0, time.Hour} {
		reportEvery = every
		control := free()
		control.Report = func(p evaluator.Progress) {
			if reports[i]++; p.Score != nil {
				losses[i] = append(losses[i], p.Loss)
			}
		}
		if _, err := s.Train(job, control); err != nil {
			t.Fatal(err)
		}
	}
	if reports[0] <= reports[1] || len(losses[0]) != 2 || !slices.Equal(losses[0], losses[1]) {
		t.Errorf("losses %v of %v reports", losses, reports)
	}
}

func TestCachedAndUncachedTrainingAgree(t *testing.T) {
	cached, uncached := openSmall(t, 1<<30), openSmall(t, 0)
	job := smallJob()
	with, err := cached.Train(job, free())
	if err != nil {
		t.Fatal(err)
	}
	if len(cached.cache.entries) != 2 || len(uncached.cache.entries) != 0 {
		t.Fatalf("%d and %d cache entries", len(cached.cache.entries), len(uncached.cache.entries))
	}
	without, err := uncached.Train(job, free())
	if err != nil {
		t.Fatal(err)
	}
	if math.Abs(with.Score-without.Score) > 1e-4 {
		t.Errorf("%g with cache, %g without", with.Score, without.Score)
	}
	again, err := cached.Train(job, free())
	if err != nil || again.Score != with.Score {
		t.Errorf("%g from the filled cache, %g when filling it (%v)", again.Score, with.Score, err)
	}
	job.Candidate.Plan = peft.Plan{Layers: make([]peft.Layer, 2)} // head only: above the last block
	if _, err := cached.Train(job, free()); err != nil {
		t.Error(err)
	}
}

// With dropout in the backbone training has nothing to cache, but evaluation has.
func TestEvaluationIsCachedWithDropout(t *testing.T) {
	cached, uncached := openSmall(t, 1<<30), openSmall(t, 0)
	job := smallJob()
	job.Candidate.Training.Dropout = 0.1
	with, without := score(t, cached, job), score(t, uncached, job)
	if math.Abs(with-without) > 1e-4 {
		t.Errorf("%g with cache, %g without", with, without)
	}
	if len(cached.cache.entries) != 1 || cached.cache.entries[0].split != cached.dev {
		t.Errorf("%d cache entries, want that of the dev split", len(cached.cache.entries))
	}
}

func TestInterruptedTrainingEndsAsUninterrupted(t *testing.T) {
	s := openTiny(t, 0)
	job := upperLayer()
	job.Test = true
	job.Candidate.Training.Dropout = 0.1
	job.Candidate.Plan.Layers[0], job.Candidate.Training.Methods.AdapterDrop = peft.Layer{peft.Serial{Width: 4}}, 1
	job.Budget = evaluator.Budget{Epochs: 2, TrainRows: 640, Rungs: []float64{0.25, 0.5, 1}}
	job.Output = filepath.Join(t.TempDir(), "whole")
	whole, err := s.Train(job, free())
	if err != nil {
		t.Fatal(err)
	}
	want, err := peft.ReadTrained(job.Output)
	if err != nil {
		t.Fatal(err)
	}

	job.Output = filepath.Join(t.TempDir(), "parts")
	for stopAt := range []int{0, 1, 2} { // steps after the start of each part
		control, steps := free(), 0
		control.Stop = func() (string, bool) {
			steps++
			return "interrupted", steps > 12+stopAt
		}
		s.Train(job, control) // ends with an error before the first rung, with a result after it
	}
	resumed, err := s.Train(job, free())
	if err != nil {
		t.Fatal(err)
	}
	got, err := peft.ReadTrained(job.Output)
	if err != nil {
		t.Fatal(err)
	}
	resumed.WallS, resumed.PeakB, whole.WallS, whole.PeakB = 0, 0, 0, 0
	if diff := cmp.Diff(whole, resumed); diff != "" {
		t.Errorf("results differ (-whole +parts):\n%s", diff)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error("the trained tensors differ")
	}
	if _, err := os.Stat(filepath.Join(job.Output, peft.CheckpointFile)); err == nil {
		t.Error("a finished job leaves its checkpoint")
	}
}

// interrupted trains a job up to its first rung, where it leaves a checkpoint.
func interrupted(t *testing.T, s *Session, job evaluator.Job) {
	t.Helper()
	control, scored := free(), false
	control.Report = func(p evaluator.Progress) { scored = scored || p.Score != nil }
	control.Stop = func() (string, bool) { return "interrupted", scored }
	if _, err := s.Train(job, control); err != nil {
		t.Fatal(err)
	}
}

func TestACheckpointOfAnotherJobIsRefused(t *testing.T) {
	s := openTiny(t, 0)
	job := upperLayer()
	job.Output = t.TempDir()
	interrupted(t, s, job)
	s.ready.Precision = "bfloat16"
	if _, err := s.Train(job, free()); err == nil || !strings.Contains(err.Error(), "was trained in float32") {
		t.Errorf("another precision continues the checkpoint: %v", err)
	}
	s.ready.Precision = "float32"
	job.Seed++
	if _, err := s.Train(job, free()); err == nil {
		t.Error("another seed continues the checkpoint")
	}
}

func TestDamagedCheckpointsAreRefused(t *testing.T) {
	s := openTiny(t, 0)
	job := upperLayer()
	job.Output = t.TempDir()
	interrupted(t, s, job)
	path := filepath.Join(job.Output, peft.CheckpointFile)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	type tensors = map[string]checkpoint.Tensor
	type metadata = map[string]string
	for name, damage := range map[string]func(tensors, metadata){
		"no parameters":       func(ts tensors, _ metadata) { delete(ts, "parameters") },
		"no best":             func(ts tensors, _ metadata) { delete(ts, "best") },
		"short moments":       func(ts tensors, _ metadata) { ts["m"] = checkpoint.NewTensor([]float32{1}, 1) },
		"NaN":                 func(ts tensors, _ metadata) { ts["v"].Data[3], ts["v"].Data[2] = 0x7f, 0xc0 },
		"no progress":         func(_ tensors, m metadata) { delete(m, "progress") },
		"progress is no JSON": func(_ tensors, m metadata) { m["progress"] = "{" },
		"optimiser ahead":     func(_ tensors, m metadata) { m["optimizer_step"] = "1000000" },
		"no optimiser step":   func(_ tensors, m metadata) { m["optimizer_step"] = "x" },
		"behind the end":      func(_ tensors, m metadata) { m["progress"] = `{"step":51}`; m["optimizer_step"] = "51" },
		"before the start":    func(_ tensors, m metadata) { m["progress"] = `{"step":-1}`; m["optimizer_step"] = "-1" },
		"best without a rung": func(_ tensors,
			m metadata) {
			m["progress"] = `{"step":25,"best_step":25}`
			m["optimizer_step"] = "25"
		},
	} {
		ts, m, err := checkpoint.ReadSafetensors(path, nil)
		if err != nil {
			t.Fatal(err)
		}
		damage(ts, m)
		r, err := s.newRun(job, free())
		if err != nil {
			t.Fatal(err)
		}
		if err := r.resume(ts, m); err == nil {
			t.Errorf("%s: it is continued", name)
		}
		r.model.Close()
	}
	if err := os.WriteFile(path, whole[:len(whole)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	refused := func(what string) {
		t.Helper()
		if _, err := s.Train(job, free()); err == nil || strings.Contains(err.Error(), "download") ||
			!strings.Contains(err.Error(), "is damaged: ") || !strings.HasSuffix(err.Error(),
			"; remove the file to start again, or choose another directory") {
			t.Errorf("%s: the error is %v", what, err)
		}
	}
	refused("half a file")
	if err := os.WriteFile(path, whole[:5], 0o600); err != nil {
		t.Fatal(err)
	}
	refused("five bytes")
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	ts, m, err := checkpoint.ReadSafetensors(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	m["precision"] = "\x1b[2J"
	if err := checkpoint.WriteSafetensors(path, ts, m); err != nil {
		t.Fatal(err)
	}
	refused("no precision")
}

// The shares of the rungs of whole epochs are the last steps of the epochs.
func TestRungsAreWholeSteps(t *testing.T) {
	for epochs := 1; epochs <= 20; epochs++ {
		for perEpoch := 1; perEpoch <= 400; perEpoch += 3 {
			r := &run{Session: &Session{train: &split{lengths: make([]int, perEpoch)}}, job: evaluator.Job{
				Candidate: evaluator.Candidate{Training: evaluator.Training{BatchSize: 1}},
				Budget:    evaluator.Budget{Epochs: float64(epochs)}}}
			for epoch := 1; epoch <= epochs; epoch++ {
				r.job.Budget.Rungs = append(r.job.Budget.Rungs, float64(epoch)/float64(epochs))
			}
			r.plan()
			for i, step := range r.rungs {
				if step != (i+1)*perEpoch {
					t.Fatalf("%d epochs of %d steps: rung %d is at step %d", epochs, perEpoch, i+1, step)
				}
			}
		}
	}
}

func TestATaskWithoutTestRows(t *testing.T) {
	s := openTiny(t, 0)
	s.test = &split{}
	job := smallJob()
	job.Output, job.Test = t.TempDir(), true
	result, err := s.Train(job, free())
	if err != nil || result.Test != nil {
		t.Fatalf("test metrics %v (%v)", result.Test, err)
	}
	if _, err := peft.ReadTrained(job.Output); err != nil {
		t.Error(err)
	}
}

// What happens while the test split is scored loses no weights, and the same job goes on there.
func TestWeightsAreWrittenBeforeTheTest(t *testing.T) {
	s := openTiny(t, 0)
	job := smallJob()
	job.Output, job.Test = t.TempDir(), true
	control := free()
	control.Stop = func() (string, bool) {
		_, err := os.Stat(filepath.Join(job.Output, "plan.json"))
		return "interrupted", err == nil
	}
	first, err := s.Train(job, control)
	if err != nil || first.Test != nil {
		t.Fatalf("test metrics %v (%v)", first.Test, err)
	}
	if _, err := peft.ReadTrained(job.Output); err != nil {
		t.Fatal(err)
	}
	second, err := s.Train(job, free())
	if err != nil || second.Test == nil || second.Score != first.Score || second.Steps != first.Steps {
		t.Errorf("continued: %+v (%v), before: %+v", second, err, first)
	}
	trained, err := peft.ReadTrained(job.Output)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(second.Test, trained.Metrics.Test); diff != "" || len(trained.Metrics.Dev) == 0 {
		t.Errorf("metrics %v", trained.Metrics)
	}
	if _, err := os.Stat(filepath.Join(job.Output, peft.CheckpointFile)); err == nil {
		t.Error("a finished job leaves its checkpoint")
	}
}

func TestPredictionsAreInThePrecisionOfTheTraining(t *testing.T) {
	s := openTiny(t, 0)
	job := smallJob()
	job.Output = t.TempDir()
	if _, err := s.Train(job, free()); err != nil {
		t.Fatal(err)
	}
	rows := []data.Row{{Text: "A plane is taking off.", TextPair: "An air plane is taking off."}}
	predict := func(precision string) float64 {
		t.Helper()
		hello := s.hello
		hello.Settings.Precision, hello.Task = precision, data.Task{}
		other, err := Open(hello, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		predictor, err := other.Predictor(job.Output)
		if err != nil {
			t.Fatal(err)
		}
		defer predictor.Close()
		predictions, err := predictor.Predict(rows)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := predictor.Predict([]data.Row{{Text: "alone"}}); err == nil {
			t.Error("a row without its second text is scored")
		}
		return predictions[0].Logits[0]
	}
	float32s, bfloat16s := predict("float32"), predict("bfloat16")
	if float32s == bfloat16s || math.Abs(float32s-bfloat16s) > 0.05 {
		t.Errorf("%g in float32, %g in bfloat16", float32s, bfloat16s)
	}
	for trained, want := range map[string]float64{"float32": float32s, "bfloat16": bfloat16s} {
		path := filepath.Join(job.Output, "task.json")
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		content = regexp.MustCompile(`"precision": "\w+"`).ReplaceAll(content, []byte(`"precision": "`+trained+`"`))
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if got := predict("auto"); got != want {
			t.Errorf("trained in %s: auto predicts %g, want %g", trained, got, want)
		}
	}
}

func TestPredictionsAreThoseThatWereScored(t *testing.T) {
	s := openTiny(t, 0)
	for name, change := range map[string]func(*evaluator.Job){
		"modules":  func(*evaluator.Job) {},
		"mlp":      func(j *evaluator.Job) { j.Candidate.Training.PrefixMLP = 32 },
		"backbone": func(j *evaluator.Job) { j.Candidate.Training.Backbone, j.Candidate.Plan.Layers[1] = true, peft.Layer{} },
		"full fine-tuning": func(j *evaluator.Job) {
			j.Candidate.Training.Backbone, j.Candidate.Training.Pooler, j.Candidate.Plan.Layers[1] = true, true, peft.Layer{}
			j.Candidate.Training.LearningRate, j.Candidate.Training.Dropout = 5e-5, 0.1
		},
		"prompt of a text": func(j *evaluator.Job) {
			j.Candidate.Plan.Input = peft.Layer{peft.Prompt{Length: 6, AfterFirst: true}}
			j.Candidate.Training.Methods.Prompt = evaluator.PromptTraining{Init: evaluator.PromptText,
				Text: "These two are alike."}
		},
		"p-tuning": func(j *evaluator.Job) {
			j.Candidate.Plan = peft.Plan{Input: peft.Layer{peft.Prompt{Length: 4}}, Layers: make([]peft.Layer, 2)}
			j.Candidate.Training.Methods.Prompt = evaluator.PromptTraining{Encoder: evaluator.PromptLSTM, Width: 16}
		},
	} {
		job := upperLayer()
		job.Output, job.Test = t.TempDir(), true
		change(&job)
		result, err := s.Train(job, free())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		rows := make([]data.Row, len(s.dataset.Test))
		for i, e := range s.dataset.Test {
			rows[i] = e.Row
		}
		predictor, err := s.Predictor(job.Output)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		predictions, err := predictor.Predict(rows)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		predictor.Close()
		values, mean := make([][]float64, len(rows)), 0.0
		for i, p := range predictions {
			values[i] = p.Logits
			mean += p.Logits[0] / float64(len(rows))
		}
		if got := s.dataset.Scores(values, s.dataset.Test)["spearman"]; math.Abs(got-result.Test["spearman"]) > 1e-4 {
			t.Errorf("%s: predictions score %g, the test metric is %g", name, got, result.Test["spearman"])
		}
		if mean < 1 || mean > 4 { // labels are 0 to 5
			t.Errorf("%s: predictions are not in the labels' units, their mean is %g", name, mean)
		}
	}
}

func TestDivergenceIsAFailure(t *testing.T) {
	s := openTiny(t, 0)
	job := upperLayer()
	job.Candidate.Training.LearningRate = 1e30
	job.Candidate.Training.MaxGradNorm = 0
	var failure *evaluator.Failure
	if _, err := s.Train(job, free()); !errors.As(err, &failure) || failure.Kind != evaluator.FailureDiverged {
		t.Errorf("the error is %v", err)
	}
}

func TestPatienceEndsTraining(t *testing.T) {
	s := openTiny(t, 0)
	job := upperLayer()
	job.Candidate.Training.LearningRate = 1e-12 // the score cannot move
	job.Budget.Rungs, job.Budget.Patience = []float64{0.2, 0.4, 0.6, 0.8, 1}, 2
	result, err := s.Train(job, free())
	if err != nil {
		t.Fatal(err)
	}
	if result.Stopped != "" || result.Steps >= 50 {
		t.Errorf("stopped %q after %d steps", result.Stopped, result.Steps)
	}
}

func TestTrialsLeaveNothingBehind(t *testing.T) {
	s := openTiny(t, 0)
	job := upperLayer()
	job.Budget.TrainRows = 64
	before := torch.Live()
	for range 3 {
		if _, err := s.Train(job, free()); err != nil {
			t.Fatal(err)
		}
	}
	if after := torch.Live(); after != before {
		t.Errorf("%d tensors before, %d after", before, after)
	}
}
