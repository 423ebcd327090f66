package train

import (
	"bufio"
	"bytes"
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

	"peftsearch/evaluator/model"
)

// stateFiles is a directory of hidden states, shared by all workers of a user. Each file is named by a
// hash of everything that its values depend on, and checked when it is opened: any number of workers may
// read and write here.
//
// Locks (flock) end with the process that holds them. Who has mapped a file holds a shared lock on it; who
// removes one must get the exclusive lock first, so that no space is used that the limit does not see. Who
// writes one holds the exclusive lock of its part file; others wait for the result instead of computing it
// too.
//
// A file is magic, hash and size of the values [56 bytes], the values, and their CRC-32C.
type stateFiles struct {
	dir      string
	limit    int64  // of all files together, in bytes
	spare    int64  // bytes of the disk that stay free, whatever the limit: studies are written there too
	computed string // how this session computes: see Session.stateFiles
}

const (
	stateMagic  = "PSstate1" // with the format's version
	stateHeader = len(stateMagic) + sha256.Size + 8 + 8
	stateSuffix = ".states"
	partSuffix  = ".part" // of a file that is being written
	lockName    = "lock"  // held while room is made
	// pollEvery is how often a worker looks whether another has written what it waits for.
	pollEvery = 50 * time.Millisecond
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// filesError is trouble with the directory or its disk, which concerns nothing but the files.
type filesError struct{ err error }

func (e *filesError) Error() string { return e.err.Error() }
func (e *filesError) Unwrap() error { return e.err }

// key hashes everything that the values of h depend on.
func (f *stateFiles) key(h *hiddenStates) [sha256.Size]byte {
	hash := sha256.New()
	fmt.Fprintf(hash, "%s\nstep %d, %s rows\n", f.computed, h.at.Step, h.at.Rows)
	for _, in := range h.split.inputs {
		for _, e := range in.Sequences {
			binary.Write(hash, binary.LittleEndian, int64(len(e.IDs)))
			binary.Write(hash, binary.LittleEndian, e.IDs)
			binary.Write(hash, binary.LittleEndian, e.TypeIDs)
		}
		if h.at.Rows == model.Marked {
			fmt.Fprintln(hash, in.Marked)
		}
	}
	return [sha256.Size]byte(hash.Sum(nil))
}

func header(key [sha256.Size]byte, size int64) []byte {
	b := append([]byte(stateMagic), key[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(size))
	return append(b, make([]byte, stateHeader-len(b))...) // so that values are aligned
}

// get gives h its values: of the file that is there, or else of a new one, which fill writes. If another
// worker is writing it, get waits, until stop. Errors are a *filesError, errStopped, or those of fill.
func (f *stateFiles) get(h *hiddenStates, fill func(io.Writer) error, stop func() bool) error {
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return &filesError{err}
	}
	key := f.key(h)
	path := filepath.Join(f.dir, hex.EncodeToString(key[:])+stateSuffix)
	head := header(key, h.size)
	for {
		switch found, err := f.open(h, path, head); {
		case err != nil:
			return &filesError{err}
		case found:
			return nil
		}
		part, err := lock(path+partSuffix, os.O_RDWR|os.O_CREATE, unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case errors.Is(err, unix.EWOULDBLOCK):
			if stop() {
				return errStopped
			}
			time.Sleep(pollEvery)
			continue
		case err != nil:
			return &filesError{err}
		}
		if _, missing := os.Stat(path); missing != nil { // else it was finished just now
			err = f.create(h, part, path, head, fill)
		}
		remove(part.Name()) // it is there after an error
		part.Close()
		if err != nil {
			return err
		}
	}
}

// open maps the file of h if it is there. It removes a file that is damaged or not what its name says.
func (f *stateFiles) open(h *hiddenStates, path string, head []byte) (found bool, err error) {
	file, err := lock(path, os.O_RDONLY, unix.LOCK_SH)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := h.mapFile(file, head); err != nil {
		file.Close()
		slog.Warn("kept hidden states cannot be used and are computed again", "file", path, "error", err)
		return false, remove(path)
	}
	os.Chtimes(path, time.Time{}, time.Now()) // last use; if it fails, the file goes earlier
	return true, nil
}

// mapFile checks a file and gives h its values.
func (h *hiddenStates) mapFile(file *os.File, head []byte) error {
	stat, err := file.Stat()
	if err != nil {
		return err
	}
	size := fileSize(h)
	if stat.Size() != size {
		return fmt.Errorf("%d bytes, want %d", stat.Size(), size)
	}
	mapped, err := unix.Mmap(int(file.Fd()), 0, int(size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("mapping: %w", err)
	}
	values, sum := mapped[stateHeader:size-crc32.Size], mapped[size-crc32.Size:]
	switch {
	case !bytes.Equal(mapped[:stateHeader], head):
		err = errors.New("it belongs to another model, data set or version")
	case crc32.Checksum(values, castagnoli) != binary.LittleEndian.Uint32(sum):
		err = errors.New("the checksum is wrong")
	}
	if err != nil {
		unix.Munmap(mapped)
		return err
	}
	h.mapped, h.values, h.file = mapped, values, file
	return nil
}

func fileSize(h *hiddenStates) int64 { return int64(stateHeader) + h.size + crc32.Size }

// create writes the values that fill gives into part and renames it to path.
func (f *stateFiles) create(h *hiddenStates, part *os.File, path string, head []byte,
	fill func(io.Writer) error) error {
	if err := f.reserve(part, fileSize(h)); err != nil {
		return &filesError{err}
	}
	sum, out := crc32.New(castagnoli), bufio.NewWriterSize(fileWriter{part}, 1<<20)
	out.Write(head) // out keeps the first error
	if err := fill(io.MultiWriter(out, sum)); err != nil {
		return err
	}
	out.Write(binary.LittleEndian.AppendUint32(nil, sum.Sum32()))
	if err := out.Flush(); err != nil {
		return err
	}
	if err := os.Rename(part.Name(), path); err != nil {
		return &filesError{err}
	}
	return nil
}

// fileWriter marks what goes wrong.
type fileWriter struct{ file *os.File }

func (w fileWriter) Write(p []byte) (int, error) {
	n, err := w.file.Write(p)
	if err != nil {
		err = &filesError{err}
	}
	return n, err
}

// reserve makes part size bytes long. It removes the files that were used longest ago, and that nobody has
// mapped, until the limit is kept and the disk has room.
func (f *stateFiles) reserve(part *os.File, size int64) error {
	held, err := lock(filepath.Join(f.dir, lockName), os.O_RDWR|os.O_CREATE, unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer held.Close()
	if err := part.Truncate(0); err != nil { // of a worker that was killed
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
		if info, err := entry.Info(); ours && err == nil { // else it has just been removed
			files = append(files, info)
			used += info.Size()
		}
	}
	slices.SortFunc(files, func(a, b fs.FileInfo) int { return a.ModTime().Compare(b.ModTime()) })
	for {
		var disk unix.Statfs_t
		if err := unix.Statfs(f.dir, &disk); err != nil {
			return &fs.PathError{Op: "statfs", Path: f.dir, Err: err}
		}
		var trouble error
		if free := int64(disk.Bavail) * disk.Bsize; used > f.limit {
			trouble = fmt.Errorf("%s: %d MB are needed, and other workers use %d of at most %d MB",
				f.dir, size/1e6, (used-size)/1e6, f.limit/1e6)
		} else if free < size+f.spare {
			trouble = fmt.Errorf("%s: %d MB are needed, %d MB of the disk are free, and %d are to stay free",
				f.dir, size/1e6, free/1e6, f.spare/1e6)
		} else if trouble = allocate(part, size); !errors.Is(trouble, unix.ENOSPC) && !errors.Is(trouble, unix.EDQUOT) {
			return trouble
		}
		if len(files) == 0 {
			return trouble
		}
		if removeUnused(filepath.Join(f.dir, files[0].Name())) {
			used -= files[0].Size()
		}
		files = files[1:]
	}
}

// allocate takes the blocks of a file from the disk.
func allocate(file *os.File, size int64) error {
	err := unix.Fallocate(int(file.Fd()), 0, 0, size)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return file.Truncate(size)
	}
	if err != nil {
		return &fs.PathError{Op: "allocate", Path: file.Name(), Err: err}
	}
	return nil
}

// removeUnused removes a file unless somebody has mapped it or is writing it.
func removeUnused(path string) bool {
	file, err := lock(path, os.O_RDWR, unix.LOCK_EX|unix.LOCK_NB)
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	defer file.Close()
	return remove(path) == nil
}

// remove removes a file that another worker may have removed.
func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// lock opens a file and locks it. While it waits for the lock the file may get another name: then it opens
// what has its name now. unix.EWOULDBLOCK says that somebody else holds the lock.
func lock(path string, flags, how int) (*os.File, error) {
	for {
		file, err := os.OpenFile(path, flags, 0o600)
		if err != nil {
			return nil, err
		}
		for err = unix.EINTR; err == unix.EINTR; {
			err = unix.Flock(int(file.Fd()), how)
		}
		if err != nil {
			file.Close()
			return nil, &fs.PathError{Op: "lock", Path: path, Err: err}
		}
		mine, err := file.Stat()
		if now, gone := os.Stat(path); err == nil && gone == nil && os.SameFile(mine, now) {
			return file, nil
		}
		file.Close()
	}
}
