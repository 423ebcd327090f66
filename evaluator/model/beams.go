package model

import (
	"cmp"
	"math"
	"slices"

	"peftsearch/data"
)

// barred is added to the score of what a beam search must not choose, as transformers does.
const barred = -1e9

// hypothesis is a text of a beam search.
type hypothesis struct {
	score    float32
	text     []int32
	beam     int  // that it continues
	finished bool // it ends here
}

// beams is the search for one row (transformers' beam search): running texts and the best finished ones, as many of
// each as there are beams.
type beams struct {
	rules             Rules
	read              int // tokens of the prompt
	running, finished []hypothesis
	done              bool // no better text can come
}

func newBeams(prompt []int32, rules Rules) *beams {
	b := &beams{rules: rules, read: len(prompt)}
	for i := range rules.NumBeams {
		start := hypothesis{text: prompt, score: barred}
		if i == 0 {
			start.score = 0
		}
		b.running = append(b.running, start)
		b.finished = append(b.finished, hypothesis{score: barred})
	}
	return b
}

// advance chooses the next token of every beam, given the logarithms of the probabilities of all of them.
func (b *beams) advance(logarithms [][]float32) {
	rules, n := b.rules, b.rules.NumBeams
	length := len(b.running[0].text) - b.read + 1 // of texts with their next token
	candidates := b.best(logarithms, max(2, 1+len(rules.EOS))*n)
	var going []hypothesis
	all := true
	for i, c := range candidates {
		last := c.text[len(c.text)-1]
		c.finished = slices.Contains(rules.EOS, last) || length >= rules.MaxNewTokens
		all = all && c.finished
		run := c
		if run.finished = false; c.finished {
			run.score += barred
		}
		going = append(going, run)
		if c.finished && i < n { // the others come too late
			c.score = penalised(c.score, length, rules.LengthPenalty)
			b.finished = append(b.finished, c)
		}
	}
	b.running = highest(going, n)
	b.finished = highest(b.finished, n)
	full := b.finished[n-1].finished
	span := length
	if rules.EarlyStopping == data.StopNever && rules.LengthPenalty > 0 {
		span = rules.MaxNewTokens
	}
	hopeless := penalised(b.running[0].score, span, rules.LengthPenalty) <= b.finished[n-1].score
	b.done = hopeless || full && rules.EarlyStopping == data.StopTrue || all
}

// best are the candidates with the highest sums of logarithms, among all continuations of all beams.
func (b *beams) best(logarithms [][]float32, n int) []hypothesis {
	type choice struct {
		score float32
		beam  int
		token int32
	}
	var chosen []choice // falling
	for beam, scores := range logarithms {
		text, sum := b.running[beam].text, b.running[beam].score
		b.rules.forbid(scores, text, b.read)
		for token, v := range scores {
			score := sum + v
			if len(chosen) == n && !(score > chosen[n-1].score) {
				continue
			}
			at, _ := slices.BinarySearchFunc(chosen, score, func(c choice, s float32) int {
				if c.score >= s {
					return -1
				}
				return 1
			})
			if len(chosen) == n {
				chosen = chosen[:n-1]
			}
			chosen = slices.Insert(chosen, at, choice{score, beam, int32(token)})
		}
	}
	candidates := make([]hypothesis, len(chosen))
	for i, c := range chosen {
		text := b.running[c.beam].text
		candidates[i] = hypothesis{score: c.score, text: append(text[:len(text):len(text)], c.token), beam: c.beam}
	}
	return candidates
}

func penalised(score float32, length int, penalty float64) float32 {
	return score / float32(math.Pow(float64(length), penalty))
}

// highest are the n with the highest scores, the first of equal ones first.
func highest(list []hypothesis, n int) []hypothesis {
	sorted := slices.Clone(list)
	slices.SortStableFunc(sorted, func(x, y hypothesis) int { return cmp.Compare(y.score, x.score) })
	return sorted[:min(n, len(sorted))]
}

// result is the best finished text, or the best one if none is.
func (b *beams) result() []int32 {
	if b.finished[0].finished {
		return b.finished[0].text[b.read:]
	}
	return b.running[0].text[b.read:]
}

// beamSearch writes the texts that a beam search for each row finds.
func beamSearch(r reader, prompts [][]int32, rules Rules, stop func() bool) ([][]int32, error) {
	rows := make([]*beams, len(prompts))
	for i, prompt := range prompts {
		rows[i] = newBeams(prompt, rules)
	}
	going := slices.Clone(rows)
	tokens, parents := prompts, []int(nil)
	for len(going) > 0 {
		if stop() {
			return nil, nil
		}
		scores, err := r.read(tokens, parents, true)
		if err != nil {
			return nil, err
		}
		each := len(scores) / len(going) // one row in the first step, whose beams all are the prompt
		var next []*beams
		first := parents == nil
		tokens, parents = nil, nil
		for i, b := range going {
			own := scores[i*each:][:each]
			if first {
				for range rules.NumBeams - 1 {
					own = append(own[:len(own):len(own)], slices.Clone(own[0]))
				}
			}
			if b.advance(own); b.done {
				continue
			}
			next = append(next, b)
			for _, h := range b.running {
				parent := i
				if !first {
					parent = i*each + h.beam
				}
				tokens, parents = append(tokens, h.text[len(h.text)-1:]), append(parents, parent)
			}
		}
		going = next
	}
	texts := make([][]int32, len(rows))
	for i, b := range rows {
		texts[i] = b.result()
	}
	return texts, nil
}
