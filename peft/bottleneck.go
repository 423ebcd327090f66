package peft

import (
	"fmt"
	"strconv"

	"peftsearch/data/checkpoint"
)

// The bottleneck adapters.
const (
	MethodSerial   Method = "serial"
	MethodParallel Method = "parallel"
)

// Bottleneck is B(h) = W_up·relu(W_down·h + c_down) + c_up, of D inputs and outputs.
type Bottleneck struct {
	Width int `json:"width"` // rows of W_down, 1 to MaxSize
}

// Serial is the adapter of Pfeiffer et al. 2021 ("AdapterFusion"): it reads LN₂(a+f). The wiring is that of the
// adapters library's SeqBnConfig with original_ln_before.
type Serial Bottleneck

// Parallel is the adapter of He et al. 2022 ("Towards a Unified View"): it reads a. The wiring is that of the
// adapters library's ParBnConfig.
type Parallel Bottleneck

// Factors on an adapter's output: ParBnConfig's default is 4, SeqBnConfig's 1.
const (
	SerialScale   = 1.0
	ParallelScale = 4.0
)

func (b Bottleneck) tensors(g Geometry) []Tensor {
	return []Tensor{{"down.weight", []int{b.Width, g.Hidden}, false}, {"down.bias", []int{b.Width}, true},
		{"up.weight", []int{g.Hidden, b.Width}, false}, {"up.bias", []int{g.Hidden}, true}}
}

func (Serial) Method() Method                       { return MethodSerial }
func (a Serial) Size() int                          { return a.Width }
func (Serial) Part() Part                           { return PartFFN }
func (a Serial) Tensors(g Geometry) []Tensor        { return Bottleneck(a).tensors(g) }
func (a Serial) String() string                     { return fmt.Sprintf("serial %d", a.Width) }
func (a Serial) validate(g Geometry, _ Stack) error { return validateSize("serial width", a.Width) }
func (a Serial) canonical() Module                  { return a }
func (Serial) version() int                         { return 1 }

func (Parallel) Method() Method                       { return MethodParallel }
func (a Parallel) Size() int                          { return a.Width }
func (Parallel) Part() Part                           { return PartFFN }
func (a Parallel) Tensors(g Geometry) []Tensor        { return Bottleneck(a).tensors(g) }
func (a Parallel) String() string                     { return fmt.Sprintf("parallel %d", a.Width) }
func (a Parallel) validate(g Geometry, _ Stack) error { return validateSize("parallel width", a.Width) }
func (a Parallel) canonical() Module                  { return a }
func (Parallel) version() int                         { return 1 }

func (a Serial) adaptersPart() (kept Module, lost string)   { return a, "" }
func (a Parallel) adaptersPart() (kept Module, lost string) { return a, "" }

// An adapter has a width for each layer.
func (Serial) adaptersKind() string   { return "" }
func (Parallel) adaptersKind() string { return "" }

func (Serial) adaptersConfig(g Geometry, p Plan) any {
	return bottleneckConfigOf(g, p, MethodSerial, 1)
}
func (Parallel) adaptersConfig(g Geometry, p Plan) any {
	return bottleneckConfigOf(g, p, MethodParallel, 1)
}

// bottleneckConfigOf is the configuration of a plan's serial or parallel adapters, with their outputs multiplied by a
// factor.
func bottleneckConfigOf(g Geometry, p Plan, m Method, factor pythonFloat) any {
	c := bottleneckConfig{OutputAdapter: true, NonLinearity: "relu", OriginalLNBefore: true, Scaling: factor * SerialScale,
		InitWeights: "bert", ReductionFactor: map[string]float64{}, LeaveOut: leaveOut(p, m)}
	if m == MethodParallel {
		c.IsParallel, c.OriginalLNBefore, c.Scaling, c.InitWeights = true, false, factor*ParallelScale, "mam_adapter"
	}
	for i, layer := range p.Layers {
		if module := layer.Module(m); module != nil {
			// The library's width is int(D // factor). D/b itself comes out one too small for many b.
			c.ReductionFactor[strconv.Itoa(i)] = float64(g.Hidden) / (float64(module.Size()) + 0.5)
		}
	}
	return c
}

func (Serial) adaptersTensors(t Trained, name string, p Plan, into map[string]checkpoint.Tensor) {
	addBottlenecks(t, name, p, MethodSerial, into)
}

func (Parallel) adaptersTensors(t Trained, name string, p Plan, into map[string]checkpoint.Tensor) {
	addBottlenecks(t, name, p, MethodParallel, into)
}

func addBottlenecks(t Trained, name string, p Plan, m Method, into map[string]checkpoint.Tensor) {
	for i, layer := range p.Layers {
		if layer.Module(m) != nil {
			addBottleneck(t, into, name, i, bottleneckTensors(t, i, m))
		}
	}
}

// bottleneckTensors are a module's tensors by the names in this package, without the module's name.
func bottleneckTensors(t Trained, layer int, m Method) map[string]checkpoint.Tensor {
	tensors := map[string]checkpoint.Tensor{}
	for _, name := range []string{"down.weight", "down.bias", "up.weight", "up.bias"} {
		tensors[name] = t.tensor(layer, m, name)
	}
	return tensors
}

func addBottleneck(t Trained, into map[string]checkpoint.Tensor, name string, layer int, from map[string]checkpoint.Tensor) {
	module := t.outputPath(layer) + ".adapters." + name
	into[module+".adapter_down.0.weight"] = from["down.weight"]
	into[module+".adapter_down.0.bias"] = from["down.bias"]
	into[module+".adapter_up.weight"] = from["up.weight"]
	into[module+".adapter_up.bias"] = from["up.bias"]
}
