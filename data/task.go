package data

import "peftsearch/data/metric"

// Kind is what a task predicts.
type Kind string

// The kinds of task.
const (
	KindClassification Kind = "classification" // one of two or more labels
	KindRegression     Kind = "regression"     // one number
)

// Metrics lists the metrics of each kind; the first is the default.
var Metrics = map[Kind][]metric.Name{
	KindClassification: {metric.Accuracy, metric.F1, metric.F1Macro, metric.MCC},
	KindRegression:     {metric.Spearman, metric.Pearson},
}

// Columns maps the columns of a file: a name of its header, or "#1", "#2", … for the position in a
// file without one.
type Columns struct {
	Text     string `json:"text"`
	TextPair string `json:"text_pair,omitempty"` // empty for single sentences
	Label    string `json:"label"`
}

// Task describes a labelled data set and how it is scored. It is plain data: [Load] reads the files.
type Task struct {
	Kind    Kind        `json:"kind"`
	Metric  metric.Name `json:"metric"`
	Train   string      `json:"train"`          // path of a .tsv, .csv or .jsonl file
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
	// from the longer sentence's end.
	MaxLength int `json:"max_length"`
}
