package data

import (
	"fmt"
	"slices"
	"strings"

	"peftsearch/data/metric"
	"peftsearch/data/quote"
)

// multilabel gives a text, or a pair of texts, any number of labels, none included. They stand in one column,
// separated by commas or as a list, or have a column with yes or no each.
type multilabel struct{ plain }

func (multilabel) form() metric.Form { return metric.Sets }

func (multilabel) metrics() []metric.Name {
	return []metric.Name{metric.F1Micro, metric.F1Macro, metric.Accuracy}
}

func (multilabel) keys() []columnKey {
	return []columnKey{keyText, keyTextPair, {name: "label", list: true, answer: true}, {name: "labels", answer: true}}
}

func (multilabel) classes(t Task, l layout, records []record) ([]string, error) {
	if l.has("label") == l.has("labels") {
		return nil, fmt.Errorf("columns: %s needs label, a column with all labels of a row, or labels, a column for each",
			KindMultilabel)
	}
	if l.has("labels") {
		if t.Labels != nil {
			return nil, fmt.Errorf("labels: columns.labels names them already")
		}
		return slices.Clone(t.Columns.Labels), nil
	}
	return t.labels(l, records, func(r record) []string { return labelSet(l, r) })
}

// labelSet are the labels of a row.
func labelSet(l layout, r record) []string {
	values := l.values(r, "label")
	if len(values) == 1 {
		values = strings.Split(values[0], ",")
	}
	var labels []string
	for _, label := range values {
		if label = strings.TrimSpace(label); label != "" {
			labels = append(labels, label)
		}
	}
	return labels
}

func (multilabel) target(l layout, r record, _ Row, classes []string, bad *problems) []float64 {
	target := make([]float64, len(classes))
	if !l.has("labels") {
		if r.values[l.keys["label"][0]] == nil {
			bad.add(r.line, "%s is missing: leave it empty for a row without labels", l.names("label"))
		}
		for _, label := range labelSet(l, r) {
			target[int(indexOf(label, classes, r.line, bad))] = 1
		}
		return target
	}
	values := r.values[l.keys["labels"][0]:l.keys["labels"][1]]
	for i := range target {
		target[i] = decision(strings.Join(values[i], ","), quote.Text(classes[i]), r.line, bad)
	}
	return target
}

func (multilabel) counted(target []float64) []int {
	var classes []int
	for class, is := range target {
		if is == 1 {
			classes = append(classes, class)
		}
	}
	return classes
}

// answer has the labels with a probability of more than a half.
func (multilabel) answer(_ Input, outputs []float64, _ []string) []float64 {
	answer := make([]float64, len(outputs))
	for i, logit := range outputs {
		answer[i] = number(logit > 0)
	}
	return answer
}

func (multilabel) several() bool { return true }

func (multilabel) say(_ Row, answer []float64, classes []string) []string {
	said := []string{}
	for i, is := range answer {
		if is == 1 {
			said = append(said, classes[i])
		}
	}
	return said
}
