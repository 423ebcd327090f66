package peft

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
)

// Method names a kind of module, by the name used in plans, study files and databases.
type Method string

// Module is what one method adds to one layer, or to the input. It is a value: nothing changes it.
type Module interface {
	// Method is its row of the table.
	Method() Method
	// Size is the level that a search chooses: a width, a length, a rank; 1 of what is there or not.
	Size() int
	// Part is the first part of a layer that it changes.
	Part() Part
	// Tensors lists what is trained and stored, in a fixed order.
	Tensors(g Geometry) []Tensor
	// String is the module in a few characters, such as "serial 24".
	String() string

	validate(g Geometry, s Stack) error
	canonical() Module // the same for modules that compute the same
	version() int      // of the first plans that can express it
}

// Tensor is one trained tensor of a module.
type Tensor struct {
	Name  string // within its module, such as "down.weight"
	Shape []int
	Bias  bool // has no weight decay, and is left out where weights alone are counted
}

// sharer is a module with tensors that are one for all of its method in a plan, beside its own.
type sharer interface{ sharedTensors() []Tensor }

// Part is a part of a layer, in the order of the computation.
type Part int

// The parts.
const (
	PartInput     Part = iota // before the first layer
	PartAttention             // self-attention
	PartCross                 // attention to an encoder's output
	PartFFN                   // the feed-forward part
)

// row is a method of the table.
type row struct {
	zero  Module // of the method's type
	input bool   // its modules are at the input; otherwise in layers
	// sized is the module that a level above 0 stands for in a search.
	sized func(size int, s Style) Module
	// levels are those of a search that names none, ascending from 0.
	levels     func(g Geometry) []int
	most       func(g Geometry) int // largest level
	sizes      string               // what levels are, for users
	levelsText string               // and which there are
	// autoPEFT is set for the methods of the AutoPEFT paper, whose preset has levels of its own.
	autoPEFT bool
	// standard is set for what a search chooses from unless it is told otherwise.
	standard bool
	worth    worth
}

// worth shapes the surface of analytic scores: a module of a size has gain limit·size/(size+half).
type worth struct{ half, limit float64 }

// table lists the methods in the order in which everything shows them. Adding one adds a row here, a file to this
// package and a file to evaluator/model.
var table = []row{
	{zero: Serial{}, sizes: "widths of the serial adapter", levels: widths, levelsText: widthsText, most: widest,
		sized:    func(size int, s Style) Module { return Serial(s.bottleneck(size)) },
		autoPEFT: true, standard: true, worth: worth{8, 1}},
	{zero: Parallel{}, sizes: "widths of the parallel adapter", levels: widths, levelsText: widthsText, most: widest,
		sized:    func(size int, s Style) Module { return Parallel(s.bottleneck(size)) },
		autoPEFT: true, standard: true, worth: worth{16, 0.9}},
	{zero: Prefix{}, sizes: "prefix lengths", levels: lengths, levelsText: "0, 1, 2, 5, 10, 20, 40", most: longest,
		sized:    func(size int, s Style) Module { return Prefix{Length: size, Gate: s.Gate, Cross: s.Cross} },
		autoPEFT: true, standard: true, worth: worth{4, 0.5}},
	{zero: LoRA{}, sizes: "ranks", levels: ranks, levelsText: ranksText, most: hidden,
		sized: func(size int, s Style) Module {
			return LoRA{Rank: size, Alpha: s.Scale * float64(size), Targets: s.withCross(s.Targets), Gate: s.Gate}
		},
		standard: true, worth: worth{2, 0.8}},
	{zero: Houlsby{}, sizes: "widths of the two Houlsby adapters", levels: widths, levelsText: widthsText, most: widest,
		sized: func(size int, s Style) Module { return Houlsby(s.bottleneck(size)) }, worth: worth{6, 1}},
	{zero: Compacter{}, sizes: "widths of the two Compacter adapters, multiples of 4", levels: compactWidths,
		levelsText: widthsText, most: widest,
		sized: func(size int, s Style) Module { return Compacter{Bottleneck: s.bottleneck(size)} }, worth: worth{16, 0.7}},
	{zero: DoRA{}, sizes: "ranks of DoRA", levels: ranks, levelsText: ranksText, most: hidden,
		sized: func(size int, s Style) Module {
			return DoRA{Rank: size, Alpha: s.Scale * float64(size), Targets: s.withCross(s.Targets)}
		}, worth: worth{2, 0.82}},
	{zero: VeRA{}, sizes: "ranks of VeRA", levels: func(Geometry) []int { return []int{0, 64, 256} },
		levelsText: "0, 64, 256", most: longest,
		sized: func(size int, s Style) Module { return VeRA{Rank: size, Targets: s.withCross(s.Targets)} },
		worth: worth{64, 0.6}},
	{zero: IA3{}, sizes: "IA3: 1 for its vectors", levels: present, levelsText: "0, 1", most: one,
		sized: func(_ int, s Style) Module { return IA3{Targets: s.withCross(IA3Targets)} }, worth: worth{1, 0.8}},
	{zero: BitFit{}, sizes: "BitFit: 1 for the biases", levels: present, levelsText: "0, 1", most: one,
		sized: func(int, Style) Module { return BitFit{} }, worth: worth{1, 0.9}},
	{zero: Prompt{}, input: true, sizes: "prompt lengths", levels: func(Geometry) []int { return []int{0, 5, 10, 20, 50} },
		levelsText: "0, 5, 10, 20, 50", most: longest,
		sized: func(size int, _ Style) Module { return Prompt{Length: size} }, worth: worth{20, 0.4}},
}

// Style is what modules of one size may differ in. A method takes of it what it has.
type Style struct {
	Scale        float64      // of low-rank updates: alpha/rank
	Targets      []Target     // of low-rank updates
	Gate         bool         // of those that can have one: a gate
	NonLinearity NonLinearity // of bottlenecks; "" is the method's own
	Factor       float64      // s of bottlenecks; 0 is the method's own
	LearnedScale bool         // of bottlenecks, in place of Factor
	// Cross is set for layers that read an encoder: what changes their self-attention changes that attention too.
	Cross bool
}

func (s Style) bottleneck(width int) Bottleneck {
	return Bottleneck{Width: width, NonLinearity: s.NonLinearity, Scale: s.Factor, LearnedScale: s.LearnedScale,
		Gate: s.Gate}
}

// Methods lists the methods in the order in which everything shows them.
var Methods = methodsOf(func(row) bool { return true })

// Standard lists the methods that a search chooses from unless it is told otherwise.
var Standard = methodsOf(func(r row) bool { return r.standard })

// AutoPEFT lists the methods of the AutoPEFT paper (Zhou et al. 2024).
var AutoPEFT = methodsOf(func(r row) bool { return r.autoPEFT })

func methodsOf(which func(row) bool) []Method {
	var list []Method
	for _, r := range table {
		if which(r) {
			list = append(list, r.zero.Method())
		}
	}
	return list
}

// row is the method's row; ok is false for a method that there is not.
func (m Method) row() (r row, ok bool) {
	i := slices.IndexFunc(table, func(r row) bool { return r.zero.Method() == m })
	if i < 0 {
		return row{}, false
	}
	return table[i], true
}

func (m Method) known() row {
	r, ok := m.row()
	if !ok {
		panic(fmt.Sprintf("peft: no method %q", m)) // callers take them from Methods
	}
	return r
}

// Input reports whether the method's modules are at the input, and not in layers.
func (m Method) Input() bool { return m.known().input }

// Shared lists what the method's modules in a plan have in common beside their own tensors: nothing, of most methods.
func (m Method) Shared() []Tensor {
	if module, ok := m.known().zero.(sharer); ok {
		return module.sharedTensors()
	}
	return nil
}

// SharedName is the name of such a tensor among those of a plan.
func (m Method) SharedName(tensor string) string { return "shared." + string(m) + "." + tensor }

// Sized is the method's module of a size of at least 1.
func (m Method) Sized(size int, s Style) Module { return m.known().sized(size, s) }

// Gated reports whether the method's modules can have gates.
func (m Method) Gated() bool { return !Equal(m.Sized(1, Style{Gate: true}), m.Sized(1, Style{})) }

// Equal reports whether two modules compute the same.
func Equal(a, b Module) bool { return reflect.DeepEqual(a.canonical(), b.canonical()) }

// Levels are the sizes that a search tries unless it is told otherwise, ascending from 0, which is none.
func (m Method) Levels(g Geometry) []int { return m.known().levels(g) }

// LevelsText says in words what Levels are.
func (m Method) LevelsText() string { return m.known().levelsText }

// Largest is the largest size that a search may try.
func (m Method) Largest(g Geometry) int { return m.known().most(g) }

// Sizes says in words what the sizes are.
func (m Method) Sizes() string { return m.known().sizes }

// Gain is what a module of a size adds in evaluator.Analytic's scores, from 0 to 1. It is made up.
func (m Method) Gain(size int) float64 {
	w := m.known().worth
	return w.limit * float64(size) / (float64(size) + w.half)
}

// decode reads a module of the row's method; keys that it does not have are errors.
func (r row) decode(raw []byte) (Module, error) {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	into := reflect.New(reflect.TypeOf(r.zero))
	if err := decoder.Decode(into.Interface()); err != nil {
		return nil, err
	}
	return into.Elem().Interface().(Module), nil
}

const widthsText = "from the hidden width"

// widths are D/128 to D/4.
func widths(g Geometry) []int {
	list := []int{0}
	for _, divisor := range []int{128, 64, 32, 16, 8, 4} {
		if width := g.Hidden / divisor; width > list[len(list)-1] {
			list = append(list, width)
		}
	}
	return list
}

// compactWidths are those that Compacter can divide.
func compactWidths(g Geometry) []int {
	return slices.DeleteFunc(widths(g), func(width int) bool { return width%kronecker != 0 })
}

func widest(g Geometry) int { return min(4*g.Hidden, MaxSize) }

func lengths(Geometry) []int { return []int{0, 1, 2, 5, 10, 20, 40} }

func longest(Geometry) int { return 1024 }

func hidden(g Geometry) int { return g.Hidden }

func present(Geometry) []int { return []int{0, 1} }

func one(Geometry) int { return 1 }

const ranksText = "0, 1, 2, 4, 8, 16, 32"

func ranks(Geometry) []int { return []int{0, 1, 2, 4, 8, 16, 32} }

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
