package checkpoint

import (
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// Generation is what a checkpoint says of how texts are written, beside what a task says.
type Generation struct {
	EOS       []int32 // ids that end a text
	MinLength int     // the least tokens before its end, those that are read included
}

// neutral has the keys of generation_config.json that would change what is written, with the values with which they do
// not. Keys of sampling change nothing where do_sample is false, and keys that a task has are overridden by it, as
// arguments of transformers' generate do.
var neutral = map[string][]string{
	"do_sample": {"false"}, "num_beam_groups": {"1"}, "diversity_penalty": {"0", "0.0"}, "penalty_alpha": {"0", "0.0"},
	"repetition_penalty": {"1", "1.0"}, "encoder_repetition_penalty": {"1", "1.0"},
	"encoder_no_repeat_ngram_size": {"0"}, "bad_words_ids": {"[]"}, "force_words_ids": {"[]"}, "constraints": {"[]"},
	"renormalize_logits": {"false"}, "forced_bos_token_id": nil, "forced_eos_token_id": nil,
	"remove_invalid_values": {"false"}, "exponential_decay_length_penalty": nil, "suppress_tokens": {"[]"},
	"begin_suppress_tokens": {"[]"}, "forced_decoder_ids": {"[]"}, "sequence_bias": {"{}", "[]"},
	"token_healing": {"false"}, "guidance_scale": {"1", "1.0"}, "watermarking_config": nil, "stop_strings": {"[]"},
	"dola_layers": nil, "prompt_lookup_num_tokens": nil, "assistant_early_exit": nil,
}

// Generation reads generation_config.json or, where there is none, the same keys of config.json. A key that would
// change what is written is honoured, or an error.
func (c *Checkpoint) Generation() (Generation, error) {
	path := filepath.Join(c.Dir, "generation_config.json")
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		path = filepath.Join(c.Dir, "config.json")
	}
	d, err := readDocument(path)
	if err != nil {
		return Generation{}, err
	}
	for _, key := range slices.Sorted(maps.Keys(neutral)) {
		if raw, ok := d.values[key]; ok && string(raw) != "null" && !slices.Contains(neutral[key], string(raw)) {
			d.refuse("%s is %s, which is not supported: remove the key, and texts are written without it", key, raw)
		}
	}
	g := Generation{MinLength: valueOf(d, "min_length", "a whole number", 0)}
	if raw := d.values["eos_token_id"]; len(raw) > 0 && string(raw) != "null" {
		if json.Unmarshal(raw, &g.EOS) != nil {
			g.EOS = []int32{valueOf(d, "eos_token_id", "a whole number or a list", int32(0))}
		}
	}
	for _, id := range g.EOS {
		if id < 0 || int(id) >= c.Config.Vocab {
			d.refuse("eos_token_id %d: the vocabulary has %d", id, c.Config.Vocab)
		}
	}
	return g, errors.Join(d.errs...)
}
