package train

import (
	"slices"
	"strings"

	"peftsearch/data"
	"peftsearch/evaluator/model"
)

// writtenRows is how many texts are written at the same time, beams counted.
const writtenRows = 64

// rules are how texts are written: what the generation says, what the checkpoint does, and the end that the tokenizer
// has, which training teaches.
func (s *Session) rules(g data.Generation) (model.Rules, error) {
	checkpoint, err := s.checkpoint.Generation()
	if err != nil {
		return model.Rules{}, err
	}
	rules := model.Rules{Generation: g, EOS: checkpoint.EOS, MinLength: checkpoint.MinLength}
	if end := s.tokenizer.Special().EOS; end >= 0 && !slices.Contains(rules.EOS, end) {
		rules.EOS = append(rules.EOS, end)
	}
	return rules, nil
}

// generate continues the prompts of a split, row by row, with the lowest so many layers bare,
// checking stop between tokens; stopped says that it ended early.
func (s *Session) generate(m *model.Model, sp *split, g data.Generation, bare int, stop func() bool) (texts []string,
	stopped bool, err error) {
	rules, err := s.rules(g)
	if err != nil {
		return nil, false, err
	}
	texts = make([]string, len(sp.inputs))
	var batches [][]int
	for _, batch := range evalBatches(sp.lengths, s.backbone.BatchTokens()/s.lanes.count()) {
		batches = slices.AppendSeq(batches, slices.Chunk(batch, max(1, writtenRows/g.NumBeams)))
	}
	for batches := range slices.Chunk(batches, s.lanes.count()) {
		err := s.lanes.run(len(batches), func(part int) error {
			prompts := make([][]int32, len(batches[part]))
			for i, row := range batches[part] {
				prompts[i] = sp.inputs[row].Prompt()
			}
			written, err := m.Write(prompts, rules, bare, stop)
			for i, ids := range written {
				text, decodeErr := s.tokenizer.Decode(ids, true)
				if decodeErr != nil {
					return decodeErr
				}
				texts[batches[part][i]] = strings.TrimSpace(text)
			}
			return err
		})
		if err != nil || stop() {
			return nil, err == nil, err
		}
	}
	return texts, false, nil
}
