package main

import (
	"io"
	"strings"
	"testing"
	"time"
)

func TestGuardSaysThatAPanicIsABug(t *testing.T) {
	var stderr strings.Builder
	code := guard(&stderr, func() error { panic("odd") })
	if code != exitUnexpected || !strings.HasPrefix(stderr.String(), "Error: this is a bug of peftsearch: odd\n") {
		t.Errorf("code %d, %q", code, stderr.String())
	}
}

// A reader that stops reading holds up neither the writer nor the end.
func TestNoticesNeverBlock(t *testing.T) {
	r, w := io.Pipe()
	defer r.Close()
	n := newNotices(w)
	written := make(chan struct{})
	go func() {
		defer close(written)
		for range 10 * noticesKept {
			io.WriteString(n, "a line\n")
		}
		n.close()
	}()
	select {
	case <-written:
	case <-time.After(3 * time.Minute):
		t.Fatal("a write or the end waits for the reader")
	}
}

func TestNoticesKeepTheOrder(t *testing.T) {
	var got strings.Builder
	n := newNotices(&got)
	var want strings.Builder
	for _, line := range []string{"one\n", "two\n", "three\n"} {
		io.WriteString(n, line)
		want.WriteString(line)
	}
	n.close()
	if got.String() != want.String() {
		t.Errorf("%q, want %q", got.String(), want.String())
	}
}
