package tokenizer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"unicode/utf8"

	"github.com/clipperhouse/uax29/v2/graphemes"
)

// precompiled is SentencePiece's compiled map of normalisations: a double-array trie (Yata et al., darts-clone) from
// strings to places in a list of replacements that end in a zero byte.
type precompiled struct {
	units        []uint32
	replacements []byte
}

func newPrecompiled(blob []byte) (*precompiled, error) {
	if len(blob) < 4 {
		return nil, errors.New("is shorter than its header")
	}
	size := binary.LittleEndian.Uint32(blob)
	blob = blob[4:]
	if size == 0 || size%4 != 0 || uint64(size) > uint64(len(blob)) {
		return nil, errors.New("has a trie of an impossible size")
	}
	p := &precompiled{units: make([]uint32, size/4), replacements: blob[size:]}
	for i := range p.units {
		p.units[i] = binary.LittleEndian.Uint32(blob[4*i:])
	}
	if !utf8.Valid(p.replacements) {
		return nil, errors.New("has replacements that are not UTF-8")
	}
	return p, nil
}

// replacement is what the shortest key that text begins with becomes.
func (p *precompiled) replacement(text string) (string, bool) {
	offset := func(unit uint32) uint32 { return unit >> 10 << (unit & (1 << 9) >> 6) }
	at := offset(p.units[0])
	for i := range len(text) {
		label := uint32(text[i])
		if at ^= label; label == 0 || at >= uint32(len(p.units)) {
			return "", false
		}
		unit := p.units[at]
		if unit&(1<<31|0xff) != label {
			return "", false
		}
		at ^= offset(unit)
		if unit>>8&1 == 1 { // a key ends here: the next unit holds its value
			if at >= uint32(len(p.units)) {
				return "", false
			}
			value := p.units[at] & (1<<31 - 1)
			if value > uint32(len(p.replacements)) {
				return "", false
			}
			found, _, _ := bytes.Cut(p.replacements[value:], []byte{0})
			return string(found), utf8.Valid(found)
		}
	}
	return "", false
}

// normalize replaces grapheme clusters of less than 6 bytes that begin with a key, and else each character.
func (p *precompiled) normalize(a aligned) aligned {
	changes := make([]change, 0, len(a.text))
	modified := false
	// put follows the reference where it counts the characters that have gone: those before the first that stays
	// are not counted.
	put := func(old, new string) {
		modified = true
		first := len(changes)
		for _, r := range new {
			changes = append(changes, change{r, 0})
		}
		added := len(changes) - first - utf8.RuneCountInString(old)
		for i := len(changes) - 1; added > 0; i, added = i-1, added-1 {
			changes[i].n = 1
		}
		if added < 0 && len(changes) > 0 {
			changes[len(changes)-1].n += added
		}
	}
	for clusters := graphemes.FromString(a.text); clusters.Next(); {
		cluster := clusters.Value()
		if len(cluster) < 6 {
			if by, ok := p.replacement(cluster); ok {
				put(cluster, by)
				continue
			}
		}
		for i, r := range cluster {
			character := cluster[i : i+utf8.RuneLen(r)]
			if by, ok := p.replacement(character); ok {
				put(character, by)
			} else {
				changes = append(changes, change{r, 0})
			}
		}
	}
	if !modified {
		return a
	}
	return a.transform(changes, 0)
}
