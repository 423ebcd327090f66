package hub

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const (
	commit = "0123456789abcdef0123456789abcdef01234567"
	token  = "hf_secret"
)

// server is a Hub with the model org/tiny, and its second host, which large files come from.
type server struct {
	*httptest.Server
	large *httptest.Server

	mu       sync.Mutex
	files    map[string][]byte
	served   map[string]int // bytes
	status   int            // of every answer, 0 for success
	digest   string         // instead of the right ones
	cut      int            // bytes after which the next answers of large files end
	cuts     int            // how many still do
	noRanges bool
	hold     chan struct{} // what large files do not end before, if not nil
	release  func()        // ends that
}

func newServer(t *testing.T, files map[string][]byte) *server {
	t.Helper()
	s := &server{files: files, served: map[string]int{}}
	s.large = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			t.Error("another host got the token")
		}
		s.send(w, r, filepath.Base(r.URL.Path))
	}))
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("Authorization"); got != "Bearer "+token {
			t.Errorf("Authorization %q", got)
		}
		if s.status != 0 {
			w.WriteHeader(s.status)
			return
		}
		name, isFile := strings.CutPrefix(r.URL.Path, "/org/tiny/resolve/"+commit+"/")
		switch {
		case isFile && strings.HasSuffix(name, ".safetensors"):
			http.Redirect(w, r, strings.Replace(s.large.URL, "127.0.0.1", "localhost", 1)+"/"+name, http.StatusFound)
		case isFile:
			s.send(w, r, name)
		case r.URL.Path == "/api/models/org/tiny/revision/main":
			s.describe(w)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(s.Close)
	t.Cleanup(s.large.Close)
	return s
}

func (s *server) describe(w http.ResponseWriter) {
	var siblings []map[string]any
	for name, content := range s.files {
		sibling := map[string]any{"rfilename": name, "size": len(content), "blobId": gitDigest(content)}
		if strings.HasSuffix(name, ".safetensors") {
			sum := sha256.Sum256(content)
			digest := hex.EncodeToString(sum[:])
			if s.digest != "" {
				digest = s.digest
			}
			sibling["lfs"] = map[string]any{"sha256": digest, "size": len(content)}
		}
		siblings = append(siblings, sibling)
	}
	json.NewEncoder(w).Encode(map[string]any{"sha": commit, "siblings": siblings})
}

func gitDigest(content []byte) string {
	sum := sha1.Sum(append(fmt.Appendf(nil, "blob %d\x00", len(content)), content...))
	return hex.EncodeToString(sum[:])
}

// holdBack lets large files not end before release, or before they are asked for again.
func (s *server) holdBack() {
	hold := make(chan struct{})
	s.hold, s.release = hold, sync.OnceFunc(func() { close(hold) })
}

func (s *server) send(w http.ResponseWriter, r *http.Request, name string) {
	if r.Header.Get("Range") != "" && s.release != nil {
		s.release()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	content, from := s.files[name], 0
	if spec := r.Header.Get("Range"); spec != "" && !s.noRanges {
		fmt.Sscanf(spec, "bytes=%d-", &from)
		w.Header().Set("Content-Length", fmt.Sprint(len(content)-from))
		w.WriteHeader(http.StatusPartialContent)
	} else {
		w.Header().Set("Content-Length", fmt.Sprint(len(content)))
	}
	content = content[from:]
	if s.cuts > 0 && strings.HasSuffix(name, ".safetensors") {
		s.cuts--
		content = content[:s.cut]
	}
	s.served[name] += len(content)
	w.Write(content)
	if s.hold != nil && strings.HasSuffix(name, ".safetensors") {
		w.(http.Flusher).Flush()
		<-s.hold
	}
	if len(content) < len(s.files[name])-from {
		panic(http.ErrAbortHandler)
	}
}

func newClient(t *testing.T, s *server) *Client {
	t.Helper()
	t.Setenv("HF_ENDPOINT", s.URL+"/")
	t.Setenv("HF_TOKEN", token)
	t.Setenv("HF_HUB_OFFLINE", "")
	t.Setenv("HF_HUB_CACHE", filepath.Join(t.TempDir(), "cache"))
	c, err := NewClient()
	if err != nil {
		t.Fatal(err)
	}
	c.pause = time.Millisecond
	return c
}

func tiny() map[string][]byte {
	return map[string][]byte{
		"config.json": []byte(`{"model_type": "bert"}`), "tokenizer.json": []byte("{}"), "README.md": []byte("# Tiny"),
		"model.safetensors": bytes.Repeat([]byte("weights "), 1<<17), "pytorch_model.bin": []byte("pickle"),
	}
}

var model = Model{ID: "org/tiny", Revision: "main"}

func silent(string, int64, int64) {}

// contents reads the files of a directory.
func contents(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	found := map[string][]byte{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if found[entry.Name()], err = os.ReadFile(filepath.Join(dir, entry.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return found
}

func needed(files map[string][]byte) map[string][]byte {
	files = maps.Clone(files)
	delete(files, "README.md")
	delete(files, "pytorch_model.bin")
	return files
}

func TestPull(t *testing.T) {
	s := newServer(t, tiny())
	c := newClient(t, s)
	if _, err := Find(model); err == nil || !strings.HasSuffix(err.Error(),
		"peftsearch pull org/tiny brings it from the Hugging Face Hub") {
		t.Errorf("error %v", err)
	}
	var last, all int64
	dir, err := c.Pull(t.Context(), model, func(_ string, done, total int64) {
		if done < last {
			t.Errorf("progress from %d to %d", last, done)
		}
		last, all = done, total
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := int64(1<<20 + 22 + 2); last != want || all != want {
		t.Errorf("progress ends at %d of %d", last, all)
	}
	if diff := cmp.Diff(needed(s.files), contents(t, dir)); diff != "" {
		t.Error(diff)
	}
	for _, m := range []Model{model, {ID: "org/tiny", Revision: commit}} {
		if found, err := Find(m); err != nil || found != dir {
			t.Errorf("%v: found %s, %v", m, found, err)
		}
	}
	served := maps.Clone(s.served)
	if again, err := c.Pull(t.Context(), model, silent); err != nil || again != dir || !maps.Equal(served, s.served) {
		t.Errorf("again: %s, %v, %v", again, err, s.served)
	}
}

// A download whose connection ends is continued where it was, by the same command or by the next.
func TestPullContinues(t *testing.T) {
	s := newServer(t, tiny())
	c := newClient(t, s)
	s.cut, s.cuts = 100_000, 2
	dir, err := c.Pull(t.Context(), model, silent)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(needed(s.files), contents(t, dir)); diff != "" {
		t.Error(diff)
	}
	if got := s.served["model.safetensors"]; got != 1<<20 {
		t.Errorf("%d bytes were served", got)
	}

	c = newClient(t, s) // with another cache
	s.served, s.cuts = map[string]int{}, attempts
	if _, err := c.Pull(t.Context(), model, silent); !errors.Is(err, ErrNetwork) ||
		!strings.Contains(err.Error(), "the same command goes on") {
		t.Errorf("error %v", err)
	}
	if _, err := Find(model); err == nil {
		t.Error("half a model was found")
	}
	if _, err := c.Pull(t.Context(), model, silent); err != nil || s.served["model.safetensors"] != 1<<20 {
		t.Errorf("%v, %d bytes were served", err, s.served["model.safetensors"])
	}

	c = newClient(t, s)
	s.served, s.cuts, s.noRanges = map[string]int{}, 1, true
	if _, err := c.Pull(t.Context(), model, silent); err != nil || s.served["model.safetensors"] != 1<<20+100_000 {
		t.Errorf("without ranges: %v, %d bytes were served", err, s.served["model.safetensors"])
	}
}

func TestPullIsInterrupted(t *testing.T) {
	s := newServer(t, tiny())
	c := newClient(t, s)
	s.cut, s.cuts = 300_000, 1
	s.holdBack()
	ctx, cancel := context.WithCancel(t.Context())
	_, err := c.Pull(ctx, model, func(file string, done, _ int64) {
		if done >= 300_000 {
			cancel()
		}
	})
	s.release()
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(),
		"model.safetensors of org/tiny was interrupted") {
		t.Errorf("error %v", err)
	}
	if _, err := c.Pull(t.Context(), model, silent); err != nil || s.served["model.safetensors"] != 1<<20 {
		t.Errorf("%v, %d bytes were served", err, s.served["model.safetensors"])
	}
}

// A server that sends nothing more is left and asked again.
func TestPullOutlivesSilence(t *testing.T) {
	s := newServer(t, tiny())
	c := newClient(t, s)
	c.patience = time.Second
	s.cut, s.cuts = 300_000, 1
	s.holdBack()
	if _, err := c.Pull(t.Context(), model, silent); err != nil || s.served["model.safetensors"] != 1<<20 {
		t.Errorf("%v, %d bytes were served", err, s.served["model.safetensors"])
	}
}

func TestPullRefusesWrongChecksums(t *testing.T) {
	s := newServer(t, tiny())
	c := newClient(t, s)
	s.digest = strings.Repeat("0", 64)
	if _, err := c.Pull(t.Context(), model, silent); err == nil ||
		!strings.Contains(err.Error(), "the checksum is wrong (SHA-256 ") {
		t.Errorf("error %v", err)
	}
	if _, err := Find(model); err == nil {
		t.Error("a model with a wrong checksum was found")
	}
	if left, _ := filepath.Glob(filepath.Join(c.cache, "*", "blobs", s.digest+"*")); len(left) > 0 {
		t.Errorf("%v are left", left)
	}
	s.digest = ""
	if _, err := c.Pull(t.Context(), model, silent); err != nil {
		t.Error(err)
	}
}

func TestPullTakesShards(t *testing.T) {
	files := tiny()
	delete(files, "model.safetensors")
	files["model-00001-of-00002.safetensors"], files["model-00002-of-00002.safetensors"] = []byte("one"), []byte("two")
	files["model.safetensors.index.json"] = []byte(`{"weight_map": {"a": "model-00002-of-00002.safetensors",
		"b": "model-00001-of-00002.safetensors", "c": "model-00002-of-00002.safetensors"}}`)
	s := newServer(t, files)
	dir, err := newClient(t, s).Pull(t.Context(), model, silent)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(needed(files), contents(t, dir)); diff != "" {
		t.Error(diff)
	}
	files["model.safetensors.index.json"] = []byte(`{"weight_map": {"a": "../../../etc/passwd"}}`)
	if _, err := newClient(t, s).Pull(t.Context(), model, silent); !errors.Is(err, ErrRefused) ||
		!strings.Contains(err.Error(), "which its index names") {
		t.Errorf("error %v", err)
	}
}

func TestPullExplains(t *testing.T) {
	for name, test := range map[string]struct {
		change func(s *server, c *Client)
		is     error
		want   string
	}{
		"unknown": {func(s *server, c *Client) { s.status = 404 }, ErrRefused,
			"answers 404 Not Found for the model org/tiny: there is none of that name"},
		"private": {func(s *server, c *Client) { s.status = 401 }, ErrRefused,
			"it does not exist, or the token (HF_TOKEN) may not read it"},
		"gated": {func(s *server, c *Client) { s.status = 403 }, ErrRefused, "its terms at " + "http"},
		"ill":   {func(s *server, c *Client) { s.status = 500 }, ErrRefused, "try again later"},
		"pickled": {func(s *server, c *Client) { delete(s.files, "model.safetensors") }, ErrRefused,
			"no weights in safetensors format: convert it"},
		"no model":   {func(s *server, c *Client) { delete(s.files, "config.json") }, ErrRefused, "has no config.json"},
		"no network": {func(s *server, c *Client) { s.Close() }, ErrNetwork, "once there is a network"},
		"no JSON": {func(s *server, c *Client) { c.endpoint = s.large.URL; c.token = "" }, ErrNetwork,
			"did not answer with the description"},
	} {
		s := newServer(t, tiny())
		c := newClient(t, s)
		test.change(s, c)
		_, err := c.Pull(t.Context(), model, silent)
		if !errors.Is(err, test.is) || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), token) {
			t.Errorf("%s: error %v, want %q", name, err, test.want)
		}
	}
	t.Setenv("HF_HUB_OFFLINE", "1")
	if _, err := NewClient(); !errors.Is(err, ErrRefused) {
		t.Errorf("error %v", err)
	}
	t.Setenv("HF_HUB_OFFLINE", "0")
	t.Setenv("HF_ENDPOINT", "mirror")
	if _, err := NewClient(); err == nil || !strings.Contains(err.Error(), `HF_ENDPOINT "mirror": must be an address`) {
		t.Errorf("error %v", err)
	}
}

// Two processes do not write the same file.
func TestPullWaitsForNobody(t *testing.T) {
	s := newServer(t, tiny())
	c := newClient(t, s)
	inner := errors.New("not called")
	_, err := c.Pull(t.Context(), model, func(file string, done, _ int64) {
		if file == "model.safetensors" && !errors.Is(inner, context.Canceled) && done < 1<<20 {
			_, inner = c.Pull(t.Context(), model, silent)
		}
	})
	if err != nil || inner == nil || !strings.Contains(inner.Error(), "another process is downloading model.safetensors") {
		t.Errorf("%v, %v", err, inner)
	}
}

func TestCache(t *testing.T) {
	for name, test := range map[string]struct {
		env  map[string]string
		want string
	}{
		"its own":   {map[string]string{"HF_HUB_CACHE": "/a", "HF_HOME": "/b"}, "/a"},
		"the older": {map[string]string{"HUGGINGFACE_HUB_CACHE": "/a", "HF_HOME": "/b"}, "/a"},
		"home":      {map[string]string{"HF_HOME": "/b", "XDG_CACHE_HOME": "/c"}, "/b/hub"},
		"XDG":       {map[string]string{"XDG_CACHE_HOME": "/c", "HOME": "/d"}, "/c/huggingface/hub"},
		"user":      {map[string]string{"HOME": "/d"}, "/d/.cache/huggingface/hub"},
	} {
		for _, key := range []string{"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"} {
			t.Setenv(key, test.env[key])
		}
		if home := test.env["HOME"]; home != "" {
			t.Setenv("HOME", home)
		}
		if got, err := Cache(); err != nil || got != test.want {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
}

func TestParse(t *testing.T) {
	for text, want := range map[string]Model{
		"bert-base-uncased":           {"bert-base-uncased", "main"},
		"EMBEDDIA/sloberta":           {"EMBEDDIA/sloberta", "main"},
		"EMBEDDIA/sloberta@main":      {"EMBEDDIA/sloberta", "main"},
		"a/b.c_d@refs/pr/3":           {"a/b.c_d", "refs/pr/3"},
		"a/b@" + commit:               {"a/b", commit},
		"intfloat/multilingual-e5@v1": {"intfloat/multilingual-e5", "v1"},
	} {
		if m, ok := Parse(text); !ok || m != want {
			t.Errorf("%q: %v, %v", text, m, ok)
		}
	}
	refused := []string{"", "a/b/c", "./a", "../a", "/a", "a/", "/a/b", "a//b", "a/../b", "a--b/c", "-a", "a b", "a/b@",
		"a/b@../x", "a/b@-x",
		"a/b@x@y", "a/b\n", "~/a", strings.Repeat("a", 97)}
	for _, text := range refused {
		if m, ok := Parse(text); ok {
			t.Errorf("%q: %v", text, m)
		}
	}
}

func TestDirectory(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("HF_HUB_CACHE", dir)
	snapshot := filepath.Join(dir, "models--org--tiny", "snapshots", commit)
	if err := errors.Join(os.MkdirAll(snapshot, 0o755), os.MkdirAll(filepath.Join(dir, "models--org--tiny", "refs"),
		0o755),
		os.WriteFile(filepath.Join(snapshot, "config.json"), nil, 0o644),
		os.WriteFile(filepath.Join(dir, "models--org--tiny", "refs", "main"), []byte(commit+"\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	if NameOf(snapshot) != "org/tiny" || NameOf(dir) != dir {
		t.Errorf("%s and %s", NameOf(snapshot), NameOf(dir))
	}
	for _, test := range []struct{ path, name, want, err string }{
		{dir, "org/tiny", dir, ""},
		{dir + "/absent", "org/tiny", snapshot, ""},
		{dir + "/absent", "org/tiny@" + commit, snapshot, ""},
		{dir + "/absent", "../absent", dir + "/absent", ""},
		{dir + "/absent", "org/other", "", "there is no directory " + dir + "/absent, and the cache " + dir +
			` has no model "org/other": peftsearch pull org/other`},
		{dir + "/absent", "org/tiny@v2", "", "peftsearch pull org/tiny@v2"},
	} {
		got, err := Directory(test.path, test.name)
		if got != test.want || (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("%s: %s, %v", test.name, got, err)
		}
	}
}
