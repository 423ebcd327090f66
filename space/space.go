// Package space turns a study's search space into dimensions, and points of it into candidates.
//
// A [Dimension] has levels; a [Point] names one level of each. Most dimensions choose a size: of one
// method, in the layers that share it; level 0 of a size usually means that the module is absent.
// Preset autopeft adds one bit per layer; learning rate and schedule may be dimensions too.
package space

import (
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strconv"

	"peftsearch/evaluator"
	"peftsearch/peft"
)

// Point is one level index per dimension, in the order of Space.Dimensions.
type Point []int

// Dimension is one choice of the search.
type Dimension struct {
	Name    string   // e.g. layers.3.lora, layers.0-1.prefix, layer.3 (autopeft's bit), learning_rate
	Levels  []string // what each level means, e.g. "24"
	Ordinal bool     // neighbouring levels are alike; false only for the schedule

	role    role
	method  peft.Method // of a size or a gate
	layers  []int       // of a size or a bit: the layers it decides about; nil of one at the input
	modules []sized     // of a size: the module of each level
}

// sized is a method with the size of its module, 0 for none.
type sized struct {
	method peft.Method
	size   int
	gate   bool // has one of its own choice; gates that all modules of a method share are part of the style
}

func (m sized) String() string {
	if m.gate {
		return fmt.Sprintf("%d gated", m.size)
	}
	return strconv.Itoa(m.size)
}

// Optional reports whether level 0 means that there is no module.
func (d Dimension) Optional() bool { return d.role == roleSize && d.modules[0].size == 0 }

// Method is that of a size or a gate, "" of other dimensions.
func (d Dimension) Method() peft.Method { return d.method }

// Layers are the layers of a size or of a bit, nil of other dimensions; the caller must not change them.
func (d Dimension) Layers() []int { return d.layers }

type role int

const (
	roleSize role = iota
	roleBit
	roleGate
	roleNonLinearity
	roleScale
	roleLearningRate
	roleSchedule
)

// Space is a search space on one backbone. It is immutable and safe for concurrent use.
type Space struct {
	geometry   peft.Geometry
	config     Config
	training   evaluator.Training
	dimensions []Dimension
	variants   []variant
	// sharingSizes are the sizes of each method whose modules share tensors and which a plan may be without.
	sharingSizes [][]int
	smallest     int64
	largest      int64
	clashes      [][2]int // dimensions of sizes of which a plan has one alone: both would replace one matrix
}

// New makes the space of a configuration; training holds the settings that are not searched. The
// error joins one *KeyError for each mistake, or is that of the geometry.
func New(config Config, training evaluator.Training, g peft.Geometry) (*Space, error) {
	if err := g.Validate(); err != nil {
		return nil, err
	}
	config = config.withDefaults(g)
	if errs := config.validate(g); len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	s := &Space{geometry: g, config: config, training: training}
	add := func(name string, m peft.Method, layers []int) {
		if modules := config.modules(m); len(modules) > 0 {
			s.dimensions = append(s.dimensions, Dimension{Name: name, Levels: labels(modules), Ordinal: true, role: roleSize,
				method: m, layers: layers, modules: modules})
		}
	}
	for _, m := range peft.Methods {
		if m.Input() {
			add("input."+string(m), m, nil)
		}
	}
	for _, band := range config.bands(g.Layers) {
		for _, m := range peft.Methods {
			name := string(m)
			if config.Preset != PresetAutoPEFT {
				name = "layers." + bandName(band) + "." + name
			}
			if !m.Input() {
				add(name, m, band)
			}
		}
	}
	if len(s.dimensions) == 0 {
		return nil, &KeyError{"space", "every method is left out, there is nothing to search"}
	}
	if config.Preset == PresetAutoPEFT {
		for layer := range g.Layers {
			s.dimensions = append(s.dimensions, Dimension{Name: fmt.Sprintf("layer.%d", layer),
				Levels: []string{"out", "kept"}, Ordinal: true, role: roleBit, layers: []int{layer}})
		}
	}
	for _, m := range config.sharedGates() {
		s.dimensions = append(s.dimensions, Dimension{Name: "gate." + string(m), Levels: []string{"without", "with"},
			Ordinal: true, role: roleGate, method: m})
	}
	if len(config.NonLinearity) > 0 {
		s.dimensions = append(s.dimensions, Dimension{Name: "non_linearity", Levels: labels(config.NonLinearity),
			role: roleNonLinearity})
	}
	if len(config.Scale) > 0 {
		s.dimensions = append(s.dimensions, Dimension{Name: "scale", Levels: labels(config.Scale), role: roleScale})
	}
	if len(config.LearningRate) > 0 {
		s.dimensions = append(s.dimensions, Dimension{Name: "learning_rate", Levels: labels(config.LearningRate),
			Ordinal: true, role: roleLearningRate})
	}
	if len(config.Schedule) > 0 {
		s.dimensions = append(s.dimensions, Dimension{Name: "schedule", Levels: labels(config.Schedule), role: roleSchedule})
	}
	s.variants = s.newVariants()
	s.smallest, s.largest = s.extremes()
	if s.largest == 0 {
		return nil, &KeyError{"space", "every size is 0, there is nothing to search"}
	}
	if bound := config.MaxParams; bound > 0 {
		if s.smallest > bound {
			return nil, &KeyError{"space.max_params", fmt.Sprintf("%d: the smallest plan of the space has %d parameters",
				bound, s.smallest)}
		}
		s.largest = min(s.largest, bound)
	}
	s.clashes = s.newClashes()
	if i := s.clash(make(Point, len(s.dimensions))); i >= 0 {
		one, other := s.dimensions[s.clashes[i][0]].method, s.dimensions[s.clashes[i][1]].method
		return nil, &KeyError{"space." + string(other), fmt.Sprintf("every plan would have %s and %s, which replace one "+
			"matrix: give one of them the size 0", one, other)}
	}
	return s, nil
}

// bands are the sets of layers that share their sizes.
func (c Config) bands(layers int) [][]int {
	count := layers
	switch c.Preset {
	case PresetGroups:
		count = c.Groups
	case PresetAutoPEFT:
		count = 1
	}
	bands := make([][]int, count)
	for layer := range layers {
		band := layer * count / layers
		bands[band] = append(bands[band], layer)
	}
	return bands
}

func bandName(band []int) string {
	name := strconv.Itoa(band[0])
	if last := band[len(band)-1]; last != band[0] {
		name += "-" + strconv.Itoa(last)
	}
	return name
}

func labels[T any](values []T) []string {
	out := make([]string, len(values))
	for i, value := range values {
		out[i] = fmt.Sprint(value)
	}
	return out
}

// Geometry is the backbone that the space is for.
func (s *Space) Geometry() peft.Geometry { return s.geometry }

// Dimensions lists the dimensions; the caller must not change them.
func (s *Space) Dimensions() []Dimension { return s.dimensions }

// Size is the number of points, feasible or not.
func (s *Space) Size() *big.Int {
	size := big.NewInt(1)
	for _, d := range s.dimensions {
		size.Mul(size, big.NewInt(int64(len(d.Levels))))
	}
	return size
}

// ParamRange is the smallest number of parameters of a plan with any module, and the largest, cut at max_params. Where
// methods exclude each other, the largest counts all of them: no plan has more.
func (s *Space) ParamRange() (smallest, largest int64) { return s.smallest, s.largest }

// Config is the configuration with its defaults filled in, and without what this space does not look at.
// Two spaces on one backbone with the same Config have the same points, which mean the same.
func (s *Space) Config() Config {
	c := s.config
	c.Methods = nil // the sizes say it
	if c.Preset != PresetGroups {
		c.Groups = 0
	}
	if len(c.LoRA.Ranks) == 0 {
		c.LoRA = LoRAConfig{Ranks: []int{}}
	}
	if len(c.Gates) == 0 {
		c.GatesPer = GatesPerMethod
	}
	return c
}

// Check reports a point that is not of the space: it names the first dimension that has no such level.
func (s *Space) Check(p Point) error {
	if len(p) != len(s.dimensions) {
		return fmt.Errorf("the point has %d coordinates, the space %d dimensions", len(p), len(s.dimensions))
	}
	for i, level := range p {
		if d := s.dimensions[i]; level < 0 || level >= len(d.Levels) {
			return fmt.Errorf("level %d of %s: must be between 0 and %d", level, d.Name, len(d.Levels)-1)
		}
	}
	return nil
}

// sizes decodes a valid point to the modules of the input and of every layer.
func (s *Space) sizes(p Point) (input []sized, layers [][]sized) {
	layers = make([][]sized, s.geometry.Layers)
	for i := range s.dimensions {
		d := &s.dimensions[i]
		switch d.role {
		case roleSize:
			module := d.modules[p[i]]
			switch {
			case module.size == 0:
			case d.layers == nil:
				input = append(input, module)
			}
			for _, layer := range d.layers {
				if module.size > 0 {
					layers[layer] = append(layers[layer], module)
				}
			}
		case roleBit: // bits follow the sizes
			if p[i] == 0 {
				layers[d.layers[0]] = nil
			}
		}
	}
	return input, layers
}

// Params is the exact number of parameters of a valid point's plan, as peft.Plan.Params counts them.
func (s *Space) Params(p Point) int64 {
	var sum, kept int64
	v := s.variant(p)
	for i := range s.dimensions {
		if d := &s.dimensions[i]; d.role == roleBit {
			kept += int64(p[i])
		} else {
			sum += v.cost(i, p[i])
		}
	}
	switch {
	case s.config.Preset != PresetAutoPEFT:
		return sum + v.shared
	case kept == 0:
		return 0
	}
	return kept*sum + v.shared
}

// extremes finds the smallest plan with a module and the largest one, whatever max_params. The smallest has what no
// plan can do without; if that is nothing, it is the cheapest single module. With bits it is in one layer.
func (s *Space) extremes() (smallest, largest int64) {
	for _, v := range s.variants {
		var most, least, single int64
		for i := range s.dimensions {
			d := &s.dimensions[i]
			least += v.cost(i, 0)
			if _, fixed := v.levels[i]; fixed {
				continue
			}
			most += v.cost(i, len(d.Levels)-1)
			for level := range d.Levels {
				if cost := v.cost(i, level); cost > 0 && (single == 0 || cost < single) {
					single = cost
				}
			}
		}
		for _, sizes := range v.needs {
			cheapest := v.cost(sizes[0], 1)
			for _, i := range sizes {
				cheapest = min(cheapest, v.cost(i, 1))
			}
			least += cheapest
		}
		if s.config.Preset == PresetAutoPEFT {
			most *= int64(s.geometry.Layers)
		}
		if least == 0 {
			least = single
		}
		if most == 0 { // without modules
			continue
		}
		least, most = least+v.shared, most+v.shared
		if largest = max(largest, most); smallest == 0 || least < smallest {
			smallest = least
		}
	}
	return smallest, largest
}

// Feasible reports whether a valid point's plan has a module, at most max_params parameters, and no modules that cannot
// stand together, as LoRA and DoRA of one matrix.
func (s *Space) Feasible(p Point) bool {
	params := s.Params(p)
	return params > 0 && (s.config.MaxParams == 0 || params <= s.config.MaxParams) && s.clash(p) < 0
}

// newClashes finds the pairs of sizes that exclude each other.
func (s *Space) newClashes() (pairs [][2]int) {
	first := make(Point, len(s.dimensions))
	for j, b := range s.dimensions {
		for i, a := range s.dimensions[:j] {
			if a.role != roleSize || b.role != roleSize || a.layers == nil || !slices.Equal(a.layers, b.layers) {
				continue
			}
			plan := peft.Plan{Layers: make([]peft.Layer, s.geometry.Layers)}
			for _, d := range []Dimension{a, b} {
				largest := d.modules[len(d.modules)-1]
				for _, layer := range d.layers {
					plan.Layers[layer] = append(plan.Layers[layer], s.module(first, largest, s.geometry.Stack(layer)))
				}
			}
			if plan.Validate(s.geometry) != nil {
				pairs = append(pairs, [2]int{i, j})
			}
		}
	}
	return pairs
}

// clash is the first pair of sizes that a valid point has both of, though they exclude each other; -1 if there is none.
func (s *Space) clash(p Point) int {
	has := func(i int) bool { return s.dimensions[i].modules[p[i]].size > 0 }
	return slices.IndexFunc(s.clashes, func(pair [2]int) bool { return has(pair[0]) && has(pair[1]) })
}

// Key is equal for two valid points exactly if they are the same candidate: points that differ only in
// sizes of layers that are left out share it.
func (s *Space) Key(p Point) string {
	var key []byte
	has := map[peft.Method]bool{}
	add := func(modules []sized) {
		for _, module := range modules {
			has[module.method] = true
			key = append(key, module.method...)
			key = append(key, module.String()...)
		}
		key = append(key, ',')
	}
	input, layers := s.sizes(p)
	if len(input) > 0 {
		add(input)
	}
	for _, layer := range layers {
		add(layer)
	}
	key = append(key, s.styleKey(p, has)...)
	for i := range s.dimensions {
		if s.dimensions[i].role >= roleLearningRate {
			key = strconv.AppendInt(append(key, '|'), int64(p[i]), 10)
		}
	}
	return string(key)
}

// Candidate is what a point stands for.
func (s *Space) Candidate(p Point) (evaluator.Candidate, error) {
	if err := s.Check(p); err != nil {
		return evaluator.Candidate{}, err
	}
	c := evaluator.Candidate{Plan: peft.Plan{Layers: make([]peft.Layer, s.geometry.Layers)}, Training: s.training}
	input, layers := s.sizes(p)
	for _, module := range input {
		c.Plan.Input = append(c.Plan.Input, s.module(p, module, peft.Stack{}))
	}
	for i, layer := range layers {
		for _, module := range layer {
			c.Plan.Layers[i] = append(c.Plan.Layers[i], s.module(p, module, s.geometry.Stack(i)))
		}
	}
	for i, d := range s.dimensions {
		switch d.role {
		case roleLearningRate:
			c.Training.LearningRate = s.config.LearningRate[p[i]]
		case roleSchedule:
			c.Training.Schedule = s.config.Schedule[p[i]]
		}
	}
	return c, nil
}

// ErrOutside says that a candidate is no point of the space.
var ErrOutside = errors.New("not in the search space")

// Point finds a point that stands for the candidate; the error wraps ErrOutside if there is none.
func (s *Space) Point(c evaluator.Candidate) (Point, error) {
	if err := c.Plan.Validate(s.geometry); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOutside, err)
	}
	p := make(Point, len(s.dimensions))
	s.findStyle(p, c.Plan)
	for i, d := range s.dimensions {
		level := 0
		switch d.role {
		case roleGate, roleNonLinearity, roleScale:
			continue
		case roleSize:
			found, stack := c.Plan.Input.Module(d.method), peft.Stack{}
			for _, layer := range d.layers { // with bits, layers that are left out say nothing
				if module := c.Plan.Layers[layer].Module(d.method); module != nil {
					found, stack = module, s.geometry.Stack(layer)
				}
			}
			level = slices.IndexFunc(d.modules, func(m sized) bool {
				if m.size == 0 || found == nil {
					return m.size == 0 && found == nil
				}
				return peft.Equal(found, s.module(p, m, stack))
			})
		case roleBit:
			if len(c.Plan.Layers[d.layers[0]]) > 0 {
				level = 1
			}
		case roleLearningRate:
			level = slices.Index(s.config.LearningRate, c.Training.LearningRate)
		case roleSchedule:
			level = slices.Index(s.config.Schedule, c.Training.Schedule)
		}
		if level < 0 {
			return nil, fmt.Errorf("%w: %s has no level for this plan", ErrOutside, d.Name)
		}
		p[i] = level
	}
	found, err := s.Candidate(p)
	if err != nil {
		return nil, err
	}
	if found.Plan.Key() != c.Plan.Key() || found.Training != c.Training {
		return nil, fmt.Errorf("%w: layers or settings differ from what the dimensions can express", ErrOutside)
	}
	return p, nil
}
