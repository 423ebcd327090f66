package train

import (
	"cmp"
	"encoding/binary"
	"hash/fnv"
	"math/rand/v2"
	"slices"
)

// partRows is the least number of rows for which a training batch is split once more: matrix products
// with fewer lose more than a further thread gains.
const partRows = 8

// newRand makes a generator from a job's seed, for one purpose.
func newRand(seed uint64, purpose string, number int) *rand.Rand {
	hash := fnv.New128a()
	hash.Write(binary.LittleEndian.AppendUint64(nil, seed))
	hash.Write(binary.LittleEndian.AppendUint64([]byte(purpose), uint64(number)))
	sum := hash.Sum(nil)
	return rand.New(rand.NewPCG(binary.LittleEndian.Uint64(sum), binary.LittleEndian.Uint64(sum[8:])))
}

// trainBatches deals n examples into the batches of one epoch, at random without replacement. All batches
// but the last are full. It depends on the arguments alone, so a run can continue in any epoch.
func trainBatches(n, size int, seed uint64, epoch int) [][]int {
	return slices.Collect(slices.Chunk(newRand(seed, "batches", epoch).Perm(n), size))
}

// splitBatch deals a batch into the parts that lanes compute: the longest first, each to the part with the
// fewest tokens.
func splitBatch(batch []int, lengths []int, lanes int) [][]int {
	parts := make([][]int, max(1, min(lanes, len(batch)/partRows)))
	if len(parts) == 1 {
		return [][]int{batch}
	}
	order := slices.Clone(batch)
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(lengths[b], lengths[a]) })
	tokens := make([]int, len(parts))
	for _, example := range order {
		least := slices.Index(tokens, slices.Min(tokens))
		parts[least] = append(parts[least], example)
		tokens[least] += lengths[example]
	}
	return parts
}

// evalBatches groups examples of alike length into batches of at most `tokens` tokens, or one example,
// longest first.
func evalBatches(lengths []int, tokens int) [][]int {
	order := make([]int, len(lengths))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(lengths[b], lengths[a]) })
	var batches [][]int
	room := 0
	for _, example := range order {
		if lengths[example] > room {
			batches, room = append(batches, nil), tokens
		}
		last := &batches[len(batches)-1]
		*last, room = append(*last, example), room-lengths[example]
	}
	return batches
}
