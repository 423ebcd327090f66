package train

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"peftsearch/data"
	"peftsearch/data/metric"
	"peftsearch/evaluator"
	"peftsearch/peft"
)

// sortTask writes all sequences of six of three symbols and how they are sorted, up or down.
func sortTask(t *testing.T, down bool, m metric.Name) data.Task {
	t.Helper()
	var lines []string
	for i := range 729 {
		symbols := strings.Split(fmt.Sprintf("%06s", base3(i)), "")
		text := strings.Join(symbols, "")
		slices.Sort(symbols)
		if down {
			slices.Reverse(symbols)
		}
		lines = append(lines, fmt.Sprintf("%s\t%s", text, strings.Join(symbols, "")))
	}
	path := filepath.Join(t.TempDir(), "sort.tsv")
	if err := os.WriteFile(path, []byte("symbols\tsorted\n"+strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return data.Task{Kind: data.KindText, Metric: m, Train: path, DevShare: 0.2, TestShare: 0.2, MaxLength: 6,
		Columns: data.Columns{Text: "symbols", Label: "sorted"}, Template: "{text}{label}",
		Generation: data.Generation{MaxNewTokens: 6, NumBeams: 2, LengthPenalty: 1, EarlyStopping: data.StopFalse}}
}

func base3(n int) string {
	if n < 3 {
		return fmt.Sprint(n)
	}
	return base3(n/3) + fmt.Sprint(n%3)
}

// openSort opens a session of a GPT-2 that was trained to sort symbols up; scripts/nano_sort.py makes it.
func openSort(t *testing.T, task data.Task) *Session {
	t.Helper()
	s, err := Open(evaluator.Hello{Model: "testdata/nano-sort", Head: evaluator.HeadLinear, Task: task,
		Settings: evaluator.Settings{Device: "cpu", Precision: "float32", Threads: 1, CacheMemory: 1 << 28}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func sortJob(layers ...peft.Layer) evaluator.Job {
	return evaluator.Job{Trial: 1, Seed: 3, Test: true,
		Candidate: evaluator.Candidate{Plan: peft.Plan{Layers: layers},
			Training: evaluator.Training{LearningRate: 1e-2, Schedule: evaluator.ScheduleLinear, WarmupRatio: 0.1,
				BatchSize: 32, MaxGradNorm: 1}},
		Budget: evaluator.Budget{Epochs: 12, Rungs: []float64{0.05, 1}}}
}

// The pretrained model sorts as it was trained to, with nothing added and nothing trained.
func TestWritesWhatItWasTrainedTo(t *testing.T) {
	s := openSort(t, sortTask(t, false, metric.ExactMatch))
	job := sortJob(make([]peft.Layer, 3)...)
	job.Budget.Epochs = 0.1
	result, err := s.Train(job, free())
	if err != nil {
		t.Fatal(err)
	}
	for split, scores := range map[string]map[string]float64{"dev": result.Dev, "test": result.Test} {
		for _, name := range []metric.Name{metric.ExactMatch, metric.TokenAccuracy, metric.ROUGEL} {
			if scores[string(name)] < 0.99 {
				t.Errorf("%s %s is %g", split, name, scores[string(name)])
			}
		}
	}
	if result.Head != 0 || len(result.Resampled) != evaluator.Resamples || result.Resampled[0] < 0.97 {
		t.Errorf("%d parameters in the head, resampled %v", result.Head, result.Resampled)
	}
}

// Modules learn to sort the other way, scored by tokens; what was trained is written, read and predicts the same texts.
func TestLearnsToWrite(t *testing.T) {
	s := openSort(t, sortTask(t, true, metric.TokenAccuracy))
	lora := peft.LoRA{Rank: 8, Alpha: 16, Targets: peft.Targets}
	job := sortJob(peft.Layer{lora}, peft.Layer{lora, peft.Serial{Width: 8}}, peft.Layer{lora, peft.Prefix{Length: 2}})
	job.Output = filepath.Join(t.TempDir(), "trained")
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
	if len(scores) != 2 || result.Score < scores[0]+0.15 || result.Dev["bleu"] != 0 || result.Test["exact_match"] < 0.5 {
		t.Errorf("rungs %v, dev %v, test %v", scores, result.Dev, result.Test)
	}
	if _, written := result.Dev["exact_match"]; written {
		t.Error("a metric of tokens needs no texts, and dev was written")
	}

	p, err := s.Predictor(job.Output)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	var rows []data.Row
	for _, e := range s.dataset.Test {
		rows = append(rows, e.Row)
	}
	predictions, err := p.Predict(rows)
	if err != nil {
		t.Fatal(err)
	}
	right := 0
	for i, e := range s.dataset.Test {
		if predictions[i].Label == metric.References(e.Target)[0] {
			right++
		}
	}
	if want := result.Test["exact_match"]; float64(right) != want*float64(len(rows)) {
		t.Errorf("%d of %d texts are right, the test score is %g", right, len(rows), want)
	}
}

// A text that is too long for the model is refused when the session opens.
func TestTooLongToWrite(t *testing.T) {
	task := sortTask(t, false, metric.ExactMatch)
	task.Generation.MaxNewTokens = 7
	_, err := Open(evaluator.Hello{Model: "testdata/nano-sort", Head: evaluator.HeadLinear, Task: task,
		Settings: evaluator.Settings{Device: "cpu", Precision: "float32", Threads: 1}}, nil)
	if err == nil || !strings.Contains(err.Error(), "reads and writes at most 11 tokens") {
		t.Errorf("%v", err)
	}
}
