package data

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"maps"
	"math"
	"slices"

	"peftsearch/data/metric"
)

// Dataset is a task's data in memory. It is read-only after Load.
type Dataset struct {
	Task Task
	// Labels are the names of classes by index, or of tags; nil for a regression, and for a multiple choice whose
	// rows name their choices.
	Labels []string
	Train  []Example
	Dev    []Example
	Test   []Example // empty if the task has neither a file nor a share for it
	// Fingerprint is a SHA-256 of the examples of all splits and the labels: what a score depends on,
	// not how the files are written.
	Fingerprint string
	Notes       []string // what of the files may not be as meant, a sentence each
}

// Scores gives every metric of the task's kind that its number of labels allows, and those of written texts where some
// are; nil for no rows. Predictions are those of the examples, in their order and in the form of targets.
func (d *Dataset) Scores(predictions [][]float64, examples []Example) map[string]float64 {
	if len(examples) == 0 {
		return nil
	}
	a := d.answers(examples)
	a.Predicted = predictions
	scores := map[string]float64{}
	unwritten := a.Form == metric.Texts && !slices.ContainsFunc(predictions, func(p []float64) bool { return len(p) > 3 })
	for _, name := range d.Task.Kind.Metrics() {
		if ofTwoClasses[name] && len(d.Labels) != 2 || unwritten && !name.OfTokens() && name != d.Task.Metric {
			continue
		}
		scores[string(name)] = metric.Score(name, a)
	}
	if a.Form == metric.Tags {
		maps.Copy(scores, metric.EntityF1ByType(a))
	}
	return scores
}

// Rescored prepares the task's metric for many draws of the examples: score gives that of some of them, by index.
func (d *Dataset) Rescored(predictions [][]float64, examples []Example) (score func(rows []int) float64) {
	a := d.answers(examples)
	a.Predicted = predictions
	if counts, of := metric.Additive(d.Task.Metric, a); counts != nil {
		return func(rows []int) float64 {
			sums := make([]float64, len(counts[0]))
			for _, row := range rows {
				for i, v := range counts[row] {
					sums[i] += v
				}
			}
			return of(sums)
		}
	}
	return func(rows []int) float64 {
		drawn := metric.Answers{Form: a.Form, Labels: a.Labels}
		for _, row := range rows {
			drawn.Predicted = append(drawn.Predicted, a.Predicted[row])
			drawn.Actual = append(drawn.Actual, a.Actual[row])
		}
		return metric.Score(d.Task.Metric, drawn)
	}
}

// ofTwoClasses are the metrics of two classes.
var ofTwoClasses = map[metric.Name]bool{metric.F1: true, metric.Precision: true, metric.Recall: true}

func (d *Dataset) answers(examples []Example) metric.Answers {
	a := metric.Answers{Form: kinds[d.Task.Kind].form(), Labels: d.Labels}
	for _, e := range examples {
		a.Actual = append(a.Actual, e.Target)
	}
	return a
}

// Chance is the best dev score, in the task's metric, of a prediction that ignores the input.
func (d *Dataset) Chance() float64 { return metric.Chance(d.Task.Metric, d.answers(d.Dev)) }

// Outputs is how many numbers a head has for each thing that it decides.
func (d *Dataset) Outputs() int { return d.Task.Kind.Outputs(len(d.Labels)) }

func (d *Dataset) fingerprint() string {
	h := sha256.New()
	number := func(v uint64) { h.Write(binary.LittleEndian.AppendUint64(nil, v)) }
	text := func(s string) {
		number(uint64(len(s)))
		h.Write([]byte(s))
	}
	number(uint64(len(d.Labels)))
	for _, label := range d.Labels {
		text(label)
	}
	for _, split := range [][]Example{d.Train, d.Dev, d.Test} {
		number(uint64(len(split)))
		for _, e := range split {
			text(e.Text)
			text(e.TextPair)
			if e.Words != nil || e.Choices != nil || e.Spans != nil {
				text(e.key())
			}
			for _, v := range e.Target {
				number(math.Float64bits(v))
			}
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}
