package metric

import (
	"math"
	"regexp"
	"strings"
)

// Pair is a text that a model wrote, and the texts that people did.
type Pair struct {
	Text       string
	References []string // at least one
}

// maxOrder is the longest n-gram of BLEU.
const maxOrder = 4

// bleu is the BLEU of a corpus (Papineni et al. 2002), from 0 to 1, as sacreBLEU 2.6.0 computes it with its defaults:
// tokens of 13a, case kept, exponential smoothing, the closest of several references for the brevity penalty.
func bleu(pairs []Pair) float64 {
	var correct, total [maxOrder]int
	length, reference := 0, 0
	for _, p := range pairs {
		words := tokens13a(p.Text)
		length += len(words)
		closest := math.MaxInt
		most := [maxOrder]map[string]int{}
		for i, text := range p.References {
			r := tokens13a(text)
			if d, best := distance(len(r), len(words)), distance(closest, len(words)); i == 0 || d < best ||
				d == best && len(r) < closest {
				closest = len(r)
			}
			for n := range most {
				most[n] = union(most[n], ngrams(r, n+1))
			}
		}
		reference += closest
		for n := range total {
			correct[n] += overlap(ngrams(words, n+1), most[n])
			total[n] += max(0, len(words)-n)
		}
	}
	if correct == [maxOrder]int{} {
		return 0
	}
	smooth, sum := 1.0, 0.0
	for n := range total {
		switch {
		case total[n] == 0:
			return 0
		case correct[n] == 0:
			smooth *= 2
			sum += math.Log(1 / (smooth * float64(total[n])))
		default:
			sum += math.Log(float64(correct[n]) / float64(total[n]))
		}
	}
	brevity := min(0, 1-float64(reference)/float64(length)) // length is above 0: something is correct
	return math.Exp(brevity + sum/maxOrder)
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
