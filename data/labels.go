package data

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"

	"peftsearch/data/quote"
)

// maxLabels is more than any head of these models learns.
const maxLabels = 1000

// spelling is a label as rows have it.
type spelling struct {
	label string
	rows  int
	line  int // of the first row
}

func (s spelling) String() string {
	return fmt.Sprintf("%s (%d rows, the first is line %d)", quote.Exact(s.label), s.rows, s.line)
}

// labels are the task's, or those of the training rows: sorted as numbers if all are numbers, else as
// text. Empty labels are reported later.
func (t Task) labels(l layout, records []record, of func(record) []string) ([]string, error) {
	found, index, column := []spelling{}, map[string]int{}, l.names("label")
	for _, r := range records {
		for _, label := range of(r) {
			if label == "" {
				continue
			}
			i, ok := index[label]
			if !ok {
				i = len(found)
				index[label] = i
				found = append(found, spelling{label: label, line: r.line})
			}
			found[i].rows++
		}
	}
	labels := t.Labels
	if labels == nil {
		for _, s := range found {
			labels = append(labels, s.label)
		}
	}
	switch n := len(labels); {
	case n < 2:
		return nil, fmt.Errorf("%s: column %s has the labels [%s]: %s needs at least 2",
			t.Train, column, quote.List(labels), t.Kind)
	case n > maxLabels:
		return nil, fmt.Errorf("%s: column %s has %d different labels, the limit is %d: is it the label, and is this no "+
			"regression?",
			t.Train, column, n, maxLabels)
	case n > 2 && ofTwoClasses[t.Metric]:
		return nil, fmt.Errorf("metric %s needs 2 labels, %s has %d: use %s_macro", t.Metric, t.Train, n, t.Metric)
	}
	if t.Labels != nil {
		for _, label := range labels {
			if _, ok := index[label]; !ok {
				have := make([]string, len(found))
				for i, s := range found {
					have[i] = s.label
				}
				return nil, fmt.Errorf("%s: label %s of task.labels stands in no row%s: the rows have %s",
					t.Train, quote.Text(label), didYouMean(label, have), quote.List(have))
			}
		}
		return labels, nil
	}
	if err := t.doubtful(column, found); err != nil {
		return nil, err
	}
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
	return labels, nil
}

// doubtful refuses labels that look like another one in other letters, and those that stand for a
// missing value. Who means them lists all labels in task.labels.
func (t Task) doubtful(column string, found []spelling) error {
	const shown = 5
	var problems []string
	groups, order := map[string][]spelling{}, []string{}
	for _, s := range found {
		key := labelKey(s.label)
		if groups[key] == nil {
			order = append(order, key)
		}
		groups[key] = append(groups[key], s)
	}
	for _, key := range order {
		group := groups[key]
		if len(group) < 2 && !missingValue(group[0].label) {
			continue
		}
		parts := make([]string, len(group))
		for i, s := range group {
			parts[i] = s.String()
		}
		problem := strings.Join(parts[:min(len(parts), shown)], " and ")
		if len(parts) > shown {
			problem += fmt.Sprintf(" and %d more", len(parts)-shown)
		}
		if len(group) < 2 {
			problem += ", which stands for a missing value"
		}
		problems = append(problems, "\n  "+problem)
	}
	if len(problems) == 0 {
		return nil
	}
	more := ""
	if len(problems) > shown {
		more = fmt.Sprintf("\n  and %d more", len(problems)-shown)
	}
	return fmt.Errorf("%s: column %s has labels that are hardly meant as classes of their own: "+
		"correct the rows, or list all labels under task.labels%s%s",
		t.Train, column, strings.Join(problems[:min(len(problems), shown)], ""), more)
}

// visible is a text without characters that show nothing.
func visible(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.In(r, unicode.Cc, unicode.Cf, unicode.Variation_Selector) && !unicode.IsSpace(r) {
			return -1
		}
		return r
	}, text)
}

// asciiDigit is a decimal digit of any script as one of 0 to 9; other characters stay.
func asciiDigit(r rune) rune {
	if r > unicode.MaxASCII {
		for _, digits := range unicode.Nd.R16 { // scripts have ten in a row, and their ranges whole scripts
			if r >= rune(digits.Lo) && r <= rune(digits.Hi) {
				return '0' + (r-rune(digits.Lo))%10
			}
		}
		for _, digits := range unicode.Nd.R32 {
			if r >= rune(digits.Lo) && r <= rune(digits.Hi) {
				return '0' + (r-rune(digits.Lo))%10
			}
		}
	}
	return r
}

// Numbers as people write them beside Go's forms.
var (
	hexadecimal  = regexp.MustCompile(`^-?0x[0-9a-f]{1,15}$`)
	decimalComma = regexp.MustCompile(`^[-+]?[0-9]+,[0-9]+$`)
)

// labelKey is the same for labels that differ in case, in how a number is written, in invisible
// characters or in their Unicode normal form alone.
func labelKey(label string) string {
	key := norm.NFKC.String(cases.Fold().String(norm.NFKC.String(visible(label))))
	key = strings.Map(asciiDigit, strings.Join(strings.Fields(key), " "))
	switch {
	case hexadecimal.MatchString(key):
		value, _ := strconv.ParseInt(key, 0, 64) // 15 digits fit
		return strconv.FormatInt(value, 10)
	case decimalComma.MatchString(key):
		key = strings.Replace(key, ",", ".", 1)
	}
	if integer.MatchString(key) { // of any size
		negative, digits := strings.HasPrefix(key, "-"), strings.TrimLeft(strings.TrimPrefix(key, "-"), "0")
		switch {
		case digits == "":
			return "0"
		case negative:
			return "-" + digits
		}
		return digits
	}
	if value, ok := parseNumber(key); ok {
		if value == math.Trunc(value) && math.Abs(value) < 1<<53 {
			return strconv.FormatInt(int64(value), 10)
		}
		return strconv.FormatFloat(value, 'g', -1, 64)
	}
	return key
}

// missingValue reports whether a label is what pandas, R, SQL or Excel write where there is no value.
func missingValue(label string) bool {
	return label == "None" || slices.Contains([]string{"nan", "na", "n/a", "#n/a", "<na>", "null",
		"nat"}, strings.ToLower(label))
}

func didYouMean(word string, known []string) string {
	if near := quote.Nearest(word, known); near != "" {
		return fmt.Sprintf(" (did you mean %s?)", quote.Text(near))
	}
	return ""
}
