package peft

import (
	"fmt"
	"slices"

	"peftsearch/data"
	"peftsearch/data/onnx"
	"peftsearch/data/quote"
)

// The forms of a head.
const (
	headLinear = "linear" // W·h + c
	headDense  = "dense"  // W·tanh(W_p·h + c_p) + c
)

// headKind is how the head of a kind of task is kept, and what the libraries have for it.
type headKind struct {
	states int  // hidden states that it reads together
	bert   bool // libraries have it for BERT's family alone
	pools  bool // it makes one state of several by head.pool.weight
	writes bool // it is the pretrained model's own, which writes texts: it has no tensors
	tokens bool // it reads single tokens, not a whole text

	adapters headType // what adapters has; "" for nothing
	class    string   // transformers' models with such a head, "" for none: BertFor…, AutoModelFor…
	problem  string   // problem_type of config.json, "" for none
	taskType string   // PEFT's, "" for none
	coded    codedHead
	// graph is the whole graph of a model with such a head, of a mask and token types ("" for none).
	graph func(g *modelGraph, mask, types onnx.Value, ids onnx.Type)
	// layers are those of the class's head.
	layers func(f family) headLayers
	// example is Python that makes inputs of a row.
	example func(t data.Task) string
}

// headLayers are the linear layers of a head in transformers, with a function between them.
type headLayers struct {
	dense, logits string // dense is "" for a head of one layer
	between       between
	saved         []string // the attributes that hold them
}

// headType is a head of adapters.
type headType string

const (
	headClassification headType = "classification"
	headMultilabel     headType = "multilabel_classification"
	headTagging        headType = "tagging"
	headChoice         headType = "multiple_choice"
)

var headKinds = map[data.Kind]headKind{
	data.KindClassification: {states: 1, adapters: headClassification, class: "SequenceClassification",
		problem:  "single_label_classification",
		taskType: "SEQ_CLS", coded: codedSequence, graph: graphSequence, layers: sequenceLayers, example: textExample},
	data.KindRegression: {states: 1, adapters: headClassification, class: "SequenceClassification", problem: "regression",
		taskType: "SEQ_CLS", coded: codedSequence, graph: graphSequence, layers: sequenceLayers, example: textExample},
	data.KindMultilabel: {states: 1, adapters: headMultilabel, class: "SequenceClassification",
		problem:  "multi_label_classification",
		taskType: "SEQ_CLS", coded: codedSequence, graph: graphSequence, layers: sequenceLayers, example: textExample},
	data.KindTokenClassification: {states: 1, tokens: true, adapters: headTagging, class: "TokenClassification",
		taskType: "TOKEN_CLS", coded: codedTokens, graph: graphTokens, layers: tokenLayers, example: wordsExample},
	data.KindMultipleChoice: {states: 1, bert: true, adapters: headChoice, class: "MultipleChoice",
		coded: codedChoice, graph: graphChoice, layers: choiceLayers,
		example: choiceExample},
	data.KindCoreference: {states: 2, pools: true, tokens: true, coded: codedCoreference, graph: graphCoreference,
		example: spansExample},
	data.KindText: {writes: true, class: "CausalLM", taskType: "CAUSAL_LM",
		layers: func(family) headLayers { return headLayers{} }, example: promptExample},
}

func sequenceLayers(f family) headLayers { return headLayers{f.dense, f.logits, f.between, f.saved} }

// tokenLayers are the same in every family: one layer.
func tokenLayers(family) headLayers {
	return headLayers{logits: "classifier", saved: []string{"classifier"}}
}

func choiceLayers(f family) headLayers {
	switch f.backbone {
	case "electra":
		return headLayers{"sequence_summary.summary", "classifier", gelu, []string{"classifier", "sequence_summary"}}
	case "distilbert":
		return sequenceLayers(f)
	}
	return headLayers{f.backbone + ".pooler.dense", "classifier", tanh, []string{"classifier", "pooler"}}
}

func textExample(t data.Task) string {
	if t.Columns.TextPair != "" {
		return `tokenizer("The first sentence.", "The second.", truncation=True`
	}
	return `tokenizer("A sentence.", truncation=True`
}

func wordsExample(data.Task) string {
	return `tokenizer("A sentence in words .".split(), is_split_into_words=True, truncation=True`
}

func choiceExample(data.Task) string {
	return `tokenizer(["What comes before."] * 2, ["One choice.", "Another one."], truncation="only_first", padding=True`
}

// promptExample is what the model reads before it writes.
func promptExample(t data.Task) string {
	return "tokenizer(" + pythonString(t.Prompt(data.Row{Text: "A text.", TextPair: "Another one."}))
}

// lastTokenNotes say how the libraries find the token that a decoder's head reads.
func (t Trained) lastTokenNotes(format Format) []string {
	libraries := []Format{FormatAdapters, FormatPEFT, FormatMerged}
	if !slices.Contains(libraries, format) || !t.Info.Geometry.causal() || t.head().adapters == headTagging ||
		t.head().writes {
		return nil
	}
	return []string{"The head reads the last token of a text. The library finds it by the padding, and " +
		t.family().name + " has no padding token: for several texts at once, pad them on the right with a token that no " +
		"text ends with, and set `model.config.pad_token_id` to its id."}
}

// spansExample marks the mention and one candidate.
func spansExample(data.Task) string { return `tokenizer("Ann saw Eve when she came.", truncation=True` }

// refuse says why a format cannot hold any plan with the head.
func (i Info) refuse(format Format, f family) error {
	kind := headKinds[i.Task.Kind]
	switch {
	case f.code == "" && (format == FormatTransformers || format == FormatONNX):
		return fmt.Errorf("there is no code of %s with modules: export as %s, %s or %s", f.name, FormatAdapters, FormatPEFT,
			FormatMerged)
	case kind.writes && (format == FormatTransformers || format == FormatONNX):
		return fmt.Errorf("its code reads texts and writes none: export as %s, %s or %s", FormatAdapters, FormatPEFT,
			FormatMerged)
	case slices.Contains([]Format{FormatPlan, FormatTransformers, FormatONNX}, format): // have every head
		return nil
	case format == FormatAdapters && f.adapterModel == "":
		return fmt.Errorf("adapters 1.3.0 has no %s: export as %s or %s", f.name, FormatPEFT, FormatMerged)
	case kind.writes:
		return nil
	case kind.adapters == "" || kind.class == "" || kind.bert && !i.Geometry.encoder():
		return fmt.Errorf("none of the libraries has a head of %s for %s: export as %s", f.name, i.Task.Kind, f.anyPlan())
	case format == FormatAdapters || i.Head != headDense:
		return nil
	}
	if layers := kind.layers(f); layers.dense == "" {
		return fmt.Errorf("%s has one layer where the dense head has two: train with head: linear, or export as %s",
			f.class(kind), FormatAdapters)
	} else if layers.between != tanh {
		return fmt.Errorf("%s has %s where the dense head has tanh: train with head: linear, or export as %s",
			f.class(kind), layers.between, FormatAdapters)
	}
	return nil
}

// HasPooler reports whether transformers' class for a task has the dense head with a tanh.
func HasPooler(g Geometry, kind data.Kind) bool {
	head, f := headKinds[kind], families[g.Architecture]
	if head.class == "" || head.writes || f.classes == "" || head.bert && !g.encoder() {
		return false
	}
	layers := head.layers(f)
	return layers.dense != "" && layers.between == tanh
}

// anyPlan is the format for other programs that holds any plan with any head, or this program's own.
func (f family) anyPlan() Format {
	if f.code == "" {
		return FormatPlan
	}
	return FormatTransformers
}

// Reads says why a backbone cannot have the head of a kind of task.
func (g Geometry) Reads(kind data.Kind) error {
	if head := headKinds[kind]; head.tokens && len(g.Stacks()) > 1 {
		return fmt.Errorf("task %s reads single tokens, of which the decoder of a %s sees those before them alone: take "+
			"an encoder such as BERT", kind, g.Architecture)
	}
	return nil
}

// class is transformers' model of the family with a kind's head.
func (f family) class(k headKind) string {
	if k.writes {
		return f.classes + "LMHeadModel"
	}
	return f.classes + "For" + k.class
}

// autoClass is the name under which transformers finds it.
func (k headKind) autoClass() string { return "AutoModelFor" + k.class }

// head is what is known of the kind of the task's head.
func (t Trained) head() headKind { return headKinds[t.Info.Task.Kind] }

// Outputs is the number of logits of each of the head's decisions.
func (i Info) Outputs() int { return i.Task.Kind.Outputs(len(i.Labels)) }

// checkHead refuses what no head is.
func (i Info) checkHead() error {
	if _, ok := headKinds[i.Task.Kind]; !ok {
		return fmt.Errorf("task %s: must be one of %v", quote.Text(string(i.Task.Kind)), data.Kinds())
	}
	if i.Head != headLinear && i.Head != headDense {
		return fmt.Errorf("head %s: must be %s or %s", quote.Text(i.Head), headLinear, headDense)
	}
	return nil
}

// HeadShapes lists the tensors of the head by name.
func (i Info) HeadShapes() map[string][]int {
	kind, d := headKinds[i.Task.Kind], i.Geometry.Hidden
	if kind.writes {
		return map[string][]int{}
	}
	in := kind.states * d
	shapes := map[string][]int{"head.weight": {i.Outputs(), in}, "head.bias": {i.Outputs()}}
	if i.Head == headDense {
		shapes["head.dense.weight"], shapes["head.dense.bias"] = []int{in, in}, []int{in}
	}
	if kind.pools {
		shapes["head.pool.weight"] = []int{1, d}
	}
	return shapes
}
