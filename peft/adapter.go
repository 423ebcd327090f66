package peft

import "fmt"

// Adapter is a bottleneck B(h) = W_up·relu(W_down·h + c_down) + c_up of the given width. As a serial
// adapter (Pfeiffer et al. 2021, "AdapterFusion") it reads LN₂(a+f); as a parallel adapter (He et al.
// 2022, "Towards a Unified View") it reads a. The wiring is that of the adapters library's SeqBnConfig
// (original_ln_before) and ParBnConfig.
type Adapter struct {
	Width int `json:"width"` // rows of W_down, 1 to MaxSize
}

// Factors on an adapter's output: ParBnConfig's default is 4, SeqBnConfig's 1.
const (
	SerialScale   = 1.0
	ParallelScale = 4.0
)

func (a *Adapter) validate(name string) error {
	if a == nil {
		return nil
	}
	return validateSize(name+" width", a.Width)
}

// validateSize checks a width or a length.
func validateSize(name string, size int) error {
	switch {
	case size < 1:
		return fmt.Errorf("%s %d: at least 1, leave the key out for none", name, size)
	case size > MaxSize:
		return fmt.Errorf("%s %d: at most %d", name, size, MaxSize)
	}
	return nil
}

// params: W_down [b,D], c_down [b], W_up [D,b], c_up [D].
func (a *Adapter) params(g Geometry) MethodCount {
	if a == nil {
		return MethodCount{}
	}
	b, d := int64(a.Width), int64(g.Hidden)
	return MethodCount{Weights: 2 * d * b, Biases: b + d}
}
