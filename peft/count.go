package peft

// MethodCount counts the trained parameters of one module or of many of one method.
type MethodCount struct {
	Weights int64 `json:"weights"`
	Biases  int64 `json:"biases"`
}

// Total is weights and biases together.
func (c MethodCount) Total() int64 { return c.Weights + c.Biases }

// Counts counts by method; methods without modules may be missing.
type Counts map[Method]MethodCount

// Total is the parameters of all methods.
func (c Counts) Total() int64 {
	var total int64
	for _, count := range c {
		total += count.Total()
	}
	return total
}

// Weights is Total without biases.
func (c Counts) Weights() int64 {
	var weights int64
	for _, count := range c {
		weights += count.Weights
	}
	return weights
}

// Count is the exact number of parameters that a plan adds: what is stored after training, without
// the task's head. A prefix or prompt counts in its flat form, however it is trained.
type Count struct {
	Input   Counts
	Layers  []Counts
	Methods Counts // sums over the input and the layers, with what layers share
}

// Total is the number that the search minimises.
func (c Count) Total() int64 { return c.Methods.Total() }

// Percent is Total in percent of the backbone's parameters.
func (c Count) Percent(g Geometry) float64 {
	return 100 * float64(c.Total()) / float64(g.BackboneParams)
}

// AutoPEFTPercent counts as the AutoPEFT paper does: weights only, no biases, in percent of the
// backbone.
func (c Count) AutoPEFTPercent(g Geometry) float64 {
	return 100 * float64(c.Methods.Weights()) / float64(g.BackboneParams)
}

// Params counts the plan on a backbone; the plan must be valid for it.
func (p Plan) Params(g Geometry) Count {
	c := Count{Methods: Counts{}}
	for _, m := range Standard { // documents have them always
		c.Methods[m] = MethodCount{}
	}
	for _, at := range p.places() {
		counts := Counts{}
		for _, module := range at.Layer {
			count, m := CountOf(module, g), module.Method()
			counts[m] = count
			sum := c.Methods[m]
			c.Methods[m] = MethodCount{sum.Weights + count.Weights, sum.Biases + count.Biases}
		}
		if at.input {
			c.Input = counts
		} else {
			c.Layers = append(c.Layers, counts)
		}
	}
	for m, sum := range c.Methods {
		if shared := SharedCount(m); shared != (MethodCount{}) && p.any(m) != nil {
			c.Methods[m] = MethodCount{sum.Weights + shared.Weights, sum.Biases + shared.Biases}
		}
	}
	return c
}

// SharedCount counts what all modules of a method share in a plan that has any: nothing, of most methods.
func SharedCount(m Method) MethodCount { return countOf(m.Shared()) }

// CountOf counts one module, nil for none, without what it shares with others.
func CountOf(module Module, g Geometry) (c MethodCount) {
	if module == nil {
		return c
	}
	return countOf(module.Tensors(g))
}

func countOf(tensors []Tensor) (c MethodCount) {
	for _, t := range tensors {
		n := int64(1)
		for _, size := range t.Shape {
			n *= int64(size)
		}
		if t.Bias {
			c.Biases += n
		} else {
			c.Weights += n
		}
	}
	return c
}
