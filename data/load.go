package data

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"peftsearch/data/metric"
	"peftsearch/data/tokenizer"
)

// Validate reports every setting of the task that cannot be right, without looking at its files.
func (t Task) Validate() error {
	var errs []error
	refuse := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if metrics, ok := Metrics[t.Kind]; !ok {
		refuse("kind %q: must be %s or %s", t.Kind, KindClassification, KindRegression)
	} else if !slices.Contains(metrics, t.Metric) {
		refuse("metric %q: must be one of %v for %s", t.Metric, metrics, t.Kind)
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
	for i, label := range t.Labels {
		if slices.Contains(t.Labels[:i], label) {
			refuse("labels: %q stands twice", label)
		}
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
func Load(task Task) (*Dataset, error) {
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
		records, err := readTable(file.path, append(file.columns.inputs(), file.columns.Label))
		if err == nil && len(records) == 0 {
			err = fmt.Errorf("%s has no rows", file.path)
		}
		if err == nil && file.split == &d.Train && task.Kind == KindClassification {
			d.Labels, err = task.labels(records)
		}
		if err != nil {
			errs = append(errs, err)
			if file.split == &d.Train { // without its labels the other files cannot be judged
				break
			}
			continue
		}
		examples, err := d.examples(file.path, records, file.columns)
		*file.split = examples
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if err := d.carve(); err != nil {
		return nil, err
	}
	d.Fingerprint = d.fingerprint()
	return d, nil
}

// labels are the task's, or those of the training rows: sorted as numbers if all are numbers, else as
// text. Rows without a label are reported later.
func (t Task) labels(records []record) ([]string, error) {
	var labels []string
	known := map[string]bool{}
	for _, r := range records {
		if label := r.label(); label != "" && !known[label] {
			known[label] = true
			labels = append(labels, label)
		}
	}
	for _, label := range t.Labels {
		if !known[label] {
			return nil, fmt.Errorf("%s: label %q of the task stands in no row", t.Train, label)
		}
	}
	if t.Labels != nil {
		labels = t.Labels
	} else {
		numeric := !slices.ContainsFunc(labels, func(label string) bool { _, ok := parseNumber(label); return !ok })
		slices.SortFunc(labels, func(a, b string) int {
			if numeric {
				x, _ := parseNumber(a)
				y, _ := parseNumber(b)
				if x != y {
					return int(math.Copysign(1, x-y))
				}
			}
			return strings.Compare(a, b)
		})
	}
	const most = 1000
	switch n := len(labels); {
	case n < 2:
		return nil, fmt.Errorf("%s: column %q has the labels %q: classification needs at least 2", t.Train, t.Columns.Label, labels)
	case n > most:
		return nil, fmt.Errorf("%s: column %q has %d different labels, the limit is %d: is it the label, and is this no regression?", t.Train, t.Columns.Label, n, most)
	case n > 2 && t.Metric == metric.F1:
		return nil, fmt.Errorf("metric %s needs 2 labels, %s has %d: use %s", metric.F1, t.Train, n, metric.F1Macro)
	}
	return labels, nil
}

// label is the last value of a record.
func (r record) label() string { return strings.TrimSpace(r.values[len(r.values)-1]) }

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
			bad.add(r.line, "%q is missing or empty", columns.Label)
		case d.Task.Kind == KindRegression:
			value, ok := parseNumber(label)
			if !ok {
				bad.add(r.line, "%q is %q, not a finite number", columns.Label, label)
			}
			e.Label = value
		default:
			class, ok := index[label]
			if !ok {
				bad.add(r.line, "label %q is none of the training labels %q", label, d.Labels[:min(len(d.Labels), 20)])
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

// carve moves rows of Train to the splits that have no file.
func (d *Dataset) carve() error {
	rows := d.Train
	dev, test := 0, 0
	if d.Task.Dev == "" {
		dev = max(1, int(math.Round(d.Task.DevShare*float64(len(rows)))))
	}
	if d.Task.Test == "" && d.Task.TestShare > 0 {
		test = max(1, int(math.Round(d.Task.TestShare*float64(len(rows)))))
	}
	if dev+test == 0 {
		return nil
	}

	// Whole groups of rows with the same input are dealt, in a random order.
	group, groups := make([]int, len(rows)), 0
	known := map[Row]int{}
	for i, e := range rows {
		g, ok := known[e.Row]
		if !ok {
			g = groups
			known[e.Row] = g
			groups++
		}
		group[i] = g
	}
	size := make([]int, groups)
	for _, g := range group {
		size[g]++
	}
	seed := sha256.Sum256(binary.LittleEndian.AppendUint64([]byte("split"), d.Task.SplitSeed))
	random := rand.New(rand.NewPCG(binary.LittleEndian.Uint64(seed[:]), binary.LittleEndian.Uint64(seed[8:])))
	target := make([]*[]Example, groups)
	for _, g := range random.Perm(groups) {
		switch {
		case dev > 0:
			target[g] = &d.Dev
			dev -= size[g]
		case test > 0:
			target[g] = &d.Test
			test -= size[g]
		default:
			target[g] = &d.Train
		}
	}
	d.Train = nil
	for i, e := range rows {
		*target[group[i]] = append(*target[group[i]], e)
	}
	if len(d.Train) == 0 || dev > 0 || test > 0 {
		return fmt.Errorf("%s: %d rows are too few to carve out dev and test: give files or more rows", d.Task.Train, len(rows))
	}
	return nil
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
	labels, constant := make([]float64, len(d.Dev)), make([]float64, len(d.Dev))
	for i, e := range d.Dev {
		labels[i] = e.Label
	}
	best := 0.0
	for class := range d.Labels {
		for i := range constant {
			constant[i] = float64(class)
		}
		best = max(best, metric.Score(d.Task.Metric, constant, labels))
	}
	return best
}
