package peft

import (
	"fmt"
	"strings"

	"peftsearch/data/checkpoint"
	"peftsearch/data/onnx"
)

// MethodCompacter is Compacter.
const MethodCompacter Method = "compacter"

// kronecker is the n of Compacter: how many products a matrix is the sum of, and the width of their first factors.
const kronecker = 4

// Compacter is the pair of adapters of Mahabadi et al. 2021, after the attention and after the feed-forward part, wired
// as [Houlsby]: the matrices of its bottlenecks are Σ A_i ⊗ (s_i·t_i) over i = 1 to 4, of which the "rule", A [4, 4,
// 4], is one for all layers. It has gelu and the scale 1, as the adapters library's CompacterConfig.
type Compacter struct {
	Bottleneck
	// FFNOnly is Compacter++: the adapter after the feed-forward part alone, wired as [Serial], as the library's
	// CompacterPlusPlusConfig.
	FFNOnly bool `json:"ffn_only,omitempty"`
}

var compacterWiring = wiring{MethodCompacter, GELU, 1}

func (Compacter) Method() Method { return MethodCompacter }
func (c Compacter) Size() int    { return c.Width }
func (Compacter) version() int   { return 2 }

func (c Compacter) Part() Part {
	if c.FFNOnly {
		return PartFFN
	}
	return PartAttention
}

func (c Compacter) String() string {
	text := c.Bottleneck.string(compacterWiring)
	if c.FFNOnly {
		return strings.Replace(text, string(MethodCompacter), string(MethodCompacter)+"++", 1)
	}
	return text
}

// Full has everything that is left to the method filled in; Scale is 0 where it is learned.
func (c Compacter) Full() Bottleneck { return c.full(compacterWiring) }

func (c Compacter) canonical() Module {
	c.Bottleneck = c.Bottleneck.canonical(compacterWiring)
	return c
}

func (c Compacter) validate(g Geometry, s Stack) error {
	if g.Hidden%kronecker != 0 {
		return fmt.Errorf("compacter divides widths by %d, and the backbone's is %d", kronecker, g.Hidden)
	}
	if c.Width%kronecker != 0 {
		return fmt.Errorf("compacter width %d: must be a multiple of %d", c.Width, kronecker)
	}
	return c.Bottleneck.validate(compacterWiring, s)
}

// parts begin the names of the tensors of its bottlenecks.
func (c Compacter) parts() []string {
	if c.FFNOnly {
		return []string{"ffn."}
	}
	return []string{"attention.", "ffn."}
}

// Tensors are s [4, in/4, 1] and t [4, 1, out/4] of each matrix, as left and right.
func (c Compacter) Tensors(g Geometry) []Tensor {
	var list []Tensor
	factors := func(name string, in, out int) {
		list = append(list, Tensor{name + ".left", []int{kronecker, in / kronecker, 1}, false},
			Tensor{name + ".right", []int{kronecker, 1, out / kronecker}, false}, Tensor{name + ".bias", []int{out}, true})
	}
	for _, part := range c.parts() {
		factors(part+"down", g.Hidden, c.Width)
		factors(part+"up", c.Width, g.Hidden)
		list = append(list, c.traits(g, part)...)
	}
	return list
}

// sharedTensors is the rule.
func (Compacter) sharedTensors() []Tensor {
	return []Tensor{{"rule", []int{kronecker, kronecker, kronecker}, false}}
}

// Kronecker is Σ A_i ⊗ (s_i·t_i), transposed: [out, in] of a rule A [n, n, n], s [n, in/n, 1] and t [n, 1, out/n].
func Kronecker(rule, left, right checkpoint.Tensor) checkpoint.Tensor {
	n, in, out := rule.Shape[0], left.Shape[1], right.Shape[2]
	a, s, t := rule.Float32(), left.Float32(), right.Float32()
	values := make([]float32, n*out*n*in)
	for i := range n {
		for row := range n * out {
			for column := range n * in {
				values[row*n*in+column] += a[(i*n+column/in)*n+row/out] * s[i*in+column%in] * t[i*out+row%out]
			}
		}
	}
	return checkpoint.NewTensor(values, n*out, n*in)
}

func (c Compacter) code() []string { return withGate(c.Gate, "bottleneck", "compacter") }

// graph computes the matrices: they are small, and fixed in a graph.
func (c Compacter) graph(l *layerGraph) {
	b := func(part string, h onnx.Value) onnx.Value {
		return l.bottleneck(c.Method(), part, c.Full(), h, func(name string) onnx.Value {
			factor := func(side string) checkpoint.Tensor { return l.t.tensor(l.index, c.Method(), part+name+side) }
			return l.Weight(fmt.Sprintf("layers.%d.%s.%s%s", l.index, c.Method(), part, name),
				Kronecker(l.t.Modules[c.Method().SharedName("rule")], factor(".left"), factor(".right")))
		})
	}
	if c.FFNOnly {
		l.fed = append(l.fed, func(total, f, input onnx.Value, norm func(onnx.Value) onnx.Value) onnx.Value {
			return l.Add(total, b("ffn.", norm(l.Add(f, input))))
		})
		return
	}
	hook := func(part string) sumHook {
		return func(total, f, _ onnx.Value, _ func(onnx.Value) onnx.Value) onnx.Value {
			return l.Add(total, b(part, f))
		}
	}
	l.attended, l.fed = append(l.attended, hook("attention.")), append(l.fed, hook("ffn."))
}

func (c Compacter) adaptersPart() (kept Module, lost string) { return c, "" }

func (c Compacter) adaptersKind() string {
	return bottleneckKind(c.Bottleneck) + fmt.Sprint(c.FFNOnly)
}

func (c Compacter) adaptersConfig(g Geometry, p Plan) any {
	config := bottleneckConfigOf(g, p, c, 1)
	config.PHMLayer, config.PHMDim = true, kronecker
	return config
}

// compacterNames are the library's names of the factors of an adapter's matrices.
var compacterNames = map[string]string{"down.left": "adapter_down.0.W_left", "down.right": "adapter_down.0.W_right",
	"down.bias": "adapter_down.0.b", "up.left": "adapter_up.W_left", "up.right": "adapter_up.W_right",
	"up.bias": "adapter_up.b", "scale": "scaling", "gate.weight": "gate.weight", "gate.bias": "gate.bias"}

func (c Compacter) adaptersTensors(t Trained, name string, p Plan, into map[string]checkpoint.Tensor) {
	addBottlenecks(t, name, p, c, compacterNames, into)
	into[t.family().backbone+".shared_parameters."+name+".phm_rule"] = t.Modules[c.Method().SharedName("rule")]
}

// importCompacter takes of a bottleneck's configuration that its matrices are Compacter's: false if they are not.
func importCompacter(s settings) (bool, error) {
	var is, sharedFactors, factoredRule bool
	dim, rank, bias, learned, sharedRule, factored := kronecker, 1, true, true, true, true
	if err := s.take("phm_layer", &is); err != nil || !is {
		return false, err
	}
	if err := s.takeAll(map[string]any{"phm_dim": &dim, "phm_rank": &rank, "phm_bias": &bias, "learn_phm": &learned,
		"shared_phm_rule": &sharedRule, "factorized_phm_W": &factored, "shared_W_phm": &sharedFactors,
		"factorized_phm_rule": &factoredRule}); err != nil {
		return false, err
	}
	if dim != kronecker || rank != 1 || !bias || !learned || !sharedRule || !factored || sharedFactors || factoredRule {
		return false, fmt.Errorf("a plan's compacter is CompacterConfig's, and this one has other settings of the "+
			"matrices: phm_dim %d, phm_rank 1, a rule that is trained and shared, and factors that are neither shared nor "+
			"whole", kronecker)
	}
	return true, nil
}
