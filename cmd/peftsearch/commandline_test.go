package main

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// A printed command can be pasted: bash reads the words that were meant.
func TestCommandLine(t *testing.T) {
	check := func(t interface{ Fatalf(string, ...any) }, words []string) {
		output, err := exec.Command("bash", "-c", `printf '%s\0' `+commandLine(words...)).Output()
		if err != nil {
			t.Fatalf("%q: %v", words, err)
		}
		got := strings.Split(strings.TrimSuffix(string(output), "\x00"), "\x00")
		if diff := cmp.Diff(words, got); diff != "" {
			t.Fatalf("%s (-want +got)\n%s", commandLine(words...), diff)
		}
	}
	check(t, []string{"a dir; echo $(id)/s.db", "", "it's", "-x", "*", "~", "$HOME", "a\nb", "\x1b[2J", "č", "x'\ty\\",
		"!!"})
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.StringOf(rapid.Rune().Filter(func(r rune) bool { return r != 0 && r != '\uFFFD' }))
		check(t, rapid.SliceOfN(word, 1, 5).Draw(t, "words"))
	})
}
