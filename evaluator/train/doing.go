package train

import (
	"time"

	"peftsearch/evaluator"
)

// teller tells what is done beside steps, at most once in a while; a nil function tells nobody. It belongs to one
// goroutine.
type teller struct {
	tell func(evaluator.Doing)
	last evaluator.Doing
	told time.Time
}

// begin tells of something that is begun, of which there is so much; 0 if that is not known.
func (t *teller) begin(what string, of int) {
	t.last, t.told = evaluator.Doing{What: what, Of: int64(of)}, time.Time{}
	t.add(0)
}

// add tells that more of it is done.
func (t *teller) add(n int) {
	t.last.Done += int64(n)
	if t.tell != nil && time.Since(t.told) >= reportEvery {
		t.told = time.Now()
		t.tell(t.last)
	}
}
