package data

import (
	"errors"
	"maps"
	"slices"
	"strings"

	"peftsearch/data/metric"
	"peftsearch/data/tokenizer"
)

// Kind is what a task predicts.
type Kind string

// The kinds of task. Each is a file of this package, and a head in evaluator/model.
const (
	KindClassification      Kind = "classification"       // one of two or more labels
	KindRegression          Kind = "regression"           // one number
	KindTokenClassification Kind = "token_classification" // the BIO tag of each word
	KindMultipleChoice      Kind = "multiple_choice"      // one of the choices that the row brings
	KindCoreference         Kind = "coreference"          // of each candidate, whether the mention refers to it
	KindMultilabel          Kind = "multilabel"           // any number of labels
	KindText                Kind = "text"                 // a text that is written token by token
)

var kinds = map[Kind]kind{
	KindClassification:      classification{},
	KindRegression:          regression{},
	KindTokenClassification: tokenClassification{},
	KindMultipleChoice:      multipleChoice{},
	KindCoreference:         coreference{},
	KindMultilabel:          multilabel{},
	KindText:                text{},
}

// kind is all that a task of a kind does with its data. Implementations have no state.
//
// What is predicted of a row, and what is true of it, is a vector in the form that the kind's metrics read; classes
// are numbered as classes returns them.
type kind interface {
	form() metric.Form
	metrics() []metric.Name // the first is the default
	// keys are the keys of Columns that the kind reads.
	keys() []columnKey
	// reader reads files with an extension; nil if it cannot.
	reader(extension string) reader
	// classes names the classes, as the training rows have them; nil if they have no names.
	classes(t Task, l layout, records []record) ([]string, error)
	// rows are the inputs of the records of one file.
	rows(l layout, records []record, bad *problems) []Row
	// target is what is true of a row.
	target(l layout, r record, row Row, classes []string, bad *problems) []float64
	// notes says what of the records of one file is no error, but may not be as meant.
	notes(l layout, records []record) []string
	// counted are the classes of a target for reports and for stratified splits.
	counted(target []float64) []int
	// group is equal for rows that a split keeps together.
	group(row Row) string
	// outputs is how many numbers the head gives for each thing that it decides, for so many classes.
	outputs(classes int) int
	// encode is what the model reads of an example; its target is looked at by kinds that are taught with it.
	encode(t *tokenizer.Tokenizer, task Task, e Example) Input
	// wanted is what a loss compares the head's outputs with: targets of what is left of the row.
	wanted(in Input, target []float64) []float64
	// answer is the prediction that outputs mean.
	answer(in Input, outputs []float64, classes []string) []float64
	// check refuses a row that the task cannot have, wherever it came from.
	check(t Task, row Row) error
	// several says that an answer has parts.
	several() bool
	// writes says that answers are texts that are generated.
	writes() bool
	// say is an answer in words: one, or one for each part.
	say(row Row, answer []float64, classes []string) []string
	// lines is how predictions are written to a file, from what say gave.
	lines(row Row, said []string) []string
}

// plain is what most kinds do alike: one answer for a row of one or two texts.
type plain struct{}

func (plain) keys() []columnKey { return []columnKey{keyText, keyTextPair, keyLabel} }

func (plain) reader(extension string) reader { return tableReaders[extension] }

func (plain) rows(l layout, records []record, bad *problems) []Row {
	rows := make([]Row, len(records))
	for i, r := range records {
		rows[i].Text = l.text(r, "text", bad)
		if l.has("text_pair") {
			rows[i].TextPair = l.text(r, "text_pair", bad)
		}
	}
	return rows
}

func (plain) notes(layout, []record) []string { return nil }

func (plain) counted(target []float64) []int { return []int{int(target[0])} }

func (plain) group(row Row) string { return row.key() }

func (plain) outputs(classes int) int { return classes }

func (plain) encode(t *tokenizer.Tokenizer, task Task, e Example) Input {
	maxLength, texts := task.MaxLength, e.Texts()
	in := Input{Sequences: []tokenizer.Encoding{t.Encode(maxLength, texts...)}}
	in.Truncated = len(in.Sequences[0].IDs) == maxLength && len(t.Encode(maxLength+1, texts...).IDs) > maxLength
	return in
}

func (plain) wanted(_ Input, target []float64) []float64 { return target }

func (plain) check(t Task, row Row) error {
	if row.Text == "" || t.Columns.TextPair != "" && row.TextPair == "" {
		return errors.New("it has not all texts that the model was trained on")
	}
	return nil
}

func (plain) several() bool { return false }

func (plain) writes() bool { return false }

func (plain) lines(_ Row, said []string) []string { return []string{strings.Join(said, ",")} }

// Kinds lists the kinds of task.
func Kinds() []Kind { return slices.Sorted(maps.Keys(kinds)) }

// Metrics lists the metrics of the kind; the first is the default. It is nil for a kind that there is not.
func (k Kind) Metrics() []metric.Name {
	if implemented, ok := kinds[k]; ok {
		return implemented.metrics()
	}
	return nil
}

// Numeric reports whether the kind's targets are values, not classes.
func (k Kind) Numeric() bool { return kinds[k].form() == metric.Values }

// Several reports whether an answer has parts: of words, candidates or labels.
func (k Kind) Several() bool { return kinds[k].several() }

// Writes reports whether answers are texts, written token by token.
func (k Kind) Writes() bool {
	implemented, ok := kinds[k]
	return ok && implemented.writes()
}

// Outputs is how many numbers a head has for each thing that it decides, if the classes have so many names.
func (k Kind) Outputs(labels int) int { return kinds[k].outputs(labels) }

// Columns maps the columns of a file: a name of its header, or "#1", "#2", … for the position in a
// file without one; in .jsonl also a path such as question.stem. Which are needed depends on the kind.
type Columns struct {
	Text     string `json:"text"`
	TextPair string `json:"text_pair,omitempty"` // empty for single sentences
	Label    string `json:"label"`
	// Labels are columns with a yes or no each: of the candidates, or of the labels that they are named after.
	Labels []string `json:"labels,omitempty"`
	// Question is added to the text of a multiple choice; cause and effect are COPA's questions.
	Question string `json:"question,omitempty"`
	// Choices are columns with a choice each, or one with a list.
	Choices []string `json:"choices,omitempty"`
	// ChoiceNames is a list of what the label calls the choices; empty if it calls them by their place.
	ChoiceNames string `json:"choice_names,omitempty"`
	// Spans are the mention and then the candidates, as they stand in the text at Offsets, which count
	// characters or words from 0.
	Spans   []string `json:"spans,omitempty"`
	Offsets []string `json:"offsets,omitempty"`
}

// IsZero reports whether no column is named; encoding/json asks it for omitzero.
func (c Columns) IsZero() bool {
	return !slices.ContainsFunc(c.named(), func(m mapping) bool { return len(m.columns) > 0 })
}

// Task describes a labelled data set and how it is scored. It is plain data: [Load] reads the files.
type Task struct {
	Kind    Kind        `json:"kind"`
	Metric  metric.Name `json:"metric"`
	Train   string      `json:"train"`          // path of a file of rows
	Dev     string      `json:"dev,omitempty"`  // empty: carved out of train
	Test    string      `json:"test,omitempty"` // empty: carved out of train
	Columns Columns     `json:"columns"`
	// TestColumns is the mapping of a test file with other columns; the zero value means Columns.
	TestColumns Columns `json:"test_columns,omitzero"`
	// Labels fixes the order of the classes; empty means the sorted labels of the training rows.
	// Labels that rows only seem to spell differently must all be listed.
	Labels []string `json:"labels,omitempty"`
	// DevShare and TestShare are the shares of train that become a split that has no file, 0 to 0.5.
	DevShare  float64 `json:"dev_share"`
	TestShare float64 `json:"test_share"`
	SplitSeed uint64  `json:"split_seed"`
	// Split is how rows are carved: "" draws them all alike, [Stratified] keeps the shares of the classes.
	Split string `json:"split,omitempty"`
	// MaxLength is the longest input in tokens, special tokens included; longer ones are truncated
	// from the longer sentence's end, and a multiple choice from the end of what comes before the choice. Of a text it
	// counts what the model reads before it writes.
	MaxLength int `json:"max_length"`
	// Template is what a model reads, and then writes, of a row of [KindText]: {text}, {text_pair} and, at its end,
	// {label} stand for the row's.
	Template string `json:"template,omitempty"`
	// Generation is how texts are written.
	Generation Generation `json:"generation,omitzero"`
}

// Input is a row as a model reads it.
type Input struct {
	// Sequences are token ids: one sequence, or one for each choice.
	Sequences []tokenizer.Encoding
	// Marked are the tokens of the only sequence that the head reads, ascending; nil if it does not say.
	Marked []int
	// Words has for each word its place among Marked, or -1 if none of its tokens is left.
	Words []int
	// Next are the tokens to be written, each after the marked one of its place; nil where none are known.
	Next []int32
	// Spans are the tokens of each span, all of them among Marked.
	Spans []tokenizer.Range
	// Truncated says that the maximal length has cut something off.
	Truncated bool
}

// Prompt is what a decoder reads before it writes.
func (in Input) Prompt() []int32 { return in.Sequences[0].IDs[:in.Marked[0]+1] }

// Tokens is how many tokens all sequences have.
func (in Input) Tokens() int {
	n := 0
	for _, s := range in.Sequences {
		n += len(s.IDs)
	}
	return n
}

// CheckRow refuses a row that the task cannot have.
func (t Task) CheckRow(row Row) error { return kinds[t.Kind].check(t, row) }

// Longest is the longest sequence of tokens that a model reads: of what it writes it does not read the last one.
func (t Task) Longest() int { return t.MaxLength + max(0, t.Generation.MaxNewTokens-1) }

// Encode turns a row into what a model reads; a kind that is written needs the target to be taught with it, and has
// none where it is to be predicted.
func (t Task) Encode(tok *tokenizer.Tokenizer, e Example) Input {
	return kinds[t.Kind].encode(tok, t, e)
}

// Wanted is what a loss compares the outputs for an input with, given the target of its row. Parts of the row that
// the input lacks are left out, or -100 where the head reads something in their stead.
func (t Task) Wanted(in Input, target []float64) []float64 { return kinds[t.Kind].wanted(in, target) }

// Answer is the prediction that a head's outputs for an input mean, in the form of a target.
func (t Task) Answer(in Input, outputs []float64, labels []string) []float64 {
	return kinds[t.Kind].answer(in, outputs, labels)
}

// Say is an answer in words: one for the row, or one for each of its parts.
func (t Task) Say(row Row, answer []float64, labels []string) []string {
	return kinds[t.Kind].say(row, answer, labels)
}

// Lines is how an answer is written to a file, given what Say gave.
func (t Task) Lines(row Row, said []string) []string { return kinds[t.Kind].lines(row, said) }
