// Package metric scores predictions.
package metric

import (
	"fmt"
	"maps"
	"math"
	"slices"
)

// Name names a score. Every metric is better when larger and at most 1: an error is negated.
type Name string

// The metrics, as scikit-learn, SciPy and seqeval define them.
const (
	// Of classes.
	Accuracy         Name = "accuracy" // of sets: the share of rows that are right as a whole
	BalancedAccuracy Name = "balanced_accuracy"
	F1               Name = "f1"       // binary, as Precision and Recall are: of the label with index 1
	F1Macro          Name = "f1_macro" // unweighted mean over the labels, as are PrecisionMacro and RecallMacro
	F1Micro          Name = "f1_micro" // of all decisions together
	Precision        Name = "precision"
	Recall           Name = "recall"
	PrecisionMacro   Name = "precision_macro"
	RecallMacro      Name = "recall_macro"
	MCC              Name = "mcc"               // Matthews correlation
	AccuracyF1       Name = "accuracy_f1_macro" // mean of both: SuperGLUE's score of CB
	// Of values.
	Pearson  Name = "pearson"
	Spearman Name = "spearman" // average ranks for ties
	NegRMSE  Name = "neg_rmse" // −√mean (ŷ−y)²
	NegRAE   Name = "neg_rae"  // −Σ|ŷ−y| / Σ|ȳ−y|
	// Of entities that BIO tags mark. An entity is right if its type and both of its ends are.
	EntityF1        Name = "entity_f1"        // read as conlleval does: an I- after another type begins an entity
	EntityPrecision Name = "entity_precision" // likewise
	EntityRecall    Name = "entity_recall"    // likewise
	EntityF1Macro   Name = "entity_f1_macro"  // likewise; unweighted mean over the types
	EntityF1Strict  Name = "entity_f1_strict" // IOB2 to the letter: entities begin with B- alone
	// Of a reference's tokens, given those before them.
	TokenAccuracy    Name = "token_accuracy"    // the share of tokens that are the most probable ones
	TokenProbability Name = "token_probability" // their geometric mean: e to the negative mean loss, 1/perplexity
	// Of texts that are written. Of several references a row's best one counts, for BLEU all of them do.
	ExactMatch Name = "exact_match"
	BLEU       Name = "bleu" // sacreBLEU with its defaults, of all rows together, as are the chrFs
	ChrF       Name = "chrf"
	ChrFPlus   Name = "chrf++"
	ROUGE1     Name = "rouge1" // rouge-score without its stemmer, as are the others: only a to z are letters
	ROUGE2     Name = "rouge2"
	ROUGEL     Name = "rougeL"
	ROUGELsum  Name = "rougeLsum" // of texts with a sentence on each line
	// The same with the letters and digits of every script.
	ROUGE1Unicode    Name = "rouge1_unicode"
	ROUGE2Unicode    Name = "rouge2_unicode"
	ROUGELUnicode    Name = "rougeL_unicode"
	ROUGELsumUnicode Name = "rougeLsum_unicode"
)

// known is what is known of a metric.
type known struct {
	low, high float64
	score     func(a Answers) float64
}

var metrics = map[Name]known{
	Accuracy:         {0, 1, accuracy},
	BalancedAccuracy: {0, 1, balancedAccuracy},
	F1:               {0, 1, func(a Answers) float64 { return a.classes()[1].f1() }},
	F1Macro:          {0, 1, func(a Answers) float64 { return a.classes().mean(count.f1) }},
	F1Micro:          {0, 1, func(a Answers) float64 { return a.classes().sum().f1() }},
	Precision:        {0, 1, func(a Answers) float64 { return a.classes()[1].precision() }},
	Recall:           {0, 1, func(a Answers) float64 { return a.classes()[1].recall() }},
	PrecisionMacro:   {0, 1, func(a Answers) float64 { return a.classes().mean(count.precision) }},
	RecallMacro:      {0, 1, func(a Answers) float64 { return a.classes().mean(count.recall) }},
	MCC:              {-1, 1, mcc},
	AccuracyF1:       {0, 1, func(a Answers) float64 { return (accuracy(a) + a.classes().mean(count.f1)) / 2 }},
	Pearson:          {-1, 1, func(a Answers) float64 { return pearson(a.flat()) }},
	Spearman:         {-1, 1, spearman},
	NegRMSE:          {-math.MaxFloat64, 0, negRMSE},
	NegRAE:           {-math.MaxFloat64, 0, negRAE},
	EntityF1:         {0, 1, func(a Answers) float64 { return a.entities(lenient).sum().f1() }},
	EntityPrecision:  {0, 1, func(a Answers) float64 { return a.entities(lenient).sum().precision() }},
	EntityRecall:     {0, 1, func(a Answers) float64 { return a.entities(lenient).sum().recall() }},
	EntityF1Macro:    {0, 1, func(a Answers) float64 { return a.entities(lenient).mean(count.f1) }},
	EntityF1Strict:   {0, 1, func(a Answers) float64 { return a.entities(strict).sum().f1() }},
}

// Known reports whether there is such a metric.
func (n Name) Known() bool {
	_, ok := metrics[n]
	return ok
}

// Range is the least and the greatest value that a score in the metric can have.
func (n Name) Range() (low, high float64) { return metrics[n].low, metrics[n].high }

// Form is how the answers of a row are written as numbers.
type Form int

// The forms.
const (
	Classes Form = iota // class indices: one, or one for each part of the row
	Values              // one number
	Sets                // 1 for each label that the row has, 0 for the others
	Tags                // the index of each word's BIO tag
	// Texts are predicted as the sum of the losses of the first reference's tokens, how many of them are the most
	// probable ones, and how many there are; then the code points of what was written, if anything was. What is true is
	// the code points of each reference, with a -1 behind them.
	Texts
)

// Answers are predictions for rows, and what is true of them.
type Answers struct {
	Form              Form
	Labels            []string    // names of the tags
	Predicted, Actual [][]float64 // by row, of equal lengths unless they are texts
}

// flat puts the answers of all rows one after another.
func (a Answers) flat() (predicted, actual []float64) {
	return slices.Concat(a.Predicted...), slices.Concat(a.Actual...)
}

// Score compares predictions with what is true. It equals the function of scikit-learn, SciPy or seqeval; where
// that is undefined, as a correlation with a constant or anything of no rows is, the score is 0. A NaN among the
// predictions makes it NaN.
func Score(name Name, a Answers) float64 {
	if !name.Known() {
		panic(fmt.Sprintf("metric: unknown metric %q", name))
	}
	predicted, actual := a.flat()
	if len(a.Predicted) != len(a.Actual) || a.Form != Texts && len(predicted) != len(actual) {
		panic(fmt.Sprintf("metric: %d predictions for %d answers", len(predicted), len(actual)))
	}
	if len(actual) == 0 {
		return 0
	}
	if slices.ContainsFunc(predicted, math.IsNaN) {
		return math.NaN()
	}
	return metrics[name].score(a)
}

// Chance is the best score of predictions that do not look at the row.
func Chance(name Name, a Answers) float64 {
	best := math.Inf(-1)
	for _, constant := range a.constants() {
		a.Predicted = make([][]float64, len(a.Actual))
		for i, actual := range a.Actual {
			if a.Form == Sets || a.Form == Texts {
				a.Predicted[i] = constant
			} else {
				a.Predicted[i] = slices.Repeat(constant, len(actual))
			}
		}
		best = max(best, Score(name, a))
	}
	return best
}

// constants are the answers among which the best one that is the same for every row is: a set, or one number for
// each part of a row.
func (a Answers) constants() [][]float64 {
	const manySets = 20
	_, actual := a.flat()
	if len(actual) == 0 {
		return [][]float64{{0}}
	}
	frequency := map[float64]int{}
	for _, v := range actual {
		frequency[v]++
	}
	values := slices.Sorted(maps.Keys(frequency))
	slices.SortStableFunc(values, func(x, y float64) int { return frequency[y] - frequency[x] })
	switch a.Form {
	case Texts: // the most frequent first reference; nothing is expected of its tokens
		seen, best := map[string]int{}, ""
		for _, target := range a.Actual {
			text := References(target)[0]
			if seen[text]++; seen[text] > seen[best] || seen[text] == seen[best] && text < best {
				best = text
			}
		}
		const impossible = 1e3 // e to its negative is 0
		return [][]float64{append([]float64{impossible, 0, 1}, Points(best)...)}
	case Values:
		sorted := slices.Sorted(slices.Values(actual))
		return [][]float64{{mean(actual)}, {(sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2}}
	case Sets: // the most frequent labels, of each number
		have := make([]int, len(a.Actual[0]))
		order := make([]int, len(have))
		for label := range have {
			order[label] = label
			for _, row := range a.Actual {
				have[label] += int(row[label])
			}
		}
		slices.SortStableFunc(order, func(x, y int) int { return have[y] - have[x] })
		sets := [][]float64{make([]float64, len(have))}
		for i, label := range order {
			set := slices.Clone(sets[len(sets)-1])
			set[label] = 1
			if i < manySets || i == len(order)-1 {
				sets = append(sets, set)
			} else {
				sets[len(sets)-1] = set
			}
		}
		return sets
	case Tags:
		constants := make([][]float64, len(values))
		for i, value := range values {
			constants[i] = []float64{value}
		}
		return constants
	}
	return [][]float64{{values[0]}, {1}} // binary scores are of class 1
}
