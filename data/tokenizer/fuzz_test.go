package tokenizer

import (
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"peftsearch/data/quote"
)

// exercise loads a directory; what can be loaded must keep its promises for any text.
func exercise(t *testing.T, dir, text string) {
	t.Helper()
	tokenizer, err := Load(dir)
	if err != nil {
		if len(err.Error()) > quote.MessageLimit || quote.Message(err.Error()) != err.Error() {
			t.Errorf("%d bytes: %q", len(err.Error()), err)
		}
		return
	}
	keepsPromises(t, tokenizer, text, "a "+text)
}

// keepsPromises encodes and decodes texts.
func keepsPromises(t *testing.T, tokenizer *Tokenizer, texts ...string) {
	t.Helper()
	const length = 16
	check := func(e Encoding, spans []Span, sources []string, words bool) {
		t.Helper()
		if len(e.IDs) > length || len(e.IDs) != len(e.TypeIDs) || len(e.IDs) != len(spans) {
			t.Fatalf("%d ids, %d types, %d spans", len(e.IDs), len(e.TypeIDs), len(spans))
		}
		for i, span := range spans {
			if e.IDs[i] < 0 || int(e.IDs[i]) >= tokenizer.Size() || e.TypeIDs[i] < 0 || int(e.TypeIDs[i]) >= tokenizer.Types() {
				t.Fatalf("id %d of %d, type %d of %d", e.IDs[i], tokenizer.Size(), e.TypeIDs[i], tokenizer.Types())
			}
			if span.Text < 0 {
				continue
			}
			source := sources[span.Text]
			if words {
				source = sources[span.Word]
			}
			source = strings.ToValidUTF8(source, "\ufffd")
			if b := span.Bytes; b.Start < 0 || b.Start > b.End || b.End > len(source) ||
				!utf8.ValidString(source[b.Start:b.End]) {
				t.Fatalf("token %d stands at the bytes %v of %q", i, b, source)
			}
			if c := span.Chars; c.Start != utf8.RuneCountInString(source[:span.Bytes.Start]) ||
				c.End != utf8.RuneCountInString(source[:span.Bytes.End]) {
				t.Fatalf("token %d stands at the characters %v and the bytes %v of %q", i, c, span.Bytes, source)
			}
		}
		for _, skip := range []bool{false, true} {
			if text, err := tokenizer.Decode(e.IDs, skip); err == nil && !utf8.ValidString(text) {
				t.Fatalf("%d are decoded as %q", e.IDs, text)
			}
		}
	}
	for _, texts := range [][]string{texts[:1], texts} {
		e, spans := tokenizer.Align(length, texts...)
		check(e, spans, texts, false)
	}
	e, spans := tokenizer.EncodeWords(length, texts)
	check(e, spans, texts, true)
}

// seed is a text with something for every step.
const seed = " It's [MASK] <mask> naïve Čaša ﬁ 中文 e\u0301\t1,5 ok\u200b. <0x41>"

func FuzzTokenizerJSON(f *testing.F) {
	for _, name := range []string{"", "PreTrainedTokenizerFast", "T5Tokenizer", "RobertaTokenizer"} {
		f.Add([]byte(wordPieceJSON(f)), name, seed)
		f.Add(unpack(f, "bytepairs/tokenizer.json"), name, seed)
		f.Add([]byte(`{"added_tokens":[{"id":3,"content":"<mask>","single_word":false,"lstrip":true,"rstrip":true,"normalized":true,"special":true}],
			"normalizer":{"type":"Sequence","normalizers":[{"type":"NFKD"},{"type":"Strip","strip_right":true},{"type":"Replace","pattern":{"Regex":" {2,}"},"content":"▁"}]},
			"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"WhitespaceSplit"},{"type":"Metaspace","replacement":"▁","prepend_scheme":"first"}]},
			"post_processor":{"type":"TemplateProcessing","single":[{"Sequence":{"id":"A","type_id":0}},{"SpecialToken":{"id":"</s>","type_id":1}}],
			"pair":[{"Sequence":{"id":"A","type_id":0}},{"Sequence":{"id":"B","type_id":3}}],"special_tokens":{"</s>":{"ids":[1]}}},
			"decoder":{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]},
			"model":{"type":"Unigram","unk_id":0,"byte_fallback":true,"vocab":[["<unk>",0],["</s>",0],["▁",-2.5],["a",-1],["▁a",-0.5],["<0x41>",-9]]}}`), name, seed)
	}
	f.Fuzz(func(t *testing.T, content []byte, name, text string) {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "config.json"), `{"model_type":"bert","vocab_size":2000000000}`)
		write(t, filepath.Join(dir, "tokenizer.json"), string(content))
		if _, ok := classes[strings.TrimSuffix(name, "Fast")]; ok {
			write(t, filepath.Join(dir, "tokenizer_config.json"), `{"tokenizer_class":"`+name+`"}`)
		}
		exercise(t, dir, text)
	})
}

func FuzzSettings(f *testing.F) {
	f.Add(`{"do_lower_case":false,"strip_accents":null,"mask_token":{"__type":"AddedToken","content":"[MASK]","lstrip":true}}`, `{"pad_token":"[PAD]"}`, `{"new":400}`, byte(0))
	f.Add(`{"added_tokens_decoder":{"400":{"content":"new","single_word":true,"normalized":true}},"truncation_side":"left","split_special_tokens":true}`, ``, ``, byte(1))
	f.Add(`{"extra_special_tokens":{"image":"<image>"},"additional_special_tokens":["a"],"model_input_names":["input_ids"]}`, `{"additional_special_tokens":[{"content":"b"}]}`, ``, byte(2))
	bases := []string{"wordpiece", "bytepairs", "fairseq"}
	kinds := []string{"bert", "roberta", "camembert"}
	f.Fuzz(func(t *testing.T, config, special, added string, base byte) {
		files := map[string]string{"tokenizer_config.json": config}
		if special != "" {
			files["special_tokens_map.json"] = special
		}
		if added != "" {
			files["added_tokens.json"] = added
		}
		i := int(base) % len(bases)
		dir := newDirectory(t, bases[i], kinds[i], files)
		exercise(t, dir, seed)
		Files(dir)
	})
}

func FuzzVocabulary(f *testing.F) {
	f.Add(unpack(f, "wordpiece/vocab.txt"), seed)
	f.Add([]byte("[UNK]\r[CLS]\r\n[SEP]\n\na\n##b"), "ab")
	f.Fuzz(func(t *testing.T, content []byte, text string) {
		exercise(t, newDirectory(t, "wordpiece", "bert", map[string]string{"vocab.txt": string(content)}), text)
	})
}

func FuzzMerges(f *testing.F) {
	f.Add(unpack(f, "bytepairs/vocab.json"), unpack(f, "bytepairs/merges.txt"), seed)
	f.Fuzz(func(t *testing.T, vocabulary, merges []byte, text string) {
		for _, kind := range []string{"roberta", "gpt2"} {
			exercise(t, newDirectory(t, "bytepairs", kind, map[string]string{"vocab.json": string(vocabulary),
				"merges.txt": string(merges)}), text)
		}
	})
}

func FuzzPieces(f *testing.F) {
	for _, base := range []string{"fairseq", "fairseq-bpe"} {
		f.Add(unpack(f, filepath.Join(base, "sentencepiece.bpe.model")), seed)
	}
	f.Add([]byte("\x0a\x0c\x0a\x05<unk>\x15\x00\x00\x00\x00\x0a\x0a\x0a\x03\xe2\x96\x81\x15\x00\x00\x80\xbf\x1a\x08\x12\x06\x04\x00\x00\x00\x00\x01"), seed)
	f.Fuzz(func(t *testing.T, content []byte, text string) {
		for _, kind := range []string{"t5", "xlm-roberta", "camembert"} {
			name := modelFiles[kind]
			exercise(t, newDirectory(t, "empty", kind, map[string]string{name: string(content)}), text)
		}
	})
}

var modelFiles = map[string]string{"t5": "spiece.model", "xlm-roberta": "sentencepiece.bpe.model",
	"camembert": "sentencepiece.bpe.model"}

func FuzzCharsmap(f *testing.F) {
	pieces, err := parsePieces(unpack(f, "t5/spiece.model"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(pieces.charsmap, seed)
	f.Add([]byte("\x08\x00\x00\x00\x00\x04\x00\x00\x41\x01\x00\x00b\x00"), "a")
	f.Fuzz(func(t *testing.T, charsmap []byte, text string) {
		p, err := newPrecompiled(charsmap)
		if err != nil {
			return
		}
		if a := p.normalize(align(strings.ToValidUTF8(text, "\ufffd"))); len(a.text) != len(a.from) ||
			!utf8.ValidString(a.text) {
			t.Fatalf("%q, %d origins", a.text, len(a.from))
		}
	})
}

func FuzzEncode(f *testing.F) {
	var tokenizers []*Tokenizer
	for _, dir := range []string{newDirectory(f, "wordpiece", "bert", nil), filepath.Join("testdata", "bytepairs"),
		newDirectory(f, "t5", "t5", nil),
		newDirectory(f, "fairseq", "camembert", nil), newDirectory(f, "fairseq-bpe", "xlm-roberta", nil),
		newDirectory(f, "bytepairs", "gpt2", nil)} {
		tokenizer, err := Load(dir)
		if err != nil {
			f.Fatal(err)
		}
		tokenizers = append(tokenizers, tokenizer)
	}
	f.Add(seed, "")
	f.Add("\xff\xfe", " \u0301")
	f.Fuzz(func(t *testing.T, text, pair string) {
		for _, tokenizer := range tokenizers {
			keepsPromises(t, tokenizer, text, pair)
		}
	})
}
