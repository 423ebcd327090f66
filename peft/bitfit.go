package peft

import (
	"fmt"
	"strings"
)

// MethodBitFit is the training of biases.
const MethodBitFit Method = "bitfit"

// BitFit trains the layer's biases, those of its LayerNorms included (Ben Zaken et al. 2022, "BitFit"). It stores
// their values.
type BitFit struct {
	Norms bool `json:"norms,omitempty"` // the weights of the LayerNorms too
}

func (BitFit) Method() Method { return MethodBitFit }
func (BitFit) Size() int      { return 1 }
func (BitFit) Part() Part     { return PartAttention }
func (BitFit) version() int   { return 2 }

func (b BitFit) String() string {
	if b.Norms {
		return "bitfit norms"
	}
	return "bitfit"
}

func (b BitFit) canonical() Module { return b }

func (BitFit) validate(g Geometry, _ Stack) error {
	if stacks := g.Stacks(); len(stacks) > 1 || stacks[0].Causal {
		return fmt.Errorf("bitfit trains the biases of encoders such as BERT, and this is a %s", g.Architecture)
	}
	return nil
}

// bitFitNorms are the LayerNorms of a layer, by our names and by the checkpoint's.
var bitFitNorms = [][2]string{{"attention_norm", "attention.output.LayerNorm"}, {"ffn_norm", "output.LayerNorm"}}

// Tensors are the biases of the matrices and of the LayerNorms.
func (b BitFit) Tensors(g Geometry) []Tensor {
	var list []Tensor
	for _, target := range Targets {
		_, out := g.TargetShape(target)
		list = append(list, Tensor{string(target) + ".bias", []int{out}, true})
	}
	for _, norm := range bitFitNorms {
		list = append(list, Tensor{norm[0] + ".bias", []int{g.Hidden}, true})
		if b.Norms {
			list = append(list, Tensor{norm[0] + ".weight", []int{g.Hidden}, false})
		}
	}
	return list
}

// CheckpointName is the name in the checkpoint of what a tensor of BitFit replaces.
func (BitFit) CheckpointName(g Geometry, layer int, tensor string) string {
	name, kind, _ := strings.Cut(tensor, ".")
	for _, norm := range bitFitNorms {
		if norm[0] == name {
			return g.layerName(layer) + norm[1] + "." + kind
		}
	}
	return g.CheckpointName(layer, Target(name)) + "." + kind
}

func (BitFit) code() []string { return []string{"bitfit"} }

func (BitFit) mergeable(Layer) bool { return true }

func (b BitFit) merge(t Trained, layer int) map[string]func(weight []float32) {
	updates := map[string]func(weight []float32){}
	for _, tensor := range b.Tensors(t.Info.Geometry) {
		values := t.tensor(layer, MethodBitFit, tensor.Name).Float32()
		updates[b.CheckpointName(t.Info.Geometry, layer, tensor.Name)] = func(weight []float32) { copy(weight, values) }
	}
	return updates
}
