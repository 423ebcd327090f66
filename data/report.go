package data

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"peftsearch/data/quote"
)

// Report is what a data set shows before anything is trained on it.
type Report struct {
	Splits  []SplitReport `json:"splits"`            // train, dev and test
	Classes []ClassReport `json:"classes,omitempty"` // by index; nil where classes have no names
	Notes   []string      `json:"notes,omitempty"`   // what may not be as meant, a sentence each
}

// SplitReport describes the rows of a split.
type SplitReport struct {
	Name    string `json:"name"`
	Rows    int    `json:"rows"`
	InTrain int    `json:"in_train"` // rows of dev or test whose input is one of train's
	Swapped int    `json:"swapped"`  // pairs of dev or test that train has the other way round
	// Lengths of inputs in characters, both sentences together.
	MedianLength int `json:"median_length"`
	MaxLength    int `json:"max_length"`
	// Range of the targets of a regression.
	MinTarget float64 `json:"min_target"`
	MaxTarget float64 `json:"max_target"`
}

// ClassReport counts the rows of a class in every split; of tags, the words.
type ClassReport struct {
	Label string `json:"label"`
	Train int    `json:"train"`
	Dev   int    `json:"dev"`
	Test  int    `json:"test"`
}

// Report looks at every row.
func (d *Dataset) Report() Report {
	r := Report{Notes: slices.Clone(d.Notes)}
	kind, train := kinds[d.Task.Kind], make(map[string]bool, len(d.Train))
	for _, e := range d.Train {
		train[e.Row.key()] = true
	}
	for _, label := range d.Labels {
		r.Classes = append(r.Classes, ClassReport{Label: label})
	}
	for i, examples := range [][]Example{d.Train, d.Dev, d.Test} {
		s := SplitReport{Name: []string{"train", "dev", "test"}[i], Rows: len(examples)}
		lengths := make([]int, len(examples))
		for j, e := range examples {
			lengths[j] = e.characters()
			if i > 0 && train[e.Row.key()] {
				s.InTrain++
			}
			if i > 0 && e.TextPair != "" && e.TextPair != e.Text && train[Row{Text: e.TextPair, TextPair: e.Text}.key()] {
				s.Swapped++
			}
			if d.Labels != nil {
				for _, c := range kind.counted(e.Target) {
					class := &r.Classes[c]
					*[]*int{&class.Train, &class.Dev, &class.Test}[i]++
				}
			} else if target := e.Target[0]; d.Task.Kind.Numeric() && j == 0 {
				s.MinTarget, s.MaxTarget = target, target
			} else if d.Task.Kind.Numeric() {
				s.MinTarget, s.MaxTarget = min(s.MinTarget, target), max(s.MaxTarget, target)
			}
		}
		if len(lengths) > 0 {
			slices.Sort(lengths)
			s.MedianLength, s.MaxLength = lengths[len(lengths)/2], lengths[len(lengths)-1]
		}
		r.Splits = append(r.Splits, s)
	}
	r.Notes = append(r.Notes, r.doubts(d)...)
	return r
}

// doubts are what makes scores on dev or test say less than they seem to.
func (r Report) doubts(d *Dataset) []string {
	var notes []string
	for _, s := range r.Splits[1:] {
		var parts []string
		if s.InTrain > 0 {
			parts = append(parts, fmt.Sprintf("%d of its %d rows stand in train too", s.InTrain, s.Rows))
		}
		if s.Swapped > 0 {
			parts = append(parts, fmt.Sprintf("%d of its %d pairs stand in train with their sentences swapped",
				s.Swapped, s.Rows))
		}
		if len(parts) > 0 {
			notes = append(notes, fmt.Sprintf("%s: %s; scores on them say little about new rows",
				s.Name, strings.Join(parts, ", ")))
		}
	}
	if test := r.Splits[2]; test.Rows > 0 && d.Task.Kind.Numeric() && test.MinTarget == test.MaxTarget {
		notes = append(notes, fmt.Sprintf("test: all %d targets are %g: %s is 0 for every plan",
			test.Rows, test.MinTarget, d.Task.Metric))
	}
	var noDev, noTest []string
	for _, c := range r.Classes {
		if d.Task.Kind == KindTokenClassification && (c.Label == outside || c.Train == 0) {
			continue // words outside are everywhere, and a type may have no entities of several words
		}
		if c.Dev == 0 {
			noDev = append(noDev, c.Label)
		}
		if c.Test == 0 && r.Splits[2].Rows > 0 {
			noTest = append(noTest, c.Label)
		}
	}
	if len(noDev) > 0 {
		notes = append(notes, fmt.Sprintf("dev has no row with %d of the %d labels: %s",
			len(noDev), len(r.Classes), quote.List(noDev)))
	}
	if len(noTest) > 0 {
		notes = append(notes, fmt.Sprintf("test has no row with %d of the %d labels: %s",
			len(noTest), len(r.Classes), quote.List(noTest)))
	}
	return notes
}

// Lines is the report for people, without its notes: a line for each split and for each of the first classes.
func (r Report) Lines() []string {
	const shown = 20
	var lines []string
	for _, s := range r.Splits {
		line := fmt.Sprintf("%-5s  %d rows", s.Name, s.Rows)
		if s.Rows > 0 {
			line += fmt.Sprintf(", %d characters each (median), at most %d", s.MedianLength, s.MaxLength)
			if s.MinTarget < s.MaxTarget {
				line += fmt.Sprintf(", targets from %g to %g", s.MinTarget, s.MaxTarget)
			}
		}
		lines = append(lines, line)
	}
	digits := int(math.Log10(float64(max(1, len(r.Classes)-1)))) + 1
	for i, c := range r.Classes[:min(len(r.Classes), shown)] {
		lines = append(lines, fmt.Sprintf("class %*d  %s: %d train, %d dev, %d test",
			digits, i, quote.Text(c.Label), c.Train, c.Dev, c.Test))
	}
	if more := len(r.Classes) - shown; more > 0 {
		lines = append(lines, fmt.Sprintf("and %d more classes", more))
	}
	return lines
}
