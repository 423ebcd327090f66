package files

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"reflect"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"peftsearch/data/quote"
)

// Kind is what a file is read as. It bounds the file's size.
type Kind struct {
	what string
	most int64 // bytes
}

// The kinds of file, with bounds far above what is useful and far below what harms.
var (
	Table      = Kind{"a table", 2 << 30}                  // .tsv, .csv, .jsonl
	Document   = Kind{"a JSON or YAML document", 16 << 20} // study files, plans, config.json, index.json
	Vocabulary = Kind{"a vocabulary", 256 << 20}           // tokenizer.json, vocab.txt, vocab.json, merges.txt
	Weights    = Kind{"weights", 1 << 40}                  // .safetensors
)

// Open opens a file for reading, and returns its size with it. Pipes, devices, sockets and directories are
// refused without waiting for them; so are files that are larger than the kind's bound or whose first
// bytes show that they are something else.
func Open(path string, kind Kind) (*os.File, int64, error) {
	info, err := os.Stat(path) // opening some devices does something
	if err != nil {
		return nil, 0, quote.Error(err)
	}
	if err := regular(path, info); err != nil {
		return nil, 0, err
	}
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // it may have become a pipe since
	if err != nil {
		return nil, 0, err
	}
	size, err := check(file, path, kind)
	if err != nil {
		file.Close()
		return nil, 0, err
	}
	return file, size, nil
}

func check(file *os.File, path string, kind Kind) (size int64, err error) {
	info, err := file.Stat()
	if err != nil {
		return 0, err
	}
	if err := regular(path, info); err != nil {
		return 0, err
	}
	if size = info.Size(); size > kind.most {
		return 0, tooLarge(path, kind)
	}
	head := make([]byte, 512)
	n, err := file.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return 0, fmt.Errorf("reading %s: %w", path, err)
	}
	if kind == Weights && n > 8 && head[8] == '{' { // the length before it can look like anything
		return size, nil
	}
	return size, recognise(path, head[:n])
}

func tooLarge(path string, kind Kind) error {
	return fmt.Errorf("%s has more than %d bytes: that is too much for %s", path, kind.most, kind.what)
}

// regular refuses everything that is no regular file.
func regular(path string, info fs.FileInfo) error {
	what := ""
	switch mode := info.Mode(); {
	case mode.IsRegular():
		return nil
	case mode.IsDir():
		what = "a directory"
	case mode&fs.ModeNamedPipe != 0:
		what = "a pipe"
	case mode&fs.ModeSocket != 0:
		what = "a socket"
	case mode&fs.ModeDevice != 0:
		what = "a device"
	default:
		what = "something else (" + mode.Type().String() + ")"
	}
	return fmt.Errorf("%s is %s: a regular file is needed", path, what)
}

// Read reads a text in UTF-8, without a byte order mark.
func Read(path string, kind Kind) ([]byte, error) {
	file, size, err := Open(path, kind)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var content bytes.Buffer
	content.Grow(int(size) + bytes.MinRead)
	if _, err := content.ReadFrom(io.LimitReader(file, kind.most+1)); err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	if int64(content.Len()) > kind.most { // files in /proc have no size, and others grow
		return nil, tooLarge(path, kind)
	}
	text := bytes.TrimPrefix(content.Bytes(), []byte("\ufeff"))
	if !utf8.Valid(text) {
		return nil, notUTF8(path, text)
	}
	return text, nil
}

// ReadJSON decodes a JSON file into what into points to.
func ReadJSON(path string, kind Kind, into any) error {
	content, err := Read(path, kind)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(content, into); err != nil {
		return fmt.Errorf("%s: %w", path, jsonError(content, err))
	}
	return nil
}

// jsonError says in the words of JSON, not of Go, what is wrong, and where.
func jsonError(content []byte, err error) error {
	var syntax *json.SyntaxError
	var mismatch *json.UnmarshalTypeError
	switch {
	case errors.As(err, &mismatch):
		wanted := map[reflect.Kind]string{reflect.String: "a text", reflect.Bool: "true or false",
			reflect.Slice:   "a list",
			reflect.Float64: "a number", reflect.Int: "a whole number", reflect.Int32: "a whole number",
			reflect.Int64:  "a whole number",
			reflect.Uint64: "a whole number from 0"}[mismatch.Type.Kind()]
		return quote.Error(fmt.Errorf("%s is %s, not %s",
			cmp.Or(mismatch.Field, "the document"), mismatch.Value, cmp.Or(wanted, "an object")))
	case errors.As(err, &syntax):
		return fmt.Errorf("line %d is no JSON: %w",
			1+bytes.Count(content[:min(len(content), int(syntax.Offset))], []byte("\n")), quote.Error(err))
	}
	return quote.Error(err)
}
