package model

import (
	"math"
	"slices"

	"peftsearch/data"
	"peftsearch/evaluator"
	"peftsearch/evaluator/torch"
)

// Rules are how texts are written: what the task says, and what the checkpoint does.
type Rules struct {
	data.Generation
	EOS       []int32 // the tokens that end a text; without any it has as many tokens as it may have
	MinLength int     // the least tokens before its end, those that are read included
}

// reader reads tokens and says what may come next: all that a search needs of a model.
type reader interface {
	// read adds tokens to rows, of which row i continues row parents[i] of the last call; the first call has no parents.
	// It returns for each row the logits of the next token, or their logarithms of probabilities, valid until the next
	// call.
	read(tokens [][]int32, parents []int, logarithms bool) ([][]float32, error)
}

// Write continues prompts, of at least one token each, as the rules say. It returns the new tokens, that at the end
// included; nil if stop ended it. Rows do not depend on each other but for rounding. The error is a *evaluator.Failure
// if the model's output is not finite. The lowest so many layers are bare.
func (m *Model) Write(prompts [][]int32, rules Rules, bare int, stop func() bool) ([][]int32, error) {
	w := &generation{model: m, net: m.network.without(bare)}
	defer w.close()
	if rules.NumBeams > 1 {
		return beamSearch(w, prompts, rules, stop)
	}
	return greedySearch(w, prompts, rules, stop)
}

// generation reads with a decoder, whose cache it keeps. From step to step one scope takes over from the other.
type generation struct {
	model *Model
	net   *network
	cache cache
	table *torch.Tensor // of words in float32
	scale float64
	own   *torch.Scope // of the table
}

func (w *generation) read(tokens [][]int32, parents []int, logarithms bool) (next [][]float32, err error) {
	if w.own == nil {
		w.own = w.model.Scope()
		table, scale := w.net.family.(writer).vocabulary()
		torch.NoGrad(func() { w.table, w.scale = w.own.To(table, torch.Float32), scale })
	}
	s, grown := w.model.Scope(), cache{scope: w.model.Scope()}
	defer s.Free()
	batch := Batch{growth: &growth{cache: &w.cache, next: &grown, parents: parents}}
	for _, row := range tokens {
		batch.IDs, batch.Lengths = append(batch.IDs, row...), append(batch.Lengths, len(row))
	}
	var values []float32
	torch.NoGrad(func() {
		p, x := w.net.start(s, batch, 0, Last, nil)
		logits := wordLogits(s, p.run(x, 0, w.net.family.steps()), w.table, w.scale)
		if logarithms {
			logits = s.LogSoftmax(logits)
		}
		values = s.Float32s(logits)
	})
	w.cache.free()
	w.cache = grown
	if err := s.Err(); err != nil {
		return nil, err
	}
	for row := range slices.Chunk(values, len(values)/len(tokens)) {
		if v := row[0]; v-v != 0 { // one that is not finite makes all of them NaN or infinite
			return nil, &evaluator.Failure{Kind: evaluator.FailureDiverged, Message: "the model's output is not finite"}
		}
		next = append(next, row)
	}
	return next, nil
}

func (c *cache) free() {
	if c.scope != nil {
		c.scope.Free()
	}
}

func (w *generation) close() {
	w.cache.free()
	if w.own != nil {
		w.own.Free()
	}
}

var never = float32(math.Inf(-1))

// forbid makes tokens impossible that must not follow a text of which so many tokens were read.
func (r Rules) forbid(scores []float32, text []int32, read int) {
	if len(text) < r.MinLength || len(text)-read < r.MinNewTokens {
		for _, end := range r.EOS {
			scores[end] = never
		}
	}
	n := r.NoRepeatNgramSize
	if n == 0 || len(text)+1 < n {
		return
	}
	last := text[len(text)-n+1:]
	for i := 0; i+n <= len(text); i++ {
		if slices.Equal(text[i:i+n-1], last) {
			scores[text[i+n-1]] = never
		}
	}
}

// greedySearch writes the most probable token again and again.
func greedySearch(r reader, prompts [][]int32, rules Rules, stop func() bool) ([][]int32, error) {
	texts, rows, parents := make([][]int32, len(prompts)), make([]int, len(prompts)), []int(nil)
	for i, prompt := range prompts {
		texts[i], rows[i] = slices.Clone(prompt), i
	}
	tokens := prompts
	for len(rows) > 0 {
		if stop() {
			return nil, nil
		}
		scores, err := r.read(tokens, parents, false)
		if err != nil {
			return nil, err
		}
		var going []int
		tokens, parents = nil, nil
		for i, row := range rows {
			read := len(prompts[row])
			rules.forbid(scores[i], texts[row], read)
			token := int32(argmax(scores[i]))
			texts[row] = append(texts[row], token)
			if !slices.Contains(rules.EOS, token) && len(texts[row])-read < rules.MaxNewTokens {
				going, tokens, parents = append(going, row), append(tokens, []int32{token}), append(parents, i)
			}
		}
		rows = going
	}
	for i, prompt := range prompts {
		texts[i] = texts[i][len(prompt):]
	}
	return texts, nil
}

// argmax is the index of the greatest number, the first of equal ones.
func argmax(values []float32) int {
	best := 0
	for i, v := range values {
		if v > values[best] {
			best = i
		}
	}
	return best
}
