package peft

// Method names one of the four ways to change a layer.
type Method string

// The methods, by the names used in plans, study files and databases.
const (
	MethodSerial   Method = "serial"
	MethodParallel Method = "parallel"
	MethodPrefix   Method = "prefix"
	MethodLoRA     Method = "lora"
)

// Methods lists the methods in the order in which everything shows them.
var Methods = []Method{MethodSerial, MethodParallel, MethodPrefix, MethodLoRA}

// MethodCount counts the trained parameters of one module or of many of one method.
type MethodCount struct {
	Weights int64 `json:"weights"`
	Biases  int64 `json:"biases"`
}

// Total is weights and biases together.
func (c MethodCount) Total() int64 { return c.Weights + c.Biases }

func (c *MethodCount) add(o MethodCount) {
	c.Weights += o.Weights
	c.Biases += o.Biases
}

// LayerCount counts one layer by method.
type LayerCount struct {
	Serial   MethodCount `json:"serial"`
	Parallel MethodCount `json:"parallel"`
	Prefix   MethodCount `json:"prefix"`
	LoRA     MethodCount `json:"lora"`
}

// Total is the layer's parameters.
func (c LayerCount) Total() int64 {
	return c.Serial.Total() + c.Parallel.Total() + c.Prefix.Total() + c.LoRA.Total()
}

// Count is the exact number of parameters that a plan adds: what is stored after training, without
// the task's head. A prefix counts in its flat form, however it is trained.
type Count struct {
	Layers  []LayerCount `json:"layers"`
	Methods LayerCount   `json:"methods"` // sums over the layers
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
	m := c.Methods
	weights := m.Serial.Weights + m.Parallel.Weights + m.Prefix.Weights + m.LoRA.Weights
	return 100 * float64(weights) / float64(g.BackboneParams)
}

// Params counts the plan on a backbone; the plan must be valid for it.
func (p Plan) Params(g Geometry) Count {
	c := Count{Layers: make([]LayerCount, len(p.Layers))}
	for i, layer := range p.Layers {
		c.Layers[i] = LayerCount{
			Serial: layer.Serial.params(g), Parallel: layer.Parallel.params(g),
			Prefix: layer.Prefix.params(g), LoRA: layer.LoRA.params(g),
		}
		c.Methods.Serial.add(c.Layers[i].Serial)
		c.Methods.Parallel.add(c.Layers[i].Parallel)
		c.Methods.Prefix.add(c.Layers[i].Prefix)
		c.Methods.LoRA.add(c.Layers[i].LoRA)
	}
	return c
}
