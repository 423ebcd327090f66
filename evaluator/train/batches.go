package train

import (
	"cmp"
	"encoding/binary"
	"hash/fnv"
	"math/rand/v2"
	"slices"
)

const (
	// windowBatches is how many batches' examples are sorted by length together: enough to leave almost
	// no padding, few enough that batches differ from epoch to epoch.
	windowBatches = 50
	// evalTokens bounds the evaluation batches that are computed at the same time, padding included: large
	// enough for matrix products, small enough that activations stay below those of training.
	evalTokens = 2048
	// partRows is the least number of rows for which a training batch is split once more: matrix products
	// with fewer lose more than a further thread gains.
	partRows = 8
)

// newRand makes a generator from a job's seed, for one purpose.
func newRand(seed uint64, purpose string, number int) *rand.Rand {
	hash := fnv.New128a()
	hash.Write(binary.LittleEndian.AppendUint64(nil, seed))
	hash.Write(binary.LittleEndian.AppendUint64([]byte(purpose), uint64(number)))
	sum := hash.Sum(nil)
	return rand.New(rand.NewPCG(binary.LittleEndian.Uint64(sum), binary.LittleEndian.Uint64(sum[8:])))
}

// trainBatches deals the examples of one epoch into batches of alike lengths, in random order. Every
// example is in exactly one batch; all batches but one are full. It depends on the arguments alone, so
// a run can continue in any epoch.
func trainBatches(lengths []int, size int, seed uint64, epoch int) [][]int {
	rng := newRand(seed, "batches", epoch)
	order := rng.Perm(len(lengths))
	var batches [][]int
	for window := range slices.Chunk(order, windowBatches*size) {
		slices.SortStableFunc(window, func(a, b int) int { return cmp.Compare(lengths[a], lengths[b]) })
		batches = slices.AppendSeq(batches, slices.Chunk(window, size))
	}
	rng.Shuffle(len(batches), func(i, j int) { batches[i], batches[j] = batches[j], batches[i] })
	return batches
}

// splitBatch cuts a batch into the parts that lanes compute. Examples of alike length stay together.
func splitBatch(batch []int, lanes int) [][]int {
	parts := max(1, min(lanes, len(batch)/partRows))
	return slices.Collect(slices.Chunk(batch, (len(batch)+parts-1)/parts))
}

// evalBatches groups examples by length into batches of at most `tokens` tokens, longest first, so that
// the first batch needs the most memory.
func evalBatches(lengths []int, tokens int) [][]int {
	order := make([]int, len(lengths))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(lengths[b], lengths[a]) })
	var batches [][]int
	for len(order) > 0 {
		n := min(len(order), max(1, tokens/lengths[order[0]]))
		batches, order = append(batches, order[:n]), order[n:]
	}
	return batches
}
