package train

import (
	"errors"
	"slices"
	"testing"

	"peftsearch/evaluator"
	"peftsearch/peft"
)

// mapJob shares LoRA and adapters of several sizes.
func mapJob() evaluator.MapJob {
	plan := func(width, rank int) peft.Plan {
		p := peft.Plan{Layers: make([]peft.Layer, 2)}
		for i := range p.Layers {
			if width > 0 {
				p.Layers[i] = append(p.Layers[i], peft.Parallel{Width: width})
			}
			if rank > 0 {
				p.Layers[i] = append(p.Layers[i], peft.LoRA{Rank: rank, Alpha: float64(rank), Targets: peft.Targets})
			}
		}
		return p
	}
	return evaluator.MapJob{Trial: 1 << 40, Seed: 3, Training: upperLayer().Candidate.Training, Rows: 200,
		Budget: evaluator.Budget{Epochs: 2, TrainRows: 1280, Rungs: []float64{1}},
		Plans:  []peft.Plan{plan(32, 8), plan(8, 4), plan(16, 2), plan(0, 8)},
		Score:  []peft.Plan{plan(32, 8), plan(4, 1), plan(0, 0)}}
}

// A map learns, tells what it does, and scores the same again; it can be stopped anywhere.
func TestMap(t *testing.T) {
	s := openTiny(t, 0)
	job := mapJob()
	var told []string
	control := free()
	control.Report = func(p evaluator.Progress) {
		if p.Steps > 0 || p.Score != nil {
			t.Errorf("%+v", p)
		}
		told = append(told, p.What)
	}
	result, err := s.Map(job, control)
	if err != nil {
		t.Fatal(err)
	}
	if len(result.Scores) != 3 || result.Steps != 80 || result.Scores[0] < 0.18 || result.Scores[2] > result.Scores[0] {
		t.Errorf("%+v", result)
	}
	if phases := slices.Compact(told); len(phases) != 2 {
		t.Errorf("it tells of %q", phases)
	}
	again, err := s.Map(job, free())
	if err != nil || !slices.Equal(again.Scores, result.Scores) {
		t.Errorf("%v, then %v, %v", result.Scores, again.Scores, err)
	}
	job.Budget.Epochs = 0.1
	for _, after := range []int{0, 3, 5} { // looks: 4 of them are before steps
		asked := 0
		control := free()
		control.Stop = func() (string, bool) { asked++; return "enough", asked > after }
		if _, err := s.Map(job, control); err == nil {
			t.Errorf("stopped after %d looks, it ends as if it was not", after)
		}
	}
}

func TestMapRefuses(t *testing.T) {
	s := openTiny(t, 0)
	for name, change := range map[string]func(*evaluator.MapJob){
		"no plan": func(j *evaluator.MapJob) { j.Plans = nil },
		"no row":  func(j *evaluator.MapJob) { j.Rows = 0 },
		"no rate": func(j *evaluator.MapJob) { j.Training.LearningRate = 0 },
		"an MLP": func(j *evaluator.MapJob) {
			j.Training.PrefixMLP, j.Plans[0].Layers[0] = 4, peft.Layer{peft.Prefix{Length: 2}}
		},
		"another geometry":  func(j *evaluator.MapJob) { j.Plans[0].Layers = j.Plans[0].Layers[:1] },
		"a rate that blows": func(j *evaluator.MapJob) { j.Training.LearningRate, j.Training.MaxGradNorm = 1e18, 0 },
	} {
		job := mapJob()
		job.Budget.Epochs = 0.1
		change(&job)
		var failure *evaluator.Failure
		if _, err := s.Map(job, free()); !errors.As(err, &failure) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
