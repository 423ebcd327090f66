package config

import (
	"testing"

	"peftsearch/evaluator"
)

func TestRatesAreLeftOpenWhereTheyCanBeCalibrated(t *testing.T) {
	for line, want := range map[string]Rate{
		"training: {dropout: 0}":              AutoRate,
		"training: {learning_rate: auto}":     AutoRate,
		"training: {learning_rate: 2e-3}":     NewRate(2e-3),
		"evaluator: {analytic: true}":         NewRate(standardRate),
		"evaluator: {command: [mine]}":        NewRate(standardRate),
		"space: {learning_rate: [1e-3, 0.1]}": NewRate(standardRate),
	} {
		c := parse(t, with(line))
		if got := c.Training.LearningRate; got != want {
			t.Errorf("%s: the rate is %s, want %s", line, got, want)
		}
		if _, known := c.Identity(c.Space)[`training.learning_rate`]; known == (want == AutoRate) {
			t.Errorf("%s: in the identity: %v", line, known)
		}
	}
	rate := CalibratedRate(map[string]float64{"lora": 1e-3, "prefix": 4e-3})
	if rate != "default=0.002,lora=0.001,prefix=0.004" || rate.Default() != 2e-3 ||
		rate.Methods() != evaluator.NewRates(map[string]float64{"lora": 1e-3, "prefix": 4e-3}) {
		t.Errorf("%s", rate)
	}
}

func TestEpochsAreAsManyAsMakeEnoughSteps(t *testing.T) {
	c := parse(t, with("budget: {epochs: auto}"))
	for rows, want := range map[int]Epochs{20: 300, 320: 30, 3000: 4, 30000: 3} {
		in := &Inputs{Splits: evaluator.Splits{Train: evaluator.Split{Rows: rows}}}
		if epochs, why := c.enoughEpochs(in); epochs != want || why == "" {
			t.Errorf("%d rows: %g epochs, want %g: %s", rows, epochs, want, why)
		}
	}
	c.Budget.TrainRows = 320
	if epochs, _ := c.enoughEpochs(&Inputs{Splits: evaluator.Splits{Train: evaluator.Split{Rows: 30000}}}); epochs != 30 {
		t.Errorf("%g epochs of 320 of the rows", epochs)
	}
}

func TestHoursTakeThePlaceOfTrials(t *testing.T) {
	for line, want := range map[string]int{
		"budget: {epochs: 1}":            100,
		"budget: {hours: 2}":             MaxTrials,
		"budget: {hours: 2, trials: 50}": 50,
	} {
		if got := parse(t, with(line)).Budget.Trials; got != want {
			t.Errorf("%s: %d trials, want %d", line, got, want)
		}
	}
}
