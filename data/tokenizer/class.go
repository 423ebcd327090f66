package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"peftsearch/data/quote"
)

// class is a tokenizer class of transformers: what it adds to the files of a directory.
type class struct {
	// files are the older files, from which convert makes a spec where there is no tokenizer.json.
	files   []string
	convert func(s *settings) (*spec, error)
	// override changes what tokenizer.json says.
	override func(s *settings, f *spec) error
	// types says that models of the class get type ids.
	types bool
	// tokens are the special tokens where no file names them.
	tokens map[string]string
	// flags are those of a special token that is named by a string.
	flags func(name string, token namedToken, converted bool) namedToken
	// additional are the class's additional special tokens; extraIDs says that they are T5's sentinels.
	additional []string
	extraIDs   bool
	// cleanUp says that text is decoded without blanks before punctuation if it was made of older files.
	cleanUp bool
}

var yes, no = true, false

var (
	fairseqTokens = map[string]string{"bos_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "cls_token": "<s>",
		"unk_token": "<unk>", "pad_token": "<pad>", "mask_token": "<mask>"}

	bertClass = &class{
		files: []string{"vocab.txt"}, convert: convertBERT, override: overrideBERT, types: true, cleanUp: true,
		tokens: map[string]string{"unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]",
			"mask_token": "[MASK]"},
	}
	// distilBERTClass is BERT's, but its models have no use for types.
	distilBERTClass = func() *class {
		c := *bertClass
		c.types = false
		return &c
	}()
	robertaClass = &class{
		files: []string{"vocab.json", "merges.txt"}, convert: convertRoBERTa, override: overrideRoBERTa,
		tokens: fairseqTokens,
		flags: func(name string, token namedToken, converted bool) namedToken {
			if name == "mask_token" {
				return namedToken{content: token.content, lstrip: true, normalized: &no}
			}
			token.plain = !converted
			return token
		},
	}
	gpt2Class = &class{
		files: []string{"vocab.json", "merges.txt"}, convert: convertGPT2,
		tokens: map[string]string{"unk_token": "<|endoftext|>", "bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"},
		flags: func(name string, token namedToken, converted bool) namedToken {
			token.plain = !converted || !slices.Contains([]string{"bos_token", "eos_token", "unk_token", "pad_token"}, name)
			return token
		},
	}
	t5Class = &class{
		files: []string{"spiece.model"}, convert: convertT5, extraIDs: true,
		tokens: map[string]string{"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"},
		flags: func(name string, token namedToken, converted bool) namedToken {
			if converted && slices.Contains([]string{"pad_token", "unk_token", "eos_token"}, name) {
				token.plain, token.special = false, true
			}
			return token
		},
	}
	xlmRoBERTaClass = &class{
		files: []string{"sentencepiece.bpe.model"}, convert: convertXLMRoBERTa, tokens: fairseqTokens,
		flags: func(name string, token namedToken, converted bool) namedToken {
			if name == "mask_token" {
				return namedToken{content: token.content, lstrip: true, special: converted}
			}
			return token
		},
	}
	camembertClass = &class{
		files: []string{"sentencepiece.bpe.model"}, convert: convertCamemBERT, tokens: fairseqTokens,
		additional: []string{"<s>NOTUSED", "</s>NOTUSED", "<unk>NOTUSED"},
		flags: func(name string, token namedToken, converted bool) namedToken {
			if name == "mask_token" {
				return namedToken{content: token.content, lstrip: true, special: true}
			}
			return token
		},
	}
	plainClass = &class{types: true}
)

// classes are the supported ones, by their names without Fast.
var classes = map[string]*class{
	"BertTokenizer": bertClass, "DistilBertTokenizer": distilBERTClass, "ElectraTokenizer": bertClass,
	"RobertaTokenizer": robertaClass, "GPT2Tokenizer": gpt2Class, "T5Tokenizer": t5Class, "MT5Tokenizer": t5Class,
	"XLMRobertaTokenizer": xlmRoBERTaClass, "CamembertTokenizer": camembertClass, "PreTrainedTokenizer": plainClass,
}

// modelClasses are the classes of the model types.
var modelClasses = map[string]string{
	"bert": "BertTokenizer", "distilbert": "DistilBertTokenizer", "electra": "ElectraTokenizer",
	"roberta": "RobertaTokenizer",
	"gpt2":    "GPT2Tokenizer", "t5": "T5Tokenizer", "mt5": "MT5Tokenizer", "xlm-roberta": "XLMRobertaTokenizer",
	"camembert": "CamembertTokenizer",
}

// findClass is the class that tokenizer_config.json names, else config.json, else that of the model's type.
func (s *settings) findClass() (*class, error) {
	var named struct {
		Class string `json:"tokenizer_class"`
		Type  string `json:"model_type"`
	}
	if err := readJSON(filepath.Join(s.dir, "config.json"), &named); err != nil {
		return nil, err
	}
	if value, ok := s.values["tokenizer_class"]; ok {
		var name string
		if err := json.Unmarshal(value, &name); err != nil {
			return nil, fmt.Errorf("tokenizer_class is %s", quote.Text(string(value)))
		}
		if name != "" {
			named.Class = name
		}
	}
	name := strings.TrimSuffix(named.Class, "Fast")
	if name == "" {
		if name = modelClasses[named.Type]; name == "" {
			return nil, fmt.Errorf("no file names a tokenizer_class, and the model type %s has none that is supported",
				quote.Text(named.Type))
		}
	}
	if c := classes[name]; c != nil {
		return c, nil
	}
	return nil, fmt.Errorf("tokenizer_class %s is not supported: %s are", quote.Text(named.Class),
		strings.Join(slices.Sorted(maps.Keys(classes)), ", "))
}

// overrideBERT lets do_lower_case, strip_accents and tokenize_chinese_chars count, and do_lower_case be true where no
// file says anything.
func overrideBERT(s *settings, f *spec) error {
	if f.Normalizer == nil {
		return errors.New("tokenizer.json has no normalizer, which transformers cannot load as a tokenizer of BERT")
	}
	lower, chinese, strip, err := s.bertFlags()
	if err != nil {
		return err
	}
	if n := f.Normalizer; n.Type == "BertNormalizer" {
		changed := *n
		changed.Lowercase, changed.HandleChineseChars, changed.StripAccents = lower, chinese, strip
		f.Normalizer = &changed
	}
	return nil
}

func (s *settings) bertFlags() (lower, chinese bool, strip *bool, err error) {
	if lower, err = s.boolean("do_lower_case", true); err != nil {
		return lower, chinese, strip, err
	}
	if chinese, err = s.boolean("tokenize_chinese_chars", true); err != nil {
		return lower, chinese, strip, err
	}
	if value, ok := s.values["strip_accents"]; ok && string(value) != "null" {
		var strips bool
		if strips, err = s.boolean("strip_accents", false); err == nil {
			strip = &strips
		}
	}
	return lower, chinese, strip, err
}

// overrideRoBERTa lets add_prefix_space and trim_offsets count for the offsets.
func overrideRoBERTa(s *settings, f *spec) error {
	prefix, err := s.boolean("add_prefix_space", false)
	if err != nil {
		return err
	}
	trim, err := s.boolean("trim_offsets", true)
	if err != nil {
		return err
	}
	if p := f.PostProcessor; p != nil && p.AddPrefixSpace != nil && p.TrimOffsets != nil {
		changed := *p
		changed.AddPrefixSpace, changed.TrimOffsets = &prefix, &trim
		f.PostProcessor = &changed
	}
	return nil
}

// overridePrefix lets add_prefix_space count for ByteLevel, in every class; it is false where no file says anything.
func overridePrefix(s *settings, f *spec) error {
	if p := f.PreTokenizer; p != nil && p.Type == "ByteLevel" {
		prefix, err := s.boolean("add_prefix_space", false)
		if err != nil {
			return err
		}
		changed := *p
		changed.AddPrefixSpace = &prefix
		f.PreTokenizer = &changed
	}
	return nil
}
