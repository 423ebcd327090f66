package peft

// Prefix prepends Length trained keys and values to the attention of one layer (Li & Liang 2021,
// "Prefix-Tuning"). It is stored flat; training may reparameterise it by an MLP without changing the
// stored count. Positions of the real tokens are not shifted, as in the adapters library.
type Prefix struct {
	Length int `json:"length"` // key/value pairs, 1 to MaxSize
}

func (p *Prefix) validate() error {
	if p == nil {
		return nil
	}
	return validateSize("prefix length", p.Length)
}

// params: keys [p,D] and values [p,D].
func (p *Prefix) params(g Geometry) MethodCount {
	if p == nil {
		return MethodCount{}
	}
	return MethodCount{Weights: 2 * int64(p.Length) * int64(g.Hidden)}
}
