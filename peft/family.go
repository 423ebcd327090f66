package peft

import (
	"cmp"
	"fmt"
	"math"
	"path/filepath"

	"gonum.org/v1/gonum/mat"

	"peftsearch/data/checkpoint"
)

// family is how the Hugging Face libraries name the parts of an architecture.
type family struct {
	name          string // of the architecture, in sentences
	backbone      string // attribute of the backbone in a model with a head
	adapterModel  string // the class with flexible heads in adapters; "" where it has none
	classes       string // what the names of transformers' classes begin with
	dense, logits string // the linear layers of the head for sequence classification; dense is "" for a head of one
	between       between
	saved         []string // the attributes with that head's layers
	output        string   // where adapters puts bottlenecks in a layer
	afterRead     string   // the same in layers that read an encoder
	attention     string   // where it puts those after the attention
	prefix        string   // what adapters calls the place of a prefix; "" with two stacks, which have three
	peftPrefix    bool     // PEFT can run a prefix
	eagerPrefix   bool     // adapters runs a prefix rightly in eager attention alone
	finalNorm     string   // the last LayerNorm, which takes the head's bias where the class's head has none; or ""
	turned        bool     // matrices are [in, out] there, and one has queries, keys and values
	code          string   // its blocks: the file of modeling, without .py, and the key of graphForms; "" for none
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
	checkpoint.BERT: bertLike(family{name: "BERT", backbone: "bert", adapterModel: "BertAdapterModel", classes: "Bert",
		dense: "bert.pooler.dense", logits: "classifier", between: tanh, saved: []string{"classifier", "pooler"},
		peftPrefix: true}),
	checkpoint.RoBERTa:    robertaLike("RoBERTa", "RobertaAdapterModel", "Roberta"),
	checkpoint.XLMRoBERTa: robertaLike("XLM-RoBERTa", "XLMRobertaAdapterModel", "XLMRoberta"),
	checkpoint.CamemBERT:  robertaLike("CamemBERT", "", "Camembert"),
	checkpoint.ELECTRA: bertLike(family{name: "ELECTRA", backbone: "electra", adapterModel: "ElectraAdapterModel",
		classes: "Electra", dense: "classifier.dense", logits: "classifier.out_proj", between: gelu,
		saved: []string{"classifier"}}),
	checkpoint.DistilBERT: {name: "DistilBERT", backbone: "distilbert", adapterModel: "DistilBertAdapterModel",
		classes: "DistilBert", dense: "pre_classifier", logits: "classifier", between: relu,
		saved: []string{"classifier", "pre_classifier"}, output: "output_adapters",
		attention: "attention_adapters", prefix: "self", eagerPrefix: true, code: "encoder"},
	checkpoint.GPT2: {name: "GPT-2", backbone: "transformer", adapterModel: "GPT2AdapterModel", classes: "GPT2",
		logits: "score", saved: []string{"score"}, output: "output_adapters", attention: "attention_adapters",
		prefix: "self_prefix", eagerPrefix: true, finalNorm: "ln_f", turned: true, code: "decoder"},
	checkpoint.T5:  t5Like(family{name: "T5", adapterModel: "T5AdapterModel", classes: "T5"}),
	checkpoint.MT5: t5Like(family{name: "mT5", adapterModel: "MT5AdapterModel", classes: "MT5"}),
}

func t5Like(f family) family {
	f.backbone, f.between = "transformer", tanh
	f.dense, f.logits = "classification_head.dense", "classification_head.out_proj"
	f.saved = []string{"classification_head"}
	f.attention, f.output, f.afterRead = "layer.0", "layer.1", "layer.2"
	return f
}

func bertLike(f family) family {
	f.output, f.attention, f.prefix, f.code = "output", "attention.output", "self_prefix", "encoder"
	return f
}

func robertaLike(name, adapterModel, classes string) family {
	return bertLike(family{name: name, backbone: "roberta", adapterModel: adapterModel, classes: classes,
		dense: "classifier.dense", logits: "classifier.out_proj", between: tanh, saved: []string{"classifier"}})
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
	TargetCrossQuery:      "crossattention.self.query",
	TargetCrossKey:        "crossattention.self.key",
	TargetCrossValue:      "crossattention.self.value",
	TargetCrossOutput:     "crossattention.output.dense",
}

// CheckpointName is the canonical name of a matrix of a layer, without ".weight" or ".bias". Where the feed-forward
// part has gates, ffn_in is what they multiply.
func (g Geometry) CheckpointName(layer int, target Target) string {
	if g.Gated && target == TargetFFNIn {
		return g.layerName(layer) + "intermediate.up"
	}
	return g.layerName(layer) + targetModules[target]
}

// layerName begins the canonical names of a layer's tensors.
func (g Geometry) layerName(layer int) string {
	s := g.Stack(layer)
	return fmt.Sprintf("%s.layer.%d.", s.Name, layer-s.First)
}

// path is what transformers' bare model calls a matrix of a layer.
func (g Geometry) path(layer int, target Target) string {
	return checkpoint.NameInFile(g.Architecture, g.CheckpointName(layer, target))
}

// path is what transformers' models with a head call a matrix of a layer.
func (t Trained) path(layer int, target Target) string {
	return t.family().backbone + "." + t.Info.Geometry.path(layer, target)
}

// outputPath is where adapters puts the bottlenecks of a layer.
func (t Trained) outputPath(layer int) string {
	if t.Info.Geometry.Stack(layer).Cross {
		return t.layerPath(layer) + t.family().afterRead
	}
	return t.layerPath(layer) + t.family().output
}

// attentionPath is where adapters puts those after the attention.
func (t Trained) attentionPath(layer int) string { return t.layerPath(layer) + t.family().attention }

// layerPath begins what transformers' models with a head call the parts of a layer.
func (t Trained) layerPath(layer int) string {
	g := t.Info.Geometry
	return t.family().backbone + "." + checkpoint.NameInFile(g.Architecture, g.layerName(layer))
}

const (
	// linearScale is ε of [Trained.classHead]; as a power of two it rounds nothing. A smaller one would be closer to
	// linear, but one step of an optimiser would then move the logits by much more than what was learned.
	linearScale = 1.0 / (1 << 7)
	// linearShift is its s, above the values that hidden states have after a LayerNorm.
	linearShift = 64.0
)

// classHead is the head in the form that transformers' class for it has: W·f(W_p·h + c_p) + c, or one layer alone,
// whose c is left to [Trained.shiftedNorm] where the class has none. A linear head becomes, where f is tanh, W_p =
// ε·I, c_p = 0, W = W/ε: since tanh(x) = x - x³/3 + …, logits change by about 1e-4, and 1e-3 where weights are
// large. ReLU and GELU are the identity far above 0, so there W_p = I, c_p = s, c = c - W·s.
func (t Trained) classHead() map[string]checkpoint.Tensor {
	if t.head().writes {
		return map[string]checkpoint.Tensor{}
	}
	l := t.head().layers(t.family())
	head := map[string]checkpoint.Tensor{l.logits + ".weight": t.Head["head.weight"],
		l.logits + ".bias": t.Head["head.bias"]}
	if t.Info.Head == headDense {
		head[l.dense+".weight"], head[l.dense+".bias"] = t.Head["head.dense.weight"], t.Head["head.dense.bias"]
		return head
	}
	if l.dense == "" {
		if t.headShifts() {
			delete(head, l.logits+".bias")
		}
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

// decoderNorm is the canonical name of a decoder's last LayerNorm.
const decoderNorm = "decoder.LayerNorm"

// headShifts reports whether the class's head has no bias, so that ours goes into the last LayerNorm.
func (t Trained) headShifts() bool {
	return t.family().finalNorm != "" && t.head().layers(t.family()).logits == t.family().logits
}

// shiftedNorm is the bias of the last LayerNorm, given the backbone's, with which the head W·h needs no bias c: the
// smallest change v with W·v = c is added to it.
func (t Trained) shiftedNorm(bias checkpoint.Tensor) (checkpoint.Tensor, error) {
	n, d := t.Info.Outputs(), t.Info.Geometry.Hidden
	weight, offset := t.Head["head.weight"].Float32(), t.Head["head.bias"].Float32()
	matrix, right := mat.NewDense(n, d, nil), mat.NewVecDense(n, nil)
	for i := range n {
		right.SetVec(i, float64(offset[i]))
		for j := range d {
			matrix.Set(i, j, float64(weight[i*d+j]))
		}
	}
	var factors mat.LQ
	var change mat.VecDense
	if n > d {
		return checkpoint.Tensor{}, fmt.Errorf("%s has no bias in its head, and %d outputs of width %d need one: export "+
			"as %s", t.family().class(t.head()), n, d, FormatAdapters)
	}
	factors.Factorize(matrix)
	if err := factors.SolveVecTo(&change, false, right); err != nil {
		return checkpoint.Tensor{}, fmt.Errorf("%s has no bias in its head, and ours cannot be moved: its rows depend on "+
			"each other (%w): export as %s", t.family().class(t.head()), err, FormatAdapters)
	}
	values := bias.Float32()
	for i := range values {
		values[i] += float32(change.AtVec(i))
	}
	return checkpoint.NewTensor(values, d), nil
}

// linearHead says that classHead had to put a layer before a linear head.
func (t Trained) linearHead() bool {
	return t.Info.Head == headLinear && t.head().layers(t.family()).dense != ""
}

// linearHeadNote explains classHead to whoever looks at the weights.
var linearHeadNote = fmt.Sprintf("The head is linear in the hidden state. The library's class has a tanh, ReLU or "+
	"GELU before the classifier: the layer before it is 2^%.0f·I for a tanh and I with a bias of %g for the others, "+
	"where they are linear, and the classifier undoes that; logits agree to 1e-4, or to 1e-3 where the head's weights "+
	"are large. In training on, its weights need other rates than the modules'.",
	math.Log2(linearScale), linearShift)
