package tokenizer

import (
	"encoding/json"
	"fmt"
	"hash/crc32"
	"strings"
	"testing"
)

// TestEveryCharacter compares the checksums of what the steps make of all characters with
// scripts/golden/unicode.py.
func TestEveryCharacter(t *testing.T) {
	var want map[string][]uint32
	if err := json.Unmarshal(unpack(t, "unicode.json"), &want); err != nil {
		t.Fatal(err)
	}
	pieces, err := parsePieces(unpack(t, "t5/spiece.model"))
	if err != nil {
		t.Fatal(err)
	}
	for name, spec := range map[string]*normalizerSpec{
		"BertNormalizer": {Type: "BertNormalizer", CleanText: true, HandleChineseChars: true, Lowercase: true},
		"NFD":            {Type: "NFD"}, "NFKD": {Type: "NFKD"}, "Lowercase": {Type: "Lowercase"},
		"StripAccents": {Type: "StripAccents"},
		"Strip":        {Type: "Strip", StripLeft: true, StripRight: true},
		"Precompiled":  {Type: "Precompiled", Charsmap: pieces.charsmap},
	} {
		steps, err := spec.steps()
		if err != nil {
			t.Fatal(err)
		}
		compareCharacters(t, name, want[name], func(c string) string {
			return normalize(steps, align(c+"a"+c+"\u0301B"+c+c)).text
		})
	}
	for _, name := range []string{"BertPreTokenizer", "Whitespace", "WhitespaceSplit", "ByteLevel"} {
		split, err := (&splitterSpec{Type: name}).splitter()
		if err != nil {
			t.Fatal(err)
		}
		compareCharacters(t, name, want[name], func(c string) string {
			text := c + "a" + c + "1" + c + "!" + c + " " + c
			chars := countChars(text)
			var places []string
			split(align(text), func(word aligned) {
				start := word.from[0]
				places = append(places, fmt.Sprint(chars[start]), fmt.Sprint(chars[int(start)+len(word.text)]))
			})
			return strings.Join(places, " ")
		})
	}
}

func compareCharacters(t *testing.T, name string, want []uint32, made func(c string) string) {
	const size = 0x1000
	blocks := []rune{}
	for first := rune(0); first < 0x33000; first += size {
		blocks = append(blocks, first)
	}
	blocks = append(blocks, 0xe0000, 0xe1000, 0xf0000) // there are no characters elsewhere
	var got []uint32
	for _, first := range blocks {
		sum := uint32(0)
		for r := first; r < first+size; r++ {
			if r < 0xd800 || r >= 0xe000 {
				sum = crc32.Update(sum, crc32.IEEETable, []byte(made(string(r))+"\n"))
			}
		}
		got = append(got, sum)
	}
	if len(want) != len(got) {
		t.Fatalf("%s: checksums of %d blocks, not %d", name, len(want), len(got))
	}
	for i := range want {
		if want[i] != got[i] {
			t.Errorf("%s: other results in the block from U+%04X", name, blocks[i])
		}
	}
}
