package train

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"slices"

	"golang.org/x/sys/unix"

	"peftsearch/evaluator/model"
	"peftsearch/evaluator/torch"
)

// hiddenCache keeps what the frozen layers below a plan's lowest module compute: it is the same in every
// epoch of every trial. As much as its limit allows is in memory; the rest is in memory-mapped files,
// which later processes and other workers read too. It belongs to one session, so model and data never
// change under it.
//
// Whether a job uses it depends on the job and the limits alone, and its contents depend neither on the
// order of jobs nor on where they are kept, so that it never changes a score. A disk that cannot be
// written is the exception: the job then computes what it would have read, the same but for rounding.
type hiddenCache struct {
	backbone *model.Backbone
	lanes    *lanes
	memory   int64           // limit in bytes of what is kept without a file
	files    *stateFiles     // nil without files
	entries  []*hiddenStates // least recently used first
}

// hiddenStates holds the hidden states of a split at a frontier: those of each row's tokens, or of the
// frontier's rows alone. The rows are in the order of evalBatches, the longest first.
type hiddenStates struct {
	split   *split
	at      model.Frontier
	dtype   torch.DType
	width   int     // of a hidden state
	counts  []int   // hidden states of each row
	offsets []int64 // of each row, in bytes
	size    int64   // in bytes
	file    bool    // values are in a file
	values  []byte  // of dtype, row by row; outside the Go heap
	mapped  []byte  // what close unmaps
}

// layout is the hidden states of a split at a frontier, without their values.
func (c *hiddenCache) layout(sp *split, at model.Frontier) *hiddenStates {
	h := &hiddenStates{split: sp, at: at, dtype: c.backbone.DType(), width: c.backbone.Geometry().Hidden,
		counts: at.Rows.Counts(model.Batch{Lengths: sp.lengths}), offsets: make([]int64, len(sp.lengths))}
	for _, examples := range evalBatches(sp.lengths, evalTokens) {
		for _, example := range examples {
			h.offsets[example] = h.size
			h.size += h.rowSize(example)
		}
	}
	return h
}

// rowSize is the size in bytes of one row.
func (h *hiddenStates) rowSize(example int) int64 {
	return int64(h.counts[example] * h.width * h.dtype.Size())
}

// fits reports whether the splits of a job can be cached together.
func (c *hiddenCache) fits(at model.Frontier, splits ...*split) bool {
	var total int64
	for _, sp := range splits {
		total += c.layout(sp, at).size
	}
	return total <= c.memory || c.files != nil && total <= c.files.limit
}

// get returns the hidden states of a split at a frontier, computing them if necessary; nil if stop ended
// it or the disk failed. It keeps what it returned for the other splits of a job for which fits is true.
func (c *hiddenCache) get(sp *split, at model.Frontier, stop func() bool) (*hiddenStates, error) {
	for i, entry := range c.entries {
		if entry.split == sp && entry.at == at {
			c.entries = append(slices.Delete(c.entries, i, i+1), entry)
			return entry, nil
		}
	}
	h := c.layout(sp, at)
	fill := func(out io.Writer) error { return c.compute(h, out, stop) }
	var err error
	switch {
	case c.files != nil && c.files.open(h) == nil:
	case c.inMemory()+h.size > c.memory && c.files != nil && h.size <= c.files.limit:
		err = c.files.create(h, fill)
		var disk *fs.PathError
		if errors.As(err, &disk) {
			slog.Warn("hidden states are not kept on disk any more", "error", err)
			c.files, err = nil, errStopped
		}
	default:
		c.evict(c.memory - h.size)
		err = h.allocate(fill)
	}
	if errors.Is(err, errStopped) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	c.entries = append(c.entries, h)
	return h, nil
}

// inMemory is how many bytes are kept without a file.
func (c *hiddenCache) inMemory() (used int64) {
	for _, entry := range c.entries {
		if !entry.file {
			used += entry.size
		}
	}
	return used
}

// evict drops entries without a file until they use at most limit bytes.
func (c *hiddenCache) evict(limit int64) {
	for used := c.inMemory(); used > limit; {
		i := slices.IndexFunc(c.entries, func(h *hiddenStates) bool { return !h.file })
		if i < 0 {
			return
		}
		used -= c.entries[i].size
		c.entries[i].close()
		c.entries = slices.Delete(c.entries, i, i+1)
	}
}

// close frees all memory; the files stay.
func (c *hiddenCache) close() {
	for _, entry := range c.entries {
		entry.close()
	}
	c.entries = nil
}

// errStopped ends the computation of hidden states that nobody waits for.
var errStopped = errors.New("stopped")

// compute writes the values of h, row by row.
func (c *hiddenCache) compute(h *hiddenStates, out io.Writer, stop func() bool) error {
	for batches := range slices.Chunk(evalBatches(h.split.lengths, evalTokens/c.lanes.count()), c.lanes.count()) {
		if stop() {
			return errStopped
		}
		values := make([][]byte, len(batches))
		err := c.lanes.run(len(batches), func(part int) error {
			scope := c.backbone.Scope()
			defer scope.Free()
			values[part] = scope.Bytes(c.backbone.Hidden(scope, batch(scope, h.split, batches[part], nil), h.at))
			return scope.Err()
		})
		if err != nil {
			return err
		}
		for _, part := range values {
			if _, err := out.Write(part); err != nil {
				return err
			}
		}
	}
	return nil
}

// gather is the hidden states of some rows: [states, D].
func (h *hiddenStates) gather(s *torch.Scope, examples []int) *torch.Tensor {
	var values []byte
	count := 0
	for _, example := range examples {
		values = append(values, h.values[h.offsets[example]:][:h.rowSize(example)]...)
		count += h.counts[example]
	}
	return torch.FromBytes(s, values, h.dtype, count, h.width)
}

// allocate fills h in memory that Go's collector neither scans nor counts.
func (h *hiddenStates) allocate(fill func(io.Writer) error) error {
	mapped, err := unix.Mmap(-1, 0, int(h.size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return fmt.Errorf("%w: %d bytes for hidden states: %w", torch.ErrOutOfMemory, h.size, err)
	}
	h.mapped, h.values = mapped, mapped
	if err := fill(&memoryWriter{rest: mapped}); err != nil {
		h.close()
		return err
	}
	return nil
}

func (h *hiddenStates) close() {
	if h.mapped != nil {
		unix.Munmap(h.mapped) // of our own mapping: it cannot fail
		h.mapped, h.values = nil, nil
	}
}

// memoryWriter fills a block of memory from its start.
type memoryWriter struct{ rest []byte }

func (w *memoryWriter) Write(p []byte) (int, error) {
	if len(p) > len(w.rest) {
		return 0, io.ErrShortBuffer
	}
	w.rest = w.rest[copy(w.rest, p):]
	return len(p), nil
}
