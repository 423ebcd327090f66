package config

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"peftsearch/data"
	"peftsearch/data/checkpoint"
	"peftsearch/data/files"
	"peftsearch/data/hub"
	"peftsearch/data/metric"
	"peftsearch/data/tokenizer"
)

// Draft is a study file for a file of rows that was looked at.
type Draft struct {
	Content []byte
	Saw     []string // what it was taken from, a sentence each
	Unsure  []string // what may be otherwise, a sentence each
}

// NewDraft looks at a file of rows, and at a model's directory if there is one, and writes the study file that is to
// stand at path. The rows have been read as the search will read them.
func NewDraft(path, rows, model string) (Draft, error) {
	guess, err := data.Look(rows)
	if err != nil {
		return Draft{}, err
	}
	d := &draft{Guess: guess, path: path, model: model}
	if err := d.load(); err != nil {
		return Draft{}, err
	}
	d.chooseMetric()
	if err := d.measure(); err != nil {
		return Draft{}, err
	}
	content := d.write()
	if _, err := Parse(path, content); err != nil {
		return Draft{}, fmt.Errorf("the study file for %s: %w", rows, err)
	}
	return Draft{content, d.Saw, d.Unsure}, nil
}

type draft struct {
	data.Guess
	path, model string
	dataset     *data.Dataset
}

func (d *draft) saw(format string, args ...any) { d.Saw = append(d.Saw, fmt.Sprintf(format, args...)) }

var trainName = regexp.MustCompile(`(?i)train`)

// load reads the rows, with the files beside them that are called as their dev and test splits would be.
func (d *draft) load() (err error) {
	t := &d.Task
	t.Metric = t.Kind.Metrics()[0]
	if d.dataset, err = data.Load(*t); err != nil {
		return err
	}
	dir, base := filepath.Split(t.Train)
	for _, split := range []struct {
		file  *string
		names []string
	}{{&t.Dev, []string{"dev", "validation", "valid", "val"}}, {&t.Test, []string{"test"}}} {
		for _, name := range split.names {
			beside := trainName.ReplaceAllString(base, name)
			if _, err := os.Stat(dir + beside); err != nil || beside == base {
				continue
			}
			*split.file = dir + beside
			loaded, err := data.Load(*t)
			if err != nil {
				*split.file = ""
				first, _, _ := strings.Cut(err.Error(), "\n")
				d.Unsure = append(d.Unsure, fmt.Sprintf("%s lies beside and cannot be used: %s", beside,
					strings.TrimPrefix(first, dir)))
				continue
			}
			d.dataset = loaded
			d.saw("%s lies beside, with labels", beside)
			break
		}
	}
	for _, line := range d.dataset.Report().Lines() {
		d.Saw = append(d.Saw, line)
	}
	d.Unsure = append(d.Unsure, d.dataset.Report().Notes...)
	return nil
}

// chooseMetric takes another metric than accuracy where one class is most of the rows.
func (d *draft) chooseMetric() {
	const most = 0.7
	if chance := d.dataset.Chance(); d.Task.Metric == metric.Accuracy && chance > most &&
		d.Task.Kind == data.KindClassification {
		d.Task.Metric = metric.F1Macro
		d.saw("always the same answer has an accuracy of %.3f: the metric is %s", chance, metric.F1Macro)
	}
}

// measure finds max_length from the tokens of the rows: nearly all fit.
func (d *draft) measure() error {
	const fit, longest, looked, step = 0.99, 512, 2000, 8
	if d.model == "" {
		d.Unsure = append(d.Unsure, "without --model the lengths in tokens are not known: task.max_length is the default")
		return nil
	}
	dir, err := hub.Directory(d.model, d.model)
	if err != nil {
		return err
	}
	c, err := checkpoint.Open(dir)
	if err != nil {
		return err
	}
	limit := min(c.Config.MaxLength(), longest)
	if err := c.Close(); err != nil {
		return err
	}
	tok, err := tokenizer.Load(dir)
	if err != nil {
		return err
	}
	t := d.Task
	t.MaxLength = limit
	var lengths []int
	for _, e := range d.dataset.Train[:min(len(d.dataset.Train), looked)] {
		for _, sequence := range t.Encode(tok, e).Sequences {
			lengths = append(lengths, len(sequence.IDs))
		}
	}
	slices.Sort(lengths)
	at := lengths[int(math.Ceil(fit*float64(len(lengths))))-1]
	d.Task.MaxLength = max(tokenizer.MinLength, min(limit, (at+step-1)/step*step))
	d.saw("inputs have %d tokens (median), %d at most; 99 of 100 have up to %d", lengths[len(lengths)/2],
		lengths[len(lengths)-1], at)
	if lengths[len(lengths)-1] == limit {
		d.Unsure = append(d.Unsure, fmt.Sprintf("some inputs are longer than %d tokens and are cut", limit))
	}
	return nil
}

// manyRows is a training set of which trials need a part only.
const manyRows = 4000

func (d *draft) write() []byte {
	var b bytes.Buffer
	t := d.Task
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	comment := func(indent string, sentences []string) {
		for _, s := range sentences {
			line("%s# %s", indent, strings.Join(strings.Fields(s), " "))
		}
	}
	line("# Study file of peftsearch for %s. peftsearch init - prints every key.", filepath.Base(t.Train))
	line("study: %s\n", strconv.Quote(d.name()))
	line("model:")
	switch {
	case d.model == "":
		line("  path: models/all-MiniLM-L6-v2 # name your model")
	case files.Exists(d.model):
		line("  path: %s", strconv.Quote(d.relative(d.model)))
	default: // the name of a model of the Hub
		line("  path: %s", strconv.Quote(d.model))
	}
	line("\n# What the rows look like:")
	comment("", d.Saw)
	if d.Unsure != nil {
		line("# Look at this:")
		comment("", d.Unsure)
	}
	line("task:\n  kind: %s\n  metric: %s", t.Kind, t.Metric)
	for _, file := range []struct{ key, path, share string }{{"train", t.Train, ""}, {"dev", t.Dev, "dev_share: 0.1"},
		{"test", t.Test, "test_share: 0.1"}} {
		if file.path != "" {
			line("  %s: %s", file.key, strconv.Quote(d.relative(file.path)))
		} else {
			line("  %s # carved out of train", file.share)
		}
	}
	line("  columns:")
	c := t.Columns
	for _, column := range []struct {
		key   string
		names []string
		list  bool
	}{{"text", []string{c.Text}, false}, {"text_pair", []string{c.TextPair}, false},
		{"question", []string{c.Question}, false},
		{"choices", c.Choices, true}, {"choice_names", []string{c.ChoiceNames}, false}, {"spans", c.Spans, true},
		{"offsets", c.Offsets, true}, {"label", []string{c.Label}, false}, {"labels", c.Labels, true}} {
		quoted := make([]string, len(column.names))
		for i, name := range column.names {
			quoted[i] = strconv.Quote(name)
		}
		if value := strings.Join(quoted, ", "); column.list && value != "" {
			line("    %s: [%s]", column.key, value)
		} else if value != "" && value != `""` {
			line("    %s: %s", column.key, value)
		}
	}
	if t.Split == "" {
		line("  split: %s", SplitRandom)
	}
	line("  max_length: %d", t.MaxLength)
	line("\nbudget:\n  trials: 50")
	if rows := len(d.dataset.Train); rows > manyRows {
		line("  train_rows: %d # of %d: trials are short, and peftsearch train takes all rows", manyRows/2, rows)
	}
	return b.Bytes()
}

// name is the name of the data: of its folder, if the file is called after a split.
func (d *draft) name() string {
	path, err := filepath.Abs(d.Task.Train)
	if err != nil {
		path = d.Task.Train
	}
	name := strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
	if trainName.MatchString(name) {
		name = filepath.Base(filepath.Dir(path))
	}
	if checkName(name) != nil {
		return "my-study"
	}
	return name
}

// relative is a path as the study file names it.
func (d *draft) relative(path string) string {
	from, err := filepath.Abs(filepath.Dir(d.path))
	to, err2 := filepath.Abs(path)
	if errors.Join(err, err2) != nil {
		return path
	}
	if relative, err := filepath.Rel(from, to); err == nil {
		return relative
	}
	return to
}
