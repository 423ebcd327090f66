package data

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"peftsearch/data/metric"
	"peftsearch/data/quote"
	"peftsearch/data/tokenizer"
)

// multipleChoice picks one of the choices of a row, which may have another number of them than the next. Each is
// read as the second text of a pair; where that is too long, the first text loses its end.
type multipleChoice struct{ plain }

func (multipleChoice) form() metric.Form { return metric.Classes }

func (multipleChoice) metrics() []metric.Name { return []metric.Name{metric.Accuracy} }

func (multipleChoice) keys() []columnKey {
	return []columnKey{keyText, {name: "question"}, {name: "choices", required: true, list: true},
		{name: "choice_names", list: true}, keyLabel}
}

// classes are what the labels call the places, unless the rows name their choices.
func (multipleChoice) classes(t Task, l layout, records []record) ([]string, error) {
	if l.has("choice_names") {
		if t.Labels != nil {
			return nil, fmt.Errorf("labels: columns.choice_names names the choices already")
		}
		return nil, nil
	}
	most := 0
	for _, r := range records {
		most = max(most, len(l.values(r, "choices")))
	}
	labels := t.Labels
	if labels == nil {
		var err error
		labels, err = t.labels(l, records, func(r record) []string {
			return []string{strings.TrimSpace(l.value(r, "label"))}
		})
		if err != nil {
			return nil, err
		}
	}
	if len(labels) < most || len(labels) > most && t.Labels == nil {
		return nil, fmt.Errorf("%s: rows have up to %d choices, and the labels are %s: list what the labels call the "+
			"choices, in order, under task.labels",
			t.Train, most, quote.List(labels))
	}
	return labels, nil
}

// copaQuestions are what COPA's two words ask.
var copaQuestions = map[string]string{"cause": "What was the cause of this?", "effect": "What happened as a result?"}

func (multipleChoice) rows(l layout, records []record, bad *problems) []Row {
	rows := make([]Row, len(records))
	for i, r := range records {
		rows[i].Text = l.text(r, "text", bad)
		if l.has("question") {
			question := l.text(r, "question", bad)
			if copa, ok := copaQuestions[strings.TrimSpace(question)]; ok {
				question = copa
			}
			rows[i].Text += " " + question
		}
		choices, names := l.values(r, "choices"), l.values(r, "choice_names")
		if len(choices) < 2 {
			bad.add(r.line, "%s: %d choices: at least 2", l.names("choices"), len(choices))
		}
		if l.has("choice_names") && len(names) != len(choices) {
			bad.add(r.line, "%d names for %d choices", len(names), len(choices))
			names = nil
		}
		for j, text := range choices {
			choice := Choice{Text: text}
			if strings.TrimSpace(text) == "" {
				bad.add(r.line, "choice %d is empty", j+1)
			}
			if names != nil {
				if choice.Name = strings.TrimSpace(names[j]); choice.Name == "" || slices.Contains(names[:j], names[j]) {
					bad.add(r.line, "the name %s of choice %d is empty or stands twice", quote.Text(choice.Name), j+1)
				}
			}
			rows[i].Choices = append(rows[i].Choices, choice)
		}
	}
	return rows
}

func (multipleChoice) target(l layout, r record, row Row, classes []string, bad *problems) []float64 {
	if !l.has("choice_names") {
		class := classOf(l, r, classes, bad)
		if int(class) >= len(row.Choices) {
			bad.add(r.line, "label %s is choice %d of %d", quote.Text(classes[int(class)]), int(class)+1, len(row.Choices))
		}
		return []float64{class}
	}
	label := strings.TrimSpace(l.value(r, "label"))
	class := slices.IndexFunc(row.Choices, func(c Choice) bool { return c.Name == label })
	if class < 0 {
		bad.add(r.line, "label %s is the name of no choice of the row", quote.Text(label))
	}
	return []float64{float64(class)}
}

// outputs is 1: each choice gets a number for itself.
func (multipleChoice) outputs(int) int { return 1 }

func (multipleChoice) encode(t *tokenizer.Tokenizer, task Task, e Example) Input {
	maxLength, row := task.MaxLength, e.Row
	var in Input
	for _, choice := range row.Choices {
		sequence, cut := t.EncodeSecond(maxLength, row.Text, choice.Text)
		in.Sequences, in.Truncated = append(in.Sequences, sequence), in.Truncated || cut
	}
	return in
}

func (multipleChoice) answer(_ Input, outputs []float64, _ []string) []float64 {
	return []float64{float64(largest(outputs))}
}

func (multipleChoice) check(_ Task, row Row) error {
	if row.Text == "" || len(row.Choices) < 2 {
		return errors.New("it has no text, or fewer than 2 choices")
	}
	return nil
}

func (multipleChoice) say(row Row, answer []float64, classes []string) []string {
	choice := int(answer[0])
	switch name := row.Choices[choice].Name; {
	case name != "":
		return []string{name}
	case choice < len(classes):
		return []string{classes[choice]}
	}
	return []string{strconv.Itoa(choice)}
}
