package peft

import (
	"fmt"

	"peftsearch/data"
	"peftsearch/data/quote"
)

// The forms of a head.
const (
	headLinear = "linear" // W·h + c
	headDense  = "dense"  // W·tanh(W_p·h + c_p) + c
)

// headKind is how the head of a kind of task is kept.
type headKind struct {
	states int  // hidden states that it reads together
	pools  bool // it makes one state of several by head.pool.weight
}

var headKinds = map[data.Kind]headKind{
	data.KindClassification:      {states: 1},
	data.KindRegression:          {states: 1},
	data.KindMultilabel:          {states: 1},
	data.KindTokenClassification: {states: 1},
	data.KindMultipleChoice:      {states: 1},
	data.KindCoreference:         {states: 2, pools: true},
}

// Outputs is the number of logits of each of the head's decisions.
func (i Info) Outputs() int { return i.Task.Kind.Outputs(len(i.Labels)) }

// checkHead refuses what no head is.
func (i Info) checkHead() error {
	if _, ok := headKinds[i.Task.Kind]; !ok {
		return fmt.Errorf("task %s: must be one of %v", quote.Text(string(i.Task.Kind)), data.Kinds())
	}
	if i.Head != headLinear && i.Head != headDense {
		return fmt.Errorf("head %s: must be %s or %s", quote.Text(i.Head), headLinear, headDense)
	}
	return nil
}

// HeadShapes lists the tensors of the head by name.
func (i Info) HeadShapes() map[string][]int {
	kind, d := headKinds[i.Task.Kind], i.Geometry.Hidden
	in := kind.states * d
	shapes := map[string][]int{"head.weight": {i.Outputs(), in}, "head.bias": {i.Outputs()}}
	if i.Head == headDense {
		shapes["head.dense.weight"], shapes["head.dense.bias"] = []int{in, in}, []int{in}
	}
	if kind.pools {
		shapes["head.pool.weight"] = []int{1, d}
	}
	return shapes
}
