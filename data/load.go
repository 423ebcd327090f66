package data

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"peftsearch/data/quote"
	"peftsearch/data/tokenizer"
)

// Validate reports every setting of the task that cannot be right, without looking at its files.
func (t Task) Validate() error {
	var errs []error
	refuse := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if metrics := t.Kind.Metrics(); metrics == nil {
		refuse("kind %s: must be one of %v", quote.Text(string(t.Kind)), Kinds())
	} else {
		if !slices.Contains(metrics, t.Metric) {
			refuse("metric %s: must be one of %v for %s", quote.Text(string(t.Metric)), metrics, t.Kind)
		}
		if t.Kind.Numeric() && len(t.Labels) > 0 {
			refuse("labels: a %s has none", t.Kind)
		}
		for _, c := range []Columns{t.Columns, t.testColumns()} {
			if err := c.check(t.Kind); err != nil {
				errs = append(errs, err)
				break
			}
		}
	}
	if t.Kind.Writes() {
		errs = append(errs, t.checkTemplate(), t.Generation.Validate())
	} else if t.Template != "" || t.Generation != (Generation{}) {
		refuse("template: only a task of kind %s is written", KindText)
	}
	if t.Train == "" {
		refuse("train: name the file with the training rows")
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
	if len(t.Labels) == 1 {
		refuse("labels: at least 2 are needed")
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
	if t.TestColumns.IsZero() {
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
		layout := file.columns.layout(task.Kind, true)
		t, err := readTable(file.path, task.Kind, layout.columns)
		if err == nil && len(t.records) == 0 {
			err = fmt.Errorf("%s has no rows", file.path)
		}
		if err == nil && file.split == &d.Train {
			d.Labels, err = kinds[task.Kind].classes(task, layout, t.records)
		}
		if err != nil {
			errs = append(errs, err)
			if file.split == &d.Train { // without its labels the other files cannot be judged
				break
			}
			continue
		}
		for _, note := range slices.Concat(t.notes, kinds[task.Kind].notes(layout, t.records)) {
			d.Notes = append(d.Notes, file.path+": "+note)
		}
		examples, err := d.examples(file.path, t.records, layout)
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

func (d *Dataset) examples(path string, records []record, l layout) ([]Example, error) {
	var bad problems
	kind := kinds[d.Task.Kind]
	rows := kind.rows(l, records, &bad)
	examples := make([]Example, len(records))
	for i, r := range records {
		examples[i] = Example{rows[i], kind.target(l, r, rows[i], d.Labels, &bad)}
	}
	if err := bad.err(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return examples, nil
}
