package train

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"peftsearch/evaluator"
	"peftsearch/evaluator/model"
	"peftsearch/evaluator/torch"
)

// hiddenCache keeps what the frozen part below a plan's frontier computes: it is the same in every epoch of
// every trial. It is kept in files, which other workers and later processes read too, or in memory where
// the files' limit is too low. It belongs to one session, so model and data never change under it.
//
// Whether a job uses it depends on the job and the limits alone, and its contents depend neither on the
// order of jobs nor on where they are kept, so that it never changes a score. A disk that cannot be
// written, or that is full of what other workers use, is the exception: if memory is too small as well, the
// job computes what it would have read, the same but for rounding.
type hiddenCache struct {
	backbone *model.Backbone
	lanes    *lanes
	memory   int64           // limit in bytes of what is kept without a file
	files    *stateFiles     // nil without files
	entries  []*hiddenStates // with values, least recently used first
	warned   string          // the last trouble with files, which is reported once
}

// hiddenStates holds the hidden states of a split at a frontier: those of each row's tokens, or of the
// frontier's rows alone. The rows are in the order of evalBatches, the longest first.
type hiddenStates struct {
	split   *split
	at      model.Frontier
	dtype   torch.DType
	width   int      // of a hidden state
	counts  []int    // hidden states of each row
	offsets []int64  // of each row, in bytes
	size    int64    // in bytes
	values  []byte   // of dtype, row by row; outside the Go heap; nil before they are known
	mapped  []byte   // what close unmaps
	file    *os.File // that mapped is of, locked against removal; nil in memory
}

// layout is the hidden states of a split at a frontier, without their values.
func (c *hiddenCache) layout(sp *split, at model.Frontier) *hiddenStates {
	h := &hiddenStates{split: sp, at: at, dtype: c.backbone.DType(), width: c.backbone.Geometry().Hidden,
		counts: make([]int, len(sp.lengths)), offsets: make([]int64, len(sp.lengths))}
	for i, in := range sp.inputs {
		for _, count := range at.Rows.Counts(gather(model.Batch{}, in)) {
			h.counts[i] += count
		}
	}
	for _, examples := range evalBatches(sp.lengths, c.backbone.BatchTokens()) {
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

// get returns the hidden states that a job wants, computing those that are not there; nil if all of them
// together are more than the limits, if stop ended it, or if there was trouble with the disk. They are
// valid until the next call. It tells how far it is, unless tell is nil.
func (c *hiddenCache) get(stop func() bool, tell func(evaluator.Doing), wanted ...*hiddenStates) ([]*hiddenStates,
	error) {
	var total int64
	for i, h := range wanted {
		total += h.size
		if at := slices.IndexFunc(c.entries, h.sameAs); at >= 0 {
			wanted[i] = c.entries[at]
			c.entries = append(slices.Delete(c.entries, at, at+1), wanted[i]) // most recently used
		}
	}
	c.release(wanted)
	const waiting = "waiting for another worker's hidden states"
	t := &teller{tell: tell}
	if c.files != nil && total <= c.files.limit {
		err := c.each(wanted, func(h *hiddenStates) error {
			return c.files.get(h, func(out io.Writer) error { return c.compute(h, out, stop, t) }, func() bool {
				if t.last.What != waiting {
					t.begin(waiting, 0)
				}
				return stop()
			})
		})
		var trouble *filesError
		if !errors.As(err, &trouble) {
			return c.checked(wanted, err)
		}
		if text := trouble.Error(); text != c.warned {
			slog.Warn("hidden states are not kept on disk", "error", trouble)
			c.warned = text
		}
	}
	if total > c.memory {
		return nil, nil
	}
	return c.checked(wanted, c.each(wanted, func(h *hiddenStates) error {
		c.evict(c.memory-h.size, wanted)
		return h.allocate(func(out io.Writer) error { return c.compute(h, out, stop, t) })
	}))
}

// checked passes on the hidden states of a job unless they are not all there.
func (c *hiddenCache) checked(wanted []*hiddenStates, err error) ([]*hiddenStates, error) {
	if errors.Is(err, errStopped) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return wanted, nil
}

// each calls fill for those of the wanted hidden states that have no values, and keeps what it filled.
func (c *hiddenCache) each(wanted []*hiddenStates, fill func(h *hiddenStates) error) error {
	for _, h := range wanted {
		if h.values != nil {
			continue
		}
		if err := fill(h); err != nil {
			return err
		}
		c.entries = append(c.entries, h)
	}
	return nil
}

func (h *hiddenStates) sameAs(other *hiddenStates) bool {
	return h.split == other.split && h.at == other.at
}

// release lets go of files that a job does not want, so that other workers may remove them.
func (c *hiddenCache) release(wanted []*hiddenStates) {
	c.drop(func(h *hiddenStates) bool { return h.file != nil && !slices.Contains(wanted, h) })
}

// evict drops entries without a file that a job does not want, until those that are left use at most limit
// bytes or all are wanted.
func (c *hiddenCache) evict(limit int64, wanted []*hiddenStates) {
	var used int64
	for _, h := range c.entries {
		if h.file == nil {
			used += h.size
		}
	}
	c.drop(func(h *hiddenStates) bool {
		if used <= limit || h.file != nil || slices.Contains(wanted, h) {
			return false
		}
		used -= h.size
		return true
	})
}

// drop closes and forgets entries, in the order of their use.
func (c *hiddenCache) drop(unwanted func(h *hiddenStates) bool) {
	c.entries = slices.DeleteFunc(c.entries, func(h *hiddenStates) bool {
		if !unwanted(h) {
			return false
		}
		h.close()
		return true
	})
}

// close frees all memory; the files stay.
func (c *hiddenCache) close() { c.drop(func(*hiddenStates) bool { return true }) }

// errStopped ends the computation of hidden states that nobody waits for.
var errStopped = errors.New("stopped")

// compute writes the values of h, row by row.
func (c *hiddenCache) compute(h *hiddenStates, out io.Writer, stop func() bool, t *teller) error {
	t.begin("computing hidden states", len(h.split.lengths))
	for batches := range slices.Chunk(evalBatches(h.split.lengths, c.backbone.BatchTokens()/c.lanes.count()),
		c.lanes.count()) {
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
		for _, examples := range batches {
			t.add(len(examples))
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
	h.mapped = mapped
	if err := fill(&memoryWriter{rest: mapped}); err != nil {
		h.close()
		return err
	}
	h.values = mapped
	return nil
}

// close frees the values and lets go of their file.
func (h *hiddenStates) close() {
	if h.mapped != nil {
		unix.Munmap(h.mapped) // of our own mapping: it cannot fail
	}
	if h.file != nil {
		h.file.Close()
	}
	h.mapped, h.values, h.file = nil, nil, nil
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
