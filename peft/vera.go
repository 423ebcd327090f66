package peft

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"peftsearch/data/checkpoint"
)

// MethodVeRA is vector-based random matrix adaptation.
const MethodVeRA Method = "vera"

// VeRA adds diag(b)·B·diag(d)·A to each target matrix, where the random A and B are not trained and are the same
// in all layers and plans (Kopiczko et al. 2024, "VeRA"): those of [VeRAMatrices]. d begins as 0.1, b as 0.
type VeRA struct {
	Rank    int      `json:"rank"`    // 1 to MaxSize
	Targets []Target `json:"targets"` // at least one, no repeats
}

func (VeRA) Method() Method   { return MethodVeRA }
func (v VeRA) Size() int      { return v.Rank }
func (v VeRA) Part() Part     { return firstPart(v.Targets) }
func (v VeRA) String() string { return fmt.Sprintf("vera r%d", v.Rank) }
func (VeRA) version() int     { return 2 }

// Replaced are the targets.
func (v VeRA) Replaced() []Target { return v.Targets }

func (v VeRA) validate(_ Geometry, s Stack) error {
	if err := validateSize("vera rank", v.Rank); err != nil {
		return err
	}
	return validateTargets(MethodVeRA, v.Targets, s)
}

func (v VeRA) canonical() Module {
	v.Targets = sortedTargets(v.Targets)
	return v
}

// Tensors are b [out] and d [r] of each target.
func (v VeRA) Tensors(g Geometry) []Tensor {
	var list []Tensor
	for _, target := range v.Targets {
		_, out := g.TargetShape(target)
		list = append(list, Tensor{string(target) + ".b", []int{out}, false},
			Tensor{string(target) + ".d", []int{v.Rank}, false})
	}
	return list
}

// VeRAMatrices are A [rank, in] of U(±√(6/D)) and B [out, rank] of U(±√(6/rank)), Kaiming's bounds as in PEFT,
// though not PEFT's numbers. Those of all targets begin alike.
func VeRAMatrices(g Geometry, t Target, rank int) (a, b []float32) {
	in, out := g.TargetShape(t)
	a, b = make([]float32, rank*in), make([]float32, out*rank)
	// A row of A and a column of B have a stream each, so that widths change nothing of what comes before.
	for r := range rank {
		rng := rand.New(rand.NewPCG(uint64(r), 1))
		for i := range in {
			a[r*in+i] = float32(math.Sqrt(6/float64(g.Hidden)) * (2*rng.Float64() - 1))
		}
		rng = rand.New(rand.NewPCG(uint64(r), 2))
		for i := range out {
			b[i*rank+r] = float32(math.Sqrt(6/float64(rank)) * (2*rng.Float64() - 1))
		}
	}
	return a, b
}

func (VeRA) code() []string { return []string{"vera"} }

func (VeRA) mergeable(Layer) bool { return true }

func (v VeRA) merge(t Trained, layer int) map[string]func(weight []float32) {
	updates := map[string]func(weight []float32){}
	for _, target := range v.Targets {
		a, b := VeRAMatrices(t.Info.Geometry, target, v.Rank)
		in, out := t.Info.Geometry.TargetShape(target)
		scaleRows(b, v.Rank, t.tensor(layer, MethodVeRA, string(target)+".b").Float32())
		scaleRows(a, in, t.tensor(layer, MethodVeRA, string(target)+".d").Float32())
		updates[t.Info.Geometry.CheckpointName(layer, target)+".weight"] = func(weight []float32) {
			fold(weight, checkpoint.NewTensor(a, v.Rank, in), checkpoint.NewTensor(b, out, v.Rank), 1)
		}
	}
	return updates
}

func scaleRows(matrix []float32, columns int, factors []float32) {
	for i, factor := range factors {
		for j := range columns {
			matrix[i*columns+j] *= factor
		}
	}
}

// peftHolds wants one rank for all, and matrices that all begin with the same random numbers: query, key and value as
// one do not.
func (v VeRA) peftHolds(p Plan, g Geometry) bool {
	t := Trained{Info: Info{Geometry: g}}
	return !slices.ContainsFunc(p.Layers, func(l Layer) bool {
		other, ok := Find[VeRA](l)
		return ok && (other.Rank != v.Rank || slices.ContainsFunc(other.Targets, func(target Target) bool {
			return len(t.shared(target)) > 1
		}))
	})
}

func (v VeRA) peftConfig(t Trained, c *peftConfig) {
	c.PEFTType, c.R, c.SaveProjection, c.DInitial = "VERA", v.Rank, true, 0.1
	for i, layer := range t.Plan.Layers {
		vera, _ := Find[VeRA](layer)
		for _, target := range sortedTargets(vera.Targets) {
			c.TargetModules = append(c.TargetModules, t.path(i, target))
		}
	}
}

func (VeRA) peftTypes() []string { return []string{"VERA"} }

// importPEFT takes the layout: the frozen matrices of a plan are its own.
func (VeRA) importPEFT(s settings, p *Plan, g Geometry) error {
	rank, bias := 256, "none"
	var targets, layers, layerNames json.RawMessage
	if err := s.takeAll(map[string]any{"r": &rank, "bias": &bias, "target_modules": &targets,
		"layers_to_transform": &layers, "layers_pattern": &layerNames}); err != nil {
		return err
	}
	if bias != "none" {
		return fmt.Errorf("bias is %.40q: a plan trains no biases of the backbone", bias)
	}
	selected, err := selectModules(targets, layers, layerNames, g)
	if err != nil {
		return err
	}
	for i := range p.Layers {
		vera := VeRA{Rank: rank}
		for _, target := range Targets {
			if selected(i, target) {
				vera.Targets = append(vera.Targets, target)
			}
		}
		if len(vera.Targets) > 0 {
			p.Layers[i] = append(p.Layers[i], vera)
		}
	}
	return s.rest(append(peftRecords, "projection_prng_key", "save_projection", "vera_dropout", "d_initial",
		"init_weights",
		"fan_in_fan_out")...)
}

// peftTensors has A and B as large as the largest target needs; the others take their first columns and rows.
func (v VeRA) peftTensors(t Trained, into map[string]checkpoint.Tensor) {
	g := t.Info.Geometry
	var widest, tallest Target
	in, out := 0, 0
	for i, layer := range t.Plan.Layers {
		vera, _ := Find[VeRA](layer)
		for _, target := range vera.Targets {
			module := "base_model.model." + t.path(i, target)
			into[module+".vera_lambda_b"] = t.tensor(i, MethodVeRA, string(target)+".b")
			into[module+".vera_lambda_d"] = t.tensor(i, MethodVeRA, string(target)+".d")
			columns, rows := g.TargetShape(target)
			if columns > in {
				widest, in = target, columns
			}
			if rows > out {
				tallest, out = target, rows
			}
		}
	}
	a, _ := VeRAMatrices(g, widest, v.Rank)
	_, b := VeRAMatrices(g, tallest, v.Rank)
	into["base_model.vera_A"], into["base_model.vera_B"] = checkpoint.NewTensor(a, v.Rank, in),
		checkpoint.NewTensor(b, out, v.Rank)
	t.peftHead(into)
}

// shared are VeRA's A and B, as large as the largest target needs.
func (v VeRA) shared(g Geometry) map[string]checkpoint.Tensor {
	widest, tallest := TargetFFNOut, TargetFFNIn
	if g.FFN < g.Hidden {
		widest, tallest = TargetQuery, TargetQuery
	}
	a, _ := VeRAMatrices(g, widest, v.Rank)
	_, b := VeRAMatrices(g, tallest, v.Rank)
	name, size := fmt.Sprintf("vera_%d.", v.Rank), max(g.FFN, g.Hidden)
	return map[string]checkpoint.Tensor{name + "a": checkpoint.NewTensor(a, v.Rank, size),
		name + "b": checkpoint.NewTensor(b, size, v.Rank)}
}
