package peft

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"peftsearch/data"
	"peftsearch/data/checkpoint"
	"peftsearch/data/files"
	"peftsearch/data/tokenizer"
)

// The settings with which exports write as peftsearch predict does.

// generateArguments are those of transformers' generate, in Python.
func (t Trained) generateArguments() string {
	g := t.Info.Task.Generation
	arguments := []string{fmt.Sprintf("max_new_tokens=%d", g.MaxNewTokens)}
	if g.MinNewTokens > 0 {
		arguments = append(arguments, fmt.Sprintf("min_new_tokens=%d", g.MinNewTokens))
	}
	if g.NumBeams > 1 {
		early := map[data.EarlyStopping]string{data.StopTrue: "True", data.StopFalse: "False", data.StopNever: `"never"`}
		arguments = append(arguments, fmt.Sprintf("num_beams=%d, length_penalty=%g, early_stopping=%s", g.NumBeams,
			g.LengthPenalty, early[g.EarlyStopping]))
	}
	if g.NoRepeatNgramSize > 0 {
		arguments = append(arguments, fmt.Sprintf("no_repeat_ngram_size=%d", g.NoRepeatNgramSize))
	}
	return strings.Join(arguments, ", ")
}

// generationConfig is the checkpoint's generation_config.json with the task's settings. A text ends with the
// checkpoint's tokens and with the tokenizer's.
func (t Trained) generationConfig(c *checkpoint.Checkpoint) (map[string]any, error) {
	config := map[string]any{}
	if path := filepath.Join(c.Dir, "generation_config.json"); files.Exists(path) {
		if err := readNumbers(path, &config); err != nil {
			return nil, err
		}
	}
	rules, err := c.Generation()
	if err != nil {
		return nil, err
	}
	tok, err := tokenizer.Load(c.Dir)
	if err != nil {
		return nil, err
	}
	ends := rules.EOS
	if end := tok.Special().EOS; end >= 0 && !slices.Contains(ends, end) {
		ends = append(ends, end)
	}
	if len(ends) > 0 {
		config["eos_token_id"] = ends
		if config["pad_token_id"] == nil {
			config["pad_token_id"] = ends[0]
		}
	}
	g := t.Info.Task.Generation
	delete(config, "max_length")
	config["do_sample"], config["max_new_tokens"], config["num_beams"] = false, g.MaxNewTokens, g.NumBeams
	if g.NumBeams > 1 {
		config["length_penalty"] = g.LengthPenalty
		config["early_stopping"] = map[data.EarlyStopping]any{data.StopTrue: true, data.StopFalse: false,
			data.StopNever: "never"}[g.EarlyStopping]
	}
	config["min_new_tokens"], config["no_repeat_ngram_size"] = nil, g.NoRepeatNgramSize
	if g.MinNewTokens > 0 {
		config["min_new_tokens"] = g.MinNewTokens
	}
	return config, nil
}
