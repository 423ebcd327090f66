package quote

import (
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os/exec"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestText(t *testing.T) {
	for text, want := range map[string]string{
		"":                      `""`,
		"yes":                   `"yes"`,
		"a\tb\x1b[2J":           `"a\tb\x1b[2J"`,
		"\u200byes\u202e":       `"\u200byes\u202e"`,
		"čaša":                  `"čaša"`,
		"\xff":                  `"\xff"`,
		strings.Repeat("č", 80): `"` + strings.Repeat("č", 80) + `"`,
		strings.Repeat("č", 90): `"` + strings.Repeat("č", 80) + `… (180 bytes)"`,
	} {
		if got := Text(text); got != want {
			t.Errorf("%.20q: %s, want %s", text, got, want)
		}
	}
	if got, want := Exact("naïve"), `"na\u00efve"`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestList(t *testing.T) {
	if got, want := List([]string{"a", "b"}), `"a", "b"`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got, want := List(strings.Split("abcdefghij", "")),
		`"a", "b", "c", "d", "e", "f", "g", "h" and 2 more`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestNearest(t *testing.T) {
	known := []string{"sentence1", "sentence2", "score", " Label "}
	for word, want := range map[string]string{"sentense1": "sentence1", "scores": "score", "label": " Label ", "x": "",
		"xscore": "score", "completely different": "", "": ""} {
		if got := Nearest(word, known); got != want {
			t.Errorf("%q: %q, want %q", word, got, want)
		}
	}
}

func TestLineAndMessage(t *testing.T) {
	const text = "a\x1b[31m\x07\u009b\n\tb\u202e\u2066\u2028 👩\u200d👧 \xff\r\x00"
	if got, want := Line(text), `a\x1b[31m\a\u009b\n\tb\u202e\u2066\u2028 `+"👩\u200d👧"+` \xff\r\x00`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got, want := Message(text),
		`a\x1b[31m\a\u009b`+"\n\tb"+`\u202e\u2066\u2028 `+"👩\u200d👧"+` \xff\r\x00`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	rapid.Check(t, func(t *rapid.T) {
		text := strings.Repeat(rapid.String().Draw(t, "text"), rapid.IntRange(1, 500).Draw(t, "times"))
		got := Message(text)
		if len(got) > MessageLimit || !utf8.ValidString(got) || Message(got) != got || strings.Contains(Line(text), "\n") {
			t.Fatalf("%d bytes: %q", len(got), got)
		}
	})
}

// A JSON document keeps its meaning and does nothing to a terminal.
func TestJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.StringOf(rapid.RuneFrom(nil, unicode.Cc, unicode.Cf, unicode.Zl))).Draw(t,
			"text")
		document, err := json.MarshalIndent(map[string]string{text: text}, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		var want, got map[string]string
		safe := JSON(document)
		if err := errors.Join(json.Unmarshal(document, &want), json.Unmarshal(safe, &got)); err != nil ||
			!maps.Equal(want, got) {
			t.Fatalf("%q became %q, %v", document, safe, err)
		}
		if line := strings.ReplaceAll(string(safe), "\n", ""); Line(line) != line {
			t.Fatalf("%q", safe)
		}
	})
	if got := JSON([]byte("{\n\"a\u202e\u009b\U000e0041\u007f ä👩\u200d👧\"}")); string(got) != "{\n"+
		"\"a\\u202e\\u009b\\udb40\\udc41\\u007f ä👩\u200d👧\"}" {
		t.Errorf("%s", got)
	}
}

func TestError(t *testing.T) {
	if Error(nil) != nil {
		t.Error("no error became one")
	}
	err := Error(errors.Join(fs.ErrNotExist, errors.New(strings.Repeat("x", 1<<20))))
	if !errors.Is(err, fs.ErrNotExist) || len(err.Error()) > MessageLimit {
		t.Errorf("%d bytes: %.100v", len(err.Error()), err)
	}
}

func TestShell(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("there is no bash")
	}
	for _, word := range []string{"a/b-c.tsv", "a b", "it's", "$(id)", "a;b", "", "čaša", "a\nb", "\x1b[2J", `\'`, "*",
		"\u202e\\x'"} {
		quoted := Shell(word)
		if Line(quoted) != quoted {
			t.Errorf("%q is quoted as %q", word, quoted)
		}
		out, err := exec.Command(bash, "-c", "printf %s "+quoted).Output()
		if err != nil || string(out) != word {
			t.Errorf("%q became %q by way of %s (%v)", word, out, quoted, err)
		}
	}
}
