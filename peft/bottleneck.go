package peft

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"peftsearch/data/checkpoint"
)

// The bottleneck adapters.
const (
	MethodSerial   Method = "serial"
	MethodParallel Method = "parallel"
	MethodHoulsby  Method = "houlsby"
)

// Bottleneck is B(h) = s·(W_up·φ(W_down·h + c_down) + c_up), of D inputs and outputs; with a gate, times the mean of
// sigmoid(w·h + c) over a row's tokens (Mao et al. 2022, "UniPELT").
type Bottleneck struct {
	Width        int          `json:"width"`                   // rows of W_down, 1 to MaxSize
	NonLinearity NonLinearity `json:"non_linearity,omitempty"` // φ; "" is the method's own
	Scale        float64      `json:"scale,omitempty"`         // s, MinScale to MaxScale; 0 is the method's own
	LearnedScale bool         `json:"learned_scale,omitempty"` // s is trained, from 1 on
	Gate         bool         `json:"gate,omitempty"`
}

// NonLinearity is a function of a bottleneck, by the adapters library's name.
type NonLinearity string

// The functions; GELU is that with the error function, GELUNew its approximation with tanh.
const (
	ReLU    NonLinearity = "relu"
	GELU    NonLinearity = "gelu"
	GELUNew NonLinearity = "gelu_new"
	Swish   NonLinearity = "swish"
	Tanh    NonLinearity = "tanh"
)

// NonLinearities lists the functions.
var NonLinearities = []NonLinearity{ReLU, GELU, GELUNew, Swish, Tanh}

// Serial is the adapter of Pfeiffer et al. 2021 ("AdapterFusion"): it reads LN₂(a+f), has relu and the scale 1. The
// wiring is that of the adapters library's SeqBnConfig with original_ln_before.
type Serial Bottleneck

// Parallel is the adapter of He et al. 2022 ("Towards a Unified View"): it reads a, has relu and the scale 4. The
// wiring is that of the adapters library's ParBnConfig.
type Parallel Bottleneck

// Houlsby is the pair of adapters of Houlsby et al. 2019, one after the attention and one after the feed-forward part:
// LN₁(x + o + B₁(o)) and LN₂(a + f + B₂(f)). It has swish and the scale 1, as the adapters library's DoubleSeqBnConfig.
type Houlsby Bottleneck

// wiring is what a method's bottlenecks have unless a plan says otherwise.
type wiring struct {
	method       Method
	nonLinearity NonLinearity
	scale        float64
}

var (
	serialWiring   = wiring{MethodSerial, ReLU, 1}
	parallelWiring = wiring{MethodParallel, ReLU, 4}
	houlsbyWiring  = wiring{MethodHoulsby, Swish, 1}
)

// full has everything that is left to the method filled in; Scale is 0 where it is learned.
func (b Bottleneck) full(w wiring) Bottleneck {
	b.NonLinearity = cmp.Or(b.NonLinearity, w.nonLinearity)
	if !b.LearnedScale {
		b.Scale = cmp.Or(b.Scale, w.scale)
	}
	return b
}

// canonical leaves to the method what is the method's own.
func (b Bottleneck) canonical(w wiring) Bottleneck {
	if b.NonLinearity == w.nonLinearity {
		b.NonLinearity = ""
	}
	if b.Scale == w.scale {
		b.Scale = 0
	}
	return b
}

func (b Bottleneck) string(w wiring) string {
	c := b.canonical(w)
	text := fmt.Sprintf("%s %d", w.method, b.Width)
	if c.NonLinearity != "" {
		text += " " + string(c.NonLinearity)
	}
	switch {
	case c.LearnedScale:
		text += " scaled"
	case c.Scale != 0:
		text += fmt.Sprintf(" ×%g", c.Scale)
	}
	if b.Gate {
		text += " gated"
	}
	return text
}

func (b Bottleneck) validate(w wiring, s Stack) error {
	if err := validateSize(string(w.method)+" width", b.Width); err != nil {
		return err
	}
	if b.NonLinearity != "" && !slices.Contains(NonLinearities, b.NonLinearity) {
		return fmt.Errorf("%s non_linearity %q: must be one of %v", w.method, b.NonLinearity, NonLinearities)
	}
	if b.LearnedScale && b.Scale != 0 {
		return fmt.Errorf("%s has a scale and learns one: give one of them", w.method)
	}
	if b.Scale != 0 && !(b.Scale >= MinScale && b.Scale <= MaxScale) {
		return fmt.Errorf("%s scale %g: must be between %g and %g", w.method, b.Scale, MinScale, MaxScale)
	}
	return validateGate(w.method, b.Gate, s)
}

// validateGate refuses gates where they would see the tokens to come.
func validateGate(m Method, gate bool, s Stack) error {
	if gate && s.Causal {
		return fmt.Errorf("%s has a gate in a decoder: a gate is a mean over all tokens, the later ones included", m)
	}
	return nil
}

func (b Bottleneck) version() int {
	if b == (Bottleneck{Width: b.Width}) {
		return 1
	}
	return 2
}

func (b Bottleneck) tensors(g Geometry, prefix string) []Tensor {
	list := []Tensor{{prefix + "down.weight", []int{b.Width, g.Hidden}, false},
		{prefix + "down.bias", []int{b.Width}, true},
		{prefix + "up.weight", []int{g.Hidden, b.Width}, false}, {prefix + "up.bias", []int{g.Hidden}, true}}
	return append(list, b.traits(g, prefix)...)
}

// traits are the tensors beside the matrices.
func (b Bottleneck) traits(g Geometry, prefix string) (list []Tensor) {
	if b.LearnedScale {
		list = append(list, Tensor{prefix + "scale", []int{1}, false})
	}
	if b.Gate {
		list = append(list, gateTensors(g, prefix)...)
	}
	return list
}

// gateTensors are those of one gate, which reads hidden states.
func gateTensors(g Geometry, prefix string) []Tensor {
	return []Tensor{{prefix + "gate.weight", []int{1, g.Hidden}, false}, {prefix + "gate.bias", []int{1}, true}}
}

func (Serial) Method() Method                       { return MethodSerial }
func (a Serial) Size() int                          { return a.Width }
func (Serial) Part() Part                           { return PartFFN }
func (a Serial) Tensors(g Geometry) []Tensor        { return Bottleneck(a).tensors(g, "") }
func (a Serial) String() string                     { return Bottleneck(a).string(serialWiring) }
func (a Serial) validate(_ Geometry, s Stack) error { return Bottleneck(a).validate(serialWiring, s) }
func (a Serial) canonical() Module                  { return Serial(Bottleneck(a).canonical(serialWiring)) }
func (a Serial) version() int                       { return Bottleneck(a.canonical().(Serial)).version() }

// Full has everything that is left to the method filled in; Scale is 0 where it is learned.
func (a Serial) Full() Bottleneck { return Bottleneck(a).full(serialWiring) }

func (Parallel) Method() Method                { return MethodParallel }
func (a Parallel) Size() int                   { return a.Width }
func (Parallel) Part() Part                    { return PartFFN }
func (a Parallel) Tensors(g Geometry) []Tensor { return Bottleneck(a).tensors(g, "") }
func (a Parallel) String() string              { return Bottleneck(a).string(parallelWiring) }
func (a Parallel) validate(_ Geometry, s Stack) error {
	return Bottleneck(a).validate(parallelWiring, s)
}
func (a Parallel) canonical() Module { return Parallel(Bottleneck(a).canonical(parallelWiring)) }
func (a Parallel) version() int      { return Bottleneck(a.canonical().(Parallel)).version() }

// Full has everything that is left to the method filled in; Scale is 0 where it is learned.
func (a Parallel) Full() Bottleneck { return Bottleneck(a).full(parallelWiring) }

func (Houlsby) Method() Method   { return MethodHoulsby }
func (a Houlsby) Size() int      { return a.Width }
func (Houlsby) Part() Part       { return PartAttention }
func (a Houlsby) String() string { return Bottleneck(a).string(houlsbyWiring) }
func (a Houlsby) validate(_ Geometry, s Stack) error {
	return Bottleneck(a).validate(houlsbyWiring, s)
}
func (a Houlsby) canonical() Module { return Houlsby(Bottleneck(a).canonical(houlsbyWiring)) }
func (Houlsby) version() int        { return 2 }

// Tensors are those of a bottleneck for each part.
func (a Houlsby) Tensors(g Geometry) []Tensor {
	return append(Bottleneck(a).tensors(g, "attention."), Bottleneck(a).tensors(g, "ffn.")...)
}

// Full has everything that is left to the method filled in; Scale is 0 where it is learned.
func (a Houlsby) Full() Bottleneck { return Bottleneck(a).full(houlsbyWiring) }

func (a Serial) code() []string   { return withGate(a.Gate, "bottleneck", "serial") }
func (a Parallel) code() []string { return withGate(a.Gate, "bottleneck", "parallel") }
func (a Houlsby) code() []string  { return withGate(a.Gate, "bottleneck", "houlsby") }

// bottleneck is a module that adapters has as a BnConfig.
type bottleneck interface {
	Module
	Full() Bottleneck
}

func (a Serial) adaptersPart() (kept Module, lost string)   { return a, "" }
func (a Parallel) adaptersPart() (kept Module, lost string) { return a, "" }
func (a Houlsby) adaptersPart() (kept Module, lost string)  { return a, "" }

// An adapter has a width for each layer.
func (a Serial) adaptersKind() string   { return bottleneckKind(Bottleneck(a)) }
func (a Parallel) adaptersKind() string { return bottleneckKind(Bottleneck(a)) }
func (a Houlsby) adaptersKind() string  { return bottleneckKind(Bottleneck(a)) }

func bottleneckKind(b Bottleneck) string {
	b.Width = 0
	return fmt.Sprint(b)
}

func (a Serial) adaptersConfig(g Geometry, p Plan) any   { return bottleneckConfigOf(g, p, a, 1) }
func (a Parallel) adaptersConfig(g Geometry, p Plan) any { return bottleneckConfigOf(g, p, a, 1) }
func (a Houlsby) adaptersConfig(g Geometry, p Plan) any  { return bottleneckConfigOf(g, p, a, 1) }

// bottleneckConfigOf is the configuration of a plan's adapters of one method and kind, with their outputs multiplied by
// a factor.
func bottleneckConfigOf(g Geometry, p Plan, kind bottleneck, factor float64) bottleneckConfig {
	full, m := kind.Full(), kind.Method()
	pair := kind.Part() == PartAttention
	c := bottleneckConfig{MHAdapter: pair, OutputAdapter: true, IsParallel: m == MethodParallel,
		NonLinearity: string(full.NonLinearity), OriginalLNBefore: !pair && m != MethodParallel,
		Scaling:     pythonFloat(factor * full.Scale),
		InitWeights: "bert", UseGating: full.Gate, ReductionFactor: map[string]float64{}, LeaveOut: leaveOut(p, m)}
	if m == MethodParallel {
		c.InitWeights = "mam_adapter"
	}
	if full.LearnedScale {
		c.Scaling = "learned"
	}
	for i, layer := range p.Layers {
		if module := layer.Module(m); module != nil {
			// The library's width is int(D // factor). D/b itself comes out one too small for many b.
			c.ReductionFactor[strconv.Itoa(i)] = float64(g.Hidden) / (float64(module.Size()) + 0.5)
		}
	}
	return c
}

func (a Serial) adaptersTensors(t Trained, name string, p Plan, into map[string]checkpoint.Tensor) {
	addBottlenecks(t, name, p, a, bottleneckNames, into)
}

func (a Parallel) adaptersTensors(t Trained, name string, p Plan, into map[string]checkpoint.Tensor) {
	addBottlenecks(t, name, p, a, bottleneckNames, into)
}

func (a Houlsby) adaptersTensors(t Trained, name string, p Plan, into map[string]checkpoint.Tensor) {
	addBottlenecks(t, name, p, a, bottleneckNames, into)
}

func addBottlenecks(t Trained, name string, p Plan, kind bottleneck, names map[string]string,
	into map[string]checkpoint.Tensor) {
	for i, layer := range p.Layers {
		module := layer.Module(kind.Method())
		if module == nil {
			continue
		}
		for _, tensor := range module.Tensors(t.Info.Geometry) {
			at, ours := t.outputPath(i), tensor.Name
			if rest, ok := strings.CutPrefix(ours, "attention."); ok {
				at, ours = t.attentionPath(i), rest
			}
			theirs := names[strings.TrimPrefix(ours, "ffn.")]
			into[at+".adapters."+name+"."+theirs] = t.tensor(i, kind.Method(), tensor.Name)
		}
	}
}

// bottleneckNames are the library's names of an adapter's tensors.
var bottleneckNames = map[string]string{"down.weight": "adapter_down.0.weight", "down.bias": "adapter_down.0.bias",
	"up.weight": "adapter_up.weight", "up.bias": "adapter_up.bias", "scale": "scaling", "gate.weight": "gate.weight",
	"gate.bias": "gate.bias"}
