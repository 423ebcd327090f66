package train

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"peftsearch/data"
	"peftsearch/evaluator"
	"peftsearch/peft"
)

// dropping has modules in both layers, of which steps leave the lower ones out at random.
func dropping() evaluator.Job {
	job := smallJob()
	layer := peft.Layer{peft.Serial{Width: 8}, peft.Prefix{Length: 2}}
	job.Candidate.Plan = peft.Plan{Layers: []peft.Layer{layer, layer}}
	job.Candidate.Training.Methods.AdapterDrop = 1
	job.Test = true
	return job
}

func TestAdapterDrop(t *testing.T) {
	s, uncached := openSmall(t, 1<<30), openSmall(t, 0)
	s.test, uncached.test = s.dev, uncached.dev
	job := dropping()
	with, err := s.Train(job, free())
	if err != nil {
		t.Fatal(err)
	}
	without, err := uncached.Train(job, free())
	if err != nil {
		t.Fatal(err)
	}
	if len(s.cache.entries) != 1 || s.cache.entries[0].at != upper { // where steps with a bare layer begin
		t.Errorf("%d hidden states are kept", len(s.cache.entries))
	}
	if len(with.TestDropped) != 1 || math.Abs(with.TestDropped[0]-without.TestDropped[0]) > 1e-4 ||
		math.Abs(with.Score-without.Score) > 1e-4 {
		t.Errorf("%g, dropped %v with cache; %g, %v without", with.Score, with.TestDropped, without.Score,
			without.TestDropped)
	}
	job.Candidate.Training.Methods.AdapterDrop = 0
	if plain, err := s.Train(job, free()); err != nil || plain.Score == with.Score || plain.TestDropped != nil {
		t.Errorf("%+v without AdapterDrop, %v", plain, err)
	}
}

// What the scores of dropped layers are of is what is exported without them.
func TestDroppedLayersAreThoseOfTheTrainedDirectory(t *testing.T) {
	s := openSmall(t, 0)
	job := dropping()
	job.Output = t.TempDir()
	result, err := s.Train(job, free())
	if err != nil {
		t.Fatal(err)
	}
	trained, err := peft.ReadTrained(job.Output)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(result.TestDropped, trained.Metrics.TestDropped); diff != "" {
		t.Error(diff)
	}
	bare := t.TempDir()
	if err := peft.WriteTrained(bare, trained.Without(1)); err != nil {
		t.Fatal(err)
	}
	predictor, err := s.Predictor(bare)
	if err != nil {
		t.Fatal(err)
	}
	defer predictor.Close()
	rows := make([]data.Row, len(s.dataset.Test))
	for i, e := range s.dataset.Test {
		rows[i] = e.Row
	}
	predictions, err := predictor.Predict(rows)
	if err != nil {
		t.Fatal(err)
	}
	values := make([][]float64, len(rows))
	for i, p := range predictions {
		values[i] = p.Logits
	}
	if got := s.dataset.Scores(values, s.dataset.Test)["spearman"]; math.Abs(got-result.TestDropped[0]) > 1e-4 {
		t.Errorf("without the lowest layer's modules %g, the training says %g", got, result.TestDropped[0])
	}
}

func TestGatesOfRows(t *testing.T) {
	s := openSmall(t, 0)
	job := smallJob()
	job.Output = t.TempDir()
	targets := []peft.Target{peft.TargetQuery, peft.TargetFFNOut}
	job.Candidate.Plan = peft.Plan{Layers: []peft.Layer{{peft.Prefix{Length: 2, Gate: true}},
		{peft.Serial{Width: 4, Gate: true}, peft.LoRA{Rank: 2, Alpha: 2, Targets: targets, Gate: true}}}}
	if _, err := s.Train(job, free()); err != nil {
		t.Fatal(err)
	}
	predictor, err := s.Predictor(job.Output)
	if err != nil {
		t.Fatal(err)
	}
	defer predictor.Close()
	rows := []data.Row{{Text: "A man plays a flute.", TextPair: "Somebody makes music."}, {Text: "A", TextPair: "B"}}
	both, err := predictor.Predict(rows)
	if err != nil {
		t.Fatal(err)
	}
	for i, row := range rows {
		alone, err := predictor.Predict([]data.Row{row})
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for name, value := range both[i].Gates {
			names = append(names, name)
			if !(value > 0 && value < 1) || math.Abs(value-alone[0].Gates[name]) > 1e-5 {
				t.Errorf("%s of row %d is %g, and %g alone", name, i, value, alone[0].Gates[name])
			}
		}
		slices.Sort(names)
		want := job.Candidate.Plan.Gates(s.ready.Geometry)
		slices.Sort(want)
		if diff := cmp.Diff(want, names); diff != "" {
			t.Error(diff)
		}
	}
	if both[0].Gates["layers.1.serial.gate"] == both[1].Gates["layers.1.serial.gate"] {
		t.Error("two rows have the same gate")
	}
}

func TestAPromptLeavesRoomForTheRows(t *testing.T) {
	s := openSmall(t, 0)
	job := smallJob()
	job.Candidate.Plan.Input = peft.Layer{peft.Prompt{Length: s.backbone.MaxLength() - s.hello.Task.MaxLength + 1}}
	var failure *evaluator.Failure
	if _, err := s.Train(job, free()); !errors.As(err, &failure) || failure.Kind != evaluator.FailureInvalidPlan ||
		!strings.Contains(err.Error(), "max_length 64") {
		t.Errorf("%v", err)
	}
}
