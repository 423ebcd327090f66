package data

import "peftsearch/data/metric"

// Row is the input of one example.
type Row struct {
	Text     string `json:"text"`
	TextPair string `json:"text_pair,omitempty"`
}

// Texts are the one or two texts of the row.
func (r Row) Texts() []string {
	if r.TextPair == "" {
		return []string{r.Text}
	}
	return []string{r.Text, r.TextPair}
}

// Example is a row with its label.
type Example struct {
	Row
	// Label is the index into Dataset.Labels for classification, the value itself for regression.
	Label float64
}

// Dataset is a task's data in memory. It is read-only after Load.
type Dataset struct {
	Task   Task
	Labels []string // class names by index; nil for regression
	Train  []Example
	Dev    []Example
	Test   []Example // empty if the task has neither a file nor a share for it
	// Fingerprint is a SHA-256 of the examples of all splits and the labels: what a score depends on,
	// not how the files are written.
	Fingerprint string
	Notes       []string // what of the files may not be as meant, a sentence each
}

// Scores gives every metric of the task's kind that its number of labels allows; nil for no rows.
func (d *Dataset) Scores(predictions, labels []float64) map[string]float64 {
	if len(labels) == 0 {
		return nil
	}
	scores := map[string]float64{}
	for _, name := range Metrics[d.Task.Kind] {
		if name != metric.F1 || len(d.Labels) == 2 {
			scores[string(name)] = metric.Score(name, predictions, labels)
		}
	}
	return scores
}
