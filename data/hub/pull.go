package hub

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"peftsearch/data/files"
	"peftsearch/data/quote"
	"peftsearch/data/tokenizer"
)

// ErrNetwork is wrapped by errors of the connection, which may not come again; ErrRefused by those of what the Hub
// does not give, which will.
var (
	ErrNetwork = errors.New("the Hugging Face Hub cannot be reached")
	ErrRefused = errors.New("the Hugging Face Hub refuses")
)

// Client downloads from a Hub. The zero value does not work; NewClient makes one.
type Client struct {
	endpoint string
	token    string // goes to the endpoint alone
	cache    string
	http     *http.Client
	patience time.Duration // without a byte
	pause    time.Duration // before the first of the further attempts
}

// NewClient is a client as the environment says: HF_ENDPOINT, HF_TOKEN (or the file token in HF_HOME), HF_HUB_CACHE.
func NewClient() (*Client, error) {
	if offline := os.Getenv("HF_HUB_OFFLINE"); offline != "" && offline != "0" {
		return nil, fmt.Errorf("%w: HF_HUB_OFFLINE is set, so nothing is downloaded", ErrRefused)
	}
	cache, err := Cache()
	if err != nil {
		return nil, err
	}
	directory, err := home()
	if err != nil {
		return nil, err
	}
	token := os.Getenv("HF_TOKEN")
	if token == "" {
		path := cmp.Or(os.Getenv("HF_TOKEN_PATH"), filepath.Join(directory, "token"))
		if content, err := os.ReadFile(path); err == nil {
			token = string(content)
		}
	}
	endpoint := strings.TrimRight(cmp.Or(os.Getenv("HF_ENDPOINT"), "https://huggingface.co"), "/")
	if at, err := url.Parse(endpoint); err != nil || at.Host == "" || at.Scheme != "https" && at.Scheme != "http" {
		return nil, fmt.Errorf("HF_ENDPOINT %s: must be an address such as https://huggingface.co", quote.Text(endpoint))
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.ResponseHeaderTimeout = time.Minute
	return &Client{endpoint: endpoint, token: strings.TrimSpace(token), cache: cache,
		http: &http.Client{Transport: transport, CheckRedirect: redirect}, patience: time.Minute, pause: time.Second}, nil
}

// redirect keeps the token from other hosts, subdomains included, which net/http would give it to.
func redirect(request *http.Request, via []*http.Request) error {
	if len(via) >= 10 {
		return errors.New("it redirects for ever")
	}
	if request.URL.Host != via[0].URL.Host {
		request.Header.Del("Authorization")
	}
	return nil
}

// Progress is told while a download goes on: done and total bytes of all files, and the file that is being fetched.
type Progress func(file string, done, total int64)

// Pull brings what a model directory needs into the cache: config.json, the weights in safetensors format and the
// tokenizer. Files that are there are not fetched again, and one that was fetched in part is continued; each is
// checked against the Hub's digest before it gets its name. It returns the model's directory.
func (c *Client) Pull(ctx context.Context, m Model, progress Progress) (dir string, err error) {
	state, err := c.state(ctx, m)
	if err != nil {
		return "", err
	}
	r := m.repository(c.cache)
	dir = r.snapshot(state.commit)
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.MkdirAll(filepath.Join(string(r), "blobs"), 0o755)); err != nil {
		return "", err
	}
	small, err := state.choose("config.json", tokenizer.FileNames)
	if err != nil {
		return "", err
	}
	weights, err := c.weights(ctx, m, r, state)
	if err != nil {
		return "", err
	}
	wanted := append(small, weights...)
	var done, total int64
	for _, f := range wanted {
		total += f.size
	}
	for _, f := range wanted {
		if err := c.fetch(ctx, m, r, state.commit, f, func(bytes int64) { progress(f.name, done+bytes, total) }); err != nil {
			return "", err
		}
		done += f.size
	}
	progress("", total, total)
	ref := r.ref(m.Revision)
	if err := os.MkdirAll(filepath.Dir(ref), 0o755); err != nil {
		return "", err
	}
	return dir, files.Write(ref, []byte(state.commit))
}

// state is what the Hub says about a model.
type state struct {
	model  Model
	commit string
	files  map[string]remote
}

// remote is a file on the Hub.
type remote struct {
	name   string
	size   int64
	digest string // SHA-256 of a large file, else git's SHA-1 of a blob: the file's ETag
}

var digestPattern = regexp.MustCompile(`^(?:[0-9a-f]{40}|[0-9a-f]{64})$`)

func (c *Client) state(ctx context.Context, m Model) (*state, error) {
	response, err := c.get(ctx, fmt.Sprintf("/api/models/%s/revision/%s?blobs=true", m.ID, url.PathEscape(m.Revision)), 0)
	if err != nil {
		return nil, c.explain(m, "", err)
	}
	defer response.Body.Close()
	var answer struct {
		SHA      string `json:"sha"`
		Siblings []struct {
			Name string `json:"rfilename"`
			Size int64  `json:"size"`
			Blob string `json:"blobId"`
			LFS  *struct {
				SHA256 string `json:"sha256"`
				Size   int64  `json:"size"`
			} `json:"lfs"`
		} `json:"siblings"`
	}
	const most = 64 << 20
	if err := json.NewDecoder(io.LimitReader(response.Body, most)).Decode(&answer); err != nil {
		return nil, fmt.Errorf("%w: %s did not answer with the description of a model: %w", ErrNetwork, c.endpoint,
			quote.Error(err))
	}
	if !commitPattern.MatchString(answer.SHA) {
		return nil, fmt.Errorf("%w: %s names no commit for %s", ErrRefused, c.endpoint, m)
	}
	s := &state{model: m, commit: answer.SHA, files: map[string]remote{}}
	for _, sibling := range answer.Siblings {
		f := remote{sibling.Name, sibling.Size, sibling.Blob}
		if sibling.LFS != nil {
			f.size, f.digest = sibling.LFS.Size, sibling.LFS.SHA256
		}
		if digestPattern.MatchString(f.digest) && f.size >= 0 {
			s.files[f.name] = f
		}
	}
	return s, nil
}

// choose is a file that has to be there and those of others that are.
func (s *state) choose(needed string, others []string) ([]remote, error) {
	f, ok := s.files[needed]
	if !ok {
		return nil, fmt.Errorf("%w: the model %s has no %s", ErrRefused, s.model, needed)
	}
	chosen := []remote{f}
	for _, name := range others {
		if f, ok := s.files[name]; ok {
			chosen = append(chosen, f)
		}
	}
	return chosen, nil
}

// weights is the file of the weights, or their index, which it fetches, and the shards.
func (c *Client) weights(ctx context.Context, m Model, r repository, s *state) ([]remote, error) {
	const single, index = "model.safetensors", "model.safetensors.index.json"
	if f, ok := s.files[single]; ok {
		return []remote{f}, nil
	}
	f, ok := s.files[index]
	if !ok {
		return nil, fmt.Errorf("%w: the model %s has no weights in safetensors format: convert it with python -c "+
			"'from transformers import AutoModel, AutoTokenizer; m = \"%s\"; "+
			"AutoModel.from_pretrained(m).save_pretrained(\"model\"); "+
			"AutoTokenizer.from_pretrained(m).save_pretrained(\"model\")' and name the directory", ErrRefused, m, m.ID)
	}
	if err := c.fetch(ctx, m, r, s.commit, f, func(int64) {}); err != nil {
		return nil, err
	}
	var content struct {
		Files map[string]string `json:"weight_map"`
	}
	if err := files.ReadJSON(filepath.Join(r.snapshot(s.commit), index), files.Document, &content); err != nil {
		return nil, err
	}
	chosen := []remote{f}
	seen := map[string]bool{}
	for _, name := range content.Files {
		shard, ok := s.files[name]
		if !ok || name != filepath.Base(name) {
			return nil, fmt.Errorf("%w: the model %s has no %s, which its index names", ErrRefused, m, quote.Text(name))
		}
		if !seen[name] {
			seen[name], chosen = true, append(chosen, shard)
		}
	}
	slices.SortFunc(chosen, func(a, b remote) int { return strings.Compare(a.name, b.name) })
	return chosen, nil
}

// answered is a response with a status that is no success.
type answered struct{ status int }

func (a answered) Error() string { return fmt.Sprintf("%d %s", a.status, http.StatusText(a.status)) }

// get asks the endpoint for a path, from an offset on. The caller closes the body.
func (c *Client) get(ctx context.Context, path string, offset int64) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.endpoint+path, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("User-Agent", "peftsearch")
	request.Header.Set("Accept-Encoding", "identity") // sizes and offsets count the file's own bytes
	if c.token != "" {
		request.Header.Set("Authorization", "Bearer "+c.token)
	}
	if offset > 0 {
		request.Header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode/100 != 2 {
		response.Body.Close()
		return nil, answered{response.StatusCode}
	}
	return response, nil
}

// explain says in a user's terms why something was not got.
func (c *Client) explain(m Model, file string, err error) error {
	what := "the model " + m.String()
	if file != "" {
		what = file + " of " + m.String()
	}
	var a answered
	switch {
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("downloading %s was interrupted; the same command goes on where it was: %w", what, err)
	case !errors.As(err, &a):
		return fmt.Errorf("%w: downloading %s from %s: %w; once there is a network, the same command goes on where it was",
			ErrNetwork, what, c.endpoint, err)
	}
	reason := ""
	switch a.status {
	case http.StatusUnauthorized, http.StatusForbidden:
		reason = fmt.Sprintf("it does not exist, or is private or gated: check its name at %s/%s, accept its terms there "+
			"and set "+
			"HF_TOKEN to a token that may read it", c.endpoint, m.ID)
		if c.token != "" {
			reason = fmt.Sprintf("it does not exist, or the token (HF_TOKEN) may not read it: check its name and its terms "+
				"at %s/%s",
				c.endpoint, m.ID)
		}
	case http.StatusNotFound:
		reason = fmt.Sprintf("there is none of that name and revision %s: check it at %s/%s", m.Revision, c.endpoint, m.ID)
	default:
		reason = "try again later"
	}
	return fmt.Errorf("%w: %s answers %w for %s: %s", ErrRefused, c.endpoint, a, what, reason)
}
