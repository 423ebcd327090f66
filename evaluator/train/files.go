package train

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// stateFiles is a directory of hidden states, shared by all workers of a user. Each file is named by a
// hash of everything that its values depend on, is written beside its place and then renamed, and is
// checked when it is opened: any number of workers may read and write it.
//
// A file is magic, hash and size of the values [56 bytes], the values, and their CRC-32C.
type stateFiles struct {
	dir      string
	limit    int64  // of all files together, in bytes
	computed string // how this session computes: model, precision, device, threads, libtorch
}

const (
	stateMagic  = "PSstate1" // with the format's version
	stateHeader = len(stateMagic) + sha256.Size + 8 + 8
	stateSuffix = ".states"
	partSuffix  = ".part" // of a file that is being written
	// spareDisk stays free on the disk, whatever the limit: studies are written there too.
	spareDisk = 1 << 30
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// key hashes everything that the values of h depend on.
func (f *stateFiles) key(h *hiddenStates) [sha256.Size]byte {
	hash := sha256.New()
	fmt.Fprintf(hash, "%s\nstep %d, %s rows\n", f.computed, h.at.Step, h.at.Rows)
	for _, e := range h.split.encodings {
		binary.Write(hash, binary.LittleEndian, int64(len(e.IDs)))
		binary.Write(hash, binary.LittleEndian, e.IDs)
		binary.Write(hash, binary.LittleEndian, e.TypeIDs)
	}
	return [sha256.Size]byte(hash.Sum(nil))
}

func (f *stateFiles) path(key [sha256.Size]byte) string {
	return filepath.Join(f.dir, hex.EncodeToString(key[:])+stateSuffix)
}

func header(key [sha256.Size]byte, size int64) []byte {
	b := append([]byte(stateMagic), key[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(size))
	return append(b, make([]byte, stateHeader-len(b))...) // so that values are aligned
}

// open maps the file of h. It removes a file that is damaged or not what its name says.
func (f *stateFiles) open(h *hiddenStates) error {
	key := f.key(h)
	path := f.path(key)
	err := h.mapFile(path, header(key, h.size))
	if err == nil {
		os.Chtimes(path, time.Time{}, time.Now()) // last use; if it fails, the file goes earlier
		return nil
	}
	if missing := (*fs.PathError)(nil); !errors.As(err, &missing) {
		slog.Warn("kept hidden states cannot be used and are computed again", "file", path, "error", err)
		os.Remove(path)
	}
	return err
}

// mapFile checks a file and gives h its values.
func (h *hiddenStates) mapFile(path string, header []byte) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	stat, err := file.Stat()
	if err != nil {
		return err
	}
	size := int64(stateHeader) + h.size + crc32.Size
	if stat.Size() != size {
		return fmt.Errorf("%d bytes, want %d", stat.Size(), size)
	}
	mapped, err := unix.Mmap(int(file.Fd()), 0, int(size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("mapping: %w", err)
	}
	values, sum := mapped[stateHeader:size-crc32.Size], mapped[size-crc32.Size:]
	switch {
	case !bytes.Equal(mapped[:stateHeader], header):
		err = errors.New("it belongs to another model, data set or version")
	case crc32.Checksum(values, castagnoli) != binary.LittleEndian.Uint32(sum):
		err = errors.New("the checksum is wrong")
	}
	if err != nil {
		unix.Munmap(mapped)
		return err
	}
	h.mapped, h.values, h.file = mapped, values, true
	return nil
}

// create writes the file of h with the values that fill gives, and maps it. Errors of the disk are a
// *fs.PathError.
func (f *stateFiles) create(h *hiddenStates, fill func(io.Writer) error) error {
	if err := f.makeRoom(h.size); err != nil {
		return err
	}
	temporary, err := os.CreateTemp(f.dir, "*"+partSuffix)
	if err != nil {
		return err
	}
	defer os.Remove(temporary.Name()) // gone after a rename
	key := f.key(h)
	if err := cmp.Or(h.write(temporary, header(key, h.size), fill), temporary.Close()); err != nil {
		temporary.Close()
		return err
	}
	if err := os.Rename(temporary.Name(), f.path(key)); err != nil {
		return &fs.PathError{Op: "rename", Path: temporary.Name(), Err: err} // instead of a *os.LinkError
	}
	if err := h.mapFile(f.path(key), header(key, h.size)); err != nil {
		return &fs.PathError{Op: "read back", Path: f.path(key), Err: err}
	}
	return nil
}

func (h *hiddenStates) write(file *os.File, header []byte, fill func(io.Writer) error) error {
	sum, out := crc32.New(castagnoli), bufio.NewWriterSize(file, 1<<20)
	out.Write(header) // out keeps the first error
	if err := fill(io.MultiWriter(out, sum)); err != nil {
		return err
	}
	out.Write(binary.LittleEndian.AppendUint32(nil, sum.Sum32()))
	return out.Flush()
}

// makeRoom removes the files that were used longest ago until another of size bytes keeps the limit.
func (f *stateFiles) makeRoom(size int64) error {
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return err
	}
	var files []fs.FileInfo
	used := size
	for _, entry := range entries {
		ours := strings.HasSuffix(entry.Name(), stateSuffix) || strings.HasSuffix(entry.Name(), partSuffix)
		if info, err := entry.Info(); ours && err == nil { // else another worker removed it
			files = append(files, info)
			used += info.Size()
		}
	}
	slices.SortFunc(files, func(a, b fs.FileInfo) int { return a.ModTime().Compare(b.ModTime()) })
	for _, info := range files {
		if used <= f.limit {
			break
		}
		if err := os.Remove(filepath.Join(f.dir, info.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		used -= info.Size()
	}
	var disk unix.Statfs_t
	if err := unix.Statfs(f.dir, &disk); err != nil {
		return &fs.PathError{Op: "statfs", Path: f.dir, Err: err}
	}
	if free := int64(disk.Bavail) * disk.Bsize; free < size+spareDisk {
		return &fs.PathError{Op: "reserve", Path: f.dir, Err: fmt.Errorf("%d of %d MB are free, and %d are to stay free", free/1e6, size/1e6, int64(spareDisk)/1e6)}
	}
	return nil
}
