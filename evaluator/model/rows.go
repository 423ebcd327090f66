package model

import "fmt"

// Rows says which tokens of each row a head reads. What lies after the last attention is computed for them
// alone.
type Rows int

// The rows that heads read.
const (
	All    Rows = iota // every token
	First              // the first token of each row
	Last               // the last token of each row
	Marked             // those that Batch.Marked lists
)

func (r Rows) String() string {
	switch r {
	case All:
		return "all"
	case First:
		return "first"
	case Last:
		return "last"
	case Marked:
		return "marked"
	}
	return fmt.Sprintf("rows %d", int(r))
}

// Counts is how many tokens of each row of the batch are read [n].
func (r Rows) Counts(b Batch) []int {
	counts := make([]int, len(b.Lengths))
	for i, length := range b.Lengths {
		switch r {
		case All:
			counts[i] = length
		case Marked:
			counts[i] = len(b.Marked[i])
		default:
			counts[i] = 1
		}
	}
	return counts
}

// starts is where each row begins among the tokens that are read, and where the last one ends [n+1].
func (r Rows) starts(b Batch) []int64 {
	starts := make([]int64, 1, len(b.Lengths)+1)
	for i, count := range r.Counts(b) {
		starts = append(starts, starts[i]+int64(count))
	}
	return starts
}

// indices is where the tokens that are read stand in the flat batch, in its order.
func (r Rows) indices(b Batch) []int64 {
	var indices []int64
	start := 0
	for i, length := range b.Lengths {
		switch r {
		case All:
			for j := range length {
				indices = append(indices, int64(start+j))
			}
		case First:
			indices = append(indices, int64(start))
		case Last:
			indices = append(indices, int64(start+length-1))
		case Marked:
			for _, j := range b.Marked[i] {
				indices = append(indices, int64(start+j))
			}
		}
		start += length
	}
	return indices
}
