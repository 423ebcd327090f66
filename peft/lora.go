package peft

import (
	"fmt"
	"slices"
	"strings"

	"peftsearch/data/checkpoint"
	"peftsearch/data/onnx"
)

// MethodLoRA is low-rank adaptation.
const MethodLoRA Method = "lora"

// Target is a weight matrix that LoRA can change.
type Target string

// The matrices of a block, by the field's names.
const (
	TargetQuery           Target = "query"
	TargetKey             Target = "key"
	TargetValue           Target = "value"
	TargetAttentionOutput Target = "attention_output"
	TargetFFNIn           Target = "ffn_in"
	TargetFFNOut          Target = "ffn_out"
)

// The matrices of a decoder's attention to an encoder's output.
const (
	TargetCrossQuery  Target = "cross_query"
	TargetCrossKey    Target = "cross_key"
	TargetCrossValue  Target = "cross_value"
	TargetCrossOutput Target = "cross_output"
)

// Targets lists the targets that every layer has, in canonical order.
var Targets = []Target{TargetQuery, TargetKey, TargetValue, TargetAttentionOutput, TargetFFNIn, TargetFFNOut}

// CrossTargets lists those that the layers of a decoder which reads an encoder have too, behind the others.
var CrossTargets = []Target{TargetCrossQuery, TargetCrossKey, TargetCrossValue, TargetCrossOutput}

// Targets lists those of a stack's layers, in canonical order.
func (s Stack) Targets() []Target {
	if s.Cross {
		return slices.Concat(Targets, CrossTargets)
	}
	return Targets
}

// cross is the target of the attention to an encoder's output that stands beside one of the self-attention; ok is false
// for one of the feed-forward part.
func (t Target) cross() (cross Target, ok bool) {
	if i := slices.Index(Targets, t); i >= 0 && i < len(CrossTargets) {
		return CrossTargets[i], true
	}
	return "", false
}

// withCross are targets, and those of the attention to an encoder's output that stand beside them if there is one.
func (s Style) withCross(targets []Target) []Target {
	all := slices.Clone(targets)
	for _, target := range targets {
		if cross, ok := target.cross(); ok && s.Cross {
			all = append(all, cross)
		}
	}
	return all
}

// LoRA adds (Alpha/Rank)·B·A to each target matrix (Hu et al. 2021, "LoRA"). A is [rank, in], B is
// [out, rank]; B starts at zero.
type LoRA struct {
	Rank    int      `json:"rank"`    // 1 to the full rank of each target
	Alpha   float64  `json:"alpha"`   // the update is scaled by Alpha/Rank, which is MinScale to MaxScale
	Targets []Target `json:"targets"` // at least one, no repeats
	// Gate multiplies the update of each target by its own gate in place of Alpha/Rank (Mao et al. 2022, "UniPELT"):
	// the mean of sigmoid(w·x + c) over a row's tokens, of the target's inputs x.
	Gate bool `json:"gate,omitempty"`
}

// Bounds of Alpha/Rank, beyond which nothing is learned.
const (
	MinScale = 1e-6
	MaxScale = 1e6
)

func (LoRA) Method() Method { return MethodLoRA }
func (l LoRA) Size() int    { return l.Rank }
func (l LoRA) Part() Part   { return firstPart(l.Targets) }

func (l LoRA) version() int {
	if l.Gate {
		return 2
	}
	return 1
}

func (l LoRA) String() string {
	if l.Gate {
		return fmt.Sprintf("lora r%d gated", l.Rank)
	}
	return fmt.Sprintf("lora r%d", l.Rank)
}

// Tensors are A [r, in] and B [out, r] of each target, and its gate.
func (l LoRA) Tensors(g Geometry) []Tensor {
	var list []Tensor
	for _, target := range l.Targets {
		in, out := g.TargetShape(target)
		list = append(list, Tensor{string(target) + ".a", []int{l.Rank, in}, false},
			Tensor{string(target) + ".b", []int{out, l.Rank}, false})
		if l.Gate {
			list = append(list, Tensor{string(target) + ".gate.weight", []int{1, in}, false},
				Tensor{string(target) + ".gate.bias", []int{1}, true})
		}
	}
	return list
}

// Replaced are the targets.
func (l LoRA) Replaced() []Target { return l.Targets }

func (l LoRA) validate(g Geometry, s Stack) error {
	if err := validateLowRank(MethodLoRA, l.Rank, l.Alpha, l.Targets, g, s); err != nil {
		return err
	}
	return validateGate(MethodLoRA, l.Gate, s)
}

// validateLowRank checks what LoRA and DoRA share.
func validateLowRank(m Method, rank int, alpha float64, targets []Target, g Geometry, s Stack) error {
	if rank < 1 {
		return fmt.Errorf("%s rank %d: at least 1, leave the key out for none", m, rank)
	}
	if r := float64(rank); !(alpha >= MinScale*r && alpha <= MaxScale*r) {
		return fmt.Errorf("%s alpha %g at rank %d: alpha/rank must be between %g and %g", m, alpha, rank, MinScale, MaxScale)
	}
	if err := validateTargets(m, targets, s); err != nil {
		return err
	}
	for _, target := range targets {
		if in, out := g.TargetShape(target); rank > min(in, out) {
			return fmt.Errorf("%s rank %d is above %d, the full rank of %s", m, rank, min(in, out), target)
		}
	}
	return nil
}

// canonical has its targets in canonical order.
func (l LoRA) canonical() Module {
	l.Targets = sortedTargets(l.Targets)
	return l
}

// validateTargets checks the targets of a method in a layer of a stack.
func validateTargets(method Method, targets []Target, s Stack) error {
	if len(targets) == 0 {
		return fmt.Errorf("%s has no targets: name at least one of %v", method, s.Targets())
	}
	for i, target := range targets {
		if slices.Contains(CrossTargets, target) && !s.Cross {
			return fmt.Errorf("%s target %q: the layers of this %s do not read an encoder", method, target, s.Name)
		}
		if !slices.Contains(s.Targets(), target) {
			return fmt.Errorf("%s target %q: must be one of %v", method, target, s.Targets())
		}
		if slices.Contains(targets[:i], target) {
			return fmt.Errorf("%s target %q stands twice", method, target)
		}
	}
	return nil
}

// sortedTargets is targets in canonical order.
func sortedTargets(targets []Target) []Target {
	sorted, order := slices.Clone(targets), Stack{Cross: true}.Targets()
	slices.SortFunc(sorted, func(a, b Target) int { return slices.Index(order, a) - slices.Index(order, b) })
	return sorted
}

// firstPart is the first part of a layer that has one of the targets.
func firstPart(targets []Target) Part {
	part := PartFFN
	for _, target := range targets {
		part = min(part, target.Part())
	}
	return part
}

// Part is the part of a layer that the matrix belongs to.
func (t Target) Part() Part {
	switch {
	case t == TargetFFNIn || t == TargetFFNOut:
		return PartFFN
	case slices.Contains(CrossTargets, t):
		return PartCross
	}
	return PartAttention
}

// TargetShape is the input and output width of a target matrix.
func (g Geometry) TargetShape(t Target) (in, out int) {
	switch t {
	case TargetFFNIn:
		return g.Hidden, g.FFN
	case TargetFFNOut:
		return g.FFN, g.Hidden
	case TargetAttentionOutput, TargetCrossOutput:
		return g.AttentionWidth(), g.Hidden
	default:
		return g.Hidden, g.AttentionWidth()
	}
}

// peftHolds: ranks, alphas and targets by layer are PEFT's own, gates are not.
func (LoRA) peftHolds(p Plan, _ Geometry) bool {
	return !slices.ContainsFunc(p.Layers, func(l Layer) bool {
		lora, _ := Find[LoRA](l)
		return lora.Gate
	})
}

func (LoRA) peftConfig(t Trained, c *peftConfig) {
	c.PEFTType = "LORA"
	for i, layer := range t.Plan.Layers {
		lora, ok := Find[LoRA](layer)
		if !ok {
			continue
		}
		t.peftLowRank(c, i, lora.Rank, lora.Alpha, lora.Targets)
	}
}

// peftLowRank adds a layer's LoRA to the configuration.
func (t Trained) peftLowRank(c *peftConfig, layer, rank int, alpha float64, targets []Target) {
	if c.R == 0 {
		c.R, c.Alpha = rank, alpha
		c.RankPattern, c.AlphaPattern = map[string]int{}, map[string]float64{}
	}
	for _, side := range t.sides(targets) {
		path, rank, alpha := t.path(layer, side[0]), len(side)*rank, float64(len(side))*alpha
		c.TargetModules = append(c.TargetModules, path)
		// Rank and alpha are looked up independently: both are written, or alpha/rank would be wrong. A key is searched
		// for behind any dot of a path, and before 0.15 nowhere else: no ^ stands before it.
		_, key, _ := strings.Cut(path, ".")
		c.RankPattern[key], c.AlphaPattern[key] = rank, alpha
	}
}

func (LoRA) peftTensors(t Trained, into map[string]checkpoint.Tensor) {
	for i, layer := range t.Plan.Layers {
		lora, _ := Find[LoRA](layer)
		t.peftLowRankTensors(i, MethodLoRA, lora.Targets, into)
	}
	t.peftHead(into)
}

// peftLowRankTensors adds A and B of a layer's targets. Those that share a matrix [3·out, in] have one A, with the
// rows of all, and one B, in which each has its columns in its rows.
func (t Trained) peftLowRankTensors(layer int, m Method, targets []Target, into map[string]checkpoint.Tensor) {
	for _, side := range t.sides(targets) {
		module := "base_model.model." + t.path(layer, side[0])
		a, b := t.stacked(layer, m, side, ".a"), t.tensor(layer, m, string(side[0])+".b")
		if shared := t.shared(side[0]); len(shared) > 1 {
			out, rank := b.Shape[0], b.Shape[1]
			columns := len(side) * rank
			values := make([]float32, len(shared)*out*columns)
			for k, target := range side {
				part := t.tensor(layer, m, string(target)+".b").Float32()
				first := slices.Index(shared, target) * out
				for row := range out {
					copy(values[(first+row)*columns+k*rank:], part[row*rank:(row+1)*rank])
				}
			}
			b = checkpoint.NewTensor(values, len(shared)*out, columns)
		}
		into[module+".lora_A.weight"], into[module+".lora_B.weight"] = a, b
	}
}

// shared are the targets that are one matrix in the libraries' model.
func (t Trained) shared(target Target) []Target {
	attention := []Target{TargetQuery, TargetKey, TargetValue}
	if t.family().turned && slices.Contains(attention, target) {
		return attention
	}
	return []Target{target}
}

// sides are targets in canonical order, those that share a matrix together.
func (t Trained) sides(targets []Target) (sides [][]Target) {
	for _, target := range sortedTargets(targets) {
		if last := len(sides) - 1; last >= 0 && slices.Contains(t.shared(target), sides[last][0]) {
			sides[last] = append(sides[last], target)
		} else {
			sides = append(sides, []Target{target})
		}
	}
	return sides
}

// stacked are the tensors of some targets, one below the other.
func (t Trained) stacked(layer int, m Method, targets []Target, name string) checkpoint.Tensor {
	first := t.tensor(layer, m, string(targets[0])+name)
	if len(targets) == 1 {
		return first
	}
	var values []float32
	for _, target := range targets {
		values = append(values, t.tensor(layer, m, string(target)+name).Float32()...)
	}
	shape := slices.Clone(first.Shape)
	shape[0] *= len(targets)
	return checkpoint.NewTensor(values, shape...)
}

// peftHead adds the head, as a model whose modules are wrapped has it.
func (t Trained) peftHead(into map[string]checkpoint.Tensor) {
	for name, tensor := range t.classHead() {
		into["base_model.model."+name] = tensor
	}
}

func (l LoRA) code() []string { return withGate(l.Gate, "lowrank", "lora") }

func (l LoRA) mergeable(Layer) bool { return !l.Gate }

// merge folds B·A into the weight; a gated update depends on the input.
func (l LoRA) merge(t Trained, layer int) map[string]func(weight []float32) {
	updates := map[string]func(weight []float32){}
	for _, target := range l.Targets {
		a, b := t.tensor(layer, MethodLoRA, string(target)+".a"), t.tensor(layer, MethodLoRA, string(target)+".b")
		updates[t.Info.Geometry.CheckpointName(layer, target)+".weight"] = func(weight []float32) {
			fold(weight, a, b, l.Alpha/float64(l.Rank))
		}
	}
	return updates
}

// fold adds factor·B·A to a weight [out, in]; A is [r, in], B is [out, r].
func fold(weight []float32, a, b checkpoint.Tensor, factor float64) {
	rank, in, left, right := a.Shape[0], a.Shape[1], b.Float32(), a.Float32()
	sum := make([]float64, in)
	for row := range b.Shape[0] {
		clear(sum)
		for k := range rank {
			scale := factor * float64(left[row*rank+k])
			for j, v := range right[k*in : (k+1)*in] {
				sum[j] += scale * float64(v)
			}
		}
		for j, v := range sum {
			weight[row*in+j] += float32(v)
		}
	}
}

// adaptersPart drops the outputs of attention: the library has LoRA nowhere there.
func (l LoRA) adaptersPart() (kept Module, lost string) {
	var without []Target
	for _, target := range sortedTargets(l.Targets) {
		if target == TargetAttentionOutput || target == TargetCrossOutput {
			lost = strings.TrimPrefix(lost+" and "+string(target), " and ")
		} else {
			without = append(without, target)
		}
	}
	if lost == "" {
		return l, ""
	}
	lost = fmt.Sprintf("%s on %s", l, lost)
	if len(without) == 0 {
		return nil, lost
	}
	l.Targets = without
	return l, lost
}

// adaptersTargets are the targets as the library has them: one switch is for the self-attention and for that to an
// encoder's output.
func (l LoRA) adaptersTargets() []Target {
	var targets []Target
	for _, target := range l.Targets {
		if i := slices.Index(CrossTargets, target); i >= 0 {
			target = Targets[i]
		}
		if !slices.Contains(targets, target) {
			targets = append(targets, target)
		}
	}
	return sortedTargets(targets)
}

// adaptersKind has what String leaves out: alpha and the targets.
func (l LoRA) adaptersKind() string {
	l.Targets = l.adaptersTargets()
	return fmt.Sprintf("%#v", l)
}

func (l LoRA) adaptersConfig(_ Geometry, p Plan) any {
	c := loraConfig{Architecture: "lora", R: l.Rank, Alpha: l.Alpha, AttnMatrices: []string{}, UseGating: l.Gate,
		LeaveOut: leaveOut(p, MethodLoRA)}
	for _, target := range l.adaptersTargets() {
		switch target {
		case TargetFFNIn:
			c.IntermediateLoRA = true
		case TargetFFNOut:
			c.OutputLoRA = true
		default:
			c.SelfattnLoRA, c.AttnMatrices = true, append(c.AttnMatrices, string(target)[:1])
		}
	}
	return c
}

// adaptersTensors has zeros, which change nothing, for one attention where the plan has LoRA on the other alone.
func (LoRA) adaptersTensors(t Trained, name string, p Plan, into map[string]checkpoint.Tensor) {
	g := t.Info.Geometry
	for i, layer := range p.Layers {
		lora, ok := Find[LoRA](layer)
		if !ok {
			continue
		}
		stack := g.Stack(i)
		for _, target := range (Style{Cross: stack.Cross}).withCross(lora.adaptersTargets()) {
			if !slices.Contains(lora.Targets, target) {
				in, out := g.TargetShape(target)
				module := t.path(i, target) + ".loras." + name
				into[module+".lora_A"] = zeroTensor(checkpoint.Float32, lora.Rank, in)
				into[module+".lora_B"] = zeroTensor(checkpoint.Float32, out, lora.Rank)
			}
		}
		for _, side := range t.sides(lora.Targets) {
			module := t.path(i, side[0]) + ".loras." + name
			into[module+".lora_A"] = t.stacked(i, MethodLoRA, side, ".a")
			into[module+".lora_B"] = t.stacked(i, MethodLoRA, side, ".b")
			if lora.Gate { // in encoders alone
				into[module+".gate.weight"] = t.tensor(i, MethodLoRA, string(side[0])+".gate.weight")
				into[module+".gate.bias"] = t.tensor(i, MethodLoRA, string(side[0])+".gate.bias")
			}
		}
	}
}

// graph is that of a gated LoRA: others are folded.
func (r LoRA) graph(l *layerGraph) {
	for _, target := range r.Targets {
		l.outputs[target] = append(l.outputs[target], func(y, x onnx.Value) onnx.Value {
			_, out := l.t.Info.Geometry.TargetShape(target)
			product := func(x onnx.Value, name string) onnx.Value {
				return l.Node("Gemm", onnx.Attributes{"transB": 1}, x, l.weight(MethodLoRA, string(target)+name))
			}
			update := product(product(x, ".a"), ".b")
			return l.Add(y, l.gated(update, l.gate(MethodLoRA, string(target)+".", x), out))
		})
	}
}
