package data

// Kind is what a task predicts.
type Kind string

// The kinds of task.
const (
	KindClassification Kind = "classification" // one of two or more labels
	KindRegression     Kind = "regression"     // one number
)

// Metric names a dev score. Every metric is better when larger and at most 1.
type Metric string

// The metrics, as scikit-learn and SciPy define them.
const (
	MetricAccuracy Metric = "accuracy"
	MetricF1       Metric = "f1"       // binary: of the label with index 1
	MetricF1Macro  Metric = "f1_macro" // unweighted mean over the labels
	MetricMCC      Metric = "mcc"      // Matthews correlation
	MetricPearson  Metric = "pearson"
	MetricSpearman Metric = "spearman" // average ranks for ties
)

// Metrics lists the metrics of each kind; the first is the default.
var Metrics = map[Kind][]Metric{
	KindClassification: {MetricAccuracy, MetricF1, MetricF1Macro, MetricMCC},
	KindRegression:     {MetricSpearman, MetricPearson},
}

// Range is the least and the greatest value that a score in the metric can have.
func (m Metric) Range() (low, high float64) {
	switch m {
	case MetricMCC, MetricPearson, MetricSpearman:
		return -1, 1
	}
	return 0, 1
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
	Kind    Kind    `json:"kind"`
	Metric  Metric  `json:"metric"`
	Train   string  `json:"train"`          // path of a .tsv, .csv or .jsonl file
	Dev     string  `json:"dev,omitempty"`  // empty: carved out of train
	Test    string  `json:"test,omitempty"` // empty: carved out of train
	Columns Columns `json:"columns"`
	// TestColumns is the mapping of a test file with other columns; the zero value means Columns.
	TestColumns Columns `json:"test_columns,omitzero"`
	// Labels fixes the order of the classes; empty means the sorted labels of the training rows.
	Labels []string `json:"labels,omitempty"`
	// DevShare and TestShare are the shares of train that become a split that has no file, 0 to 0.5.
	DevShare  float64 `json:"dev_share"`
	TestShare float64 `json:"test_share"`
	SplitSeed uint64  `json:"split_seed"`
	// MaxLength is the longest input in tokens, special tokens included; longer ones are truncated
	// from the longer sentence's end.
	MaxLength int `json:"max_length"`
}
