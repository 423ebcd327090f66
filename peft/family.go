package peft

import (
	"cmp"
	"fmt"
	"math"
	"path/filepath"
	"strings"

	"peftsearch/data/checkpoint"
)

// family is how the Hugging Face libraries name the parts of an architecture.
type family struct {
	name          string // of the architecture, in sentences
	backbone      string // attribute of the backbone in a model with a head
	adapterModel  string // the class with flexible heads in adapters; "" where it has none
	classes       string // what the names of transformers' classes begin with
	dense, logits string // the two linear layers of the head for sequence classification
	between       between
	saved         []string // the attributes with that head's layers
	output        string   // where adapters puts bottlenecks in a layer
	prefix        string   // what adapters calls the place of a prefix
	peftPrefix    bool     // PEFT can run a prefix
	eagerPrefix   bool     // adapters runs a prefix rightly in eager attention alone
	code          string   // of modeling, without .py
}

// between is the function between the two layers of a head for sequence classification.
type between string

const (
	tanh between = "tanh"
	relu between = "ReLU"
	gelu between = "GELU"
)

// families has an entry for every architecture that can be exported. PEFT runs prefixes for BERT alone: it gives the
// heads of the others the cache instead of the hidden states, or their backbones take no cache.
var families = map[string]family{
	checkpoint.BERT: {"BERT", "bert", "BertAdapterModel", "Bert",
		"bert.pooler.dense", "classifier", tanh, []string{"classifier", "pooler"},
		"output", "self_prefix", true, false, "encoder"},
	checkpoint.RoBERTa: {"RoBERTa", "roberta", "RobertaAdapterModel", "Roberta",
		"classifier.dense", "classifier.out_proj", tanh, []string{"classifier"},
		"output", "self_prefix", false, false, "encoder"},
	checkpoint.XLMRoBERTa: {"XLM-RoBERTa", "roberta", "XLMRobertaAdapterModel", "XLMRoberta",
		"classifier.dense", "classifier.out_proj", tanh, []string{"classifier"},
		"output", "self_prefix", false, false, "encoder"},
	checkpoint.CamemBERT: {"CamemBERT", "roberta", "", "Camembert",
		"classifier.dense", "classifier.out_proj", tanh, []string{"classifier"},
		"output", "self_prefix", false, false, "encoder"},
	checkpoint.ELECTRA: {"ELECTRA", "electra", "ElectraAdapterModel", "Electra",
		"classifier.dense", "classifier.out_proj", gelu, []string{"classifier"},
		"output", "self_prefix", false, false, "encoder"},
	checkpoint.DistilBERT: {"DistilBERT", "distilbert", "DistilBertAdapterModel", "DistilBert",
		"pre_classifier", "classifier", relu, []string{"classifier", "pre_classifier"},
		"output_adapters", "self", false, true, "encoder"},
}

func (t Trained) family() family { return families[t.Info.Geometry.Architecture] }

// modelName is what the libraries load the backbone by: its name on the Hub, or that of its directory without the way
// there, which is nobody else's.
func (t Trained) modelName() string { return cmp.Or(t.hubName(), filepath.Base(t.Info.Model)) }

// targetModules names the linear layers that LoRA changes, within a layer, as BERT does.
var targetModules = map[Target]string{
	TargetQuery:           "attention.self.query",
	TargetKey:             "attention.self.key",
	TargetValue:           "attention.self.value",
	TargetAttentionOutput: "attention.output.dense",
	TargetFFNIn:           "intermediate.dense",
	TargetFFNOut:          "output.dense",
}

// CheckpointName is the canonical name of a matrix of a layer, without ".weight" or ".bias".
func CheckpointName(layer int, t Target) string { return layerModule(layer, t) }

// layerModule is the canonical name of a matrix of a layer.
func layerModule(layer int, target Target) string {
	return fmt.Sprintf("encoder.layer.%d.%s", layer, targetModules[target])
}

// path is what transformers' bare model calls a matrix of a layer.
func (g Geometry) path(layer int, target Target) string {
	return checkpoint.NameInFile(g.Architecture, layerModule(layer, target))
}

// path is what transformers' models with a head call a matrix of a layer.
func (t Trained) path(layer int, target Target) string {
	return t.family().backbone + "." + t.Info.Geometry.path(layer, target)
}

// outputPath is where adapters puts the bottlenecks of a layer.
func (t Trained) outputPath(layer int) string {
	f := t.family()
	return f.backbone + "." + checkpoint.NameInFile(t.Info.Geometry.Architecture,
		fmt.Sprintf("encoder.layer.%d.", layer)) + f.output
}

// attentionPath is where adapters puts those after the attention.
func (t Trained) attentionPath(layer int) string {
	place := "attention.output"
	if t.family().output != "output" {
		place = "attention_adapters"
	}
	return strings.TrimSuffix(t.outputPath(layer), t.family().output) + place
}

const (
	// linearScale is ε of [Trained.classHead]; as a power of two it rounds nothing. A smaller one would be closer to
	// linear, but one step of an optimiser would then move the logits by much more than what was learned.
	linearScale = 1.0 / (1 << 7)
	// linearShift is its s, above the values that hidden states have after a LayerNorm.
	linearShift = 64.0
)

// classHead is the head in the form that transformers' class for it has: W·f(W_p·h + c_p) + c, or one layer alone. A
// linear head becomes, where f is tanh, W_p = ε·I, c_p = 0, W = W/ε: since tanh(x) = x - x³/3 + …, logits change by
// about 1e-4, and 1e-3 where weights are large. ReLU and GELU are the identity far above 0, so there W_p = I, c_p = s, c = c - W·s.
func (t Trained) classHead() map[string]checkpoint.Tensor {
	l := t.head().layers(t.family())
	head := map[string]checkpoint.Tensor{l.logits + ".weight": t.Head["head.weight"],
		l.logits + ".bias": t.Head["head.bias"]}
	if t.Info.Head == headDense {
		head[l.dense+".weight"], head[l.dense+".bias"] = t.Head["head.dense.weight"], t.Head["head.dense.bias"]
		return head
	}
	if l.dense == "" {
		return head
	}
	scale, shift := float32(linearScale), float32(0)
	if l.between != tanh {
		scale, shift = 1, linearShift
	}
	d := t.Info.Geometry.Hidden
	matrix, offset := make([]float32, d*d), make([]float32, d)
	for i := range d {
		matrix[i*d+i], offset[i] = scale, shift
	}
	head[l.dense+".weight"], head[l.dense+".bias"] = checkpoint.NewTensor(matrix, d, d), checkpoint.NewTensor(offset, d)
	weight, bias := t.Head["head.weight"].Float32(), t.Head["head.bias"].Float32()
	for output := range bias {
		var sum float64
		for i := range d {
			sum += float64(weight[output*d+i])
			weight[output*d+i] /= scale
		}
		bias[output] = float32(float64(bias[output]) - sum*float64(shift))
	}
	head[l.logits+".weight"] = checkpoint.NewTensor(weight, len(bias), d)
	head[l.logits+".bias"] = checkpoint.NewTensor(bias, len(bias))
	return head
}

// linearHead says that classHead had to put a layer before a linear head.
func (t Trained) linearHead() bool {
	return t.Info.Head == headLinear && t.head().layers(t.family()).dense != ""
}

// linearHeadNote explains classHead to whoever looks at the weights.
var linearHeadNote = fmt.Sprintf("The head is linear in the hidden state. The library's class has a tanh, ReLU or "+
	"GELU before the "+
	"classifier: the layer before it is 2^%.0f·I for a tanh and I with a bias of %g for the others, where they are "+
	"linear, and "+
	"the classifier undoes that; logits agree to 1e-4, or to 1e-3 where the head's weights are large. To train on with PEFT at "+
	"its usual rates, start from the export for adapters or train with head: dense.", math.Log2(linearScale), linearShift)
