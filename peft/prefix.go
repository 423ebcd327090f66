package peft

import "fmt"

// Prefix prepends Length trained keys and values to the attention of one layer (Li & Liang 2021,
// "Prefix-Tuning"). It is stored flat; training may reparameterise it by an MLP without changing the
// stored count. Positions of the real tokens are not shifted, as in the adapters library.
type Prefix struct {
	Length int `json:"length"` // key/value pairs, at least 1
}

func (p *Prefix) validate() error {
	if p != nil && p.Length < 1 {
		return fmt.Errorf("prefix length %d: at least 1, leave the key out for none", p.Length)
	}
	return nil
}

// params: keys [p,D] and values [p,D].
func (p *Prefix) params(g Geometry) MethodCount {
	if p == nil {
		return MethodCount{}
	}
	return MethodCount{Weights: 2 * int64(p.Length) * int64(g.Hidden)}
}
