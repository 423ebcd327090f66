package peft

import (
	"fmt"
	"math"
	"slices"

	"peftsearch/data/checkpoint"
)

// MethodDoRA is weight-decomposed low-rank adaptation.
const MethodDoRA Method = "dora"

// DoRA makes each target matrix W to m·V/‖V‖ with V = W + (Alpha/Rank)·B·A, where ‖V‖ is the norm of each row and m is
// trained too (Liu et al. 2024, "DoRA"). No gradient goes through ‖V‖, as in PEFT. It begins as W.
type DoRA struct {
	Rank    int      `json:"rank"`    // as LoRA's
	Alpha   float64  `json:"alpha"`   // as LoRA's
	Targets []Target `json:"targets"` // as LoRA's
}

func (DoRA) Method() Method   { return MethodDoRA }
func (d DoRA) Size() int      { return d.Rank }
func (d DoRA) Part() Part     { return firstPart(d.Targets) }
func (d DoRA) String() string { return fmt.Sprintf("dora r%d", d.Rank) }
func (DoRA) version() int     { return 2 }

// Replaced are the targets.
func (d DoRA) Replaced() []Target { return d.Targets }

func (d DoRA) validate(g Geometry, s Stack) error {
	return validateLowRank(MethodDoRA, d.Rank, d.Alpha, d.Targets, g, s)
}

func (d DoRA) canonical() Module {
	d.Targets = sortedTargets(d.Targets)
	return d
}

// Tensors are A [r, in], B [out, r] and m [out] of each target.
func (d DoRA) Tensors(g Geometry) []Tensor {
	var list []Tensor
	for _, target := range d.Targets {
		in, out := g.TargetShape(target)
		list = append(list, Tensor{string(target) + ".a", []int{d.Rank, in}, false},
			Tensor{string(target) + ".b", []int{out, d.Rank}, false}, Tensor{string(target) + ".magnitude", []int{out}, false})
	}
	return list
}

func (DoRA) code() []string { return []string{"lowrank", "dora"} }

func (DoRA) mergeable(Layer) bool { return true }

func (d DoRA) merge(t Trained, layer int) map[string]func(weight []float32) {
	updates := map[string]func(weight []float32){}
	for _, target := range d.Targets {
		a, b := t.tensor(layer, MethodDoRA, string(target)+".a"), t.tensor(layer, MethodDoRA, string(target)+".b")
		magnitude := t.tensor(layer, MethodDoRA, string(target)+".magnitude").Float32()
		updates[t.Info.Geometry.CheckpointName(layer, target)+".weight"] = func(weight []float32) {
			fold(weight, a, b, d.Alpha/float64(d.Rank))
			in := a.Shape[1]
			for i, m := range magnitude {
				row := weight[i*in:][:in]
				sum := 0.0
				for _, v := range row {
					sum += float64(v) * float64(v)
				}
				for j := range row {
					row[j] = float32(float64(row[j]) * float64(m) / math.Sqrt(sum))
				}
			}
		}
	}
	return updates
}

// peftHolds: use_dora is for all modules. Where query, key and value are one matrix, all three have it or none.
func (d DoRA) peftHolds(p Plan, g Geometry) bool {
	t := Trained{Info: Info{Geometry: g}}
	return !slices.ContainsFunc(p.Layers, func(l Layer) bool {
		dora, _ := Find[DoRA](l)
		return slices.ContainsFunc(t.sides(dora.Targets), func(side []Target) bool {
			return len(side) < len(t.shared(side[0]))
		})
	})
}

func (DoRA) peftConfig(t Trained, c *peftConfig) {
	c.PEFTType, c.UseDoRA = "LORA", true
	for i, layer := range t.Plan.Layers {
		if dora, ok := Find[DoRA](layer); ok {
			t.peftLowRank(c, i, dora.Rank, dora.Alpha, dora.Targets)
		}
	}
}

func (DoRA) peftTensors(t Trained, into map[string]checkpoint.Tensor) {
	for i, layer := range t.Plan.Layers {
		dora, _ := Find[DoRA](layer)
		t.peftLowRankTensors(i, MethodDoRA, dora.Targets, into)
		for _, side := range t.sides(dora.Targets) {
			into["base_model.model."+t.path(i, side[0])+".lora_magnitude_vector"] = t.stacked(i, MethodDoRA, side, ".magnitude")
		}
	}
	t.peftHead(into)
}
