package tokenizer

import (
	"fmt"
	"path/filepath"
	"strings"

	"peftsearch/data/quote"
)

// The functions of this file make a spec of the files that a model had before tokenizer.json, as transformers 4 does.

// convertBERT reads vocab.txt: one token a line, its id the number of the line from 0.
func convertBERT(s *settings) (*spec, error) {
	lines, err := readLines(filepath.Join(s.dir, "vocab.txt"))
	if err != nil {
		return nil, err
	}
	f, maxChars := &spec{}, 100
	f.Model = modelSpec{Type: "WordPiece", UnkToken: s.attribute("unk_token", true).text(), Prefix: "##",
		MaxInputChars: &maxChars}
	f.Model.Vocab.ids = map[string]int32{}
	if last := len(lines) - 1; lines[last] == "" {
		lines = lines[:last]
	}
	for i, line := range lines {
		f.Model.Vocab.ids[line] = int32(i)
	}
	f.Normalizer = &normalizerSpec{Type: "BertNormalizer", CleanText: true, StripAccents: &no}
	basic, err := s.boolean("do_basic_tokenize", true) // else added tokens are not lower-cased, texts still are
	if err != nil {
		return nil, err
	}
	if basic {
		lower, chinese, strip, err := s.bertFlags()
		if err != nil {
			return nil, err
		}
		f.Normalizer.Lowercase, f.Normalizer.HandleChineseChars, f.Normalizer.StripAccents = lower, chinese, strip
	}
	f.PreTokenizer = &splitterSpec{Type: "BertPreTokenizer"}
	f.Decoder = &decoderSpec{Type: "WordPiece", Prefix: "##", Cleanup: true}
	return f, f.surround("BertProcessing", s.attribute("cls_token", true).text(), s.attribute("sep_token", true).text())
}

// convertRoBERTa and convertGPT2 read vocab.json and merges.txt.
func convertRoBERTa(s *settings) (*spec, error) {
	f, prefix, err := convertMerges(s)
	if err != nil {
		return nil, err
	}
	err = f.surround("RobertaProcessing", s.attribute("cls_token", true).text(), s.attribute("sep_token", true).text())
	if err == nil {
		f.PostProcessor.AddPrefixSpace, f.PostProcessor.TrimOffsets = &prefix, &yes
	}
	return f, err
}

func convertGPT2(s *settings) (*spec, error) {
	f, _, err := convertMerges(s)
	if err != nil {
		return nil, err
	}
	first, err := s.boolean("add_bos_token", false)
	if err != nil {
		return nil, err
	}
	if first {
		bos := s.attribute("bos_token", true).text()
		return f, f.frame([]string{bos, "A"}, []string{bos, "A", "B:1"})
	}
	return f, nil
}

func convertMerges(s *settings) (f *spec, prefix bool, err error) {
	f = &spec{Model: modelSpec{Type: "BPE"}}
	if err := readJSON(filepath.Join(s.dir, "vocab.json"), &f.Model.Vocab); err != nil {
		return nil, false, err
	}
	path := filepath.Join(s.dir, "merges.txt")
	lines, err := readLines(path)
	if err != nil {
		return nil, false, err
	}
	seen := map[[2]string]bool{}
	for i := 1; i < len(lines)-1; i++ { // the first line is a comment, and what has no end of line is none
		pair := strings.Fields(lines[i])
		if len(pair) != 2 {
			return nil, false, fmt.Errorf("%s: line %d is no pair: %s", path, i+1, quote.Text(lines[i]))
		}
		if merge := [2]string(pair); !seen[merge] {
			f.Model.Merges, seen[merge] = append(f.Model.Merges, merge), true
		}
	}
	prefix, err = s.boolean("add_prefix_space", false)
	f.PreTokenizer = &splitterSpec{Type: "ByteLevel", AddPrefixSpace: &prefix}
	f.Decoder = &decoderSpec{Type: "ByteLevel"}
	return f, prefix, err
}

func convertT5(s *settings) (*spec, error) {
	p, err := readPieces(filepath.Join(s.dir, "spiece.model"))
	if err != nil {
		return nil, err
	}
	n, err := s.extraIDs()
	if err != nil {
		return nil, err
	}
	pieces := p.pieces
	for i := n - 1; i >= 0; i-- {
		pieces = append(pieces, scoredPiece{fmt.Sprintf("<extra_id_%d>", i), 0})
	}
	f, err := p.spec(s, pieces, p.unknown)
	if err != nil {
		return nil, err
	}
	return f, f.frame([]string{"A", "</s>"}, []string{"A", "</s>", "B", "</s>"})
}

func convertXLMRoBERTa(s *settings) (*spec, error) {
	p, err := readPieces(filepath.Join(s.dir, "sentencepiece.bpe.model"))
	if err != nil {
		return nil, err
	}
	pieces := []scoredPiece{{"<s>", 0}, {"<pad>", 0}, {"</s>", 0}, {"<unk>", 0}}
	pieces = append(append(pieces, p.pieces[min(3, len(p.pieces)):]...), scoredPiece{"<mask>", 0})
	return p.fairseq(s, pieces)
}

func convertCamemBERT(s *settings) (*spec, error) {
	for name, content := range map[string]string{"pad_token": "<pad>", "unk_token": "<unk>"} {
		if s.attribute(name, true).text() != content {
			return nil, fmt.Errorf("%s is not %s, which is not supported without tokenizer.json", name, content)
		}
	}
	p, err := readPieces(filepath.Join(s.dir, "sentencepiece.bpe.model"))
	if err != nil {
		return nil, err
	}
	pieces := []scoredPiece{{"<s>NOTUSED", 0}, {"<pad>", 0}, {"</s>NOTUSED", 0}, {"<unk>", 0}, {"<unk>NOTUSED", -100}}
	pieces = append(append(pieces, p.pieces[min(1, len(p.pieces)):]...), scoredPiece{"<mask>", 0})
	return p.fairseq(s, pieces)
}

// fairseq is spec for the models that fairseq trained.
func (p *pieceModel) fairseq(s *settings, pieces []scoredPiece) (*spec, error) {
	f, err := p.spec(s, pieces, 3)
	if err != nil {
		return nil, err
	}
	return f, f.frame([]string{"<s>", "A", "</s>"}, []string{"<s>", "A", "</s>", "</s>", "B", "</s>"})
}

// spec is that of a SentencePiece model whose pieces have got the ids of another vocabulary.
func (p *pieceModel) spec(s *settings, pieces []scoredPiece, unknown int) (*spec, error) {
	f := &spec{Normalizer: &normalizerSpec{Type: "Sequence"}}
	if len(p.charsmap) > 0 {
		f.Normalizer.Normalizers = append(f.Normalizer.Normalizers, normalizerSpec{Type: "Precompiled", Charsmap: p.charsmap})
	}
	f.Normalizer.Normalizers = append(f.Normalizer.Normalizers, normalizerSpec{Type: "Strip", StripRight: true},
		normalizerSpec{Type: "Replace", Pattern: &patternSpec{Regex: " {2,}"}, Content: "▁"})
	scheme, err := s.prependScheme()
	if err != nil {
		return nil, err
	}
	f.PreTokenizer = &splitterSpec{Type: "Metaspace", Replacement: "▁", PrependScheme: scheme}
	f.Decoder = &decoderSpec{Type: "Metaspace", Replacement: "▁", PrependScheme: scheme}
	f.Model.Vocab.set(pieces)
	switch p.kind {
	case kindUnigram:
		f.Model.Type, f.Model.UnkID = "Unigram", &unknown
	case kindBPE:
		f.Model.Type, f.Model.UnkToken, f.Model.FuseUnk = "BPE", p.unknownPiece, true
		f.Model.Merges = p.merges(pieces)
		f.Model.Vocab.scores = nil
	default:
		return nil, fmt.Errorf("a SentencePiece model of the type %d is not supported: only Unigram and BPE are", p.kind)
	}
	for _, piece := range p.added {
		f.AddedTokens = append(f.AddedTokens, declaredToken{addedToken: piece})
	}
	return f, nil
}

// prependScheme is what Metaspace does for T5, whose settings can change it; for the others it is "always".
func (s *settings) prependScheme() (string, error) {
	if !s.class.extraIDs {
		return "always", nil
	}
	if value, ok := s.values["add_prefix_space"]; ok && string(value) != "null" {
		if prefix, err := s.boolean("add_prefix_space", true); err != nil || !prefix {
			return "never", err
		}
	}
	if value, ok := s.values["legacy"]; ok && string(value) != "null" {
		if legacy, err := s.boolean("legacy", true); err != nil || !legacy {
			return "first", err
		}
	}
	return "always", nil
}

// text is the content of a token, "" if there is none.
func (n *namedToken) text() string {
	if n == nil {
		return ""
	}
	return n.content
}

// surround sets the named post-processor of one special token before and one after a text.
func (f *spec) surround(kind, cls, sep string) error {
	ids, err := f.ids(cls, sep)
	if err != nil {
		return err
	}
	f.PostProcessor = &processorSpec{Type: kind, Cls: []any{cls, float64(ids[0])}, Sep: []any{sep, float64(ids[1])}}
	return nil
}

// frame sets a template: A, B and B:1 are the texts, the latter with the type id 1, the others are special tokens.
func (f *spec) frame(single, pair []string) error {
	p := &processorSpec{Type: "TemplateProcessing", SpecialTokens: map[string]specialSpec{}}
	items := func(names []string) ([]templateItem, error) {
		var items []templateItem
		for _, name := range names {
			switch name {
			case "A", "B":
				items = append(items, templateItem{Sequence: &templateRef{ID: name}})
			case "B:1":
				items = append(items, templateItem{Sequence: &templateRef{ID: "B", TypeID: 1}})
			default:
				ids, err := f.ids(name)
				if err != nil {
					return nil, err
				}
				p.SpecialTokens[name] = specialSpec{ids}
				items = append(items, templateItem{SpecialToken: &templateRef{ID: name}})
			}
		}
		return items, nil
	}
	var err error
	if p.Single, err = items(single); err != nil {
		return err
	}
	p.Pair, err = items(pair)
	f.PostProcessor = p
	return err
}

func (f *spec) ids(tokens ...string) ([]int32, error) {
	ids := make([]int32, len(tokens))
	for i, token := range tokens {
		id, ok := f.Model.Vocab.ids[token]
		if !ok {
			return nil, fmt.Errorf("the vocabulary has no %s, which stands around every text", quote.Text(token))
		}
		ids[i] = id
	}
	return ids, nil
}
