package data

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"peftsearch/data/metric"
	"peftsearch/data/quote"
	"peftsearch/data/tokenizer"
)

// Validate reports every setting of the task that cannot be right, without looking at its files.
func (t Task) Validate() error {
	var errs []error
	refuse := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if metrics, ok := Metrics[t.Kind]; !ok {
		refuse("kind %s: must be %s or %s", quote.Text(string(t.Kind)), KindClassification, KindRegression)
	} else if !slices.Contains(metrics, t.Metric) {
		refuse("metric %s: must be one of %v for %s", quote.Text(string(t.Metric)), metrics, t.Kind)
	}
	if t.Train == "" {
		refuse("train: name the file with the training rows")
	}
	for _, c := range []Columns{t.Columns, t.testColumns()} {
		if c.Text == "" || c.Label == "" {
			refuse("columns: text and label must name a column")
			break
		}
	}
	if (t.Columns.TextPair == "") != (t.testColumns().TextPair == "") {
		refuse("test_columns: text_pair must be given in both mappings or in none")
	}
	for _, share := range []struct {
		name  string
		value float64
	}{{"dev_share", t.DevShare}, {"test_share", t.TestShare}} {
		if !(share.value >= 0 && share.value <= 0.5) {
			refuse("%s %g: must be from 0 to 0.5", share.name, share.value)
		}
	}
	if t.Dev == "" && t.DevShare == 0 {
		refuse("dev: name a file or give a dev_share above 0")
	}
	if t.MaxLength < tokenizer.MinLength {
		refuse("max_length %d: at least %d", t.MaxLength, tokenizer.MinLength)
	}
	if t.Kind == KindRegression && len(t.Labels) > 0 {
		refuse("labels: only classification has labels")
	}
	if len(t.Labels) == 1 {
		refuse("labels: classification needs at least 2")
	}
	if len(t.Labels) > maxLabels {
		refuse("labels: %d are too many, the limit is %d", len(t.Labels), maxLabels)
	} else {
		for i, label := range t.Labels {
			if slices.Contains(t.Labels[:i], label) {
				refuse("labels: %s stands twice", quote.Text(label))
			}
			if strings.TrimSpace(label) != label || label == "" {
				refuse("labels: %s begins or ends with space, which labels of rows never do", quote.Text(label))
			}
		}
	}
	if t.Split != "" && t.Split != Stratified {
		refuse("split %s: must be empty or %s", quote.Text(t.Split), Stratified)
	}
	return errors.Join(errs...)
}

func (t Task) testColumns() Columns {
	if t.TestColumns == (Columns{}) {
		return t.Columns
	}
	return t.TestColumns
}

// Load reads the task's files. Splits without a file are carved out of train by SplitSeed, dev before
// test; rows with the same input stay on one side. All bad rows are reported with their line numbers,
// and nothing is guessed: a row without a label, or with a label that train does not have, is an error.
// So is a dev split on which every plan has the same score.
func Load(task Task) (*Dataset, error) {
	d, err := load(task)
	return d, quote.Error(err)
}

func load(task Task) (*Dataset, error) {
	if err := task.Validate(); err != nil {
		return nil, err
	}
	d := &Dataset{Task: task}
	files := []struct {
		path    string
		columns Columns
		split   *[]Example
	}{
		{task.Train, task.Columns, &d.Train},
		{task.Dev, task.Columns, &d.Dev},
		{task.Test, task.testColumns(), &d.Test},
	}
	var errs []error
	for _, file := range files {
		if file.path == "" {
			continue
		}
		t, err := readTable(file.path, append(file.columns.inputs(), file.columns.Label))
		if err == nil && len(t.records) == 0 {
			err = fmt.Errorf("%s has no rows", file.path)
		}
		if err == nil && file.split == &d.Train && task.Kind == KindClassification {
			d.Labels, err = task.labels(t.records)
		}
		if err != nil {
			errs = append(errs, err)
			if file.split == &d.Train { // without its labels the other files cannot be judged
				break
			}
			continue
		}
		for _, note := range t.notes {
			d.Notes = append(d.Notes, file.path+": "+note)
		}
		examples, err := d.examples(file.path, t.records, file.columns)
		*file.split = examples
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if err := d.carve(); err != nil {
		return nil, err
	}
	if err := d.checkSplits(); err != nil {
		return nil, err
	}
	d.Fingerprint = d.fingerprint()
	return d, nil
}

func (d *Dataset) examples(path string, records []record, columns Columns) ([]Example, error) {
	index := make(map[string]int, len(d.Labels))
	for i, label := range d.Labels {
		index[label] = i
	}
	var bad problems
	examples := make([]Example, len(records))
	for i, r := range records {
		e := Example{Row: r.row(columns, &bad)}
		switch label := r.label(); {
		case label == "":
			bad.add(r.line, "%s is missing or empty", quote.Text(columns.Label))
		case d.Task.Kind == KindRegression:
			value, ok := parseNumber(label)
			if !ok {
				bad.add(r.line, "%s is %s, not a finite number", quote.Text(columns.Label), quote.Text(label))
			}
			e.Label = value
		default:
			class, ok := index[label]
			if !ok {
				bad.add(r.line, "label %s is none of the training labels %s%s",
					quote.Text(label), quote.List(d.Labels), didYouMean(label, d.Labels))
			}
			e.Label = float64(class)
		}
		examples[i] = e
	}
	if err := bad.err(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return examples, nil
}

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
			number(math.Float64bits(e.Label))
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Chance is the best dev score, in the task's metric, of a prediction that ignores the input.
func (d *Dataset) Chance() float64 {
	labels := make([]float64, len(d.Dev))
	for i, e := range d.Dev {
		labels[i] = e.Label
	}
	return metric.Chance(d.Task.Metric, labels)
}
