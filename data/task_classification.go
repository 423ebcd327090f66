package data

import (
	"slices"
	"strings"

	"peftsearch/data/metric"
	"peftsearch/data/quote"
)

// classification gives a text, or a pair of texts, one of two or more labels.
type classification struct{ plain }

func (classification) form() metric.Form { return metric.Classes }

func (classification) metrics() []metric.Name {
	return []metric.Name{metric.Accuracy, metric.F1, metric.F1Macro, metric.MCC, metric.BalancedAccuracy,
		metric.Precision, metric.Recall,
		metric.PrecisionMacro, metric.RecallMacro, metric.AccuracyF1}
}

func (classification) classes(t Task, l layout, records []record) ([]string, error) {
	return t.labels(l, records, func(r record) []string { return []string{strings.TrimSpace(l.value(r, "label"))} })
}

func (classification) target(l layout, r record, _ Row, classes []string, bad *problems) []float64 {
	return []float64{classOf(l, r, classes, bad)}
}

// classOf is the class that the label names.
func classOf(l layout, r record, classes []string, bad *problems) float64 {
	label := strings.TrimSpace(l.value(r, "label"))
	if label == "" {
		bad.add(r.line, "%s is missing or empty", l.names("label"))
		return 0
	}
	return indexOf(label, classes, r.line, bad)
}

// indexOf is the class of a label.
func indexOf(label string, classes []string, line int, bad *problems) float64 {
	class := slices.Index(classes, label)
	if class < 0 {
		bad.add(line, "label %s is none of the training labels %s%s", quote.Text(label), quote.List(classes),
			didYouMean(label, classes))
		return 0
	}
	return float64(class)
}

func (classification) answer(_ Input, outputs []float64, _ []string) []float64 {
	return []float64{float64(largest(outputs))}
}

// largest is the index of the largest output, the first of equal ones.
func largest(outputs []float64) int {
	best := 0
	for i, v := range outputs {
		if v > outputs[best] {
			best = i
		}
	}
	return best
}

func (classification) say(_ Row, answer []float64, classes []string) []string {
	return []string{classes[int(answer[0])]}
}

// yes reads a value of yes or no.
func yes(value string) (is, ok bool) {
	switch strings.ToLower(strings.TrimSpace(value)) {
	case "1", "true", "yes", "1.0":
		return true, true
	case "0", "false", "no", "0.0":
		return false, true
	}
	return false, false
}

// number is 1 for yes and 0 for no.
func number(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

// decision reads yes or no, which must be there.
func decision(value, what string, line int, bad *problems) float64 {
	is, ok := yes(value)
	if !ok {
		bad.add(line, "%s is %s: must be 1 or 0, true or false, yes or no", what, quote.Text(value))
	}
	return number(is)
}
