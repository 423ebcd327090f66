package hub

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// attempts is how often a file is asked for before its download fails.
const attempts = 5

// fetch brings a file of a commit into the cache: as a blob that its digest names, and a link to it in the snapshot,
// as Hugging Face's libraries do.
func (c *Client) fetch(ctx context.Context, m Model, r repository, commit string, f remote,
	progress func(bytes int64)) error {
	blob := r.blob(f.digest)
	if info, err := os.Stat(blob); err != nil || info.Size() != f.size {
		if err := c.download(ctx, m, commit, f, blob, progress); err != nil {
			return err
		}
	}
	link := filepath.Join(r.snapshot(commit), f.name)
	target := filepath.Join("..", "..", "blobs", f.digest)
	if had, err := os.Readlink(link); err == nil && had == target {
		return nil
	}
	if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Symlink(target, link)
}

// download writes blob by way of a file beside it, which is kept when it fails and continued the next time.
func (c *Client) download(ctx context.Context, m Model, commit string, f remote, blob string,
	progress func(int64)) (err error) {
	partial, err := os.OpenFile(blob+".incomplete", os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, partial.Close()) }()
	if err := unix.Flock(int(partial.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("another process is downloading %s of %s: wait for it", f.name, m)
	}
	for attempt := 1; ; attempt++ {
		err := c.resume(ctx, m, commit, f, partial, progress)
		if err == nil {
			break
		}
		var refusal answered
		refused := errors.As(err, &refusal) && refusal.status < 500 && refusal.status != http.StatusTooManyRequests
		if local := (*fs.PathError)(nil); errors.As(err, &local) { // a full disk, for example
			return fmt.Errorf("downloading %s of %s: %w", f.name, m, err)
		}
		if attempt == attempts || refused || ctx.Err() != nil {
			return c.explain(m, f.name, err)
		}
		select {
		case <-time.After(c.pause << (attempt - 1)):
		case <-ctx.Done():
			return c.explain(m, f.name, ctx.Err())
		}
	}
	if err := check(partial, f); err != nil {
		return errors.Join(fmt.Errorf("%s of %s: %w: what was downloaded is deleted, run the command again", f.name, m, err),
			os.Remove(partial.Name()))
	}
	if err := partial.Sync(); err != nil {
		return err
	}
	return os.Rename(partial.Name(), blob)
}

// resume appends what is missing of a file.
func (c *Client) resume(ctx context.Context, m Model, commit string, f remote, partial *os.File,
	progress func(int64)) error {
	have, err := partial.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if have >= f.size && f.size > 0 { // whole, or what check refuses
		progress(have)
		return nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stalled := time.AfterFunc(c.patience, func() { cancel(fmt.Errorf("no byte in %s", c.patience)) })
	defer stalled.Stop()
	response, err := c.get(ctx, fmt.Sprintf("/%s/resolve/%s/%s", m.ID, commit, url.PathEscape(f.name)), have)
	if err != nil {
		return because(ctx, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusPartialContent && have > 0 { // a server that cannot continue
		if err := partial.Truncate(0); err != nil {
			return err
		}
		if have, err = partial.Seek(0, io.SeekStart); err != nil {
			return err
		}
	}
	buffer := make([]byte, 256<<10)
	for {
		n, err := response.Body.Read(buffer)
		if n > 0 {
			stalled.Reset(c.patience)
			if have += int64(n); have > f.size {
				return fmt.Errorf("the server sends more than the %d bytes of %s", f.size, f.name)
			}
			if _, err := partial.Write(buffer[:n]); err != nil {
				return err
			}
			progress(have)
		}
		switch {
		case err == io.EOF && have < f.size:
			return fmt.Errorf("the connection ended at %d of %d bytes", have, f.size)
		case err == io.EOF:
			return nil
		case err != nil:
			return because(ctx, err)
		}
	}
}

// because is the reason why a context ended, if that is why there is an error.
func because(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// check compares a file with the Hub's digest.
func check(file *os.File, f remote) error {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	var sum hash.Hash
	kind := "SHA-256"
	if len(f.digest) == 2*sha1.Size {
		sum, kind = sha1.New(), "git SHA-1"
		fmt.Fprintf(sum, "blob %d\x00", f.size)
	} else {
		sum = sha256.New()
	}
	if _, err := io.Copy(sum, file); err != nil {
		return err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != f.digest {
		return fmt.Errorf("the checksum is wrong (%s %s, the Hub says %s)", kind, got, f.digest)
	}
	return nil
}
