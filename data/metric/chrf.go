package metric

import (
	"strings"
	"unicode/utf8"
)

// Orders of chrF.
const (
	chrfCharacters = 6
	chrfWords      = 2 // of chrF++
	chrfBeta       = 2
)

// chrfCounts gives what a row adds to the chrF of a corpus, with n-grams of up to so many words. Of several references
// the one with the best score counts.
func chrfCounts(words int) func(text string, references []string) []float64 {
	return func(text string, references []string) (best []float64) {
		score := -1.0
		for _, reference := range references {
			counts := orderCounts(text, reference, words)
			if s := chrf(counts); s > score {
				best, score = counts, s
			}
		}
		return best
	}
}

// chrf is the chrF of a corpus (Popović 2015), from 0 to 1, as sacreBLEU 2.6.0 computes it: F₂ of the means of
// precision and recall over the orders that both texts have. Orders are n-grams of up to 6 characters without white
// space and, for chrF++ (Popović 2017), of up to 2 words.
func chrf(sums []float64) float64 {
	precision, recall, orders := 0.0, 0.0, 0.0
	for i := 0; i < len(sums); i += 3 {
		if text, reference, both := sums[i], sums[i+1], sums[i+2]; text > 0 && reference > 0 {
			precision += both / text
			recall += both / reference
			orders++
		}
	}
	if precision+recall == 0 {
		return 0
	}
	precision, recall = precision/orders, recall/orders
	const square = chrfBeta * chrfBeta
	return (1 + square) * precision * recall / (square*precision + recall)
}

// orderCounts are, for each order, the n-grams of a text, those of a reference, and those of both.
func orderCounts(text, reference string, words int) []float64 {
	var counts []float64
	add := func(a, b map[string]int) {
		inText, inReference := size(a), size(b)
		if inReference == 0 {
			inText = 0
		}
		counts = append(counts, float64(inText), float64(inReference), float64(overlap(a, b)))
	}
	a, b := strings.Join(strings.Fields(text), ""), strings.Join(strings.Fields(reference), "")
	for n := 1; n <= chrfCharacters; n++ {
		add(characters(a, n), characters(b, n))
	}
	own, theirs := chrfTokens(text), chrfTokens(reference)
	for n := 1; n <= words; n++ {
		add(ngrams(own, n), ngrams(theirs, n))
	}
	return counts
}

func size(counts map[string]int) int {
	sum := 0
	for _, count := range counts {
		sum += count
	}
	return sum
}

// characters counts the n-grams of code points.
func characters(text string, n int) map[string]int {
	counts, starts := map[string]int{}, []int{}
	for i := range text {
		starts = append(starts, i)
	}
	starts = append(starts, len(text))
	for i := 0; i+n < len(starts); i++ {
		counts[text[starts[i]:starts[i+n]]]++
	}
	return counts
}

const asciiPunctuation = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"

// chrfTokens are words, with one mark of punctuation split off at the end or, if there is none, at the beginning.
func chrfTokens(text string) []string {
	var tokens []string
	for _, word := range strings.Fields(text) {
		last := word[len(word)-1:]
		switch {
		case utf8.RuneCountInString(word) == 1:
			tokens = append(tokens, word)
		case strings.Contains(asciiPunctuation, last):
			tokens = append(tokens, word[:len(word)-1], last)
		case strings.Contains(asciiPunctuation, word[:1]):
			tokens = append(tokens, word[:1], word[1:])
		default:
			tokens = append(tokens, word)
		}
	}
	return tokens
}
