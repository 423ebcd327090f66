package peft

import (
	"encoding/json"
	"fmt"
	"slices"

	"peftsearch/data/checkpoint"
	"peftsearch/data/onnx"
)

// MethodIA3 is (IA)³.
const MethodIA3 Method = "ia3"

// IA3 multiplies the output of each target by a vector, and of ffn_out the input (Liu et al. 2022, "(IA)³", whose
// targets are key, value and ffn_out; this is PEFT's form). Vectors begin as 1.
type IA3 struct {
	Targets []Target `json:"targets"` // at least one, no repeats
}

// IA3Targets are those of the paper.
var IA3Targets = []Target{TargetKey, TargetValue, TargetFFNOut}

func (IA3) Method() Method { return MethodIA3 }
func (IA3) Size() int      { return 1 }
func (x IA3) Part() Part   { return firstPart(x.Targets) }
func (IA3) String() string { return "ia3" }
func (IA3) version() int   { return 2 }

func (x IA3) validate(_ Geometry, s Stack) error { return validateTargets(MethodIA3, x.Targets, s) }

func (x IA3) canonical() Module {
	x.Targets = sortedTargets(x.Targets)
	return x
}

// ScalesInput reports whether IA3 multiplies the target's input, and not its output.
func (t Target) ScalesInput() bool { return t == TargetFFNOut }

// Tensors are a vector for each target: [in] or [out].
func (x IA3) Tensors(g Geometry) []Tensor {
	var list []Tensor
	for _, target := range x.Targets {
		in, out := g.TargetShape(target)
		if target.ScalesInput() {
			out = in
		}
		list = append(list, Tensor{string(target), []int{out}, false})
	}
	return list
}

func (IA3) code() []string { return []string{"ia3"} }

// mergeable is false beside a gated LoRA, which IA3 multiplies too.
func (IA3) mergeable(l Layer) bool {
	lora, _ := Find[LoRA](l)
	return !lora.Gate
}

func (x IA3) merge(t Trained, layer int) map[string]func(weight []float32) {
	updates := map[string]func(weight []float32){}
	for _, target := range x.Targets {
		vector := t.tensor(layer, MethodIA3, string(target)).Float32()
		in, _ := t.Info.Geometry.TargetShape(target)
		name := t.Info.Geometry.CheckpointName(layer, target)
		if target.ScalesInput() {
			updates[name+".weight"] = func(weight []float32) {
				for i := range weight {
					weight[i] *= vector[i%in]
				}
			}
			continue
		}
		updates[name+".weight"] = func(weight []float32) { scaleRows(weight, in, vector) }
		updates[name+".bias"] = func(bias []float32) { scaleRows(bias, 1, vector) }
	}
	return updates
}

func (IA3) peftHolds(Plan, Geometry) bool { return true }

func (IA3) peftConfig(t Trained, c *peftConfig) {
	c.PEFTType, c.FeedforwardModules = "IA3", []string{}
	for i, layer := range t.Plan.Layers {
		ia3, _ := Find[IA3](layer)
		for _, side := range t.sides(ia3.Targets) {
			c.TargetModules = append(c.TargetModules, t.path(i, side[0]))
			if side[0].ScalesInput() {
				c.FeedforwardModules = append(c.FeedforwardModules, t.path(i, side[0]))
			}
		}
	}
}

// peftTensors are [out, 1], or [1, in] where they multiply the input. What shares a matrix with a target has 1.
func (IA3) peftTensors(t Trained, into map[string]checkpoint.Tensor) {
	for i, layer := range t.Plan.Layers {
		ia3, _ := Find[IA3](layer)
		for _, side := range t.sides(ia3.Targets) {
			var vector []float32
			for _, target := range t.shared(side[0]) {
				if slices.Contains(side, target) {
					vector = append(vector, t.tensor(i, MethodIA3, string(target)).Float32()...)
				} else {
					_, out := t.Info.Geometry.TargetShape(target)
					vector = append(vector, slices.Repeat([]float32{1}, out)...)
				}
			}
			shape := []int{len(vector), 1}
			if side[0].ScalesInput() {
				shape = []int{1, len(vector)}
			}
			into[fmt.Sprintf("base_model.model.%s.ia3_l", t.path(i, side[0]))] = checkpoint.NewTensor(vector, shape...)
		}
	}
	t.peftHead(into)
}

func (IA3) peftTypes() []string { return []string{"IA3"} }

func (IA3) importPEFT(s settings, p *Plan, g Geometry) error {
	var targets, feedforward, fan json.RawMessage
	if err := s.takeAll(map[string]any{"target_modules": &targets, "feedforward_modules": &feedforward,
		"fan_in_fan_out": &fan}); err != nil {
		return err
	}
	if targets == nil || string(targets) == "null" { // the library's for BERT and RoBERTa
		targets, feedforward = json.RawMessage(`["key","value","output.dense"]`), json.RawMessage(`["output.dense"]`)
	}
	chosen, err := selectModules(targets, nil, nil, g)
	if err != nil {
		return err
	}
	scaled := func(int, Target) bool { return false }
	if text := string(feedforward); feedforward != nil && text != "null" && text != "[]" {
		if scaled, err = selectModules(feedforward, nil, nil, g); err != nil {
			return err
		}
	}
	for i := range p.Layers {
		var module IA3
		for _, target := range Targets {
			if !chosen(i, target) {
				continue
			}
			if scaled(i, target) != target.ScalesInput() {
				return fmt.Errorf("feedforward_modules: in a plan %s is multiplied at its output, and ffn_out alone at its input",
					target)
			}
			module.Targets = append(module.Targets, target)
		}
		if len(module.Targets) > 0 {
			p.Layers[i] = append(p.Layers[i], module)
		}
	}
	return s.rest(append(peftRecords, "init_ia3_weights")...)
}

func (x IA3) graph(l *layerGraph) {
	for _, target := range x.Targets {
		vector := l.weight(MethodIA3, string(target))
		if target.ScalesInput() {
			l.inputs[target] = append(l.inputs[target], func(x onnx.Value) onnx.Value { return l.Mul(x, vector) })
		} else {
			l.outputs[target] = append(l.outputs[target], func(y, _ onnx.Value) onnx.Value { return l.Mul(y, vector) })
		}
	}
}
