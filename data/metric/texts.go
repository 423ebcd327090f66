package metric

import (
	"math"
	"slices"
	"strings"
)

// textMetric is a score of texts: that of the sums, over the rows, of what each one counts.
type textMetric struct {
	counts func(w writing) []float64
	score  func(sums []float64) float64
}

// writing is an answer of the form Texts.
type writing struct {
	loss, hits, tokens float64
	text               string
	references         []string
}

// textMetrics are those of [Texts].
var textMetrics = map[Name]textMetric{
	TokenAccuracy: {func(w writing) []float64 { return []float64{w.hits, w.tokens} }, ratio},
	TokenProbability: {func(w writing) []float64 { return []float64{-w.loss, w.tokens} }, func(sums []float64) float64 {
		return math.Exp(ratio(sums))
	}},
	ExactMatch:       ofText(exactCounts, ratio),
	BLEU:             ofText(bleuCounts, bleu),
	ChrF:             ofText(chrfCounts(0), chrf),
	ChrFPlus:         ofText(chrfCounts(chrfWords), chrf),
	ROUGE1:           ofText(rougeCounts(rougeN(1), asciiWords), ratio),
	ROUGE2:           ofText(rougeCounts(rougeN(2), asciiWords), ratio),
	ROUGEL:           ofText(rougeCounts(rougeL, asciiWords), ratio),
	ROUGELsum:        ofText(rougeCounts(rougeLsum, asciiWords), ratio),
	ROUGE1Unicode:    ofText(rougeCounts(rougeN(1), unicodeWords), ratio),
	ROUGE2Unicode:    ofText(rougeCounts(rougeN(2), unicodeWords), ratio),
	ROUGELUnicode:    ofText(rougeCounts(rougeL, unicodeWords), ratio),
	ROUGELsumUnicode: ofText(rougeCounts(rougeLsum, unicodeWords), ratio),
}

func init() {
	for name := range textMetrics {
		metrics[name] = known{0, 1, func(a Answers) float64 {
			rows, score := Additive(name, a)
			var sums []float64
			for _, row := range rows {
				sums = sum(sums, row)
			}
			return score(sums)
		}}
	}
}

// ofText is a metric of what was written.
func ofText(counts func(text string, references []string) []float64, score func(sums []float64) float64) textMetric {
	return textMetric{func(w writing) []float64 { return counts(w.text, w.references) }, score}
}

// OfTokens reports whether a metric looks at the tokens of the references, and not at what was written.
func (n Name) OfTokens() bool { return n == TokenAccuracy || n == TokenProbability }

// ratio is the first sum by the second one.
func ratio(sums []float64) float64 { return sums[0] / sums[1] }

// exactCounts counts texts that are one of their references, space around them apart.
func exactCounts(text string, references []string) []float64 {
	if slices.ContainsFunc(references, func(r string) bool { return strings.TrimSpace(r) == strings.TrimSpace(text) }) {
		return []float64{1, 1}
	}
	return []float64{0, 1}
}

// Additive takes a metric of texts apart: into what each row counts, and the score of sums of that. Both are nil for
// metrics of another form.
func Additive(name Name, a Answers) (rows [][]float64, score func(sums []float64) float64) {
	m, ok := textMetrics[name]
	if !ok {
		return nil, nil
	}
	for i, actual := range a.Actual {
		predicted := a.Predicted[i]
		w := writing{loss: predicted[0], hits: predicted[1], tokens: predicted[2]}
		w.text, w.references = Text(predicted[3:]), References(actual)
		rows = append(rows, m.counts(w))
	}
	return rows, m.score
}

// sum adds b to a, which may be nil.
func sum(a, b []float64) []float64 {
	if a == nil {
		return slices.Clone(b)
	}
	for i, v := range b {
		a[i] += v
	}
	return a
}

// Text is what code points stand for.
func Text(points []float64) string {
	runes := make([]rune, len(points))
	for i, point := range points {
		runes[i] = rune(point)
	}
	return string(runes)
}

// Points are the code points of a text.
func Points(text string) []float64 {
	var points []float64
	for _, r := range text {
		points = append(points, float64(r))
	}
	return points
}

// endOfText stands behind each of several texts.
const endOfText = -1

// References are the texts that the target of a row of [Texts] holds.
func References(target []float64) []string {
	var texts []string
	for len(target) > 0 {
		end := slices.Index(target, endOfText)
		texts = append(texts, Text(target[:end]))
		target = target[end+1:]
	}
	return texts
}

// Target is the inverse of References.
func Target(references []string) []float64 {
	var target []float64
	for _, text := range references {
		target = append(append(target, Points(text)...), endOfText)
	}
	return target
}
