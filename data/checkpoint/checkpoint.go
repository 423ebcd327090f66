// Package checkpoint reads Hugging Face model directories, config.json and safetensors, and writes
// safetensors.
package checkpoint

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"peftsearch/data/files"
	"peftsearch/data/quote"
	"peftsearch/data/tokenizer"
)

// Checkpoint is an open Hugging Face model directory. Its tensors have canonical names and shapes: those of
// transformers' BertModel ("embeddings.word_embeddings.weight", "encoder.layer.0.attention.self.query.weight";
// a decoder's layers are decoder.layer.0), whatever the architecture calls them, without the prefix of whatever
// model it was part of and with LayerNorm's parameters called weight and bias. Matrices are [out, in], with one for
// each of query, key and value.
type Checkpoint struct {
	Dir    string
	Config Config

	weights []*safetensorsFile
	places  map[string]place // by what transformers' bare model calls a tensor
}

// place says where a tensor lies.
type place struct {
	file *safetensorsFile
	name string // in the file
}

// Open opens a model directory and checks that the configuration is supported and that every tensor of
// the backbone is there in its shape, with finite values. The weights are mapped, not read into memory:
// the files must not change until Close.
func Open(dir string) (*Checkpoint, error) {
	config, err := ReadConfig(dir)
	if err != nil {
		return nil, err
	}
	paths, err := weightFiles(dir)
	if err != nil {
		return nil, err
	}
	c := &Checkpoint{Dir: dir, Config: config, places: map[string]place{}}
	if err := c.open(paths); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func (c *Checkpoint) open(paths []string) error {
	for _, path := range paths {
		f, err := openSafetensors(path)
		switch {
		case errors.Is(err, errTruncated):
			return fmt.Errorf("%w: download it again", err)
		case err != nil:
			return err
		}
		c.weights = append(c.weights, f)
	}
	prefix, err := c.prefix()
	if err != nil {
		return err
	}
	for _, f := range c.weights {
		for name := range f.infos {
			bare := bareName(name, prefix)
			if other, twice := c.places[bare]; twice {
				return fmt.Errorf("%s: tensors %s and %s are the same weight",
					f.path, quote.Text(min(name, other.name)), quote.Text(max(name, other.name)))
			}
			c.places[bare] = place{f, name}
		}
	}
	return c.check()
}

// prefix is what stands before the names of the backbone's tensors: nothing in the checkpoint of a bare
// BertModel, "bert." in that of a model with a head, "module.bert." in one saved in parallel training.
func (c *Checkpoint) prefix() (string, error) {
	anchor := modelTypes[c.Config.ModelType].anchor
	var prefixes, others []string
	for _, f := range c.weights {
		for name := range f.infos {
			if prefix, ok := strings.CutSuffix(name, anchor); ok && (prefix == "" || strings.HasSuffix(prefix, ".")) {
				prefixes = append(prefixes, prefix)
			} else {
				others = append(others, name)
			}
		}
	}
	slices.Sort(prefixes)
	switch len(prefixes) {
	case 0:
		slices.Sort(others)
		return "", fmt.Errorf("%s: no tensor is called %s, with or without a prefix: is it a %s model? It has %s",
			c.Dir, anchor, c.Config.ModelType, cmp.Or(quote.List(others), "no tensor"))
	case 1:
		return prefixes[0], nil
	}
	if twice := slices.Compact(slices.Clone(prefixes)); len(twice) < len(prefixes) {
		return "", fmt.Errorf("%s: several files have the tensor %s", c.Dir, quote.Text(prefixes[0]+anchor))
	}
	return "", fmt.Errorf("%s holds %d backbones, with the prefixes %s: save the one that you mean in a directory of "+
		"its own",
		c.Dir, len(prefixes), quote.List(prefixes))
}

// check compares the backbone's tensors with config.json.
func (c *Checkpoint) check() error {
	var errs []error
	for _, want := range c.Config.backbone() {
		t, err := c.Tensor(want.name)
		switch {
		case err != nil:
			errs = append(errs, err)
		case !slices.Equal(t.Shape, want.shape):
			errs = append(errs, fmt.Errorf("tensor %q has shape %v, config.json says %v",
				want.name, t.Shape, want.shape))
		}
	}
	if n := len(errs); n > 0 {
		return fmt.Errorf("%s: %d of the backbone's tensors do not fit config.json, the first is: %w",
			c.Dir, n, errs[0])
	}
	for _, want := range c.Config.backbone() {
		t, _ := c.Tensor(want.name) // is there
		if i := t.NotFinite(); i >= 0 {
			return fmt.Errorf("%s: element %d of tensor %q is not a finite number: the weights are damaged, "+
				"or were saved from a training that diverged", c.Dir, i, want.name)
		}
	}
	return nil
}

// bareName removes what differs between checkpoints of the same model.
func bareName(name, prefix string) string {
	name = strings.TrimPrefix(name, prefix)
	if base, ok := strings.CutSuffix(name, "LayerNorm.gamma"); ok {
		return base + "LayerNorm.weight"
	}
	if base, ok := strings.CutSuffix(name, "LayerNorm.beta"); ok {
		return base + "LayerNorm.bias"
	}
	return name
}

// maxShards is more than any model has, and fewer than a process may map.
const maxShards = 4096

// weightFiles finds model.safetensors or the shards that its index names.
func weightFiles(dir string) ([]string, error) {
	single := filepath.Join(dir, "model.safetensors")
	if files.Exists(single) {
		return []string{single}, nil
	}
	index := single + ".index.json"
	if !files.Exists(index) {
		if files.Exists(filepath.Join(dir, "pytorch_model.bin")) {
			return nil, fmt.Errorf("%s has its weights in pytorch_model.bin, which can run code when it is read: convert it "+
				"with "+
				"python -c 'import sys; from transformers import AutoModel; d = sys.argv[1]; "+
				"AutoModel.from_pretrained(d).save_pretrained(d)' %s", dir, quote.Shell(dir))
		}
		return nil, fmt.Errorf("%s has no model.safetensors: download the checkpoint's weights in safetensors format",
			dir)
	}
	var raw struct {
		Files map[string]string `json:"weight_map"`
	}
	if err := files.ReadJSON(index, files.Document, &raw); err != nil {
		return nil, err
	}
	names := slices.Compact(slices.Sorted(maps.Values(raw.Files)))
	if len(names) == 0 || len(names) > maxShards {
		return nil, fmt.Errorf("%s: weight_map names %d files: must be from 1 to %d", index, len(names), maxShards)
	}
	for i, name := range names {
		if name != filepath.Base(name) || name == "." || name == ".." || strings.ContainsRune(name, 0) {
			return nil, fmt.Errorf("%s: %s is not the name of a file in the same directory", index, quote.Text(name))
		}
		names[i] = filepath.Join(dir, name)
	}
	return names, nil
}

// Backbone lists the canonical names of the embeddings' and the encoder's tensors in the order of
// computation. The pooler and heads are not among them.
func (c *Checkpoint) Backbone() []string {
	var names []string
	for _, t := range c.Config.backbone() {
		names = append(names, t.name)
	}
	return names
}

// BackboneParams is the number of elements of the backbone's tensors.
func (c *Checkpoint) BackboneParams() int64 {
	var n int64
	for _, t := range c.Config.backbone() {
		n += int64(Tensor{Shape: t.shape}.Elements())
	}
	return n
}

// Has reports whether there is a tensor of a canonical name.
func (c *Checkpoint) Has(name string) bool {
	_, ok := c.places[NameInFile(c.Config.ModelType, name)]
	return ok
}

// Tensor returns a tensor by its canonical name. Its data may lie in the mapped file: it is read-only and
// valid until Close.
func (c *Checkpoint) Tensor(name string) (Tensor, error) {
	p, ok := c.places[NameInFile(c.Config.ModelType, name)]
	if !ok {
		return Tensor{}, fmt.Errorf("%s has no tensor %s", c.Dir, quote.Text(name))
	}
	t, err := p.file.tensor(p.name)
	if arrange := modelTypes[c.Config.ModelType].arrange; arrange != nil && err == nil {
		t = arrange(name).take(t)
	}
	return t, err
}

// Fingerprint is a SHA-256, in hexadecimal, of the configuration, the weights and the files that decide
// the tokenizer's ids: everything of the directory that a score depends on. It reads all of them.
func (c *Checkpoint) Fingerprint() (string, error) {
	type part struct {
		path string
		kind files.Kind
	}
	parts := []part{{filepath.Join(c.Dir, "config.json"), files.Document}}
	for _, f := range c.weights {
		parts = append(parts, part{f.path, files.Weights})
	}
	names, err := tokenizer.Files(c.Dir)
	if err != nil {
		return "", err
	}
	for _, name := range names {
		parts = append(parts, part{filepath.Join(c.Dir, name), files.Vocabulary})
	}
	total, buffer := sha256.New(), make([]byte, 1<<20)
	for _, p := range parts {
		file, _, err := files.Open(p.path, p.kind)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		digest := sha256.New()
		_, err = io.CopyBuffer(digest, struct{ io.Reader }{file}, buffer)
		if err := cmp.Or(err, file.Close()); err != nil {
			return "", fmt.Errorf("reading %s: %w", p.path, err)
		}
		fmt.Fprintf(total, "%s\n%x\n", filepath.Base(p.path), digest.Sum(nil))
	}
	return hex.EncodeToString(total.Sum(nil)), nil
}

// Close unmaps the weights. It may be called more than once.
func (c *Checkpoint) Close() error {
	var errs []error
	for _, f := range c.weights {
		errs = append(errs, f.Close())
	}
	c.weights, c.places = nil, nil
	return errors.Join(errs...)
}
