package tokenizer

import (
	"errors"
	"fmt"
	"slices"

	"peftsearch/data/quote"
)

// processorSpec is a post_processor of tokenizer.json.
type processorSpec struct {
	Type           string                 `json:"type"`
	Processors     []processorSpec        `json:"processors"`       // Sequence
	Single         []templateItem         `json:"single"`           // TemplateProcessing
	Pair           []templateItem         `json:"pair"`             // TemplateProcessing
	SpecialTokens  map[string]specialSpec `json:"special_tokens"`   // TemplateProcessing
	Sep            []any                  `json:"sep"`              // BertProcessing and RobertaProcessing: token and id
	Cls            []any                  `json:"cls"`              // the same
	TrimOffsets    *bool                  `json:"trim_offsets"`     // RobertaProcessing and ByteLevel
	AddPrefixSpace *bool                  `json:"add_prefix_space"` // the same
}

type specialSpec struct {
	IDs []int32 `json:"ids"`
}

type templateItem struct {
	SpecialToken *templateRef `json:"SpecialToken"`
	Sequence     *templateRef `json:"Sequence"`
}

type templateRef struct {
	ID     string `json:"id"`
	TypeID int32  `json:"type_id"`
}

// template is what is put around one text or two.
type template struct {
	single, pair []part
	trims        bool // offsets leave out the blanks at the ends of byte-level tokens
	prefixSpace  bool // of which the first one was added
}

// part is an element of a template: special tokens, or the first or second text.
type part struct {
	special []int32
	text    int // index, or -1 for special tokens
	typeID  int32
}

// template builds that of s, which may be nil; size is one more than the largest id.
func (s *processorSpec) template(size int) (template, error) {
	t := template{single: []part{{text: 0}}, pair: []part{{text: 0}, {text: 1, typeID: 1}}}
	if s == nil {
		return t, nil
	}
	templates := 0
	for _, p := range s.list() {
		if p.TrimOffsets != nil && *p.TrimOffsets {
			t.trims, t.prefixSpace = true, p.AddPrefixSpace != nil && *p.AddPrefixSpace
		}
		if p.Type == "ByteLevel" {
			continue
		}
		var err error
		if t.single, t.pair, err = p.parts(); err != nil {
			return t, err
		}
		if templates++; templates > 1 {
			return t, errors.New("more than one template is not supported")
		}
	}
	if n := max(added(t.single), added(t.pair)); n >= MinLength {
		return t, fmt.Errorf("%d special tokens around a text are not supported: at most %d are", n, MinLength-1)
	}
	for _, p := range slices.Concat(t.single, t.pair) {
		if p.typeID < 0 {
			return t, fmt.Errorf("the type id %d is not possible", p.typeID)
		}
		for _, id := range p.special {
			if id < 0 || int(id) >= size {
				return t, fmt.Errorf("the id %d of a special token is not in the vocabulary", id)
			}
		}
	}
	return t, nil
}

// list is s or the members of a Sequence.
func (s *processorSpec) list() []processorSpec {
	if s.Type == "Sequence" {
		return s.Processors
	}
	return []processorSpec{*s}
}

// parts are those for one text and for a pair.
func (s *processorSpec) parts() (single, pair []part, err error) {
	special := func(ids []int32, typeID int32) part { return part{special: ids, text: -1, typeID: typeID} }
	switch s.Type {
	case "BertProcessing", "RobertaProcessing":
		cls, err := legacyID(s.Cls)
		if err != nil {
			return nil, nil, fmt.Errorf("cls: %w", err)
		}
		sep, err := legacyID(s.Sep)
		if err != nil {
			return nil, nil, fmt.Errorf("sep: %w", err)
		}
		single = []part{special(cls, 0), {text: 0}, special(sep, 0)}
		if s.Type == "BertProcessing" {
			pair = append(slices.Clone(single), part{text: 1, typeID: 1}, special(sep, 1))
		} else {
			pair = append(slices.Clone(single), special(sep, 0), part{text: 1}, special(sep, 0))
		}
		return single, pair, nil
	case "TemplateProcessing":
		if single, err = s.items(s.Single, "A"); err != nil {
			return nil, nil, fmt.Errorf("single: %w", err)
		}
		if pair, err = s.items(s.Pair, "AB"); err != nil {
			return nil, nil, fmt.Errorf("pair: %w", err)
		}
		return single, pair, nil
	default:
		return nil, nil, fmt.Errorf("type %s is not supported", quote.Text(s.Type))
	}
}

// legacyID reads ["[SEP]", 102].
func legacyID(pair []any) ([]int32, error) {
	if len(pair) == 2 {
		if id, ok := pair[1].(float64); ok && id == float64(int32(id)) {
			return []int32{int32(id)}, nil
		}
	}
	return nil, fmt.Errorf("%v is no pair of token and id", pair)
}

// items resolves the special tokens; every one of the texts must occur once, in order.
func (s *processorSpec) items(items []templateItem, texts string) ([]part, error) {
	var parts []part
	order := ""
	for _, item := range items {
		switch {
		case item.Sequence != nil:
			parts = append(parts, part{text: len(order), typeID: item.Sequence.TypeID})
			order += item.Sequence.ID
		case item.SpecialToken != nil:
			special, ok := s.SpecialTokens[item.SpecialToken.ID]
			if !ok {
				return nil, fmt.Errorf("special token %s is not declared", quote.Text(item.SpecialToken.ID))
			}
			parts = append(parts, part{special: special.IDs, text: -1, typeID: item.SpecialToken.TypeID})
		}
	}
	if order != texts {
		return nil, fmt.Errorf("has the texts %s, not %s", quote.Text(order), quote.Text(texts))
	}
	return parts, nil
}

// added is the number of special tokens.
func added(parts []part) int {
	n := 0
	for _, p := range parts {
		n += len(p.special)
	}
	return n
}
