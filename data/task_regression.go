package data

import (
	"fmt"

	"peftsearch/data/metric"
	"peftsearch/data/quote"
)

// regression gives a text, or a pair of texts, a number. Ordered classes are numbers too.
type regression struct{ plain }

func (regression) form() metric.Form { return metric.Values }

func (regression) metrics() []metric.Name {
	return []metric.Name{metric.Spearman, metric.Pearson, metric.NegRMSE, metric.NegRAE}
}

func (regression) classes(Task, layout, []record) ([]string, error) { return nil, nil }

func (regression) target(l layout, r record, _ Row, _ []string, bad *problems) []float64 {
	text := l.value(r, "label")
	value, ok := parseNumber(text)
	switch {
	case text == "":
		bad.add(r.line, "%s is missing or empty", l.names("label"))
	case !ok:
		bad.add(r.line, "%s is %s, not a finite number", l.names("label"), quote.Text(text))
	}
	return []float64{value}
}

func (regression) counted([]float64) []int { return nil }

func (regression) outputs(int) int { return 1 }

func (regression) answer(_ Input, outputs []float64, _ []string) []float64 { return outputs }

func (regression) say(_ Row, answer []float64, _ []string) []string {
	return []string{fmt.Sprintf("%.4g", answer[0])}
}
