package metric

import (
	"math"
	"regexp"
	"strings"
)

// maxOrder is the longest n-gram of BLEU.
const maxOrder = 4

// bleuCounts are what a row adds to the BLEU of a corpus: for each order the n-grams that are right and all of them,
// then the words of the text and of the reference of the closest length. Tokens are those of 13a, with their case.
func bleuCounts(text string, references []string) []float64 {
	words := tokens13a(text)
	closest := math.MaxInt
	most := [maxOrder]map[string]int{}
	for i, reference := range references {
		r := tokens13a(reference)
		if d, best := distance(len(r), len(words)), distance(closest, len(words)); i == 0 || d < best ||
			d == best && len(r) < closest {
			closest = len(r)
		}
		for n := range most {
			most[n] = union(most[n], ngrams(r, n+1))
		}
	}
	var counts []float64
	for n := range maxOrder {
		counts = append(counts, float64(overlap(ngrams(words, n+1), most[n])), float64(max(0, len(words)-n)))
	}
	return append(counts, float64(len(words)), float64(closest))
}

// bleu is the BLEU of a corpus (Papineni et al. 2002), from 0 to 1, as sacreBLEU 2.6.0 computes it with its defaults:
// exponential smoothing, and the closest of several references for the brevity penalty.
func bleu(sums []float64) float64 {
	smooth, logs, right := 1.0, 0.0, 0.0
	for n := range maxOrder {
		right += sums[2*n]
	}
	if right == 0 {
		return 0
	}
	for n := range maxOrder {
		switch correct, total := sums[2*n], sums[2*n+1]; {
		case total == 0:
			return 0
		case correct == 0:
			smooth *= 2
			logs += math.Log(1 / (smooth * total))
		default:
			logs += math.Log(correct / total)
		}
	}
	length, reference := sums[2*maxOrder], sums[2*maxOrder+1] // length is above 0: something is right
	return math.Exp(min(0, 1-reference/length) + logs/maxOrder)
}

func distance(a, b int) int { return max(a-b, b-a) }

// The rules of mteval-v13a.
var (
	punctuation13a = regexp.MustCompile("([{-~\\[-` -&(-+:-@/])")
	before13a      = regexp.MustCompile(`([^0-9])([.,])`)
	after13a       = regexp.MustCompile(`([.,])([^0-9])`)
	dash13a        = regexp.MustCompile(`([0-9])(-)`)
)

// tokens13a splits a text as mteval-v13a does.
func tokens13a(text string) []string {
	text = strings.TrimRight(text, " \t\n\r\v\f")
	text = strings.ReplaceAll(strings.ReplaceAll(strings.ReplaceAll(text, "<skipped>", ""), "-\n", ""), "\n", " ")
	// The entities one after another, as mteval does: &amp;lt; is < in the end.
	for _, pair := range [][2]string{{"&quot;", `"`}, {"&amp;", "&"}, {"&lt;", "<"}, {"&gt;", ">"}} {
		text = strings.ReplaceAll(text, pair[0], pair[1])
	}
	text = punctuation13a.ReplaceAllString(" "+text+" ", " $1 ")
	text = before13a.ReplaceAllString(text, "$1 $2 ")
	text = after13a.ReplaceAllString(text, " $1 $2")
	text = dash13a.ReplaceAllString(text, "$1 $2 ")
	return strings.Fields(text)
}

// ngrams counts the n-grams of words.
func ngrams(words []string, n int) map[string]int {
	counts := map[string]int{}
	for i := 0; i+n <= len(words); i++ {
		counts[strings.Join(words[i:i+n], " ")]++ // words have no blanks
	}
	return counts
}

// overlap is how many of the counted things are in both, each as often as in the one that has fewer.
func overlap(a, b map[string]int) int {
	sum := 0
	for key, count := range a {
		sum += min(count, b[key])
	}
	return sum
}

// union has each thing as often as the one that has more.
func union(a, b map[string]int) map[string]int {
	if a == nil {
		return b
	}
	for key, count := range b {
		a[key] = max(a[key], count)
	}
	return a
}
