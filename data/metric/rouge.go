package metric

import (
	"regexp"
	"slices"
	"strings"
)

// rougeWords cuts a text into lower-case words.
type rougeWords func(text string) []string

var (
	notASCII   = regexp.MustCompile(`[^a-z0-9]+`)
	notLetters = regexp.MustCompile(`[^\p{L}\p{N}]+`)
)

// asciiWords are those of rouge-score, without its stemmer: letters beyond a to z part words.
func asciiWords(text string) []string {
	return strings.Fields(notASCII.ReplaceAllString(strings.ToLower(text), " "))
}

// unicodeWords are of letters and digits of any script.
func unicodeWords(text string) []string {
	return strings.Fields(notLetters.ReplaceAllString(strings.ToLower(text), " "))
}

// rougeScore compares a text with a reference.
type rougeScore func(reference, text string, words rougeWords) float64

// rougeCounts gives what a row adds to the mean of a ROUGE (Lin 2004) that rouge-score 0.1.2 defines, each from 0 to 1;
// of several references the best one counts.
func rougeCounts(score rougeScore, words rougeWords) func(text string, references []string) []float64 {
	return func(text string, references []string) []float64 {
		best := 0.0
		for _, reference := range references {
			best = max(best, score(reference, text, words))
		}
		return []float64{best, 1}
	}
}

// balanced is F₁ of how many things are in both.
func balanced(both, text, reference int) float64 {
	if both == 0 {
		return 0
	}
	precision, recall := float64(both)/float64(text), float64(both)/float64(reference)
	return 2 * precision * recall / (precision + recall)
}

// rougeN is ROUGE-n, of n-grams.
func rougeN(n int) rougeScore {
	return func(reference, text string, words rougeWords) float64 {
		a, b := ngrams(words(reference), n), ngrams(words(text), n)
		return balanced(overlap(a, b), size(b), size(a))
	}
}

// rougeL is ROUGE-L, of the longest common subsequence.
func rougeL(reference, text string, words rougeWords) float64 {
	a, b := words(reference), words(text)
	return balanced(len(common(a, b)), len(b), len(a))
}

// rougeLsum is ROUGE-L of texts with a sentence on each line: of each of the reference's, the words that are in the
// longest common subsequence with any of the text's, each word as often as it stands in both texts at most.
func rougeLsum(reference, text string, words rougeWords) float64 {
	sentences := func(text string) (list [][]string, counts map[string]int, n int) {
		counts = map[string]int{}
		for _, line := range strings.Split(text, "\n") {
			if line == "" {
				continue
			}
			sentence := words(line)
			list, n = append(list, sentence), n+len(sentence)
			for _, word := range sentence {
				counts[word]++
			}
		}
		return list, counts, n
	}
	a, inReference, m := sentences(reference)
	b, inText, n := sentences(text)
	both := 0
	for _, sentence := range a {
		var found []int
		for _, other := range b {
			found = append(found, common(sentence, other)...)
		}
		slices.Sort(found)
		for _, i := range slices.Compact(found) {
			if word := sentence[i]; inReference[word] > 0 && inText[word] > 0 {
				both++
				inReference[word]--
				inText[word]--
			}
		}
	}
	return balanced(both, n, m)
}

// common is a longest common subsequence of a and b, as ascending indices into a; of several, the one that
// rouge-score finds.
func common(a, b []string) []int {
	width := len(b) + 1
	lengths := make([]int, (len(a)+1)*width)
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			if a[i-1] == b[j-1] {
				lengths[i*width+j] = lengths[(i-1)*width+j-1] + 1
			} else {
				lengths[i*width+j] = max(lengths[(i-1)*width+j], lengths[i*width+j-1])
			}
		}
	}
	var indices []int
	for i, j := len(a), len(b); i > 0 && j > 0; {
		switch {
		case a[i-1] == b[j-1]:
			indices = append(indices, i-1)
			i, j = i-1, j-1
		case lengths[i*width+j-1] > lengths[(i-1)*width+j]:
			j--
		default:
			i--
		}
	}
	slices.Reverse(indices)
	return indices
}
