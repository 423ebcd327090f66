package files

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf16"

	"golang.org/x/sys/unix"
)

func file(t *testing.T, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// What is no regular file is refused at once, even if reading it would wait or never end.
func TestReadRefusesSpecialFiles(t *testing.T) {
	dir := t.TempDir()
	pipe, link, zero := filepath.Join(dir, "pipe"), filepath.Join(dir, "link"), filepath.Join(dir, "zero")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Symlink(pipe, link), os.Symlink("/dev/zero", zero)); err != nil {
		t.Fatal(err)
	}
	socket, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	for path, want := range map[string]string{
		pipe: "is a pipe", link: "is a pipe", zero: "is a device", "/dev/null": "is a device", dir: "is a directory",
		filepath.Join(dir, "s"): "is a socket",
	} {
		for _, kind := range []Kind{Table, Document, Vocabulary, Weights} {
			if _, err := Read(path, kind); err == nil || !strings.Contains(err.Error(), path+" "+want) {
				t.Errorf("error %v, want %q", err, want)
			}
		}
	}
	if _, err := Read(filepath.Join(dir, "absent"), Table); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}

// A file that is too large is refused by its size, before it is read.
func TestReadRefusesLargeFiles(t *testing.T) {
	path := file(t, "x", nil)
	for _, kind := range []Kind{Table, Document, Vocabulary, Weights} {
		if err := os.Truncate(path, kind.most+1); err != nil { // sparse: it takes no room
			t.Skip(err)
		}
		if _, err := Read(path, kind); err == nil || !strings.Contains(err.Error(), "too much for "+kind.what) {
			t.Errorf("error %v", err)
		}
	}
	if _, err := Read("/proc/self/status", Kind{"a test", 10}); err == nil ||
		!strings.Contains(err.Error(), "more than 10 bytes") {
		t.Errorf("error %v", err)
	}
	if content, err := Read("/proc/self/status", Document); err != nil || !bytes.HasPrefix(content, []byte("Name:")) {
		t.Errorf("%q, %v", content, err)
	}
}

func TestReadText(t *testing.T) {
	for content, want := range map[string]string{"": "", "\ufeffé": "é", "a\x00b": "a\x00b", "PK": "PK",
		"version https": "version https", "BZh": "BZh"} {
		got, err := Read(file(t, "x", []byte(content)), Document)
		if err != nil || string(got) != want {
			t.Errorf("%q: %q, %v", content, got, err)
		}
	}
}

func wideText(s string, mark bool, width int, little bool) []byte {
	units := []rune(s)
	if mark {
		units = append([]rune{0xfeff}, units...)
	}
	var out []byte
	for _, r := range units {
		unit := []byte{byte(r), byte(r >> 8), 0, 0}[:width]
		if width == 2 && utf16.IsSurrogate(r) {
			panic("only the basic plane")
		}
		if !little {
			for i, j := 0, len(unit)-1; i < j; i, j = i+1, j-1 {
				unit[i], unit[j] = unit[j], unit[i]
			}
		}
		out = append(out, unit...)
	}
	return out
}

const sample = "text\tlabel\nčaša and more\tpos\nplain\tneg\n"

// The commands that errors advise work, where the machine has their programs.
func TestAdviceWorks(t *testing.T) {
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	w.Write([]byte(sample))
	w.Close()
	latin := []byte("text\tlabel\nna\xefve caf\xe9 \x80\tpos\n")
	for _, test := range []struct {
		name    string
		content []byte
		says    string
		result  string
	}{
		{"le.csv", wideText(sample, true, 2, true), "is in UTF-16, not in UTF-8", sample},
		{"be.csv", wideText(sample, true, 2, false), "is in UTF-16, not in UTF-8", sample},
		{"le32.csv", wideText(sample, true, 4, true), "is in UTF-32, not in UTF-8", sample},
		{"be32.csv", wideText(sample, true, 4, false), "is in UTF-32, not in UTF-8", sample},
		{"bare le.csv", wideText(sample, false, 2, true), "iconv -f UTF-16LE", sample},
		{"bare be.csv", wideText(sample, false, 2, false), "iconv -f UTF-16BE", sample},
		{"bare le32.csv", wideText(sample, false, 4, true), "iconv -f UTF-32LE", sample},
		{"bare be32.csv", wideText(sample, false, 4, false), "iconv -f UTF-32BE", sample},
		{"it's latin.tsv", latin, "line 2 is not UTF-8 (byte 0xEF): it may be Windows-1252",
			"text\tlabel\nnaïve café €\tpos\n"},
		{"x.tsv.gz", zipped.Bytes(), "is compressed by gzip", sample},
		{"x.tsv", zipped.Bytes(), "is compressed by gzip", sample},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := file(t, test.name, test.content)
			_, err := Read(path, Table)
			if err == nil || !strings.Contains(err.Error(), test.says) {
				t.Fatalf("error %v, want %q", err, test.says)
			}
			_, command, ok := strings.Cut(err.Error(), " it: ")
			if !ok {
				t.Fatalf("%v advises no command", err)
			}
			if _, err := exec.LookPath(strings.Fields(command)[0]); err != nil {
				t.Skip(err)
			}
			if out, err := exec.Command("sh", "-c", command).CombinedOutput(); err != nil {
				t.Fatalf("%s: %v\n%s", command, err, out)
			}
			written, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "*"))
			for _, other := range written {
				if other == path {
					continue
				}
				if got, err := Read(other, Table); err != nil || string(got) != test.result {
					t.Errorf("%s: %q, %v", command, got, err)
				}
			}
			if len(written) != 2 {
				t.Errorf("%s left %q", command, written)
			}
		})
	}
}

func TestRecognise(t *testing.T) {
	zip := func(entry string) string {
		return "PK\x03\x04\x14\x00\x00\x00\x00\x00" + strings.Repeat("\x00", 16) + string(rune(len(entry))) +
			"\x00\x00\x00" + entry + "more"
	}
	for _, test := range []struct{ name, content, want string }{
		{"lfs", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
			`Git LFS pointer, not the file itself: run "git lfs pull"`},
		{"torch", zip("archive/data.pkl"), "PyTorch or pickle file, which can run code"},
		{"torch", zip("pytorch_model/version"), "PyTorch"},
		{"old torch", "\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", "PyTorch"},
		{"excel", zip("[Content_Types].xml"), "Excel workbook: save the sheet"},
		{"zip", zip("train.tsv"), "ZIP archive: unpack it: unzip"},
		{"short zip", "PK\x03\x04", "ZIP archive"},
		{"old excel", "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\x00", "old Excel workbook"},
		{"parquet", "PAR1\x15\x04\x15", "Parquet file: rows are read from"},
		{"arrow", "ARROW1\x00\x00\xff", "Arrow file"},
		{"hdf5", "\x89HDF\r\n\x1a\n", "HDF5 file"},
		{"sqlite", "SQLite format 3\x00", "SQLite database"},
		{"pdf", "%PDF-1.5", "PDF"},
		{"page", "\ufeff\n <!DOCTYPE HTML>\n<html>", "web page: download the file itself"},
		{"page", "<html lang=en>", "web page"},
		{"xml", `<?xml version="1.0"?><Error><Code>AccessDenied</Code>`, "XML document"},
		{"bzip2", "BZh91AY&SY\x00", "bunzip2 -c"},
		{"xz", "\xfd7zXZ\x00\x00", "xz -dc"},
		{"zstd", "\x28\xb5\x2f\xfd\x04", "zstd -dc"},
		{"japanese", "text\n\x82\xb1\x82\xf1\x81\x42\n",
			"line 2 is not UTF-8 (byte 0x82): convert the file with iconv -f ENCODING"},
	} {
		for _, kind := range []Kind{Table, Document, Weights} {
			path := file(t, "f", []byte(test.content))
			if _, err := Read(path, kind); err == nil || !strings.Contains(err.Error(), test.want) ||
				!strings.Contains(err.Error(), path) {
				t.Errorf("%s: error %v, want the path and %q", test.name, err, test.want)
			}
		}
	}
	header := "\xff\xfe\x00\x00\x00\x00\x00\x00{}" // a safetensors header may be of any length
	f, size, err := Open(file(t, "f", []byte(header)), Weights)
	if err != nil || size != 10 {
		t.Errorf("size %d, error %v", size, err)
	} else {
		f.Close()
	}
}

func TestReadJSON(t *testing.T) {
	for content, want := range map[string]string{
		`{"n":1.5}`:           "n is number 1.5, not a whole number",
		`{"n":1e99}`:          "n is number 1e99, not a whole number",
		`{"a":{"b":[1]}}`:     "a.b is number, not a text",
		`[]`:                  "the document is array, not an object",
		"{\n\"n\": 1,\n}":     "line 3 is no JSON: invalid character",
		"{\n":                 "line 2 is no JSON: unexpected end",
		`{} {}`:               "line 1 is no JSON",
		"":                    "line 1 is no JSON",
		"{\"n\":\"\x1b[2J\"}": `invalid character '\x1b' in string`,
	} {
		path := file(t, "x.json", []byte(content))
		var into struct {
			N int `json:"n"`
			A struct {
				B []string `json:"b"`
			} `json:"a"`
		}
		if err := ReadJSON(path, Document, &into); err == nil || !strings.Contains(err.Error(), want) ||
			!strings.Contains(err.Error(), path) {
			t.Errorf("%s: error %v, want the path and %q", content, err, want)
		}
	}
	var into struct{ N int }
	if err := ReadJSON(file(t, "x.json", []byte("\ufeff{\"n\": 3}\n")), Document, &into); err != nil || into.N != 3 {
		t.Errorf("%d, %v", into.N, err)
	}
}

func TestWrite(t *testing.T) {
	path := file(t, "x", []byte("old"))
	failed := errors.New("failed")
	if err := WriteFrom(path, func(w io.Writer) error { w.Write([]byte("ne")); return failed }); !errors.Is(err, failed) {
		t.Errorf("error %v", err)
	}
	if content, err := Read(path, Document); err != nil || string(content) != "old" {
		t.Errorf("%q, %v", content, err)
	}
	if err := Write(path, []byte("new")); err != nil {
		t.Fatal(err)
	}
	if content, err := Read(path, Document); err != nil || string(content) != "new" {
		t.Errorf("%q, %v", content, err)
	}
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
		t.Errorf("%d files are left", len(entries))
	}
}
