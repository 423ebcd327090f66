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

// orderCounts counts the n-grams of one order.
type orderCounts struct{ text, reference, both int }

// chrf is the chrF of a corpus (Popović 2015), from 0 to 1, as sacreBLEU 2.6.0 computes it: n-grams of up to 6 characters
// without white space, and with words > 0 of up to so many words (chrF++, Popović 2017). Of several references the one
// with the best score counts.
func chrf(pairs []Pair, words int) float64 {
	total := make([]orderCounts, chrfCharacters+words)
	for _, p := range pairs {
		var best []orderCounts
		score := -1.0
		for _, reference := range p.References {
			counts := chrfCounts(p.Text, reference, words)
			if s := chrfScore(counts); s > score {
				best, score = counts, s
			}
		}
		for i, c := range best {
			total[i].text += c.text
			total[i].reference += c.reference
			total[i].both += c.both
		}
	}
	return chrfScore(total)
}

// chrfScore is F₂ of the means of precision and recall over the orders that both texts have.
func chrfScore(counts []orderCounts) float64 {
	precision, recall, orders := 0.0, 0.0, 0.0
	for _, c := range counts {
		if c.text > 0 && c.reference > 0 {
			precision += float64(c.both) / float64(c.text)
			recall += float64(c.both) / float64(c.reference)
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

func chrfCounts(text, reference string, words int) []orderCounts {
	var counts []orderCounts
	add := func(a, b map[string]int) {
		c := orderCounts{reference: size(b), both: overlap(a, b)}
		if c.reference > 0 {
			c.text = size(a)
		}
		counts = append(counts, c)
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
