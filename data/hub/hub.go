// Package hub finds models of the Hugging Face Hub in the local cache that Hugging Face's own libraries use, and
// downloads them into it.
package hub

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"peftsearch/data/files"
	"peftsearch/data/quote"
)

// Model is a model of the Hub in one of its states.
type Model struct {
	ID       string // "name" or "owner/name"
	Revision string // a branch, a tag or a commit; main where none is given
}

const mainRevision = "main"

var (
	modelPattern = regexp.MustCompile(
		`^([A-Za-z0-9][\w.-]{0,95}(?:/[A-Za-z0-9][\w.-]{0,95})?)(?:@([A-Za-z0-9][\w./-]{0,199}))?$`)
	commitPattern = regexp.MustCompile(`^[0-9a-f]{40}$`)
)

// Parse reads "owner/name" or "owner/name@revision"; ok is false for what cannot be a model's name.
func Parse(text string) (m Model, ok bool) {
	parts := modelPattern.FindStringSubmatch(text)
	if parts == nil || strings.Contains(text, "..") || strings.Contains(text, "--") || strings.Contains(text, "//") {
		return Model{}, false
	}
	return Model{ID: parts[1], Revision: cmp.Or(parts[2], mainRevision)}, true
}

// String is what Parse reads.
func (m Model) String() string {
	if m.Revision == mainRevision {
		return m.ID
	}
	return m.ID + "@" + m.Revision
}

// home is Hugging Face's directory.
func home() (string, error) {
	if dir := os.Getenv("HF_HOME"); dir != "" {
		return dir, nil
	}
	if dir := os.Getenv("XDG_CACHE_HOME"); dir != "" {
		return filepath.Join(dir, "huggingface"), nil
	}
	dir, err := os.UserHomeDir()
	return filepath.Join(dir, ".cache", "huggingface"), err
}

// Cache is the directory of the local cache: HF_HUB_CACHE, or hub in HF_HOME.
func Cache() (string, error) {
	if dir := cmp.Or(os.Getenv("HF_HUB_CACHE"), os.Getenv("HUGGINGFACE_HUB_CACHE")); dir != "" {
		return dir, nil
	}
	dir, err := home()
	return filepath.Join(dir, "hub"), err
}

// repository is a model's directory in a cache.
type repository string

func (m Model) repository(cache string) repository {
	return repository(filepath.Join(cache, "models--"+strings.ReplaceAll(m.ID, "/", "--")))
}

func (r repository) ref(revision string) string {
	return filepath.Join(string(r), "refs", filepath.FromSlash(revision))
}

func (r repository) snapshot(commit string) string {
	return filepath.Join(string(r), "snapshots", commit)
}

func (r repository) blob(digest string) string { return filepath.Join(string(r), "blobs", digest) }

// Find is the directory of a model in the local cache. The error says how to get it there.
func Find(m Model) (string, error) {
	cache, err := Cache()
	if err != nil {
		return "", err
	}
	r, commit := m.repository(cache), m.Revision
	if content, err := os.ReadFile(r.ref(m.Revision)); err == nil {
		commit = strings.TrimSpace(string(content))
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if commitPattern.MatchString(commit) {
		if dir := r.snapshot(commit); files.Exists(filepath.Join(dir, "config.json")) {
			return dir, nil
		}
	}
	return "", fmt.Errorf("the cache %s has no model %s: peftsearch pull %s brings it from the Hugging Face Hub",
		cache, quote.Text(m.String()), quote.Shell(m.String()))
}

// Directory is the directory that a name means: itself if it is one, otherwise that of a model of the Hub in the
// local cache.
func Directory(path, name string) (string, error) {
	if files.Exists(path) {
		return path, nil
	}
	m, ok := Parse(name)
	if !ok {
		return path, nil // whoever opens it says what is wrong
	}
	dir, err := Find(m)
	if err != nil {
		return "", fmt.Errorf("there is no directory %s, and %w", path, err)
	}
	return dir, nil
}

// NameOf is the name of the model whose directory in a cache this is, if the cache's main is the same state of it;
// otherwise the directory.
func NameOf(dir string) string {
	commit, snapshots := filepath.Base(dir), filepath.Dir(dir)
	r := filepath.Dir(snapshots)
	name, found := strings.CutPrefix(filepath.Base(r), "models--")
	if !found || filepath.Base(snapshots) != "snapshots" {
		return dir
	}
	if content, err := os.ReadFile(repository(r).ref(mainRevision)); err != nil ||
		strings.TrimSpace(string(content)) != commit {
		return dir
	}
	return strings.Replace(name, "--", "/", 1)
}
