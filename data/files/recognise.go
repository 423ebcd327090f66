package files

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"peftsearch/data/quote"
)

// recognise refuses a file that is certainly no text, or text of another kind than any that is read here,
// by its first bytes. The error says what it is and what to do.
func recognise(path string, head []byte) error {
	has := func(magic string) bool { return bytes.HasPrefix(head, []byte(magic)) }
	is := func(what, advice string) error { return fmt.Errorf("%s is %s: %s", path, what, advice) }
	unpack := func(what, command string) error {
		return is(what, "unpack it: "+redirect(command, path, plainName(path)))
	}
	convert := func(encoding string) error {
		return is("in "+strings.TrimRight(encoding, "BLE")+", not in UTF-8", "convert it: "+iconv(encoding, path))
	}
	switch {
	case has("version https://git-lfs.github.com/spec/"):
		return is("a Git LFS pointer, not the file itself",
			`run "git lfs pull" in its repository, or download the file`)
	case has("\x1f\x8b\x08"):
		return unpack("compressed by gzip", "gunzip -c")
	case has("BZh") && len(head) >= 10 && string(head[4:10]) == "1AY&SY":
		return unpack("compressed by bzip2", "bunzip2 -c")
	case has("\xfd7zXZ\x00"):
		return unpack("compressed by xz", "xz -dc")
	case has("\x28\xb5\x2f\xfd"):
		return unpack("compressed by zstd", "zstd -dc")
	case has("PK\x03\x04"):
		switch entry := zipEntry(head); {
		case strings.HasSuffix(entry, "data.pkl"), strings.HasSuffix(entry, "/version"),
			strings.HasSuffix(entry, ".format_version"):
			return is(pyTorch, toSafetensors)
		case entry == "[Content_Types].xml" || strings.HasPrefix(entry, "_rels/") || strings.HasPrefix(entry, "xl/"):
			return is("an Excel workbook", `save the sheet as "CSV UTF-8"`)
		}
		return is("a ZIP archive", "unpack it: unzip "+quote.Shell(path))
	case len(head) > 2 && head[0] == 0x80 && head[1] >= 2 && head[1] <= 5:
		return is(pyTorch, toSafetensors)
	case has("\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"):
		return is("an old Excel workbook", `save the sheet as "CSV UTF-8"`)
	case has("PAR1\x15"):
		return is("a Parquet file", toLines("read_parquet", path))
	case has("ARROW1\x00\x00"):
		return is("an Arrow file", toLines("read_feather", path))
	case has("\x89HDF\r\n"):
		return is("an HDF5 file", "weights are read from safetensors, rows from .tsv, .csv or .jsonl")
	case has("SQLite format 3\x00"):
		return is("an SQLite database", "weights are read from safetensors, rows from .tsv, .csv or .jsonl")
	case has("%PDF-"):
		return is("a PDF", "rows are read from .tsv, .csv or .jsonl")
	case has("\xff\xfe\x00\x00") || has("\x00\x00\xfe\xff"):
		return convert("UTF-32")
	case has("\xff\xfe") || has("\xfe\xff"):
		return convert("UTF-16")
	}
	if encoding := wide(head); encoding != "" {
		return convert(encoding)
	}
	start := strings.ToLower(string(bytes.TrimLeft(bytes.TrimPrefix(head, []byte("\ufeff")), " \t\r\n")))
	switch {
	case strings.HasPrefix(start, "<!doctype html") || strings.HasPrefix(start, "<html"):
		return is("a web page",
			"download the file itself; its address may need a login, or /resolve/ instead of /blob/")
	case strings.HasPrefix(start, "<?xml"):
		return is("an XML document", "download the file itself; servers send such a document for an error")
	}
	return nil
}

const (
	pyTorch       = "a PyTorch or pickle file, which can run code when it is read"
	toSafetensors = "convert weights with transformers' save_pretrained, which writes model.safetensors"
)

// zipEntry is the name of an archive's first file.
func zipEntry(head []byte) string {
	if len(head) < 30 {
		return ""
	}
	name := head[30:]
	return string(name[:min(len(name), int(binary.LittleEndian.Uint16(head[26:])))])
}

// wide is the encoding of text that has no byte order mark, but zeros where UTF-16 or UTF-32 has them for
// most letters of European languages, and nowhere else. "" if that is not certain.
func wide(head []byte) string {
	head = head[:len(head)/4*4]
	if len(head) < 8 {
		return ""
	}
	var zeros [4]int
	for i, b := range head {
		if b == 0 {
			zeros[i%4]++
		}
	}
	none, most := func(i int) bool { return zeros[i] == 0 }, func(i int) bool { return zeros[i] > len(head)/8 }
	switch {
	case none(0) && most(1) && none(2) && most(3):
		return "UTF-16LE"
	case most(0) && none(1) && most(2) && none(3):
		return "UTF-16BE"
	case none(0) && most(1) && most(2) && most(3):
		return "UTF-32LE"
	case most(0) && most(1) && most(2) && none(3):
		return "UTF-32BE"
	}
	return ""
}

// notUTF8 says where a text is not UTF-8, and guesses the encoding that most such files have.
func notUTF8(path string, content []byte) error {
	at := 0
	for at < len(content) {
		r, size := utf8.DecodeRune(content[at:])
		if r == utf8.RuneError && size == 1 {
			break
		}
		at += size
	}
	line := bytes.Count(content[:at], []byte("\n")) + 1
	// These bytes are none of a text in Windows-1252. The others mean something in many encodings.
	none := []byte("\x00\x81\x8d\x8f\x90\x9d")
	if slices.ContainsFunc(none, func(b byte) bool { return bytes.IndexByte(content, b) >= 0 }) {
		return fmt.Errorf("%s: line %d is not UTF-8 (byte 0x%02X): convert the file with iconv -f ENCODING -t UTF-8; "+
			"ENCODING is the one that it was saved in", path, line, content[at])
	}
	return fmt.Errorf("%s: line %d is not UTF-8 (byte 0x%02X): "+
		"it may be Windows-1252, in which Excel saves CSV in Western Europe; then convert it: %s", path, line, content[at],
		iconv("WINDOWS-1252", path))
}

func iconv(encoding, path string) string {
	return redirect("iconv -f "+encoding+" -t UTF-8", path, besides(path, "-utf8"))
}

// redirect is a shell command that reads one file and writes another.
func redirect(command, from, to string) string {
	return fmt.Sprintf("%s %s > %s", command, quote.Shell(from), quote.Shell(to))
}

// plainName is where a compressed file is unpacked to.
func plainName(path string) string {
	switch extension := filepath.Ext(path); strings.ToLower(extension) {
	case ".gz", ".bz2", ".xz", ".zst":
		return strings.TrimSuffix(path, extension)
	}
	return besides(path, "-plain")
}

// besides puts something between a file's name and its extension.
func besides(path, mark string) string {
	extension := filepath.Ext(path)
	return strings.TrimSuffix(path, extension) + mark + extension
}

func toLines(reader, path string) string {
	return fmt.Sprintf("rows are read from .tsv, .csv or .jsonl, for example of "+
		`pandas.%s(%q).to_json("rows.jsonl", orient="records", lines=True)`, reader, filepath.Base(path))
}
